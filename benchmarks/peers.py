"""Claim: manyfit adds at most 3 ms to a trial of 20 epochs (sampler apart); Optuna on SQLite costs over 25 times more.

n: 2 rounds, each 300 trials without training and 4 that train, per contestant. Hardware: 2 shared cores of an AMD EPYC.
No claim is made on training: the table shows manyfit's fit engine beside KerasTuner and Optuna with `model.fit`.

Run: `make bench`, or `.venv/bin/python benchmarks/peers.py`; `--help` tells the options.

Every contestant has a process of its own, on the CPU, and they take turns: A B C A B C. "A trial" is the same
for all: the time from just before the first config is drawn until the last trial is told and stored (the first
compilation included), divided by the trials. The rest of a process (start, imports, data, its end) stands apart.
`docs/benchmarks.md` holds what this printed, and how to read it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import contestants
from rich.console import Console
from rich.table import Table

from search import records
from search.engines.devices import Device

AIM_MS = 3.0
"""The most that manyfit may add to a trial, its sampler's own time apart."""

LONG_TRIALS = 10_000
VERSIONED = ("manyfit", "keras", "keras-tuner", "optuna", "tensorflow", "jax", "numpy", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A row of the table: what is run, and which row it is held against.

    Attributes:
        measure: a key of `contestants.MEASURES`, or "train-manyfit" for the command itself.
        beside: the `title` of manyfit's row of the same kind; its own for manyfit's.
        needs: package -> what installs it.
        only_long: runs with `--long` only, `LONG_TRIALS` trials.
    """

    title: str
    measure: str
    beside: str
    backend: str = ""
    needs: tuple[tuple[str, str], ...] = ()
    only_long: bool = False

    @property
    def trains(self) -> bool:
        return self.measure.startswith("train")

    @property
    def missing(self) -> str:
        """The command that installs what this row needs and has not; "" if all is there."""
        lacking = [what for package, what in self.needs if importlib.util.find_spec(package) is None]
        return "pip install " + " ".join(f"'{what}'" for what in lacking) if lacking else ""


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. `figures` are the contestant's own; `start_s` is the rest of its process's time."""

    title: str
    repetition: int
    figures: contestants.Figures
    start_s: float

    @property
    def seconds_a_trial(self) -> float:
        return self.figures.seconds / self.figures.trials


def training_rows(backend: str, name: str) -> Iterator[Contestant]:
    """Yield those who train on one backend."""
    ours = f"manyfit, {name}"
    installed = (backend, f"manyfit[{backend}]")
    tuner = [("keras_tuner", "keras-tuner>=1.4.8"), installed]
    if backend == "tensorflow":
        # KerasTuner 1.4.8 imports it there without asking for it, and fails every trial.
        tuner.append(("tensorboard", "tensorboard"))
    yield Contestant(f"KerasTuner RandomSearch, {name}", "train-keras-tuner", ours, backend, tuple(tuner))
    yield Contestant(f"Optuna + model.fit, {name}", "train-optuna", ours, backend, (installed,))
    yield Contestant(ours, "train-manyfit", ours, backend, (installed,))


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
    """Run a contestant once in a process and a folder of its own; SystemExit with its stderr if it fails."""
    with tempfile.TemporaryDirectory(prefix="manyfit-bench-") as name:
        folder = Path(name)
        if contestant.measure == "train-manyfit":
            wall, figures = measure_command(contestant, trials, folder)
        else:
            script = [contestants.__file__, contestant.measure, str(trials), name]
            wall, printed = timed([sys.executable, *script], contestant.backend)
            figures = contestants.Figures(**json.loads(printed.splitlines()[-1]))
    if figures.trials != trials:
        raise SystemExit(f"{contestant.title}: {figures.trials} of {trials} trials were finished; no comparison")
    return Run(contestant.title, repetition, figures, start_s=wall - figures.seconds)


def measure_command(contestant: Contestant, trials: int, folder: Path) -> tuple[float, contestants.Figures]:
    """Run `manyfit run` and read from its database how long it searched."""
    study = folder / "study.toml"
    study.write_text(contestants.study_text(trials))
    manyfit = str(Path(sys.executable).with_name("manyfit"))
    settings = (f'run.backend="{contestant.backend}"', 'run.engine="fit"', 'run.devices=["cpu"]')
    flags = [flag for setting in settings for flag in ("--set", setting)]
    wall, _ = timed([manyfit, "run", str(study), "--quiet", *flags], contestant.backend)
    stored = records.load(study.with_suffix(".db"), "study")
    whole = [trial for trial in stored.complete if len(trial.curve) == contestants.EPOCHS]
    return wall, contestants.Figures(len(whole), stored.seconds, best=stored.complete[0].value)


def timed(command: Sequence[str], backend: str) -> tuple[float, str]:
    """Run a command in the environment of one of manyfit's own workers; return its seconds and its stdout."""
    environment = {**os.environ, **Device().environment(backend or "tensorflow")}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return wall, done.stdout


def measure_all(options: argparse.Namespace, progress: Console) -> list[Run]:
    """Measure all that can be measured here, everyone once before anyone twice."""
    chosen = [c for c in CONTESTANTS if (options.long or not c.only_long) and not c.missing]
    for contestant in CONTESTANTS:
        if contestant.missing:
            progress.print(f"skipped: {contestant.title}; to measure it: {contestant.missing}")
    runs = []
    for repetition in range(1, options.repetitions + 1):
        for contestant in chosen:
            run = measure(contestant, trials_of(contestant, options), repetition)
            runs.append(run)
            progress.print(f"{repetition} of {options.repetitions}: {run.title}: {run.seconds_a_trial:.4f} s a trial")
    return runs


def trials_of(contestant: Contestant, options: argparse.Namespace) -> int:
    """Return how many trials a contestant runs."""
    if contestant.only_long:
        return LONG_TRIALS
    return int(options.trials if contestant.trains else options.overhead_trials)


# -- telling -----------------------------------------------------------------------------------------------


def by_title(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by row, in the table's order."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.title, []).append(run)
    return grouped


def a_trial(runs: Sequence[Run]) -> float:
    """Return the median of the seconds a trial."""
    return median(run.seconds_a_trial for run in runs)


def part_ms(runs: Sequence[Run], part: str) -> float:
    """Return the median of a part of a trial, in milliseconds."""
    return median(run.figures.parts[part] / run.figures.trials for run in runs) * 1e3


def own_ms(runs: Sequence[Run]) -> float:
    """Return the median of what manyfit itself adds to a trial in milliseconds: all but its sampler."""
    own = [(run.figures.seconds - run.figures.parts["sampler"]) / run.figures.trials for run in runs]
    return median(own) * 1e3


def spread(runs: Sequence[Run], *, trains: bool) -> str:
    """Show the median, and the lowest and highest figure."""
    scale, unit = (1, "s") if trains else (1e3, "ms")
    figures = sorted(run.seconds_a_trial * scale for run in runs)
    return f"{median(figures):.2f} {unit} ({figures[0]:.2f}-{figures[-1]:.2f})"


def apart(contestant: Contestant, runs: Sequence[Run]) -> str:
    """Show what else is known of a row: the rest of its process's time, or the parts of a trial."""
    if contestant.trains:
        return f"start and end {median(run.start_s for run in runs):.1f} s"
    parts = runs[0].figures.parts
    return ", ".join(f"{name} {part_ms(runs, name):.2f}" for name in parts) or "not told apart"


def table(runs: Sequence[Run], options: argparse.Namespace) -> Table:
    """Make the one table: training above, manyfit's and Optuna's own time below."""
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
    return f"training digits: {contestants.EPOCHS} epochs a trial; trials: {options.trials}"


def headline_overhead(options: argparse.Namespace) -> str:
    return f"no training: {contestants.EPOCHS} reports a trial; trials: {options.overhead_trials}"


def cells(contestant: Contestant, measured: Mapping[str, Sequence[Run]]) -> tuple[str, str, str, str]:
    """Return a row of the table."""
    if contestant.title not in measured:
        return contestant.title, "skipped", "", contestant.missing
    runs, ours = measured[contestant.title], measured.get(contestant.beside)
    ratio = f"{a_trial(runs) / a_trial(ours):.2f} x" if ours else ""
    return contestant.title, spread(runs, trains=contestant.trains), ratio, apart(contestant, runs)


def aims(runs: Sequence[Run]) -> Iterator[str]:
    """Yield a line about each overhead of manyfit's: whether the aim is met."""
    for title, found in by_title(runs).items():
        if "sampler" in found[0].figures.parts:
            own = own_ms(found)
            verdict = "met" if own <= AIM_MS else "MISSED"
            yield f"aim {verdict}: {title}: {own:.2f} ms a trial without its sampler (at most {AIM_MS:g})"


def hardware() -> dict[str, Any]:
    """Return what this was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Return the versions of all that is measured."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def raw(run: Run) -> dict[str, Any]:
    """Return a run as plain JSON."""
    return {**asdict(run), "seconds_a_trial": run.seconds_a_trial}


def at_least_one(text: str) -> int:
    """Read a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; received {text}")
    return number


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
    machine, known = hardware(), versions()
    runs = measure_all(options, Console(stderr=True, highlight=False))
    console = Console(highlight=False, width=140)
    console.print(f"{machine['cpu']}, {machine['cores']} cores, load before {machine['load_before'][0]}")
    console.print(", ".join(f"{name} {version}" for name, version in known.items()))
    console.print(table(runs, options))
    for line in aims(runs):
        console.print(line)
    if options.json:
        report = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": {key: value for key, value in vars(options).items() if key != "json"},
            "hardware": machine,
            "versions": known,
            "runs": [raw(run) for run in runs],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
