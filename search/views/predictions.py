"""What `manyfit predict` prints about the table that it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import UsageError
from search.views.text import number

if TYPE_CHECKING:
    from search.trials.predicted import Predicted

_MOST_CLASSES = 8


def check_target(output: Path | None, model: Path, data: str, *, as_json: bool) -> None:
    """Raise UsageError if predictions can't be written there, or would replace what they are made from."""
    if output is None:
        if as_json:
            raise UsageError("--json is about a file of predictions: name it with -o predictions.csv")
        return
    if output.suffix != ".csv":
        raise UsageError(f"-o: predictions are a .csv; received {output}")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UsageError(f"-o: {output} is a folder, or its folder is not there; name another file")
    for made_from in (model, Path(data)):
        if output.exists() and made_from.exists() and output.samefile(made_from):
            raise UsageError(f"-o: {output} is what the predictions are made from; name another file")


def to_json(predicted: Predicted, model: Path, data: str, output: Path) -> dict[str, Any]:
    """Return what was predicted as plain JSON."""
    return {
        "model": str(model),
        "data": data,
        "output": str(output),
        "rows": predicted.rows,
        "columns": list(predicted.columns),
        "outputs": {name: dict(summary) for name, summary in predicted.outputs.items()},
        "lines": list(predicted.lines),
    }


def lines(predicted: Predicted, output: Path) -> Iterator[str]:
    """Yield the lines about a written table."""
    yield f"written: {output}, {predicted.rows} rows"
    for name, summary in predicted.outputs.items():
        what = f"  {name}: " if name else "  "
        if "classes" in summary:
            counts = sorted(summary["classes"].items(), key=lambda pair: -pair[1])
            shown = ", ".join(f"{count} {label}" for label, count in counts[:_MOST_CLASSES])
            yield f"{what}{shown}{', ...' if len(counts) > _MOST_CLASSES else ''}"
        else:
            low, mean, high = (number(summary[key]) for key in ("lowest", "mean", "highest"))
            yield f"{what}{low} to {high}, {mean} on average"
    yield from (f"  {line}" for line in predicted.lines)
