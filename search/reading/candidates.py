"""The configs that a study chooses among: from a table beside the study file, or as the file lists them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spaces import Space, SpaceError, is_number, shown

# A sampler looks at all of them for each trial.
MOST = 20_000
# A range of positive numbers whose ends differ by this factor is searched by its logarithm.
_LOG_FACTOR = 100.0


def read(source: str, base: Path) -> list[dict[str, Any]]:
    """Read the rows of a `.csv` or `.tsv` file; SpaceError if it can't be read.

    A blank cell is a parameter that its config lacks.
    """
    import pandas as pd

    path = base / source
    if path.suffix not in (".csv", ".tsv"):
        raise SpaceError(f"a table of candidates is a .csv or .tsv file, or a list of tables; received {source!r}")
    try:
        frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise SpaceError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    if unnamed := [name for name in frame.columns if not str(name).isidentifier()]:
        raise SpaceError(
            f"{path}: a column is named like a parameter; received {', '.join(map(shown, map(str, unnamed)))}"
        )
    return [
        {str(name): _cell(text) for name, cell in row.items() if (text := str(cell).strip())}
        for row in frame.to_dict("records")
    ]


def space_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the `[space]` of candidates: ranges of their numbers, and lists of their other values. SpaceError for blanks."""
    names = dict.fromkeys(name for row in rows for name in row)
    space: dict[str, Any] = {}
    for name in names:
        values = [row[name] for row in rows if name in row]
        if len(values) < len(rows):
            raise SpaceError(
                f"{len(rows) - len(values)} candidates lack {name!r}; describe parameters that depend on others in [space]"
            )
        distinct = list(dict.fromkeys(json.dumps(value) for value in values))
        if all(map(is_number, values)) and len(distinct) > 1:
            low, high = min(values), max(values)
            if any(isinstance(value, float) for value in values):
                low, high = float(low), float(high)
            log = low > 0 and high / low >= _LOG_FACTOR
            space[name] = {"low": low, "high": high, **({"log": True} if log else {})}
        else:
            space[name] = [json.loads(value) for value in distinct]
    return space


def checked(rows: Sequence[Mapping[str, Any]], space: Space) -> list[dict[str, Any]]:
    """Return candidates as configs of a space, each once; SpaceError for one that is none."""
    configs: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        try:
            config = _config(row, space)
        except SpaceError as error:
            where = f", {error.key}" if error.key else ""
            raise SpaceError(f"candidate {number}{where}: {error}") from None
        configs.setdefault(json.dumps(config), config)
    if not 2 <= len(configs) <= MOST:
        raise SpaceError(f"there must be from 2 to {MOST:,} different candidates; received {len(configs):,}")
    return list(configs.values())


def _config(row: Mapping[str, Any], space: Space) -> dict[str, Any]:
    params = space.check(row)
    active: dict[str, Any] = {}
    for name in space:
        is_active = space.is_active(name, active)
        if is_active != (name in params):
            what = (
                "is missing" if is_active else f"has no meaning here; its condition is {shown(dict(space[name].when))}"
            )
            raise SpaceError(what, name)
        if is_active:
            active[name] = params[name]
    return space.config(active)


def _cell(text: str) -> Any:
    """Return a cell as a study file would have it: numbers, true and false, lists and tables are JSON, all else is a text."""
    if text in ("True", "False", "TRUE", "FALSE"):  # as pandas and spreadsheets write them
        return text.lower() == "true"
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if value is None or isinstance(value, str) else value
