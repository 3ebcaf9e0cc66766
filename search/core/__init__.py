"""A study in memory, and the loop that searches it. Imports no keras, jax or tensorflow; stores and prints nothing."""
