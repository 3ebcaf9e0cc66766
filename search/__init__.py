"""manyfit: hyperparameter search for Keras that loses nothing."""

__version__ = "0.2.0"
