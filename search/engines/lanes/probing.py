"""Counts the programs that a space needs: builds models of it, one parameter moved at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from search.engines import failures, model_memory, reads
from search.engines.lanes import keys
from search.engines.lanes.builder import Built, build, built_or_none, fingerprinted, study_has_user_code
from search.engines.lanes.lifting import NotLiftable
from search.engines.lanes.program import Rows
from search.engines.training import Trainer
from search.errors import UsageError
from search.trials.events import Assignment, Member
from spaces import Choice, Parameter

# Of a choice with more values than this, only the first are tried.
_MOST_VALUES = 16
# In this many structures, parameters are searched for hidden effects; in others, the fingerprint of each trial shows them.
_MOST_BRANCHES = 4
# More programs than any study has trials: the number for a range of real values that can't be lifted.
_ENDLESS = 10**6


@dataclass(frozen=True, slots=True)
class Probe:
    """How many programs a space needs.

    Attributes:
        largest: the model with the most weights times batch size of all that were built.
        programs: the product, over the parameters, of the programs that a parameter needs while the others are in the middle.
        widest: the most programs that one parameter needs that every config has.
        costliest: the parameter that needs the most programs, and why; "" if one program is enough.
        lifted: the parameters that change no structure.
        is_hidden: whether a parameter changes what is computed, but no structure.
        is_partial: whether `programs` may be too few: structures differ, and a parameter was not read in the middle.
    """

    largest: Built
    programs: int
    widest: int
    costliest: str
    lifted: frozenset[str]
    is_hidden: bool
    is_partial: bool


def probe(trainer: Trainer, rows: Rows, fixed: Mapping[str, Any]) -> Probe:
    """Build models of the space and count the programs that they need."""
    space = trainer.space
    middle = space.middle()

    def built(params: Mapping[str, Any], seed: int = 0) -> Built:
        active = {name: value for name, value in params.items() if space.is_active(name, params)}
        return build(trainer, assignment({**fixed, **space.config(active)}, seed))

    first = largest = _first(lambda seed: built(middle, seed))
    programs, widest, most, costliest = 1, 1, 1, ""
    branches = {first.structure_at_any_batch_size: middle}
    lifted: dict[str, list[Any]] = {}
    unread: set[str] = set()
    for name in space:
        values, count = _values(space[name])
        by_structure: dict[str, Built] = {}
        for value in values:
            # With the parameters that only this value makes active.
            params = reads.middle_with(space, name, value)
            if (one := built_or_none(built, params)) is None:
                continue
            by_structure[one.structure] = one
            branches.setdefault(one.structure_at_any_batch_size, params)
            largest = max(largest, one, key=size)
        if len(by_structure) == 1:
            lifted[name] = values
            unread |= {name} - next(iter(by_structure.values())).read
        needed = count if 1 < len(by_structure) == len(values) else max(1, len(by_structure))
        programs *= needed
        widest = max(widest, needed if not space[name].when else 1)
        if needed > most:
            most = needed
            one, different, *_ = by_structure.values()
            what = keys.difference(one.model, one.described, different.described)
            costliest = f"the parameter {name} changes {what} in a way that can't be lifted"
    hidden = _all_hidden(trainer, lambda params, seed: fingerprinted(built(params, seed), rows), branches, lifted)
    for name in (name for name in space if name in hidden):
        _, needed = _values(space[name])
        programs *= needed
        if needed > most:
            most = needed
            costliest = f"the parameter {name} changes what is computed in a way that no layer's config shows"
    is_partial = programs > 1 and bool(unread)
    lifted_for_sure = frozenset(lifted.keys() - unread - hidden)
    return Probe(largest, min(programs, _ENDLESS), widest, costliest, lifted_for_sure, bool(hidden), is_partial)


def _first(built: Callable[[int], Built]) -> Built:
    """Build the model in the middle of the space; NotLiftable if the builder fails there, or if the seed changes it."""
    try:
        first, other_seed = built(0), built(1)
    except (NotLiftable, UsageError):
        raise
    except BaseException as error:
        raise NotLiftable(f"its builder fails in the middle of the space: {failures.one_line(error)}") from error
    if other_seed.structure != first.structure:
        what = keys.difference(first.model, first.described, other_seed.described)
        raise NotLiftable(f"{what} changes with the seed")
    return first


def _all_hidden(
    trainer: Trainer,
    traced: Callable[[Mapping[str, Any], int], Built],
    branches: Mapping[str, Mapping[str, Any]],
    lifted: Mapping[str, list[Any]],
) -> set[str]:
    """Return the parameters that change what is computed, but no structure; `branches` are params of different structures."""
    hidden: set[str] = set()
    # Without user code, the structure determines the arithmetic: nothing is hidden.
    for params in list(branches.values())[:_MOST_BRANCHES] if study_has_user_code(trainer) else []:
        moved = {
            name: next((value for value in values if value != params[name]), params[name])
            for name, values in lifted.items()
            if name in params and name not in hidden
        }
        hidden.update(_hidden(traced, params, moved))
    return hidden


def _hidden(
    traced: Callable[[Mapping[str, Any], int], Built], params: Mapping[str, Any], moved: Mapping[str, Any]
) -> list[str]:
    """Return the parameters of `moved` that change what a model computes but not its structure.

    Two traces are enough if there are none: one of `params`, one with another seed and every parameter moved. NotLiftable if
    the seed alone changes what is computed.
    """

    def differs(names: Collection[str], seed: int) -> bool:
        try:
            other = traced({**params, **{name: moved[name] for name in names}}, seed)
        except UsageError:
            raise
        except BaseException:  # noqa: BLE001 (the user's code; it fails again in the trial with this config)
            return False
        return other.structure == base.structure and other.fingerprint != base.fingerprint

    try:
        base = traced(params, 0)
    except UsageError:
        raise
    except BaseException:  # noqa: BLE001 (the user's code; it fails again in the trial with this config)
        return []
    if not differs(moved, 1):
        return []
    if differs([], 1):
        raise NotLiftable("what it computes changes with the seed")
    return [name for name in moved if differs([name], 0)]


def size(built: Built) -> int:
    """Return what decides which of two models takes more memory in training."""
    return model_memory.parameters_of(built.model) * built.batch_size


def assignment(config: Mapping[str, Any], seed: int) -> Assignment:
    return Assignment(Member(0), config, int(config["epochs"]), seed)


def _values(parameter: Parameter) -> tuple[list[Any], int]:
    """Return the values of a parameter to try, and how many values it has in all."""
    if isinstance(parameter, Choice):
        values = parameter.values()
        return values[:_MOST_VALUES], len(values)
    values = parameter.values() or []
    return (values if 0 < len(values) <= _MOST_VALUES else [parameter.low, parameter.high]), len(values) or _ENDLESS


def many(count: int) -> str:
    return "endlessly many" if count == _ENDLESS else str(count)
