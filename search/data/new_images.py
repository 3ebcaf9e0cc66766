"""New images for a trained model: every image in a folder and the folders in it, in the order of their paths."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from search.data.class_folders import files_below
from search.data.images import is_image, tried
from search.data.pixels import Header, header_of, pixels_of
from search.errors import DataError, without_stray_bytes

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.spec.model_file import ModelNotes

_GREY = frozenset(("1", "L", "LA", "La"))
_MOST_NAMED = 10


def read(path: Path, shape: tuple[int, ...], notes: ModelNotes) -> tuple[Array, tuple[str, ...], tuple[str, ...]]:
    """Return the images of a folder as bytes (rows, *shape), their paths within it, and remarks.

    They are turned and resized as those of the study were. DataError for a folder without images, a broken image, or one of
    another size or with colours where the study has none.
    """
    import numpy as np

    files = files_below(path)
    with ThreadPoolExecutor() as pool:
        are_images = list(pool.map(tried(is_image), files))
        _refuse(path, [error for error in are_images if isinstance(error, DataError)])
        images = [file for file, is_one in zip(files, are_images, strict=True) if is_one]
        if not images:
            raise DataError(f"{path}: holds no images; give a folder of images, or a file of arrays")
        headers = list(pool.map(tried(lambda file: header_of(file, is_upright=notes.is_upright)), images))
        _refuse(path, [header for header in headers if isinstance(header, DataError)])
        known = [header for header in headers if isinstance(header, Header)]
        _check(images, known, shape, is_resized=bool(notes.image_size))
        mode = "L" if shape[2] == 1 else "RGB"
        x = np.empty((len(images), *shape), np.uint8)

        def decode(row: int) -> None:
            size = (shape[0], shape[1])
            pixels = pixels_of(images[row], known[row], mode, size, is_upright=notes.is_upright)
            x[row] = pixels.array.reshape(shape)

        _refuse(path, [error for error in pool.map(tried(decode), range(len(images))) if isinstance(error, DataError)])
    left = len(files) - len(images)
    warnings = (f"{path}: {left} of the files are no images and were left out",) if left else ()
    return x, tuple(without_stray_bytes(str(file.relative_to(path))) for file in images), warnings


def _check(files: Sequence[Path], headers: Sequence[Header], shape: tuple[int, ...], *, is_resized: bool) -> None:
    for file, header in zip(files, headers, strict=True):
        if not is_resized and header.size != shape[:2]:
            raise DataError(
                f"{file}: is {header.size[0]} high and {header.size[1]} wide, and the model takes {shape[0]} and {shape[1]}; "
                "resize it (the study's images all had that size)"
            )
        if shape[2] == 1 and header.mode not in _GREY:
            raise DataError(
                f"{file}: has colours (mode {header.mode}), and the images of the study were grey; convert it"
            )


def _refuse(path: Path, errors: Sequence[DataError]) -> None:
    """Raise one error for all broken files; it names the first ones."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        texts = "; ".join(str(error).partition("; ")[0] for error in errors[:_MOST_NAMED])
        raise DataError(f"{path}: {len(errors)} images can't be used; mend or remove them: {texts}")
