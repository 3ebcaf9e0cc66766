"""Study files as people write them: TOML in, a study or an error with its place out. Runs nothing of the user's."""
