"""Random streams of a study, each independent of all others."""

from __future__ import annotations


def stream(seed: int, *path: int) -> int:
    """Return the 32-bit seed of an independent random stream of the study: `path` says which."""
    import numpy as np

    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0])
