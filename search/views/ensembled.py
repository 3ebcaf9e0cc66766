"""What `manyfit ensemble` prints: the averaged model beside the best single one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from search.views import evaluation
from search.views.text import number

if TYPE_CHECKING:
    from rich.console import Console

    from search.trials.ensembled import Ensembled
    from search.trials.measured import Measured


def to_json(made: Ensembled, output: Path, tests: tuple[Measured, Measured] | None) -> dict[str, Any]:
    """Return an ensemble as plain JSON; `tests` are its test rows and those of the best trial."""
    table = {**asdict(made), "model": str(output)}
    if tests is not None:
        table |= {"test": evaluation.to_json(tests[0]), "test_of_best": evaluation.to_json(tests[1])}
    return table


def show(made: Ensembled, output: Path, tests: tuple[Measured, Measured] | None, console: Console) -> None:
    """Print an ensemble for people."""
    trials = ", ".join(map(str, made.trials))
    console.print(Text.assemble((made.study, "bold"), f": {output} averages trials {trials}"))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("metric", "rows", "ensemble", f"trial {made.trials[0]} alone"):
        table.add_column(column, justify="left" if column in ("metric", "rows") else "right")
    for name, value in made.values.items():
        table.add_row(Text(name.removeprefix("val_")), "validation", number(value), number(made.best.get(name)))
    if tests is not None:
        for name, value in tests[0].values.items():
            table.add_row(Text(name), "test", number(value), number(tests[1].values.get(name)))
    console.print(table)
    for line in made.lines:
        console.print(Text(line))
    if tests is not None:
        console.print(Text(f"{evaluation.looks(tests[1].looks)} in this study, these two included"))
