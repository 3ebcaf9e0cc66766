"""Engines train members. The coordinator knows them through `protocol` only; keras is imported in worker processes only."""
