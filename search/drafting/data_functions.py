"""The texts of my_data.py, for what `data.source` can't say."""

from __future__ import annotations

from collections.abc import Mapping

from search.drafting.quirks import Reading

_PANDAS = "from pathlib import Path\n\nimport pandas as pd"
_NUMPY = "from pathlib import Path\n\nimport numpy as np"


def of_table(source: str, reading: Reading) -> str:
    """Return a function that reads a table by pandas, with the options that it needs."""
    options = "".join(f", {name}={_code(value)}" for name, value in reading.options.items())
    read = f"pd.{reading.function}({_path(source)}{options})"
    lines = [f"frame = {read}"]
    if reading.function == "read_csv":
        lines = [
            "with warnings.catch_warnings():",
            "    # pandas only warns when rows have more cells than the header, and drops them.",
            '    warnings.simplefilter("error", pd.errors.ParserWarning)',
            f"    frame = {read}",
        ]
    elif reading.function == "read_excel":
        lines += ["frame = frame.infer_objects()"]
    if reading.names:
        lines += [f"# Give the columns names of your own: column_{len(reading.names)} is the last one."]
        lines += ['frame.columns = [f"column_{number}" for number in range(1, frame.shape[1] + 1)]']
    if reading.first:
        lines += [f"frame.columns = [{_text(reading.first)}, *frame.columns[1:]]"]
    lines += [
        "return frame.iloc[:, 1:]  # the first column numbers the rows" if reading.first == "" else "return frame"
    ]
    why = "; ".join(reading.why)
    imports = f"import warnings\n{_PANDAS}" if reading.function == "read_csv" else _PANDAS
    return _file(source, why, imports, lines, "one table; [data] names its target")


def of_npz(source: str, keys: Mapping[str, str], why: str) -> str:
    """Return a function that gives the arrays of an .npz file the names of `data.source`: name -> key in the file."""
    lines = [f"with np.load({_path(source)}) as arrays:", "    return {"]
    lines += [f"        {_text(name)}: arrays[{_text(key)}]," for name, key in keys.items()]
    return _file(source, why, _NUMPY, [*lines, "    }"], "arrays")


def of_npy(source: str, keys: Mapping[str, str]) -> str:
    """Return a function that reads the arrays of a folder: name -> stem of a file."""
    lines = [f"folder = {_path(source)}", "return {"]
    lines += [f"    {_text(name)}: np.load(folder / {_text(f'{stem}.npy')})," for name, stem in keys.items()]
    return _file(source, "the arrays are in files of their own", _NUMPY, [*lines, "}"], "arrays")


def _file(source: str, why: str, imports: str, body: list[str], returned: str) -> str:
    lines = "\n".join(f"    {line}" for line in body)
    return f'''"""Reads {_plain(source)} for the study, since {why}.

Change anything here; `manyfit plan` says what the study makes of it.
"""

{imports}

HERE = Path(__file__).parent


def rows():
    """Return {returned}."""
{lines}
'''


def _code(value: object) -> str:
    """Return an option as Python writes it: a text, a list or a dictionary, maybe with types such as str."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_code(name)}: {_code(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_code, value)) + "]"
    return _text(value) if isinstance(value, str) else repr(value)


def _path(source: str) -> str:
    return f"HERE / {_text(source)}"


def _text(text: str) -> str:
    """Return a text as Python writes it, in double quotes where that needs no more escapes."""
    written = repr(text)
    return f'"{written[1:-1]}"' if written.startswith("'") and '"' not in text else written


def _plain(text: str) -> str:
    """Return a text that can stand in a docstring."""
    return "".join(c if c.isprintable() and c not in '\\"' else "?" for c in text)
