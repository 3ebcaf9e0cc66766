"""What the trials of a study say, as numbers and sentences: `show`, `report` and `compare` print and draw it."""
