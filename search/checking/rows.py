"""The rows that checks look at: larger data are judged by a sample. Nothing here imports keras."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.checking.report import NotApplicable
from search.data import Data

SAMPLE_ROWS = 2000
_MOST_FEATURES = 3000


def inputs_of(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, rows) of every input; "" is a single one."""
    if isinstance(tree, dict):
        yield from tree.items()
    elif isinstance(tree, tuple):
        yield from ((str(number), x) for number, x in enumerate(tree))
    else:
        yield "", tree


def chosen(rows: int, most: int = SAMPLE_ROWS) -> NDArray[Any]:
    """Return the numbers of the rows that data are judged by, in order: all of them, or `most` drawn by a fixed seed."""
    return np.arange(rows) if rows <= most else np.sort(np.random.default_rng(0).permutation(rows)[:most])


def sample(x: Any) -> NDArray[Any]:
    """Return the sampled rows of an input."""
    return np.asarray(x[chosen(len(x))])


def of_sample(x: Any) -> str:
    """Return words for a number that comes from a sample; "" where all rows were read."""
    return f" (in a sample of {SAMPLE_ROWS:,} rows)" if len(x) > SAMPLE_ROWS else ""


def matrix(x: Any) -> NDArray[np.float32]:
    """Return the sampled rows of an input as (rows, features), every n-th feature of wide ones."""
    rows = sample(x).astype(np.float32)
    flat = rows.reshape(len(rows), -1)
    # Baselines must take seconds.
    return flat[:, :: -(-flat.shape[1] // _MOST_FEATURES)]


def digests(tree: Any, data: Data) -> list[bytes]:
    """Return a digest of each row of all inputs together; NotApplicable for rows that are not in memory."""
    arrays = [x for _, x in inputs_of(tree)]
    if any(not isinstance(x, np.ndarray) for x in arrays):
        raise NotApplicable("the images are read as they are needed")
    if data.stream is not None:
        raise NotApplicable("the training rows come in batches")
    return [
        hashlib.blake2b(b"".join(np.ascontiguousarray(x[row]).tobytes() for x in arrays), digest_size=16).digest()
        for row in range(len(arrays[0]))
    ]
