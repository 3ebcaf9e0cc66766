"""Folders of images as a source: one folder for each class, maybe inside one folder for each split."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from search.data.labels import lookalikes
from search.data.parts import SPLITS, Part, Parts
from search.errors import DataError, printable
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    from PIL import Image

    from search.data.parts import Array

# A file with one of these endings is refused if Pillow can't read it. Any other file is used if Pillow can open it.
_ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
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
_TIFF_BITS_PER_SAMPLE = 258
_BITS = 8
_SYSTEM_FOLDERS = frozenset(("__MACOSX", "__pycache__"))

# Split -> the folder of each class -> files.
_Layout: TypeAlias = dict[str, dict[Path, list[Path]]]


@dataclass(frozen=True, slots=True)
class _Header:
    """An image's mode, its (height, width), and whether it has more than one frame or page."""

    mode: str
    size: tuple[int, int]
    has_frames: bool


@dataclass(frozen=True)
class Images:
    """A folder of images: class folders, or train/validation/test folders that contain class folders."""

    path: Path
    size: tuple[int, int] | None

    def check(self) -> None:
        for split, classes in self._layout().items():
            if split == "train" and len(classes) < 2:
                raise DataError(
                    f"{self.path}: one class only, {next(iter(classes)).name!r}; make a folder for each class"
                )

    def _layout(self) -> _Layout:
        """Return the files of all classes of all splits, sorted by path."""
        folders = _folders(self.path)
        if "train" not in folders or not _folders(folders["train"]):
            return {"train": self._classes(self.path)}
        layout: _Layout = {}
        for name, folder in folders.items():
            if name not in SPLITS:
                raise DataError(f"{folder}: stands beside train but is no split{closest(name, SPLITS)}; move it away")
            if SPLITS[name] in layout:
                raise DataError(f"{folder}: there is already a folder for {SPLITS[name]}; keep one of them")
            layout[SPLITS[name]] = self._classes(folder)
        return layout

    def _classes(self, folder: Path) -> dict[Path, list[Path]]:
        classes = {inner: _files(inner) for inner in _folders(folder).values()}
        if not classes:
            raise DataError(f"{folder}: holds no folders; put the images of each class into a folder named after it")
        for inner, files in classes.items():
            _check_class(inner, files)
        return classes

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        with ThreadPoolExecutor() as pool:
            layout, others = self._separate_images(pool, self._layout())
            files = [file for classes in layout.values() for inner in classes.values() for file in inner]
            headers = list(pool.map(_image_header, files))
            size = self.size or headers[0].size
            if self.size is None:
                _check_sizes(files, headers)
            mode = "L" if all(header.mode == "L" for header in headers) else "RGB"
            decoded = {split: _decode_all(pool, classes, size, mode) for split, classes in layout.items()}
        names = sorted({folder.name for classes in layout.values() for folder in classes})
        transparent = [file for _, files in decoded.values() for file in files]
        warnings = (
            *self._left_out(layout, others), *self._frames(headers), *self._transparency(transparent),
            *lookalikes(names, str(self.path)),
        )  # fmt: skip
        splits = {split: part for split, (part, _) in decoded.items()}
        return Parts(str(self.path), splits, warnings=tuple(map(printable, warnings)))

    def _separate_images(self, pool: ThreadPoolExecutor, layout: _Layout) -> tuple[_Layout, list[Path]]:
        """Separate the images of every class from its other files."""
        images: _Layout = {}
        others: list[Path] = []
        for split, classes in layout.items():
            images[split] = {}
            for folder, files in classes.items():
                is_image = list(pool.map(_is_image, files))
                images[split][folder] = [file for file, is_used in zip(files, is_image, strict=True) if is_used]
                others += [file for file, is_used in zip(files, is_image, strict=True) if not is_used]
                others += [file for file, is_shown in _walk(folder) if not is_shown]
                _check_class(folder, images[split][folder])
        return images, others

    def _left_out(self, layout: _Layout, others: list[Path]) -> Iterator[str]:
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
            if file.suffix.lower() in _ENDINGS | _UNREADABLE and _is_shown(file.name) and file.is_file()
        ]
        if stray:
            yield f"{self.path}: {len(stray)} images stand in no class folder and were left out, such as {stray[0]}"

    def _frames(self, headers: list[_Header]) -> Iterator[str]:
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


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name not in _SYSTEM_FOLDERS


def _folders(path: Path) -> dict[str, Path]:
    return {inner.name: inner for inner in sorted(path.iterdir()) if inner.is_dir() and _is_shown(inner.name)}


def _files(folder: Path) -> list[Path]:
    """Return the files in and below a class folder, sorted by path, without hidden and system files."""
    return sorted(file for file, is_shown in _walk(folder) if is_shown)


def _walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield every file below a folder, and whether it is not hidden; follow each link to a folder once."""

    def refuse(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    hidden: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        hidden |= {str(Path(root, name)) for name in folders if root in hidden or not _is_shown(name)}
        for name in names:
            yield Path(root, name), root not in hidden and _is_shown(name)


def _check_class(folder: Path, files: list[Path]) -> None:
    """Refuse a class folder without images of its own: if only folders below it have some, those may be the classes."""
    if not files:
        raise DataError(f"{folder}: holds no images ({' '.join(sorted(_ENDINGS))}); add some or remove it")
    if not any(file.parent == folder for file in files):
        raise DataError(
            f"{folder}: holds images in folders below it only ({files[0].parent}), so that it can't be told which folders "
            f"are the classes; move its images up into {folder.name!r}, or name the folder of the classes in source"
        )


def _is_image(file: Path) -> bool:
    """Return whether a file of a class folder is an image; DataError for an image that Pillow can't open."""
    if file.suffix.lower() in _ENDINGS:
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


@contextmanager
def _open_image(file: Path) -> Iterator[Image.Image]:
    """Open an image; errors of Pillow for a damaged file, also while it is open, become a DataError."""
    from PIL import Image

    # Pillow's PNG reader raises SyntaxError.
    damage = (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error)
    try:
        with Image.open(file) as image:
            yield image
    except (*damage, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: can't be read as an image: {error}; mend or remove it") from None


def _image_header(file: Path) -> _Header:
    with _open_image(file) as image:
        # The second frame of an MPO, a photo of some phones, is a small copy of the photo.
        has_frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        header = _Header(image.mode, (image.height, image.width), has_frames)
        is_deep = header.mode.startswith(("I", "F")) or _has_deep_channels(image)
    if is_deep:
        # Pillow clips grey images like these at 255, and keeps the high byte of coloured ones.
        raise DataError(f"{file}: has pixels of mode {header.mode}, more than 8 bits; save it with 8 bits a channel")
    return header


def _has_deep_channels(image: Image.Image) -> bool:
    """Return whether a file has more than 8 bits a channel; the mode doesn't show that of coloured images."""
    bits: Any = getattr(image, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, ())
    for codec, _, _, args in getattr(image, "tile", ()):
        # "RGB;16B" is a raw mode of 16 bits a channel, "BGR;16" one of 16 bits a pixel; the arguments of a PNM file end with
        # its largest value.
        texts = args if isinstance(args, tuple) else (args,)
        bits = (
            *bits,
            *(int(match[1]) for text in texts if (match := re.search(r"(?<!BGR)(?<!BGRA);(\d+)", str(text)))),
        )
        if codec.startswith("ppm"):
            bits = (*bits, *(number.bit_length() for number in texts if isinstance(number, int)))
    return any(count > _BITS for count in bits)


def _check_sizes(files: list[Path], headers: list[_Header]) -> None:
    height, width = headers[0].size
    for file, header in zip(files, headers, strict=True):
        if header.size != (height, width):
            raise DataError(
                f"{file}: is {header.size[0]} high and {header.size[1]} wide where {files[0]} is {height} and {width}; "
                f"add image_size = [{height}, {width}], say, and all are resized"
            )


def _decode_all(
    pool: ThreadPoolExecutor, classes: Mapping[Path, list[Path]], size: tuple[int, int], mode: str
) -> tuple[Part, list[Path]]:
    """Decode the images of a split into (rows, height, width, channels), on the threads of the pool.

    Also return the files with transparent pixels.
    """
    import numpy as np

    files = [file for inner in classes.values() for file in inner]
    labels = [printable(folder.name) for folder, inner in classes.items() for _ in inner]
    x = np.empty((len(files), *size, len(mode)), np.uint8)

    def decode(row: int) -> bool:
        pixels, is_transparent = _pixels(files[row], mode, size)
        x[row] = pixels.reshape(x.shape[1:])
        return is_transparent

    # The error of a failed image is raised here.
    transparent = [
        file for file, is_transparent in zip(files, pool.map(decode, range(len(files))), strict=True) if is_transparent
    ]
    return Part(x, np.array(labels, dtype=str), lambda row: str(files[row])), transparent


def _pixels(file: Path, mode: str, size: tuple[int, int]) -> tuple[Array, bool]:
    """Return the pixels of an image, and whether some of them are transparent."""
    import numpy as np
    from PIL import Image

    with _open_image(file) as image:
        is_transparent = image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (
            255,
            255,
        )
        converted = image.convert(mode)
        if (image.height, image.width) != size:
            converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(converted, dtype=np.uint8), is_transparent
