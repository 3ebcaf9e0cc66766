"""What a check shows beside its verdicts, as plain values: the page draws them. Nothing here imports keras."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Part = Literal["data", "training"]


@dataclass(frozen=True, slots=True)
class Images:
    """Pictures side by side: (PNG in base64, caption); `width` of each, in pixels of the page."""

    part: Part
    name: str
    title: str
    images: tuple[tuple[str, str], ...]
    note: str = ""
    width: int = 80


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves: name -> (x, y); `marks` are values of x with a name; `is_log` has the exponent of x drawn evenly."""

    part: Part
    name: str
    title: str
    x_title: str
    y_title: str
    lines: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    marks: Mapping[str, float] = field(default_factory=dict)
    is_log: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of each category, a colour for each name of `bars`."""

    part: Part
    name: str
    title: str
    y_title: str
    categories: tuple[str, ...]
    bars: Mapping[str, tuple[float, ...]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Numbers as colours, (rows, columns)."""

    part: Part
    name: str
    title: str
    x_title: str
    y_title: str
    values: tuple[tuple[float, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A table."""

    part: Part
    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    note: str = ""


Exhibit: TypeAlias = Images | Lines | Bars | Grid | Listing

# Larger images are drawn with every n-th pixel.
_MOST_PIXELS = 96


def png_of(image: NDArray[Any], low: float, high: float) -> str:
    """Return an image (height, width, 1 or 3), from black at `low` to white at `high`, as PNG in base64."""
    from PIL import Image

    step = -(-image.shape[0] // _MOST_PIXELS)
    scaled = (np.nan_to_num(image[::step, ::step].astype(np.float64)) - low) / max(high - low, 1e-12)
    pixels = (scaled.clip(0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def image_shape(values: NDArray[Any]) -> tuple[int, int, int] | None:
    """Return (height, width, channels) of rows that are images, also of square ones that come as flat rows; else None."""
    shape = values.shape[1:]
    if len(shape) == 3 and shape[-1] in (1, 3) and min(shape[:2]) > 1:
        return shape[0], shape[1], shape[2]
    if len(shape) == 2 and min(shape) >= 8 and _is_smooth(values.reshape(len(values), -1), shape[1]):
        return shape[0], shape[1], 1
    side = round(shape[0] ** 0.5) if len(shape) == 1 else 0
    if side >= 8 and side * side == shape[0] and _is_smooth(values, side):
        return side, side, 1
    return None


def _is_smooth(flat: NDArray[Any], width: int) -> bool:
    """Whether flat rows are pixels, with `width` to a line: neighbours above each other are alike, as nowhere else."""
    x = flat.astype(np.float64)
    x = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), np.inf)

    def likeness(offset: int) -> float:
        return float(np.abs((x[:, :-offset] * x[:, offset:]).mean(axis=0)).mean())

    return likeness(width) > 0.25 and likeness(width) > 1.5 * likeness(width // 2)
