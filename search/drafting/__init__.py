"""`manyfit init`: look at data, guess what is to be learnt, and draft a study file, a builder and maybe a data function."""
