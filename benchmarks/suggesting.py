"""The cost of a suggestion of the default sampler, by trials in the study, running trials, and parameters.

    python benchmarks/suggesting.py [--trials 100 1000 10000] [--lanes 1 16 64] [--draws 20]

Curves are synthetic, with the lengths that halving leaves. Times are processor time of one core, because machines are shared.
The column "with learning" spreads the cost of learning the hyperparameters over the draws between two times of learning.
"""

from __future__ import annotations

import argparse
import time
from statistics import fmean, median

import numpy as np
from measuring import hardware, heading, versions
from rich.console import Console
from rich.table import Table

from search.policies.samplers import SearchProblem
from search.policies.samplers.bayes import GROWTH, BayesSampler
from search.trials.events import Member
from search.trials.objective import Objective
from search.trials.trial import Training, Trial, Trials
from spaces import Space

EPOCHS = 52
AIM_MS = 50.0
# The rungs of halving at 52 epochs, and the share of all trials that ends at each.
ENDS, SHARES = (6, 24, EPOCHS), (0.75, 0.18, 0.07)


def space(parameters: int) -> Space:
    """Return a space in which each ten parameters are real ranges, whole numbers and one choice."""
    entries = [
        {"low": 0.0, "high": 1.0},
        {"low": 1e-5, "high": 1e-1, "log": True},
        {"low": 1, "high": 5},
        {"choices": ["a", "b", "c"]},
    ]
    order = [0, 1, 0, 2, 1, 0, 3, 0, 1, 2]
    return Space.parse({f"p{k}": entries[order[k % 10]] for k in range(parameters)})


def filled(parameters: int, trials: int, lanes: int) -> tuple[BayesSampler, Trials]:
    """Return a sampler and so many trials; the last `lanes` of them are running."""
    problem = SearchProblem(space(parameters), Objective("score", "maximize"), seed=0, epochs=EPOCHS)
    sampler, study = BayesSampler(problem), Trials()
    rng = np.random.default_rng(0)
    for number in range(trials):
        point = rng.random(parameters)
        params = sampler.encoding.params(sampler.encoding.snapped(point[None])[0])
        trial = Trial(number, params, params, EPOCHS, [Training(Member(number), 0)])
        end = int(rng.choice(ENDS, p=SHARES))
        quality = -float(np.square(point[: min(7, parameters)] - 0.6).sum())
        is_running = number >= trials - lanes
        for epoch in range(1, (end // 2 if is_running else end) + 1):
            trial.curve.append({"score": 90 + 30 * quality / epoch**0.3})
        if not is_running:
            trial.state = "COMPLETE" if end == EPOCHS else "PRUNED"
        study.append(trial)
    return sampler, study


def time_draws(sampler: BayesSampler, study: Trials, draws: int) -> tuple[float, list[float]]:
    """Return the milliseconds of the first draw, which learns, and those of the draws after it."""
    milliseconds = []
    sampler.outlook(study)  # read all trials before timing starts
    for _ in range(draws + 1):
        began = time.process_time()
        params, attrs = sampler.draw(study, 0, {})
        milliseconds.append(1000 * (time.process_time() - began))
        study.append(Trial(len(study), params, params, EPOCHS, [Training(Member(len(study)), 0)], attrs=attrs))
    return milliseconds[0], milliseconds[1:]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--parameters", type=int, nargs="+", default=[7, 20])
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    console = Console(width=120)
    console.print(heading(hardware(), versions()))
    table = Table("parameters", "trials", "lanes", "a draw, median", "with learning, mean", "learning once")
    worst = 0.0
    for parameters in given.parameters:
        for trials in given.trials:
            for lanes in given.lanes:
                learning, draws = time_draws(*filled(parameters, trials, lanes), given.draws)
                # The sampler learns once per GROWTH of the trials: spread that cost over the draws between.
                whole = fmean(draws) + (learning - median(draws)) / max(1.0, trials * (GROWTH - 1))
                worst = max(worst, whole)
                cells = (f"{median(draws):.1f} ms", f"{whole:.1f} ms", f"{learning - median(draws):.0f} ms")
                table.add_row(str(parameters), f"{trials:,}", str(lanes), *cells)
    console.print(table)
    console.print(
        f"aim {'met' if worst <= AIM_MS else 'MISSED'}: at most {worst:.1f} ms a suggestion (at most {AIM_MS:g})"
    )


if __name__ == "__main__":
    main()
