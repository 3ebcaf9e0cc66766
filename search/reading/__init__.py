"""Read study files: TOML in, a study or an error with file, line and key out. Never runs the user's code."""
