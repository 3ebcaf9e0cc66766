"""What tests of data need: sources written to disk, and what loading them gives or says."""

from __future__ import annotations

import struct
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search import data
from search.errors import DataError
from search.spec.settings import DataSection


def load(base: Path, source: str, seed: int = 0, **section: Any) -> data.Data:
    return data.load(DataSection(source=source, **section), base, seed)


def without_remarks(warnings: Sequence[str]) -> list[str]:
    """Return the warnings but for those on columns that are of no use, which small tables are full of."""
    of_columns = (
        "looks like an identifier",
        "all cells are equal",
        "are equal; drop one",
        "equal to an earlier column",
    )
    return [warning for warning in warnings if not any(words in warning for words in of_columns)]


def refused(base: Path, source: str, *words: str, **section: Any) -> str:
    """Load, and expect a DataError of one line that holds all the words."""
    with pytest.raises(DataError) as caught:
        load(base, source, **section)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def write_function(base: Path, body: str, *, name: str = "mine") -> str:
    """Write a data function and return its source; a module is imported once, so that a second one needs a name."""
    code = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    (base / f"{name}.py").write_text(f"import numpy as np\nimport pandas as pd\n\n\ndef load():\n{code}\n")
    return f"{name}.py:load"


def write_table(base: Path, header: str, row: str, rows: int = 40, *, name: str = "d.csv", extra: str = "") -> None:
    """Write a table whose rows are `row` with {i} filled in; `extra` is put behind the fifth."""
    lines = [header, *(row.format(i=i, bit=i % 2, half=i / 2, kind="dog" if i % 2 else "cat") for i in range(rows))]
    if extra:
        lines.insert(6, extra)
    (base / name).write_text("\n".join(lines) + "\n")


def draw(file: Path, value: int = 0, size: tuple[int, int] = (4, 3), **how: Any) -> None:
    """Save an image in one colour; its format is told by the suffix, or given."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(file, **how)


def draw_classes(folder: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> None:
    for number, name in enumerate(names):
        for index in range(count):
            draw(folder / name / f"{index}.png", 20 * number + index)


def all_rows(loaded: data.Data) -> Any:
    """Return the features of training and validation together."""
    return np.concatenate([loaded.x_train, loaded.x_validation])


def deep_tiff(numbers: Any) -> bytes:
    """Return an uncompressed TIFF of 4x4 pixels, of 16 bits a colour; Pillow writes none."""
    pixels, at = numbers.astype("<u2").tobytes(), 8 + 2 + 12 * 9 + 4
    tags = [(256, 4), (257, 4), (258, at), (259, 1), (262, 2), (273, at + 6), (277, 3), (278, 4), (279, len(pixels))]
    entries = b"".join(struct.pack("<HHII", tag, 3, 3 if tag == 258 else 1, value) for tag, value in tags)
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(tags))
        + entries
        + struct.pack("<I", 0)
        + struct.pack("<HHH", 16, 16, 16)
        + pixels
    )
