"""Lanes: many members trained at once by one compiled program, each in its own lane, refilled in place. JAX only."""
