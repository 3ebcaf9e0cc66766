"""Plays one search on one task of recorded curves with manyfit's own loop, samplers, pruners and store, in seconds."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measuring
from curves import Task
from measuring import Needs

from search.core.loop import search as search_in
from search.core.study import Study
from search.errors import Interrupted, OptionError, UsageError
from search.policies import pruners, samplers
from search.registry import STORAGES
from search.spec.identity import Record
from search.spec.study import StudyFile
from search.workers.inprocess import Replaying
from spaces import Space

if TYPE_CHECKING:
    from search.trials.events import Assignment

# So many that the budget of epochs always ends a search first.
TRIALS = 1_000_000


# -- searches by name --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Search:
    """A sampler and a pruner, each as in a study file, and the title that tables show."""

    title: str
    sampler: Mapping[str, Any] = field(default_factory=lambda: {"name": "random"})
    pruner: Mapping[str, Any] = field(default_factory=lambda: {"name": "none"})

    @property
    def missing(self) -> str:
        """The command that installs the packages that the sampler misses; "" if none is missing."""
        return measuring.to_install(_NEEDS.get(self.sampler["name"], ()))

    def check(self, space: Space, epochs: int) -> None:
        """Raise UsageError if a policy or an option is unknown, or the sampler can't search `space`."""
        try:
            samplers.check(self.sampler["name"], _options(self.sampler), space)
            pruners.make(self.pruner["name"], _options(self.pruner), epochs=epochs)
        except OptionError as error:
            raise UsageError(f"{self.title}: {error}") from None


_NEEDS: dict[str, Needs] = {"gp": (("torch", ".[gp]"),), "cmaes": (("cmaes", ".[cmaes]"),)}
# Halving as in published comparisons of searches on these curves. manyfit's own default has a later first rung.
_HALVING = {"name": "halving", "first_rung": 3, "eta": 3}


def _named(sampler: str, pruner: str | Mapping[str, Any] = "none", *, title: str = "") -> Search:
    table = {"name": pruner} if isinstance(pruner, str) else pruner
    return Search(title or (sampler if pruner == "none" else f"{sampler} + {table['name']}"), {"name": sampler}, table)


SEARCHES = (
    _named("random"),
    _named("random", _HALVING),
    _named("qmc", _HALVING),
    _named("cmaes"),
    _named("tpe"),
    _named("tpe", "median"),
    _named("tpe", "hyperband"),
    _named("tpe", _HALVING),
    _named("gp"),
    _named("gp", _HALVING),
    _named("bayes", "halving", title="bayes"),
)
"""The searches that are compared by default; the last one is manyfit's default search."""


def parse_search(text: str) -> Search:
    """Parse "SAMPLER", "SAMPLER+PRUNER", or the title of one of `SEARCHES`, which takes precedence; ignore blanks.

    Options follow a name: "tpe:multivariate=true+halving:first_rung=6,eta=4". UsageError for options that can't be parsed;
    `Search.check` checks that the sampler exists.
    """
    bare = "".join(text.split())
    by_title = {"".join(search.title.split()): search for search in SEARCHES}
    if bare in by_title:
        return by_title[bare]
    sampler, plus, pruner = bare.partition("+")
    parsed = Search(_title(sampler, pruner), _table(sampler), _table(pruner) if plus else {"name": "none"})
    same = [search for search in SEARCHES if (search.sampler, search.pruner) == (parsed.sampler, parsed.pruner)]
    return same[0] if same else parsed


def _title(sampler: str, pruner: str) -> str:
    """Return a title for a parsed search, with options in brackets."""
    parts = []
    for name, colon, options in (text.partition(":") for text in (sampler, pruner) if text):
        parts.append(f"{name} ({options.replace(',', ', ')})" if colon else name)
    return " + ".join(parts)


def _table(text: str) -> dict[str, Any]:
    """Parse "name:key=value,key=value"; a value is a boolean or number of TOML, or a text without quotes."""
    name, _, options = text.partition(":")
    table: dict[str, Any] = {"name": name}
    for option in filter(None, options.split(",")):
        key, equals, value = option.partition("=")
        if not equals:
            raise UsageError(f"{text}: an option is key=value; received {option!r}")
        table[key] = _value(value)
    return table


def _value(text: str) -> Any:
    words: dict[str, Any] = {"true": True, "false": False}
    if text in words:
        return words[text]
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text


def _options(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "name"}


# -- matches and their results -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Match:
    """One run of one search on one task.

    Attributes:
        search: its title.
        lanes: how many trials train side by side, an epoch of each in turn.
        budget: the most epochs that all trials together may train.
    """

    task: str
    search: str
    lanes: int
    seed: int
    budget: int


@dataclass(frozen=True, slots=True)
class Played:
    """A match and its result: a line of `quality.py --out`.

    Attributes:
        best, median: those of the task: regret 0 and regret 1.
        trials: how many were started; `whole` of them trained to the last epoch, and `diverged` diverged.
        ms: CPU milliseconds per trial of the sampler and the pruner.
        trace: (epochs spent, best objective so far), at each improvement.
    """

    match: Match
    best: float
    median: float
    trials: int
    whole: int
    diverged: int
    ms: float
    trace: Sequence[tuple[int, float]]

    def regret(self, epochs: float) -> float:
        """Return the regret after so many epochs; inf if there is no objective yet."""
        objectives = [objective for spent, objective in self.trace if spent <= epochs]
        return (self.best - objectives[-1]) / (self.best - self.median) if objectives else math.inf

    def epochs_to(self, regret: float) -> float:
        """Return the number of epochs after which the regret is at most `regret`; inf if it never is."""
        reached = (
            spent for spent, objective in self.trace if (self.best - objective) / (self.best - self.median) <= regret
        )
        return next(reached, math.inf)


# -- playing -----------------------------------------------------------------------------------------------


class _Clocked:
    """A policy, with the CPU seconds of all its methods counted. Wall time would depend on other load of the machine."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.cpu_seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._policy, name)
        if not callable(method):
            return method

        def clocked(*arguments: Any, **more: Any) -> Any:
            began = time.process_time()
            try:
                return method(*arguments, **more)
            finally:
                self.cpu_seconds += time.process_time() - began

        return clocked


class _Tape:
    """Plays a task's curves to a study, and records improvements within a budget of epochs."""

    def __init__(self, task: Task, study: Study, budget: int) -> None:
        self._task, self._study, self._budget = task, study, budget
        self._sign = 1.0 if task.direction == "maximize" else -1.0
        self._curves: dict[int, Sequence[float]] = {}
        self._spent = 0
        self.trace: list[tuple[int, float]] = []

    def __call__(self, assignment: Assignment, epoch: int) -> Mapping[str, float]:
        """Return the metrics of an epoch: the objective, nan where training diverges."""
        number = assignment.member.trial
        if number not in self._curves:
            self._curves[number] = self._task.curve(self._study.trials[number].params)
        curve = self._curves[number]
        objective = curve[epoch - 1] if epoch <= len(curve) else math.nan
        self._spent += 1
        if self._is_improvement(objective):
            self.trace.append((self._spent, objective))
        return {self._task.objective: objective}

    def is_spent(self) -> int:
        """Return 1 when the budget is used up, else 0. The loop takes it as the number of a signal, and stops."""
        return int(self._spent >= self._budget)

    def _is_improvement(self, objective: float) -> bool:
        # The budget may end between two lanes of a tick; epochs of the later lanes do not count.
        if math.isnan(objective) or self._spent > self._budget:
            return False
        return not self.trace or self._sign * objective > self._sign * self.trace[-1][1]


def study_file(task: Task, search: Search, seed: int, folder: Path) -> StudyFile:
    """Return the study that searches a task; its data and model are never used."""
    table = {
        "study": {
            "name": "match",
            "objective": task.objective,
            "direction": task.direction,
            "trials": TRIALS,
            "epochs": task.epochs,
            "seed": seed,
        },
        "data": {"source": "recorded"},
        "space": task.space,
        "search": {"sampler": search.sampler, "pruner": search.pruner},
    }
    return StudyFile.stored(folder / "match.toml", table)


def play(task: Task, search: Search, match: Match, storage: str = "memory") -> Played:
    """Search until the budget is spent, or the space is used up.

    `storage` is "memory", or "sqlite" for manyfit's own store in a temporary folder. The result is the same with both.
    """
    with tempfile.TemporaryDirectory(prefix="manyfit-bench-") as folder:
        file = study_file(task, search, match.seed, Path(folder))
        study = Study(file)
        # The pruner is clocked, too, because the sampler works there when it vetoes pruning.
        draws, pruner = _Clocked(study._policies.draws), _Clocked(study._policies.pruner)
        study._policies = replace(study._policies, draws=draws, pruner=pruner)
        tape = _Tape(task, study, match.budget)
        engine = Replaying(tape, match.lanes)
        stores = STORAGES.get(storage).create(
            file,
            Record({"engine": "fit", "backend": "jax", "devices": [], "versions": {}}, {"data": {}, "model": {}}, ""),
        )
        with stores as store, suppress(Interrupted):
            search_in(study, store, engine, interruption=tape.is_spent, watch=lambda: None)
    return Played(
        match,
        best=task.best,
        median=task.median,
        trials=len(study.trials),
        whole=sum(trial.state == "COMPLETE" for trial in study.trials),
        diverged=sum(trial.ended == "diverged" for trial in study.trials),
        ms=1000 * (draws.cpu_seconds + pruner.cpu_seconds) / len(study.trials),
        trace=tape.trace,
    )
