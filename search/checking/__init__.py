"""Checks of a study before its search: of its data, and of how its model trains."""
