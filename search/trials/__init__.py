"""Trials and their events as plain values, for every other package. Nothing here decides, trains or stores."""
