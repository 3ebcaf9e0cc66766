"""Running a study from start to end, for the command line and for Python. Nothing here needs a terminal."""
