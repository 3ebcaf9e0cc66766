"""Builders in KerasTuner's form, `build(hp)`: their hyperparameters, the search for their space, and their own `fit`."""
