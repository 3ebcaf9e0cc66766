"""Folders of images as a source: a folder for each class, maybe within a folder for each split."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.data.parts import SPLITS, Part, Parts
from search.errors import DataError
from search.vocabulary import closest

if TYPE_CHECKING:
    from PIL import Image

    from search.data.parts import Array

_ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))


@dataclass(frozen=True)
class Images:
    """A folder of images: class folders, or train/validation/test folders with class folders in them."""

    path: Path
    size: tuple[int, int] | None

    def check(self) -> None:
        for split, classes in self._layout().items():
            if split == "train" and len(classes) < 2:
                raise DataError(f"{self.path}: one class only, {next(iter(classes))!r}; make a folder for each class")

    def _layout(self) -> dict[str, dict[str, list[Path]]]:
        """List the files: split -> class -> images, each in order of its name."""
        folders = _folders(self.path)
        if "train" not in folders or not _folders(folders["train"]):
            return {"train": self._classes(self.path)}
        layout: dict[str, dict[str, list[Path]]] = {}
        for name, folder in folders.items():
            if name not in SPLITS:
                raise DataError(f"{folder}: stands beside train but is no split{closest(name, SPLITS)}; move it away")
            if SPLITS[name] in layout:
                raise DataError(f"{folder}: there is already a folder for {SPLITS[name]}; keep one of them")
            layout[SPLITS[name]] = self._classes(folder)
        return layout

    def _classes(self, folder: Path) -> dict[str, list[Path]]:
        classes = {
            name: sorted(file for file in inner.iterdir() if file.suffix.lower() in _ENDINGS and _is_shown(file))
            for name, inner in _folders(folder).items()
        }
        if not classes:
            raise DataError(f"{folder}: holds no folders; put the images of each class into a folder named after it")
        for name, files in classes.items():
            if not files:
                raise DataError(
                    f"{folder / name}: holds no images ({' '.join(sorted(_ENDINGS))}); add some or remove it"
                )
        return classes

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        layout = self._layout()
        with ThreadPoolExecutor() as pool:
            files = [file for classes in layout.values() for names in classes.values() for file in names]
            headers = list(pool.map(_image_header, files))
            size = self.size or headers[0][1]
            if self.size is None:
                _check_sizes(files, headers)
            mode = "L" if all(found == "L" for found, _ in headers) else "RGB"
            splits = {split: _decoded(pool, classes, size, mode) for split, classes in layout.items()}
        return Parts(str(self.path), splits)


def _is_shown(path: Path) -> bool:
    return not path.name.startswith((".", "__"))


def _folders(path: Path) -> dict[str, Path]:
    return {inner.name: inner for inner in sorted(path.iterdir()) if inner.is_dir() and _is_shown(inner)}


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open an image; what Pillow raises for a broken file while it is open ends in a DataError."""
    from PIL import Image

    # The SyntaxError is Pillow's PNG reader's.
    broken = (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error)
    try:
        with Image.open(file) as image:
            yield image
    except (*broken, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: can't be read as an image: {error}; mend or remove it") from None


def _image_header(file: Path) -> tuple[str, tuple[int, int]]:
    """Return an image's mode and (height, width)."""
    with _opened(file) as image:
        mode, size = image.mode, (image.height, image.width)
    if mode.startswith(("I", "F")):
        # Pillow would cut these off at 255 and hand out white images.
        raise DataError(f"{file}: has pixels of mode {mode}, more than 8 bits; save it with 8 bits a channel")
    return mode, size


def _check_sizes(files: list[Path], headers: list[tuple[str, tuple[int, int]]]) -> None:
    height, width = headers[0][1]
    for file, (_, size) in zip(files, headers, strict=True):
        if size != (height, width):
            raise DataError(
                f"{file}: is {size[0]} high and {size[1]} wide where {files[0]} is {height} and {width}; "
                f"add image_size = [{height}, {width}], say, and all are resized"
            )


def _decoded(pool: ThreadPoolExecutor, classes: Mapping[str, list[Path]], size: tuple[int, int], mode: str) -> Part:
    """Read the images of a split into (rows, height, width, channels), on as many threads as the pool has."""
    import numpy as np

    files = [file for inner in classes.values() for file in inner]
    labels = [name for name, inner in classes.items() for _ in inner]
    x = np.empty((len(files), *size, len(mode)), np.uint8)

    def decode(row: int) -> None:
        x[row] = _pixels(files[row], mode, size).reshape(x.shape[1:])

    for _ in pool.map(decode, range(len(files))):
        pass  # a failed one raises here
    return Part(x, np.array(labels, dtype=str), lambda row: str(files[row]))


def _pixels(file: Path, mode: str, size: tuple[int, int]) -> Array:
    import numpy as np
    from PIL import Image

    with _opened(file) as image:
        converted = image.convert(mode)
        if (image.height, image.width) != size:
            converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(converted, dtype=np.uint8)
