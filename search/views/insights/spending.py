"""Where the time and the epochs of a study went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from search.trials.history import History
from search.views.text import duration

# The kinds of the events for a compilation and for a trial beside the lanes.
COMPILED = "program compiled"
BESIDE = "trained by fit beside the lanes"


@dataclass(frozen=True, slots=True)
class Ending:
    """The trials that ended in one way.

    Attributes:
        epochs: that they trained; `wanted` is how many they would have trained without an end before.
        seconds: of their epochs.
    """

    ended: str
    trials: int
    epochs: int
    wanted: int
    seconds: float


def compiled(history: History) -> list[dict[str, Any]]:
    """Return the compiled programs; one that was compiled again after an interruption appears again."""
    return [detail for _, kind, detail in history.events if kind == COMPILED]


def parts(history: History) -> dict[str, float]:
    """Return the workers' time in seconds by what it went into, in words."""
    programs = len(compiled(history))
    names = {
        "train": "training",
        "compile": f"compiling {programs} program{'' if programs == 1 else 's'}",
        "build": "waiting for models to be built",
        "wait": "waiting for verdicts",
        "save": "writing checkpoints",
    }
    return {name: history.spent[part] for part, name in names.items() if history.spent.get(part)}


def line(history: History) -> str:
    """Return in a phrase where the workers' time went; "" if that is not known."""
    shares = [f"{duration(seconds)} {name}" for name, seconds in parts(history).items()]
    if beside := {detail["trial"] for _, kind, detail in history.events if kind == BESIDE}:
        shares.append(f"{len(beside)} trial{'' if len(beside) == 1 else 's'} {BESIDE}")
    return ", ".join(shares)


def endings(history: History) -> list[Ending]:
    """Return the trials by what ended them, the most frequent first."""
    counts = Counter(trial.ended or trial.state.lower() for trial in history.trials)
    groups = []
    for ended, count in counts.most_common():
        trials = [trial for trial in history.trials if (trial.ended or trial.state.lower()) == ended]
        groups.append(
            Ending(
                ended,
                count,
                sum(len(trial.curve) for trial in trials),
                sum(trial.epochs for trial in trials),
                sum(sum(trial.seconds) for trial in trials),
            )
        )
    return groups


def at_a_time(history: History) -> float | None:
    """Return how many trials were under way on average while any was; None if their times are not known."""
    spans = sorted(
        (trial.started_at, trial.ended_at)
        for trial in history.trials
        if trial.is_ended and trial.started_at is not None and trial.ended_at is not None
    )
    total, covered, until = 0.0, 0.0, None
    for start, end in spans:
        total += (end - start).total_seconds()
        covered += max(0.0, (end - (start if until is None else max(start, until))).total_seconds())
        until = end if until is None else max(until, end)
    return total / covered if covered > 0 else None


def lanes_line(history: History) -> str:
    """Return in a sentence how well the lanes were used; "" for an engine without lanes."""
    lanes = history.resolved.get("lanes") or {}
    places, under_way = lanes.get("places"), at_a_time(history)
    if not places or under_way is None:
        return ""
    # Beside those in lanes, a few trials have their models built, so there may be more trials than lanes.
    use = "the lanes were full" if under_way >= places else f"{under_way / places:.0%} of the lanes had one at most"
    return f"{under_way:.1f} trials were under way on average, for {places} lane{'' if places == 1 else 's'}: {use}"
