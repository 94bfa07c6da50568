"""What a delivery leaves for people: a page that tells how it went, and a receipt that proves what is stored."""
