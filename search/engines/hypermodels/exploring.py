"""Finds the space of a builder in KerasTuner's form: which hyperparameters it has, and under which conditions.

The explorer runs the builder with its defaults, then with one hyperparameter at a time on another value, around every run
that showed a new one, and then with pairs of values that have not met. A parameter's condition is a set of values for each of
a few parents: the smallest such set that explains every run. All parents' values are then tried, so that a condition holds in
every run that asked for the parameter. Runs are remembered as a tree of values, so no path is run twice. Nothing here imports
keras.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any, TypeAlias

from search.engines import failures
from search.engines.hypermodels import hyperparameters
from search.engines.hypermodels.declared import Declared, Parent
from search.engines.hypermodels.hyperparameters import HyperParameters
from search.errors import UsageError
from search.spec.declared_space import DeclaredSpace
from spaces import Space, SpaceError

# The builder runs at most this many times.
MOST_BUILDS = 400
# Values that are tried of a parameter while nothing is known to depend on it.
_PROBES, _PROBES_OF_A_LIST = 4, 12
# Unless the builder names it in a conditional scope, a parameter with more values is not a parent: each value would have to
# be tried.
_MOST_TRIED = 64
# Most runs in search of pairs of values that no run has had.
_MOST_OF_PAIRS = 64
# The fewest of them, with random values, if the hyperparameters of a run depend on values.
_FEWEST_IF_CONDITIONAL = 32
# Runs that could show that a parameter does not depend on a parent's values as it seems to.
_CONTRADICTIONS = 4

Id: TypeAlias = tuple[str, tuple[Parent, ...]]
Pick: TypeAlias = Callable[[Declared], Any]


@dataclass
class _Run:
    """What one run of the builder asked for.

    Attributes:
        values: what it got, in order; without hyperparameters of one value.
        error: why it ended early; "" if it returned a model.
    """

    values: dict[Id, Any] = field(default_factory=dict)
    error: str = ""


class Explorer:
    """Runs a builder with different values.

    Args:
        build: runs the builder once.
        fixed: values of [model], by the names of their parameters: these are not searched.
    """

    def __init__(
        self, build: Callable[[HyperParameters], object], fixed: Mapping[str, Any], most_builds: int = MOST_BUILDS
    ) -> None:
        self._build, self._fixed, self._most = build, fixed, most_builds
        self.builds = 0
        self.entries: dict[Id, Declared] = {}
        self.runs: list[_Run] = []
        self._registered: dict[Id, Declared] = {}
        self._varied: set[Id] = set()
        # The tree: what was answered so far -> what the builder asks next, or the end of its run.
        self._next: dict[tuple[tuple[Id, Any], ...], Id | _Run] = {}
        self.redeclared: dict[str, None] = {}

    def explore(self) -> None:
        """Run the builder until nothing new turns up, or `most_builds` is reached."""
        self.run(lambda one: one.default)
        self._vary_new()
        while self._try_pairs():
            self._vary_new()
        self._try_parents()

    @property
    def is_at_its_limit(self) -> bool:
        return self.builds >= self._most

    def run(self, pick: Pick) -> _Run:
        """Run the builder with the values that `pick` returns, unless that path has been run."""
        picked: dict[Id, Any] = {}

        def answer(one: Declared) -> Any:
            one = self.entries.get(one.identity, one)
            if one.identity not in picked:
                picked[one.identity] = pick(one)
            return picked[one.identity]

        path: tuple[tuple[Id, Any], ...] = ()
        while (following := self._next.get(path)) is not None:
            if isinstance(following, _Run):
                return following
            path += ((following, answer(self.entries[following])),)
        run = _Run(dict(path))
        if self.is_at_its_limit:
            run.error = "not run"
            return run
        return self._run_builder(answer)

    def _run_builder(self, answer: Pick) -> _Run:
        self.builds += 1
        run = _Run()
        path: list[tuple[Id, Any]] = []

        def source(one: Declared) -> Any:
            if (key := one.key()) in self._fixed:
                return one.exact(self._fixed[key])
            if one.is_single:
                assert one.listed is not None  # noqa: S101 (a single value is listed)
                return one.listed[0]
            self.entries.setdefault(one.identity, one)
            value = answer(one)
            self._next[tuple(path)] = one.identity
            path.append((one.identity, value))
            run.values[one.identity] = value
            return value

        hp = hyperparameters.new(source)
        try:
            self._build(hp)
        except UsageError:
            raise
        except BaseException as error:  # noqa: BLE001 (the user's builder may raise anything, also for one path only)
            run.error = failures.one_line(error)
        self._next[tuple(path)] = run
        self.runs.append(run)
        self._registered |= {key: one for key, one in hp.declarations.items() if key not in self._registered}
        self.redeclared |= dict.fromkeys(sorted(hp.redeclared))
        for one in hp.drawn:
            first = self.entries.get(one.identity)
            if first is not None and first.entry() != one.entry():
                self.redeclared.setdefault(one.name)
        return run

    def unknown_again(self) -> str:
        """Run the builder with its defaults once more, off the record; return the first name that no run has asked for."""
        asked: list[Declared] = []

        def source(one: Declared) -> Any:
            asked.append(one)
            return one.exact(self._fixed[one.key()]) if one.key() in self._fixed else one.default

        with suppress(BaseException):  # the user's builder may raise anything
            self._build(hyperparameters.new(source))
        known = {one.name for one in (*self.entries.values(), *self._registered.values())}
        return next((one.name for one in asked if one.name not in known), "")

    def _vary_new(self) -> None:
        """Try the values of every new hyperparameter, around the first run that asked for it."""
        while waiting := [key for key in self.entries if key not in self._varied]:
            for key in waiting:
                self._varied.add(key)
                base = next(run for run in self.runs if key in run.values)
                for value in self.entries[key].probes(_PROBES_OF_A_LIST if self._is_listed(key) else _PROBES):
                    self.run(self._around(base, key, value))
            for key, one in self._registered.items():
                if key not in self.entries and key[1] and not one.is_single:
                    self._activate(key[1])

    def _try_pairs(self) -> bool:
        """Run the builder until listed values have met in pairs; return whether that has shown a hyperparameter."""
        known = len(self.entries)
        listed = [(key, self.entries[key].probes(_PROBES_OF_A_LIST)) for key in self.entries if self._is_listed(key)]
        pairs = [((a, x), (b, y)) for (a, xs), (b, ys) in combinations(listed, 2) for x in xs for y in ys]
        dice = random.Random(0)  # noqa: S311 (no secret)
        dice.shuffle(pairs)
        is_conditional = len({frozenset(run.values) for run in self.runs}) > 1
        fewest = _FEWEST_IF_CONDITIONAL if is_conditional else 0
        met: set[tuple[tuple[Id, Any], tuple[Id, Any]]] = set()
        for run in self.runs:
            met |= set(permutations(run.values.items(), 2))
        for number in range(_MOST_OF_PAIRS):
            pairs = [pair for pair in pairs if pair not in met]
            if len(self.entries) > known or self.is_at_its_limit or not (pairs or number < fewest):
                break
            # As many pairs as do not contradict the first, then random values.
            wanted: dict[Id, Any] = {}
            for (a, x), (b, y) in pairs:
                if wanted.get(a, x) == x and wanted.get(b, y) == y:
                    wanted |= {a: x, b: y}
            # A pair that a run can't bring together is not tried again.
            met |= set(pairs[:1])
            run = self.run(lambda one, wanted=wanted: wanted.get(one.identity, dice.choice(one.probes(_PROBES))))  # type: ignore[misc]
            met |= set(permutations(run.values.items(), 2))
        return len(self.entries) > known

    def _activate(self, conditions: Sequence[Parent]) -> None:
        """Run the builder once so that conditions hold, as KerasTuner does for scopes that were never active."""
        wanted = {condition.name: condition.values[0] for condition in conditions}
        self.run(lambda one: wanted.get(one.name, one.default))

    def _is_listed(self, key: Id) -> bool:
        one = self.entries[key]
        return not one.is_range or (one.kind == "Int" and len(one.listed or ()) in range(1, _PROBES_OF_A_LIST + 1))

    def _around(self, base: _Run, key: Id, value: Any) -> Pick:
        def pick(one: Declared) -> Any:
            if one.identity == key:
                return value
            return base.values.get(one.identity, one.default)

        return pick

    # -- conditions ---------------------------------------------------------------------------------------------------

    def _try_parents(self) -> None:
        """Try every value of each parameter that conditions depend on, until no run teaches anything new."""
        tried: set[tuple[Id, Id]] = set()
        while True:
            waiting = [
                (key, parent)
                for key in list(self.entries)
                for parent in self.conditions(key)[0]
                if (key, parent) not in tried
            ]
            if not waiting:
                return
            for key, parent in waiting:
                tried.add((key, parent))
                base = next(run for run in self.runs if key in run.values)
                for value in self.entries[parent].listed or ():
                    self.run(self._around(base, parent, value))
                self._contradict(key, parent)

    def _contradict(self, key: Id, parent: Id) -> None:
        """Look for a run that has a parameter although one of its parents has another value: with the rest at random."""
        wanted = {other: values[0] for other, values in self.conditions(key)[0].items()}
        allowed = self.conditions(key)[0].get(parent, [])
        others = [value for value in self.entries[parent].listed or () if value not in allowed]
        if not (allowed and others):
            return  # it depends on another parent, or on no single one
        for number in range(_CONTRADICTIONS):
            dice = random.Random(number)  # noqa: S311 (no secret)
            wanted[parent] = dice.choice(others)
            self.run(lambda one, dice=dice: wanted.get(one.identity, dice.choice(one.probes(_PROBES))))  # type: ignore[misc]

    def conditions(self, key: Id) -> tuple[dict[Id, list[Any]], bool]:
        """Return the values of each parent under which a parameter is active, and whether that explains every run."""
        having = [run for run in self.runs if key in run.values]
        lacking = [run for run in self.runs if key not in run.values and not run.error]
        parents: dict[Id, list[Any]] = {}
        for condition in key[1]:
            known = [other for other in self.entries if other[0] == condition.name]
            listed = self.entries[known[0]].listed if len(known) == 1 else None
            is_real = bool(known) and self.entries[known[0]].kind == "Float" and self.entries[known[0]].is_range
            if listed is not None and not is_real:
                values = [value for value in listed if value in condition.values]
                if len(values) < len(listed):
                    parents[known[0]] = values
        seen = {
            other: {run.values[other] for run in having}
            for other in self.entries
            if other not in (key, *parents)
            and self._can_be_parent(other)
            and all(_comes_before(other, key, run) for run in having)
        }
        lacking = [run for run in lacking if not any(_excludes(p, set(values), run) for p, values in parents.items())]
        while lacking:
            best = max(seen, key=lambda p: sum(_excludes(p, seen[p], run) for run in lacking), default=None)
            if best is None or not (left := [run for run in lacking if _excludes(best, seen[best], run)]):
                return parents, False
            having_values = seen.pop(best)
            parents[best] = [value for value in self.entries[best].listed or () if value in having_values]
            lacking = [run for run in lacking if run not in left]
        return parents, True

    def _can_be_parent(self, key: Id) -> bool:
        one = self.entries[key]
        is_real = one.kind == "Float" and one.is_range
        return one.listed is not None and len(one.listed) <= _MOST_TRIED and not is_real


def declared_space(explorer: Explorer, *, epochs: int = 0, remarks: Sequence[str] = ()) -> DeclaredSpace:
    """Return the space of an explored builder; UsageError if it has none, or fails whatever it gets."""
    if all(run.error for run in explorer.runs):
        raise UsageError(f"the builder fails with its default values and with all others: {explorer.runs[0].error}")
    if not explorer.entries:
        raise UsageError("the builder asks its hp for nothing that has two values, so there is nothing to search")
    notes = [*remarks, *_remarks(explorer)]
    keys = _keys(explorer.entries)
    table: dict[str, Any] = {}
    conditions = {key: explorer.conditions(key) for key in explorer.entries}
    for key, one in explorer.entries.items():
        parents, is_exact = conditions[key]
        # A parent's own condition need not be repeated.
        implied = [(p, values) for parent in parents for p, values in conditions[parent][0].items()]
        parents = {p: values for p, values in parents.items() if (p, values) not in implied}
        entry = one.entry()
        if parents:
            entry["when"] = {keys[parent]: values for parent, values in parents.items()}
        table[keys[key]] = entry
        if not is_exact:
            notes.append(
                f"{one.name} is drawn for every config that may need it: what decides about it is not a list of values"
            )
    try:
        space = Space.parse(table)
    except SpaceError as error:
        raise UsageError(f"the builder's hyperparameter {error.key} can't be searched: {error}") from None
    start: dict[str, Any] = {}
    default = explorer.runs[0]
    for key, value in default.values.items():
        try:
            start |= space.check({keys[key]: value})
        except SpaceError:
            name = explorer.entries[key].name
            notes.append(f"{name}: its default {value!r} is none of its values, so the first trial draws it")
    if default.error:
        start = {}
        notes.append(f"the builder fails with its default values, so the first trial is drawn: {default.error}")
    return DeclaredSpace(space.describe(), space.config(start), epochs, tuple(dict.fromkeys(notes)), explorer.builds)


def _remarks(explorer: Explorer) -> Iterator[str]:
    for one in explorer.entries.values():
        if one.remark:
            yield f"{one.name}: {one.remark}"
        if one.key() != one.name:
            yield f"{one.name} is the parameter {one.key()} here"
    for name in explorer.redeclared:
        yield f"{name} is declared twice with different values: the first declaration counts, as in KerasTuner"
    if explorer.is_at_its_limit:
        yield (
            f"after {explorer.builds} builds the search for hyperparameters ended; a trial that asks for one that was not "
            "found fails. Write the space yourself, or start from --write"
        )


def _keys(entries: Mapping[Id, Declared]) -> dict[Id, str]:
    keys: dict[Id, str] = {}
    for key, one in entries.items():
        same = [other for other in keys if entries[other].name == one.name]
        keys[key] = one.key() + (f"__{len(same) + 1}" if same else "")
        taken = next((other for other in keys if other != key and keys[other] == keys[key]), None)
        if taken is not None:
            raise UsageError(
                f"the hyperparameters {entries[taken].name!r} and {one.name!r} would both be the parameter {keys[key]!r}; "
                "rename one of them"
            )
    return keys


def _comes_before(first: Id, second: Id, run: _Run) -> bool:
    for key in run.values:
        if key in (first, second):
            return key == first
    return False


def _excludes(parent: Id, values: set[Any], run: _Run) -> bool:
    return parent not in run.values or run.values[parent] not in values
