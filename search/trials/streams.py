"""Independent random streams of a study."""

from __future__ import annotations


def stream(seed: int, *path: int) -> int:
    """Return the 32-bit seed of the study's random stream `path`; each path has a stream of its own."""
    import numpy as np

    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0])
