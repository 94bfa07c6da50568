"""The real core and client in a simulated world, where anything may go wrong in any order, the same way each time."""
