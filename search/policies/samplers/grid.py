"""All configs of a finite space: the grid draws them, and other samplers take undrawn ones when few are left."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from search.errors import OptionError
from search.trials.streams import stream
from spaces import MAX_GRID_CONFIGS, Choice, Space


def check(options: Mapping[str, Any], space: Space) -> None:
    """Raise OptionError if the space has no grid."""
    for key, parameter in space.items():
        if parameter.when:
            raise OptionError(
                f"grid can't search the conditional parameter {key!r}; use another sampler, or drop its when"
            )
        listed = parameter.values(options.get("points"))
        if listed is None and not isinstance(parameter, Choice) and (many := parameter.count) is not None:
            raise OptionError(
                f"grid can't list the {many:,} values of {key!r}; give it a wider step, or use another sampler"
            )
        if listed is None:
            raise OptionError(
                f"grid needs a finite list of values for {key!r}; give it a step, or write "
                'sampler = { name = "grid", points = 5 }'
            )
    if (count := size(options, space)) > MAX_GRID_CONFIGS:
        raise OptionError(
            f"the grid must have at most {MAX_GRID_CONFIGS:,} configs; received {count:,}; use fewer values, or random"
        )


def size(options: Mapping[str, Any], space: Space) -> int:
    """Return how many configs a grid has."""
    return math.prod(len(parameter.values(options.get("points")) or ()) for parameter in space.values())


def configs(
    options: Mapping[str, Any], space: Space, start: Sequence[Mapping[str, Any]], *, seed: int
) -> list[dict[str, Any]]:
    """List all configs of a grid in an order that the seed decides, the start configs first.

    A start config replaces the first grid config that has the same values; a partial one is completed by it.
    """
    values = [parameter.values(options.get("points")) or [] for parameter in space.values()]
    combinations = [dict(zip(space, combination, strict=True)) for combination in itertools.product(*values)]
    order = np.random.default_rng(stream(seed, 0)).permutation(len(combinations))
    rest = [combinations[i] for i in order]
    first = []
    for given in start:
        match = next((config for config in rest if all(_is_same(config[key], given[key]) for key in given)), None)
        if match is not None:
            rest.remove(match)
        first.append(match or {**space.middle(), **given})
    return first + rest


def count(space: Space) -> int | None:
    """Return how many different configs a space has; None if they are infinitely many, or too many to list."""
    values = [parameter.values() for parameter in space.values()]
    if any(listed is None for listed in values) or math.prod(len(v or ()) for v in values) > MAX_GRID_CONFIGS:
        return None
    return sum(1 for _ in all_configs(space))


def all_configs(space: Space) -> Iterator[dict[str, Any]]:
    """Yield all configs of a space that `count` can count, in the order of their values."""
    yield from _completions(space, list(space), {})


def _completions(space: Space, names: Sequence[str], params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not names:
        yield dict(params)
        return
    name, *rest = names
    if not space.is_active(name, params):
        yield from _completions(space, rest, params)
        return
    for value in space[name].values() or ():
        yield from _completions(space, rest, {**params, name: value})


def _is_same(a: Any, b: Any) -> bool:
    # A value computed between the ends of a range may differ in its last digit from the one that the user writes.
    return math.isclose(a, b) if isinstance(a, float) else bool(a == b)
