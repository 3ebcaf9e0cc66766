"""A study as its file defines it: settings, vocabulary, identity, and the user's code that it names."""
