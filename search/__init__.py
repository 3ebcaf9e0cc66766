"""manyfit: hyperparameter search for Keras that loses nothing."""

__version__ = "0.1.0"
