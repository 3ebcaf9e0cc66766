"""Folders of images as a source: one folder for each class, maybe inside one folder for each split."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from search.data.class_folders import (
    Layout,
    check_class,
    check_classes,
    is_shown,
    labels_of,
    layout_of,
    places_of,
    walk,
)
from search.data.labels import lookalikes
from search.data.parts import Part, Parts
from search.data.pixels import Header, Pixels, header_of, pixels_of
from search.data.stored_images import StoredImages
from search.errors import DataError, without_stray_bytes

if TYPE_CHECKING:
    from search.data.parts import Array

# A file with one of these endings is refused if Pillow can't read it. Any other file is used if Pillow can open it.
ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
_UNREADABLE = frozenset(
    (
        ".heic",
        ".heif",
        ".jxl",
        ".svg",
        ".raw",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".orf",
        ".rw2",
        ".exr",
        ".hdr",
        ".dcm",
    )
)

_WHAT = f"images ({' '.join(sorted(ENDINGS))})"
# Broken files that an error names.
_MOST_NAMED = 10
# Images of more than 8 bits of which the upper 8 stay below this hold fewer bits than their format.
_NEARLY_BLACK = 16

_S = TypeVar("_S")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What is known of an image once its pixels were read: its largest byte, and for lazy reading their digest."""

    is_transparent: bool
    largest: int
    digest: bytes


@dataclass(frozen=True)
class Images:
    """A folder of images: class folders, or train/validation/test folders that contain class folders.

    Attributes:
        size: (height, width) to resize images to; None for images that all have one size.
        is_upright: whether photos are turned as their EXIF orientation says.
        is_lazy: whether images are decoded again when they are needed, and not kept.
        limit: rows that the study uses; None for all.
    """

    path: Path
    size: tuple[int, int] | None
    is_upright: bool = True
    is_lazy: bool = False
    limit: int | None = None

    def check(self) -> None:
        check_classes(self.path, layout_of(self.path, _WHAT))

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        with ThreadPoolExecutor() as pool:
            layout, others = self._separate_images(pool, layout_of(self.path, _WHAT))
            files = [file for classes in layout.values() for inner in classes.values() for file in inner]
            headers = self._headers(pool, files)
            size = self.size or headers[0].size
            if self.size is None:
                _check_sizes(files, headers)
            mode = "L" if all(header.mode == "L" for header in headers) else "RGB"
            if not self.is_lazy:
                self._check_memory(len(files), size, mode)
            x, decoded = self._decoded(pool, files, headers, size, mode)
        names = sorted({folder.name for classes in layout.values() for folder in classes})
        warnings = (
            *self._left_out(layout, others), *self._frames(headers), *self._deep(files, headers, decoded),
            *self._transparency([file for file, image in zip(files, decoded, strict=True) if image.is_transparent]),
            *lookalikes(names, str(self.path)),
        )  # fmt: skip
        return Parts(str(self.path), _parts(layout, files, x), warnings=tuple(map(without_stray_bytes, warnings)))

    def sizes(self) -> Counter[tuple[int, int]]:
        """Count the images of each (height, width), by their headers alone; DataError that names broken files."""
        with ThreadPoolExecutor() as pool:
            layout, _ = self._separate_images(pool, layout_of(self.path, _WHAT))
            files = [file for classes in layout.values() for inner in classes.values() for file in inner]
            return Counter(header.size for header in self._headers(pool, files))

    def _headers(self, pool: ThreadPoolExecutor, files: Sequence[Path]) -> list[Header]:
        """Read all headers; DataError that names the broken files, also those whose pixels are broken."""

        def header(file: Path) -> Header:
            return header_of(file, is_upright=self.is_upright)

        def decoded(file: Path) -> Pixels:
            first = header(file)
            return pixels_of(file, first, "RGB", first.size, is_upright=self.is_upright)

        headers = list(pool.map(tried(header), files))
        if any(isinstance(one, DataError) for one in headers):
            # List all broken files in one error, so that one more command is enough.
            self._refuse(files, [error for error in pool.map(tried(decoded), files) if isinstance(error, DataError)])
        return [one for one in headers if isinstance(one, Header)]

    def _decoded(
        self,
        pool: ThreadPoolExecutor,
        files: Sequence[Path],
        headers: Sequence[Header],
        size: tuple[int, int],
        mode: str,
    ) -> tuple[Array | StoredImages, list[_Decoded]]:
        """Decode all images into (rows, height, width, channels), and return a remark on each."""
        import numpy as np

        x = np.empty((0 if self.is_lazy else len(files), *size, len(mode)), np.uint8)

        def decode(row: int) -> _Decoded:
            pixels = pixels_of(files[row], headers[row], mode, size, is_upright=self.is_upright)
            if not self.is_lazy:
                x[row] = pixels.array.reshape(x.shape[1:])
            data = pixels.array.tobytes() if self.is_lazy else b""
            digest = hashlib.blake2b(data, digest_size=16).digest()
            return _Decoded(pixels.is_transparent, int(pixels.array.max()), digest)

        results = list(pool.map(tried(decode), range(len(files))))
        if errors := [result for result in results if isinstance(result, DataError)]:
            self._refuse(files, errors)
        decoded = [result for result in results if isinstance(result, _Decoded)]
        if not self.is_lazy:
            return x, decoded
        digests = [image.digest for image in decoded]
        return StoredImages(files, headers, digests, size, mode, self.is_upright), decoded

    def _check_memory(self, count: int, size: tuple[int, int], mode: str) -> None:
        """Refuse images that fill the machine's memory, as bytes and as float32."""
        needed = (count + 4 * min(count, self.limit or count)) * size[0] * size[1] * len(mode)
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > there:
            raise DataError(
                f"{self.path}: {count} images of {size[0]} x {size[1]} pixels need {needed / 2**30:.0f} GiB and the machine "
                f"has {there / 2**30:.0f}; add lazy = true to read them as they are needed, or a smaller image_size"
            )

    def _refuse(self, files: Sequence[Path], errors: Sequence[DataError]) -> None:
        """Raise one error for all broken files; it names the first ones."""
        if len(errors) == 1:
            raise errors[0]
        texts = [str(error).removeprefix(f"{self.path}{os.sep}").partition("; ")[0] for error in errors[:_MOST_NAMED]]
        more = f"; and {len(errors) - len(texts)} more" if len(errors) > len(texts) else ""
        raise DataError(
            f"{self.path}: {len(errors)} of {len(files)} images can't be used; mend or remove them: {'; '.join(texts)}{more}"
        )

    def _separate_images(self, pool: ThreadPoolExecutor, layout: Layout) -> tuple[Layout, list[Path]]:
        """Separate the images of every class from its other files."""
        images: Layout = {}
        others: list[Path] = []
        errors: list[DataError] = []
        for split, classes in layout.items():
            images[split] = {}
            for folder, files in classes.items():
                are_images = list(pool.map(tried(is_image), files))
                errors += [result for result in are_images if isinstance(result, DataError)]
                images[split][folder] = [file for file, is_used in zip(files, are_images, strict=True) if is_used]
                others += [file for file, is_used in zip(files, are_images, strict=True) if not is_used]
                others += [file for file, is_seen in walk(folder) if not is_seen]
        if errors:
            self._refuse([file for classes in layout.values() for files in classes.values() for file in files], errors)
        for classes in images.values():
            for folder, files in classes.items():
                check_class(folder, files, _WHAT)
        return images, others

    def _left_out(self, layout: Layout, others: list[Path]) -> Iterator[str]:
        """Yield warnings on files of class folders that are not images, and on images outside class folders."""
        if others:
            suffixes = Counter(file.suffix.lower() or file.name for file in others)
            shown = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
            yield (
                f"{self.path}: {len(others)} of the files in the class folders are no images and were left out ({shown}); "
                "remove them, or save images as PNG or JPEG"
            )
        parents = {self.path, *(folder.parent for classes in layout.values() for folder in classes)}
        stray = [
            file
            for parent in sorted(parents)
            for file in sorted(parent.iterdir())
            if file.suffix.lower() in ENDINGS | _UNREADABLE and is_shown(file.name) and file.is_file()
        ]
        if stray:
            yield f"{self.path}: {len(stray)} images stand in no class folder and were left out, such as {stray[0]}"

    def _deep(self, files: Sequence[Path], headers: Sequence[Header], decoded: Sequence[_Decoded]) -> Iterator[str]:
        """Yield a warning on images of more than 8 bits; DataError if in 8 bits they are nearly black."""
        rows = [row for row, header in enumerate(headers) if header.bits > 8]
        if not rows:
            return
        largest = max(decoded[row].largest for row in rows)
        if largest < _NEARLY_BLACK:
            raise DataError(
                f"{files[rows[0]]}: has more than 8 bits a channel, of which the upper 8 are used; in all {len(rows)} such "
                f"images these are {largest} at most, nearly black: stretch their numbers over the whole range, or save 8 "
                "bits a channel"
            )
        many = f"{len(rows)} images have more than 8 bits a channel"
        yield f"{self.path}: {many}, such as {files[rows[0]]}; the upper 8 are used"

    def _frames(self, headers: Sequence[Header]) -> Iterator[str]:
        if count := sum(header.has_frames for header in headers):
            yield (
                f"{self.path}: {count} images have several frames or pages, of which the first is used; save each as a file "
                "of its own if the others count"
            )

    def _transparency(self, files: list[Path]) -> Iterator[str]:
        if files:
            yield (
                f"{self.path}: {len(files)} images have transparent pixels, such as {files[0]}; their colours are used and "
                "their transparency is not: paste them on a background if it matters"
            )


def is_image(file: Path) -> bool:
    """Return whether a file of a class folder is an image; DataError for an image that Pillow can't open."""
    if file.suffix.lower() in ENDINGS:
        return True
    from PIL import Image

    try:
        with Image.open(file):
            return True
    except Exception:  # noqa: BLE001 (the file may be of any format, and Pillow's readers may raise anything)
        if file.suffix.lower() in _UNREADABLE:
            raise DataError(
                f"{file}: Pillow can't open this kind of image; save it as PNG or JPEG, or remove it"
            ) from None
        return False


def tried(function: Callable[[_S], _T]) -> Callable[[_S], _T | DataError]:
    """Return a function that returns a DataError instead of raising it."""

    def tried(argument: _S) -> _T | DataError:
        try:
            return function(argument)
        except DataError as error:
            return error

    return tried


def _check_sizes(files: Sequence[Path], headers: Sequence[Header]) -> None:
    height, width = headers[0].size
    others = [
        (file, header.size) for file, header in zip(files, headers, strict=True) if header.size != (height, width)
    ]
    if others:
        file, size = others[0]
        more = f" ({len(others)} of {len(files)} images have another size than the first)" if len(others) > 1 else ""
        raise DataError(
            f"{file}: is {size[0]} high and {size[1]} wide where {files[0]} is {height} and {width}{more}; "
            f"add image_size = [{height}, {width}], say, and all are resized"
        )


def _parts(layout: Layout, files: Sequence[Path], x: Any) -> dict[str, Part]:
    """Return the rows of each split; `files` and `x` are in the order of the layout."""
    import numpy as np

    parts, first = {}, 0
    for split, classes in layout.items():
        labels = labels_of(classes)
        end = first + len(labels)
        rows: Any = x.taken(np.arange(first, end)) if isinstance(x, StoredImages) else x[first:end]
        parts[split] = Part(rows, np.array(labels, dtype=str), places_of(files[first:end]))
        first = end
    return parts
