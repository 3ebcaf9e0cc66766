"""What a confirmation says of a study: a table and lines for people, JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from search.storage import records
from search.storage.studies import Stored
from search.trials.confirmation import LEVEL, Confirmation, Confirmed, confirmation
from search.views.text import number

if TYPE_CHECKING:
    from rich.table import Table


def of(stored: Stored) -> Confirmation | None:
    """Return the confirmation of a study as far as it has come; None if there is none."""
    again = records.confirming(stored)
    return None if again is None else confirmation(stored, again)


def to_json(confirmation: Confirmation) -> dict[str, Any]:
    """Return a confirmation as plain JSON."""
    return {**asdict(confirmation), "pairs": confirmation.pairs, "level": LEVEL}


def table(confirmation: Confirmation, objective: str) -> Table:
    """Return the configs as a table, in the search's order."""
    from rich.table import Table  # here, since `export` needs this module in programs without a terminal, too

    rows = Table(box=None, header_style="bold", pad_edge=False)
    columns = ("rank", "trial", objective, "mean again", "standard error", f"{LEVEL:.0%} interval", "luck", "trainings")
    for column in columns:
        rows.add_column(column, justify="right", no_wrap=True)
    for rank, config in enumerate(confirmation.configs, 1):
        failed = f" ({config.failed} failed)" if config.failed else ""
        rows.add_row(
            str(rank),
            str(config.trial),
            number(config.value),
            number(config.mean),
            "-" if config.standard_error is None else f"{config.standard_error:.2g}",
            _interval(config),
            "-" if config.luck is None else f"{config.luck:+.2g}",
            f"{len(config.values)} of {confirmation.repeats}{failed}",
        )
    return rows


def lines(confirmation: Confirmation) -> list[str]:
    """Return sentences on the luck of the best value, and on the order of the configs."""
    return [line(confirmation), *([order(confirmation)] if len(confirmation.configs) > 1 else [])]


def line(confirmation: Confirmation) -> str:
    """Return a sentence on how much of the best value was luck."""
    best = confirmation.configs[0]
    notes = [f"{best.failed} more ended without a value"] if best.failed else []
    notes += [] if confirmation.is_done else ["not done: `manyfit confirm` goes on"]
    notes += [] if confirmation.is_current else ["the search has found other best configs since"]
    if best.mean is None:
        text = f"trial {best.trial} has no value of a fresh training yet"
    else:
        count = f"{len(best.values)} fresh trainings" if len(best.values) > 1 else "one fresh training"
        interval = "" if best.low is None else f" ({LEVEL:.0%} interval {_interval(best)})"
        text = f"trial {best.trial} had {number(best.value)} in the search, the mean of {count} is {number(best.mean)}"
        text += f"{interval}: {_luck(best)}"
    return "; ".join([f"confirmation: {text}", *notes])


def order(confirmation: Confirmation) -> str:
    """Return a sentence on whether the order of the configs holds."""
    if confirmation.pairs == 0:
        return "order: no two configs can be compared yet"
    best = (
        "the best again"
        if confirmation.best == confirmation.configs[0].trial
        else f"not the best again: trial {confirmation.best} is"
    )
    parts = [f"trial {confirmation.configs[0].trial} is {best}"]
    if confirmation.correlation is not None:
        parts.append(f"rank correlation of the search's values with the means {confirmation.correlation:+.2f}")
    apart = ", ".join(f"{better} is better than {worse}" for better, worse in confirmation.apart)
    pairs = f"{confirmation.pairs} pair{'' if confirmation.pairs == 1 else 's'} of configs"
    parts.append(f"{len(confirmation.apart)} of {pairs} can be told apart" + (f": {apart}" if apart else ""))
    return f"order: {'; '.join(parts)}"


def _luck(config: Confirmed) -> str:
    if config.luck is None or config.luck <= 0:
        return "its value was no luck"
    if not config.is_lucky:
        return f"{config.luck:.2g} worse, too little to tell from chance"
    return f"luck made it look {config.luck:.2g} better than it is"


def _interval(config: Confirmed) -> str:
    return "-" if config.low is None else f"{number(config.low)} to {number(config.high)}"
