"""A study as it is written: its file, its settings, what identifies it, and the user's code that it names."""
