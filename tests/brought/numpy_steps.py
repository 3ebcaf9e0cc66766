"""A module of the user's whose name begins like that of a library."""

GAIN = 1.0


def scaled(gradients):
    return [gradient * GAIN for gradient in gradients]
