"""Two classes of which one is rare, made by scikit-learn: one row of 25 is ill."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import make_classification


def load():
    """Return 6,000 rows of 20 numbers, 8 of which tell something, and the classes "healthy" and "ill".

    Classes are in the order of their names, and of two the second is the positive one: of the ill tell precision and recall.
    """
    x, y = make_classification(
        6000, 20, n_informative=8, n_redundant=4, n_clusters_per_class=4, weights=[0.965], flip_y=0.01, random_state=0
    )
    return x, np.where(y == 1, "ill", "healthy")
