"""The pictures of a page as PNG files, drawn by the Chrome or Chromium of this machine (Plotly's kaleido)."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import durable
from search.errors import UsageError
from search.views.pages.page import Figure, Page, Pictures
from search.views.pages.style import layout_of, template
from search.views.printable import label

if TYPE_CHECKING:
    import plotly.graph_objects as go

_WIDTH, _SCALE, _TIMEOUT_S = 1000, 2, 120
# Of a sheet of pictures: between two of them, and below each for its caption, in pixels.
_GAP, _CAPTION, _CAPTION_WIDTH = 12, 56, 96
# Room for the title.
_TOP = 64


def write(page: Page, folder: Path) -> list[Path]:
    """Write each picture of a page into a folder as NAME.png, with its title; return their paths.

    Raises UsageError if kaleido or a browser is missing, or the folder can't be written.
    """
    blocks = [block for block in page.blocks if isinstance(block, Figure | Pictures)]
    figures = {block.name: _titled(block) for block in blocks}
    check()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".png-") as partial:
            # In a thread of its own: a notebook's kernel runs an event loop in this one.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, _draw(figures, Path(partial))).result()
            paths = [folder / f"{name}.png" for name in figures]
            for path in paths:
                durable.replace(Path(partial) / path.name, path)
    except OSError as error:
        raise UsageError(f"--png: {folder} can't be written: {error.strerror or error}; name another folder") from None
    return paths


def check() -> None:
    """Raise UsageError unless kaleido and a browser are there."""
    try:
        from kaleido import Kaleido
        from kaleido.errors import ChromeNotFoundError
    except ImportError:
        raise UsageError("--png: kaleido is not installed: run `pip install -e '.[png]'` in manyfit's folder") from None
    try:
        Kaleido(mathjax=False)
    except ChromeNotFoundError:
        raise UsageError(
            "--png: no Chrome or Chromium was found, which draws the pictures: install one, or name it by the environment "
            "variable BROWSER_PATH; the HTML file needs none"
        ) from None


async def _draw(figures: dict[str, dict[str, Any]], folder: Path) -> None:
    from kaleido import Kaleido

    # Without MathJax, nothing is loaded from a network.
    async with Kaleido(mathjax=False, timeout=_TIMEOUT_S) as kaleido:
        for name, figure in figures.items():
            size = {key: figure["layout"][key] for key in ("width", "height")}
            options = {"format": "png", "scale": _SCALE, **size}
            order = {"fig": figure, "path": folder / f"{name}.png", "opts": options}
            await kaleido.write_fig_from_object([order], cancel_on_error=True)


def _titled(block: Figure | Pictures) -> dict[str, Any]:
    """Return a figure with the title and the colours of a light page."""
    figure = block.figure if isinstance(block, Figure) else sheet(block)
    content = json.loads(figure.to_json())
    layout = layout_of(content)
    top = layout["margin"]["t"] + _TOP - 24
    return {
        "data": content["data"],
        "layout": {
            **layout,
            "template": template(is_dark=False),
            "title": {
                "text": label(block.title),
                "x": 0.01,
                "xanchor": "left",
                "y": 1,
                "yanchor": "top",
                "pad": {"t": 14},
            },
            "width": max(_WIDTH, block.min_width if isinstance(block, Figure) else 0),
            "height": layout["height"] + top - layout["margin"]["t"],
            # Plotly's automatic margins leave no room beside a name of an axis.
            "margin": {**layout["margin"], "t": top, "l": layout["margin"]["l"] + 16},
        },
    }


def sheet(block: Pictures) -> go.Figure:
    """Return pictures side by side as a figure of Plotly."""
    import plotly.graph_objects as go

    has_captions = any(len(picture.caption) > 4 for picture in block.pictures)
    width = max(block.width, _CAPTION_WIDTH) if has_captions else block.width
    columns = max(1, (_WIDTH - 2 * _GAP) // (width + _GAP))
    row_height = block.width + _CAPTION
    rows = math.ceil(len(block.pictures) / columns)
    figure = go.Figure()
    for k, picture in enumerate(block.pictures):
        x, y = (k % columns) * (width + _GAP), -(k // columns) * row_height
        place = {"xref": "x", "yref": "y", "x": x, "y": y}
        size = {"sizex": block.width, "sizey": block.width, "xanchor": "left", "yanchor": "top"}
        figure.add_layout_image(source=_enlarged(picture.png, block.width), **place, **size)
        text = "<br>".join(map(label, _lines(picture.caption, width // 6)))
        below = {**place, "y": y - block.width - 2, "xanchor": "left", "yanchor": "top", "align": "left"}
        figure.add_annotation(text=text, showarrow=False, font={"size": 11}, **below)
    hidden = {"visible": False, "fixedrange": True}
    height = rows * row_height
    return figure.update_layout(
        xaxis={**hidden, "range": [0, _WIDTH - 2 * _GAP]},
        yaxis={**hidden, "range": [-height, 0]},
        margin={"l": _GAP, "r": _GAP, "t": 24, "b": 0},
        height=height + 24,
    )


def _enlarged(png: bytes, width: int) -> str:
    """Return a picture as a data address, enlarged without smoothing if it is small."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        factor = max(1, math.ceil(_SCALE * width / image.width))
        large = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        buffer = io.BytesIO()
        large.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _lines(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(width, 8))[:3] or [""]
