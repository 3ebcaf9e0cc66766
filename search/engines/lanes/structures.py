"""Counts the structures that a study's trials will have, before the first one: which of them are worth a compiled program.

The counts come from draws of the whole space with the study's seed, so a study is always decided alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.engines.lanes.builder import Built, built_or_none
from search.policies.samplers.encoding import Encoding
from search.trials.streams import stream
from spaces import Space

# The most configs to draw, and the most models to build of them. A model takes a tenth of a second, with layers of new
# widths up to a second.
DRAWS = 512
MOST_BUILT = 128
# A structure gets a program if so many trainings of it are expected. A program takes nearly twice as long to compile as what
# one training by `model.fit` compiles on JAX, but it is only compiled if its structure occurs, and serves all that follow.
LEAST_EXPECTED = 1.0
# The random stream of the study's seed; the others are in `search.policies.samplers.draws`.
_STREAM = 4


def occurring(structures: int, trainings: int) -> float:
    """Return how many of so many structures are expected to occur if all are equally likely."""
    return structures * -math.expm1(-trainings / structures)


@dataclass(slots=True)
class Structure:
    """One structure of a space.

    Attributes:
        params: those that decide it, of the first config that was drawn with it.
        draws: how many draws have it.
    """

    key: str
    params: Mapping[str, Any]
    draws: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """The structures that occur in draws of a space.

    Attributes:
        draws: how many configs were drawn.
        structures: theirs, most used first.
    """

    draws: int
    structures: tuple[Structure, ...]

    def worth_a_program(self, trainings: int) -> tuple[Structure, ...]:
        """Return the structures of which a study of so many trainings is expected to have at least LEAST_EXPECTED.

        A structure of one draw may be as rare as any.
        """
        several = (one for one in self.structures if one.draws > 1)
        return tuple(one for one in several if self._expected(one, trainings) >= LEAST_EXPECTED)

    def compilations(self, structures: Collection[Structure], trainings: int) -> float:
        """Return how often something is compiled if these get programs: each once if it occurs, and each other training."""
        occurring = sum(1.0 - math.exp(-self._expected(one, trainings)) for one in structures)
        return occurring + (1.0 - self.share(structures)) * trainings

    def _expected(self, structure: Structure, trainings: int) -> float:
        return structure.draws / self.draws * trainings

    def share(self, structures: Collection[Structure]) -> float:
        """Return the expected share of trials with these structures.

        The first draw of each structure is left out: it is why the structure is known at all.
        """
        others = self.draws - len(structures)
        return sum(one.draws - 1 for one in structures) / others if others else 0.0


def count(
    space: Space,
    seed: int,
    built: Callable[[Mapping[str, Any]], Built],
    *,
    lifted: Collection[str],
    most_built: int = MOST_BUILT,
) -> Counted:
    """Draw configs and count their structures, until `most_built` models are built or DRAWS configs are drawn.

    A draw is not built if it has the values of a built one in all parameters that its builder read, `lifted` ones left out.

    Args:
        built: builds the model of params. A builder may raise for some configs; such draws are not counted.
        lifted: parameters that never change the structure.
    """
    encoding, random = Encoding(space), np.random.default_rng(stream(seed, _STREAM))
    known: list[tuple[Mapping[str, Any], Structure]] = []
    structures: dict[str, Structure] = {}
    drawn = tried = 0
    for point in random.random((DRAWS, len(encoding))):
        params = encoding.params(point)
        structure = next((one for values, one in known if _agree(values, params)), None)
        if structure is None:
            if tried == most_built:
                break
            tried += 1
            if (model := built_or_none(built, params)) is None:
                continue
            deciding = {name: params.get(name) for name in space if name in model.read and name not in lifted}
            structure = structures.setdefault(model.structure, Structure(model.structure, deciding))
            known.append((deciding, structure))
        drawn += 1
        structure.draws += 1
    return Counted(drawn, tuple(sorted(structures.values(), key=lambda one: -one.draws)))


def _agree(values: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether params have these values; None stands for a parameter that is not active."""
    return all(params.get(name) == value for name, value in values.items())
