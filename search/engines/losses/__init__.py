"""Losses and metrics, Keras's and the user's: find them by name, and give each the labels and outputs that it needs."""
