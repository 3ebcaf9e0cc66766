"""The texts of my_data.py, for what `data.source` can't say."""

from __future__ import annotations

from collections.abc import Mapping

from search.drafting.quirks import Reading


def of_table(source: str, reading: Reading) -> str:
    """Return a function that reads a table by pandas, with the options that it needs."""
    given = {name: _text(value) if isinstance(value, str) else repr(value) for name, value in reading.options.items()}
    options = "".join(f", {name}={value}" for name, value in given.items())
    read = f"pd.{reading.function}({_path(source)}{options})"
    lines = [f"return {read}"]
    if reading.names:
        lines = [f"frame = {read}"]
        lines += [f"# Give the columns names of your own: column_{len(reading.names)} is the last one."]
        lines += ['frame.columns = [f"column_{number}" for number in range(1, frame.shape[1] + 1)]', "return frame"]
    why = "; ".join(reading.why)
    return _file(source, why, "import pandas as pd", lines, "one table; [data] names its target")


def of_npz(source: str, keys: Mapping[str, str], why: str) -> str:
    """Return a function that gives the arrays of an .npz file the names of `data.source`: name -> key in the file."""
    lines = [f"with np.load({_path(source)}) as arrays:", "    return {"]
    lines += [f"        {_text(name)}: arrays[{_text(key)}]," for name, key in keys.items()]
    return _file(source, why, "import numpy as np", [*lines, "    }"], "arrays")


def of_npy(source: str, keys: Mapping[str, str]) -> str:
    """Return a function that reads the arrays of a folder: name -> stem of a file."""
    lines = [f"folder = {_path(source)}", "return {"]
    lines += [f"    {_text(name)}: np.load(folder / {_text(f'{stem}.npy')})," for name, stem in keys.items()]
    return _file(source, "the arrays are in files of their own", "import numpy as np", [*lines, "}"], "arrays")


def _file(source: str, why: str, imports: str, body: list[str], returned: str) -> str:
    lines = "\n".join(f"    {line}" for line in body)
    return f'''"""Reads {_plain(source)} for the study, since {why}.

Change anything here; `manyfit plan` says what the study makes of it.
"""

from pathlib import Path

{imports}

HERE = Path(__file__).parent


def rows():
    """Return {returned}."""
{lines}
'''


def _path(source: str) -> str:
    return f"HERE / {_text(source)}"


def _text(text: str) -> str:
    """Return a text as Python writes it, in double quotes where that needs no more escapes."""
    written = repr(text)
    return f'"{written[1:-1]}"' if written.startswith("'") and '"' not in text else written


def _plain(text: str) -> str:
    """Return a text that can stand in a docstring."""
    return "".join(c if c.isprintable() and c not in '\\"' else "?" for c in text)
