"""Rows of images, and weights that look at them, as small PNG pictures."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A picture has at most so many pixels a side.
_LARGEST = 112
# Rows of two axes are images if both have so many pixels and neither is much longer: a table's windows are long and narrow.
_SMALLEST, _MOST_OBLONG = 8, 3
# Sources whose rows are flattened images, with their (height, width).
_FLATTENED = {"sklearn:digits": (8, 8)}
# Low, middle and high weights. The middle is 0.
_WEIGHTS = np.array([[59, 130, 214], [246, 246, 246], [224, 123, 40]], np.float32)


def image_shape(row: tuple[int, ...], source: str = "", *, is_window: bool = False) -> tuple[int, ...] | None:
    """Return (height, width) or (height, width, channels) of rows that are images, else None.

    Args:
        row: the shape of a row.
        source: `data.source`; rows of some named data are flattened images.
        is_window: whether rows are windows over a series, which are not images.
    """
    if len(row) == 1:
        return _FLATTENED.get(source)
    if is_window:
        return None
    if len(row) == 3 and row[2] in (1, 3, 4) and min(row[:2]) >= 4:
        return row
    is_image = len(row) == 2 and min(row) >= _SMALLEST and max(row) <= _MOST_OBLONG * min(row)
    return row if is_image else None


def of_row(row: NDArray[Any], shape: tuple[int, ...], low: float, high: float) -> str:
    """Return a row of an image as PNG in base64; `low` is black, `high` is white."""
    pixels = np.nan_to_num(row.reshape(shape).astype(np.float32))
    return _png(np.clip((pixels - low) / ((high - low) or 1.0) * 255, 0, 255))


def of_weights(weights: NDArray[Any]) -> str:
    """Return weights of (height, width), or (height, width, 3) for colours, as PNG in base64; grey is 0."""
    scaled = weights.astype(np.float32) / (float(np.abs(weights).max()) or 1.0)
    if weights.ndim == 3:
        return _png((scaled + 1) * 127.5)
    near, far = np.clip(scaled[..., None], -1, 0), np.clip(scaled[..., None], 0, 1)
    return _png(_WEIGHTS[1] - near * (_WEIGHTS[0] - _WEIGHTS[1]) + far * (_WEIGHTS[2] - _WEIGHTS[1]))


def _png(pixels: NDArray[np.float32]) -> str:
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    image = Image.fromarray(np.rint(pixels).astype(np.uint8))
    image.thumbnail((_LARGEST, _LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
