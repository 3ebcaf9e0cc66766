"""Images that stay in their files: rows like an array's, which are decoded when they are indexed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data.pixels import Header, pixels_of

if TYPE_CHECKING:
    import numpy as np

    from search.data.parts import Array


@dataclass(frozen=True, eq=False)
class StoredImages:
    """The rows of a split, (rows, height, width, channels); indexing by rows decodes them, several at a time.

    Attributes:
        files, headers: of every row.
        digests: of the pixels of every row, as they were when the source was read.
        size: (height, width).
        mode: "L" or "RGB".
        is_upright: whether photos are turned as their EXIF orientation says.
        is_scaled: whether rows are float32 from 0 to 1; else they are uint8.
    """

    files: Sequence[Path]
    headers: Sequence[Header]
    digests: Sequence[bytes]
    size: tuple[int, int]
    mode: str
    is_upright: bool
    is_scaled: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *self.size, len(self.mode))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        import numpy as np

        return np.dtype(np.float32 if self.is_scaled else np.uint8)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Any) -> Array:
        """Decode rows by a slice or an array of row numbers; DataError that names a file that can't be read any more."""
        import numpy as np

        numbers = np.arange(len(self))[rows]

        def decode(row: int) -> Array:
            pixels = pixels_of(self.files[row], self.headers[row], self.mode, self.size, is_upright=self.is_upright)
            return pixels.array.reshape(self.shape[1:])

        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for at, image in enumerate(_pool().map(decode, numbers.tolist())):
            images[at] = image
        return images.astype(np.float32) / np.float32(255) if self.is_scaled else images

    def taken(self, rows: Array) -> StoredImages:
        """Return some rows, without reading them."""
        numbers = rows.tolist()
        return replace(
            self,
            files=[self.files[row] for row in numbers],
            headers=[self.headers[row] for row in numbers],
            digests=[self.digests[row] for row in numbers],
        )

    def scaled(self) -> StoredImages:
        """Return the rows as float32 from 0 to 1."""
        return replace(self, is_scaled=True)

    @property
    def digest(self) -> bytes:
        """Return a digest of all pixels in order."""
        return hashlib.blake2b(b"".join(self.digests), digest_size=16).digest()


_POOLS: dict[int, ThreadPoolExecutor] = {}


def _pool() -> ThreadPoolExecutor:
    # By process: threads do not live on in a forked one.
    if os.getpid() not in _POOLS:
        _POOLS[os.getpid()] = ThreadPoolExecutor(thread_name_prefix="images")
    return _POOLS[os.getpid()]
