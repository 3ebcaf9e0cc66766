"""Lanes: one compiled program trains many members at once, each in its own lane; free lanes are refilled. JAX only."""
