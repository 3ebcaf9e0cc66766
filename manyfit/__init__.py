"""The command `manyfit`. Its code is in `search`, `spaces` and `models`."""
