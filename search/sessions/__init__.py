"""A study from its first command to its last, for the command line and for Python: nothing here needs a terminal."""
