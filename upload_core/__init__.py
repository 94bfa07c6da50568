"""Event-sourced deliveries of data sets to an archive."""
