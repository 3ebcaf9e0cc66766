"""Claim: manyfit adds at most 2 ms to a trial of 20 epochs (sampler apart); Optuna on SQLite costs over 25 times more.

n: 2 rounds, each 300 trials without training and 5 that train, per contestant. Hardware: 2 shared cores of an AMD EPYC.
No claim is made on training: the table shows manyfit's fit engine beside KerasTuner and Optuna with `model.fit`.

Run: `make bench`, or `.venv/bin/python benchmarks/peers.py`; `--help` tells the options.

Every contestant runs in its own process, on the CPU, and they take turns: A B C A B C. "A trial" is the same for all: the
time from just before the first config is drawn until the last trial is reported and stored (the first compilation included),
divided by the number of trials. The rest of a process (start, imports, data, its end) has a column of its own.
`docs/benchmarks.md` has the output, and explains how to read it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import contestants
import measuring
from measuring import LONG_TRIALS, Needs, Run, at_least_one, by_title, seconds_a_trial
from rich.console import Console
from rich.table import Table
from works import DIGITS, EPOCHS


@dataclass(frozen=True, slots=True)
class Contestant:
    """A row of the table: what is run, and which row it is compared with.

    Attributes:
        measure: a key of `contestants.MEASURES`, or "train-manyfit" for the command itself.
        beside: the title of the row of manyfit that it is compared with; manyfit's own rows name themselves.
        needs: the packages that it needs.
        only_long: it runs only with `--long`, for `LONG_TRIALS` trials.
    """

    title: str
    measure: str
    beside: str
    backend: str = ""
    needs: Needs = ()
    only_long: bool = False

    @property
    def trains(self) -> bool:
        return self.measure.startswith("train")

    @property
    def missing(self) -> str:
        """The command that installs the packages that this row misses; "" if none is missing."""
        return measuring.to_install(self.needs)


def training_rows(backend: str, name: str) -> Iterator[Contestant]:
    """Yield the contestants that train on a backend."""
    ours = f"manyfit, {name}"
    needs, tuner_needs = measuring.backend_needs(backend), measuring.tuner_needs(backend)
    yield Contestant(f"KerasTuner RandomSearch, {name}", "train-keras-tuner", ours, backend, tuner_needs)
    yield Contestant(f"Optuna + model.fit, {name}", "train-optuna", ours, backend, needs)
    yield Contestant(ours, "train-manyfit", ours, backend, needs)


CONTESTANTS = (
    *training_rows("tensorflow", "TensorFlow"),
    *training_rows("jax", "JAX"),
    Contestant("Optuna on SQLite, random", "drive-optuna", "manyfit, random"),
    Contestant("manyfit, random", "drive-manyfit", "manyfit, random"),
    Contestant(f"manyfit, random, {contestants.LANES} lanes", "drive-manyfit-lanes", "manyfit, random"),
    Contestant("Optuna on SQLite, TPE + Hyperband", "drive-optuna-tpe", "manyfit, TPE + hyperband"),
    Contestant("manyfit, TPE + hyperband", "drive-manyfit-tpe", "manyfit, TPE + hyperband"),
    Contestant(
        f"manyfit, random, {contestants.LANES} lanes, {LONG_TRIALS:,} trials",
        "drive-manyfit-lanes",
        "manyfit, random",
        only_long=True,
    ),
)


# -- measuring ---------------------------------------------------------------------------------------------


def measure(contestant: Contestant, trials: int, repetition: int) -> Run:
    """Run a contestant once in its own process and folder; Unmeasured, with its stderr, if it fails."""
    with tempfile.TemporaryDirectory(prefix="manyfit-bench-") as name:
        folder = Path(name)
        if contestant.measure == "train-manyfit":
            variables = measuring.environment(contestant.backend, compiled=folder / "compiled")
            settings = (f'run.backend="{contestant.backend}"', 'run.engine="fit"', 'run.devices=["cpu"]')
            wall, figures = measuring.run_manyfit(DIGITS, trials, folder / "study.toml", settings, variables)
        else:
            variables = measuring.environment(contestant.backend)
            wall, figures = measuring.compete(contestant.measure, DIGITS, trials, folder, variables)
    if figures.trials != trials:
        raise measuring.Unmeasured(f"{contestant.title}: {figures.trials} of {trials} trials were finished")
    return Run(contestant.title, repetition, figures, start_s=wall - figures.seconds)


def measure_all(options: argparse.Namespace, progress: Console) -> list[Run]:
    """Measure all contestants that can run here, in turns."""
    chosen = [c for c in CONTESTANTS if (options.long or not c.only_long) and not c.missing]
    for contestant in CONTESTANTS:
        if contestant.missing:
            progress.print(f"skipped: {contestant.title}; to measure it: {contestant.missing}")
    runs = []
    for repetition, contestant in measuring.in_turns(chosen, options.repetitions):
        run = measure(contestant, trials_of(contestant, options), repetition)
        runs.append(run)
        progress.print(f"{repetition} of {options.repetitions}: {run.title}: {run.seconds_a_trial:.4f} s a trial")
    return runs


def trials_of(contestant: Contestant, options: argparse.Namespace) -> int:
    """Return how many trials a contestant runs."""
    if contestant.only_long:
        return LONG_TRIALS
    return int(options.trials if contestant.trains else options.overhead_trials)


# -- reporting ---------------------------------------------------------------------------------------------


def details(contestant: Contestant, runs: Sequence[Run]) -> str:
    """Format the last column: the rest of the process's time, or the parts of a trial."""
    if contestant.trains:
        return f"start and end {median(run.start_s for run in runs):.1f} s"
    return measuring.parts(runs)


def table(runs: Sequence[Run], options: argparse.Namespace) -> Table:
    """Make the table: training above, the overhead of manyfit and of Optuna below."""
    shown = Table(title=f"median of {options.repetitions} (lowest-highest), all on the CPU", title_justify="left")
    shown.add_column("")
    shown.add_column("a trial", justify="right")
    shown.add_column("against manyfit", justify="right")
    shown.add_column("apart, or its parts")
    measured = by_title(runs)
    rows = [contestant for contestant in CONTESTANTS if contestant.title in measured or contestant.missing]
    for trains, heading in ((True, headline_training(options)), (False, headline_overhead(options))):
        shown.add_section()
        shown.add_row(f"[bold]{heading}[/]", "", "", "")
        for contestant in rows:
            if contestant.trains == trains:
                shown.add_row(*cells(contestant, measured))
    return shown


def headline_training(options: argparse.Namespace) -> str:
    return f"training digits: {EPOCHS} epochs a trial; trials: {options.trials}"


def headline_overhead(options: argparse.Namespace) -> str:
    return f"no training: {EPOCHS} reports a trial; trials: {options.overhead_trials}"


def cells(contestant: Contestant, measured: Mapping[str, Sequence[Run]]) -> tuple[str, str, str, str]:
    """Return the cells of a row."""
    if contestant.title not in measured:
        return contestant.title, "skipped", "", contestant.missing
    runs, ours = measured[contestant.title], measured.get(contestant.beside)
    ratio = f"{seconds_a_trial(runs) / seconds_a_trial(ours):.2f} x" if ours else ""
    return (
        contestant.title,
        measuring.spread(runs, unit="s" if contestant.trains else "ms"),
        ratio,
        details(contestant, runs),
    )


def aims(runs: Sequence[Run]) -> Iterator[str]:
    """Yield a line for each overhead of manyfit: whether it meets its aim."""
    for title, group in by_title(runs).items():
        if "sampler" in group[0].figures.parts:
            yield measuring.overhead_aim(title, group)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=at_least_one, default=4, help="that train (default 4)")
    parser.add_argument("--overhead-trials", type=at_least_one, default=300, help="that do not (default 300)")
    parser.add_argument("--repetitions", type=at_least_one, default=2, help="of the whole round (default 2)")
    parser.add_argument("--long", action="store_true", help=f"also {LONG_TRIALS:,} trials without training")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, write the raw figures."""
    options = parse()
    machine, versions = measuring.hardware(), measuring.versions()
    runs = measure_all(options, Console(stderr=True, highlight=False))
    console = Console(highlight=False, width=140)
    console.print(measuring.heading(machine, versions))
    console.print(table(runs, options))
    for line in aims(runs):
        console.print(line)
    measuring.write_report(options, machine, versions, runs)


if __name__ == "__main__":
    main()
