"""Engines train members. The coordinator sees them through `protocol`; keras is imported in worker processes only."""
