"""The parts of a page, and its HTML. The file needs no network, and suits light and dark browsers.

All text is escaped here: names and messages come from people, and none of them becomes HTML or code.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from search.views.export import write as write_text
from search.views.pages.style import STYLE, layout_of, script
from search.views.printable import printable
from search.views.text import number

if TYPE_CHECKING:
    import plotly.graph_objects as go

Kind: TypeAlias = Literal["ok", "look", "stop", "note"]
Cell: TypeAlias = str | int | float | None

# The page loads nothing from outside the file. Plotly compiles functions for some of its figures.
_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'"


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; `is_quiet` for remarks."""

    text: str
    is_quiet: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line with a verdict: ok, look or stop; "note" has none."""

    kind: Kind
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Columns that hold numbers only stand to the right; None is an empty cell."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of Plotly; what people named stands in it as `printable.label` returns it.

    `name` is that of its PNG file, [a-z0-9-]; `note` stands below it. It scrolls in windows narrower than `min_width` pixels.
    """

    name: str
    title: str
    figure: go.Figure
    note: str = ""
    min_width: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """A small PNG picture, such as an image of the data, with a caption."""

    png: bytes
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures side by side. `name` is that of their PNG files; `width` is that of each on the page, in pixels."""

    name: str
    title: str
    pictures: Sequence[Picture]
    note: str = ""
    width: int = 96


Block: TypeAlias = Text | Verdict | Table | Figure | Pictures


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A page; `lead` stands below its title."""

    title: str
    sections: Sequence[Section]
    lead: Sequence[Block] = ()

    @property
    def blocks(self) -> Iterator[Block]:
        """All its blocks, from the top."""
        yield from self.lead
        for section in self.sections:
            yield from section.blocks

    @property
    def figures(self) -> list[Figure]:
        """Its figures of Plotly, from the top."""
        return [block for block in self.blocks if isinstance(block, Figure)]


def write(page: Page, path: Path) -> None:
    """Write a page as one HTML file, atomically; UsageError if the file can't be written."""
    write_text(path, to_html(page))


def to_html(page: Page) -> str:
    """Return a page as HTML. Plotly's script is part of it, about 5 MB, where the page has a figure."""
    sections = [
        f'<section id="s{index}"><h2>{_escaped(section.title)}</h2>{_blocks(section.blocks)}</section>'
        for index, section in enumerate(page.sections)
    ]
    links = [f'<a href="#s{index}">{_escaped(section.title)}</a>' for index, section in enumerate(page.sections)]
    nav = f"<nav>{''.join(links)}</nav>" if len(links) > 1 else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_escaped(page.title)}</title><style>{STYLE}</style></head>\n<body><main>"
        f"<h1>{_escaped(page.title)}</h1>{_blocks(page.lead)}{nav}\n{''.join(sections)}</main>\n"
        f"{_scripts(page.figures)}</body></html>\n"
    )


def _scripts(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>\n<script>{script()}</script>\n"


def _blocks(blocks: Iterable[Block]) -> str:
    return "\n".join(map(_block, blocks))


def _block(block: Block) -> str:
    match block:
        case Text():
            return f"<p{' class=quiet' if block.is_quiet else ''}>{_escaped(block.text)}</p>"
        case Verdict():
            label = "" if block.kind == "note" else f"<b>{block.kind}</b> "
            advice = f"<br><span>{_escaped(block.advice)}</span>" if block.advice else ""
            return f'<p class="verdict {block.kind}">{label}{_escaped(block.text)}{advice}</p>'
        case Table():
            return _table(block)
        case Figure():
            data = json_of(block.figure).replace("<", "\\u003c")
            width = f' style="min-width: {block.min_width}px"' if block.min_width else ""
            return (
                f'<figure><figcaption>{_escaped(block.title)}</figcaption><div class="wide">'
                f'<div class="plot" id="{_escaped(block.name)}"{width}>'
                "<noscript>This picture needs JavaScript.</noscript>"
                f'<script type="application/json">{data}</script></div></div>{_note(block.note)}</figure>'
            )
        case Pictures():
            shown = "".join(_picture(picture, block.width) for picture in block.pictures)
            return (
                f"<figure><figcaption>{_escaped(block.title)}</figcaption>"
                f'<div class="pictures">{shown}</div>{_note(block.note)}</figure>'
            )


def json_of(figure: go.Figure) -> str:
    """Return data and layout of a figure as JSON, without a template: the page has one for light and one for dark."""
    content: dict[str, Any] = json.loads(figure.to_json())
    return json.dumps({"data": content["data"], "layout": layout_of(content)})


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) if table.rows else [() for _ in table.head]
    sides = [' class="n"' if column and all(map(_is_number, column)) else "" for column in columns]
    head = "".join(f"<th{side}>{_escaped(name)}</th>" for name, side in zip(table.head, sides, strict=True))
    rows = "".join(
        f"<tr>{''.join(f'<td{side}>{_cell(cell)}</td>' for cell, side in zip(row, sides, strict=True))}</tr>"
        for row in table.rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float | None) and not isinstance(cell, bool)


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    return number(cell) if isinstance(cell, float) else _escaped(str(cell))


def _picture(picture: Picture, width: int) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    caption = _escaped(picture.caption)
    return (
        f'<div style="width: {width}px"><img src="data:image/png;base64,{data}" alt="{caption}" width="{width}">'
        f"<span>{caption}</span></div>"
    )


def _note(note: str) -> str:
    return f"<p class=quiet>{_escaped(note)}</p>" if note else ""


def _escaped(text: str) -> str:
    """Return text of anybody as HTML that shows it; codes for a terminal and broken bytes of file names are written out."""
    return html.escape(printable(text))
