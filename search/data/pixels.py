"""Image files as bytes of pixels: upright, 8 bits a channel, grey or RGB."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

    from search.data.parts import Array

_TIFF_BITS_PER_SAMPLE = 258
_EXIF_ORIENTATION = 274
_BITS = 8
# EXIF orientation -> the method of Pillow's Transpose that turns pixels upright; source: EXIF 2.32, as in ImageOps.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_SIDEWAYS = frozenset((5, 6, 7, 8))


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its image before its pixels are read.

    Attributes:
        mode: Pillow's mode; "L" for grey pixels of any depth.
        size: (height, width), upright.
        has_frames: whether there is more than one frame or page.
        bits: of a channel; 8 for any number up to 8.
    """

    mode: str
    size: tuple[int, int]
    has_frames: bool
    bits: int


@dataclass(frozen=True, eq=False, slots=True)
class Pixels:
    """The bytes of an image, (height, width) or (height, width, 3), and whether some pixels are transparent."""

    array: Array
    is_transparent: bool


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """Open an image; errors of Pillow for a damaged file, also while it is open, become a DataError."""
    from PIL import Image

    # Pillow's PNG reader raises SyntaxError.
    damage = (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error)
    try:
        with Image.open(file) as image:
            yield image
    except (*damage, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: can't be read as an image: {error}; mend or remove it") from None


def header_of(file: Path, *, is_upright: bool) -> Header:
    """Read the header of a file; DataError for a damaged one, or for numbers without a known range."""
    with opened(file) as image:
        # The second frame of an MPO, a photo of some phones, is a small copy of the photo.
        has_frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        bits, mode, size = _bits(image), image.mode, (image.height, image.width)
        if is_upright and _orientation(image) in _SIDEWAYS:
            size = (image.width, image.height)
        has_range = not mode.startswith(("I", "F")) or _is_16_bit_grey(image)
    if not has_range:
        raise DataError(
            f"{file}: has pixels of mode {mode}, more than 8 bits without a known range; save it with 8 or 16 bits"
        )
    return Header("L" if mode.startswith("I") else mode, size, has_frames, bits)


def _is_16_bit_grey(image: Image.Image) -> bool:
    # Old versions of Pillow open a grey PNG of 16 bits as "I". All open a PGM so, and stretch its numbers to 16 bits.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _bits(image: Image.Image) -> int:
    """Return the bits of a channel, at least 8; the mode doesn't show that of coloured images."""
    bits: Any = getattr(image, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, ())
    if image.mode.startswith("I"):
        return int(max((_BITS, *bits))) if bits else 16
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
    return int(max((_BITS, *bits)))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image's pixels as Pillow gives them; 1 if it has none."""
    # Pillow turns a TIFF itself. It would decode a PNG to look for EXIF behind its pixels.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        orientation: Any = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 (damaged EXIF raises anything, and the pixels are sound)
        return 1
    return next((number for number in _TURNS if number == orientation), 1)


def pixels_of(file: Path, header: Header, mode: str, size: tuple[int, int], *, is_upright: bool) -> Pixels:
    """Decode an image into `mode`, "L" or "RGB", and resize it to (height, width) if it has another size.

    Of more than 8 bits a channel the upper 8 are kept.
    """
    import numpy as np
    from PIL import Image

    with opened(file) as image:
        orientation = _orientation(image) if is_upright else 1
        is_transparent = image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (
            255,
            255,
        )
        if image.mode.startswith("I"):
            # Pillow's own conversion clips at 255.
            deep = np.asarray(image) >> (header.bits - _BITS)
            grey = Image.fromarray(deep.clip(0, 255).astype(np.uint8))
            converted = grey.convert(mode)
        else:
            converted = image.convert(mode)
        if orientation in _TURNS:
            converted = converted.transpose(Image.Transpose[_TURNS[orientation]])
        if (converted.height, converted.width) != size:
            converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return Pixels(np.asarray(converted, dtype=np.uint8), is_transparent)
