"""What all benchmarks share: processes of their own for what is measured, figures, medians, the machine, the report.

Contestants import it, too: nothing here imports keras, optuna, rich or a backend at the top.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from works import Work, study_text

from search.engines import devices
from search.engines.devices import Device

AIM_MS = 2.0
"""The most that manyfit may add to a trial of 20 epochs, its sampler's own time apart."""

LONG_TRIALS = 10_000
VERSIONED = ("manyfit", "keras", "keras-tuner", "optuna", "tensorflow", "jax", "numpy", "scikit-learn")
CPU = Device()
MANYFIT = (sys.executable, "-P", "-c", "from search.cli import main; main()")
CACHE_VARIABLES = ("JAX_COMPILATION_CACHE_", "JAX_PERSISTENT_CACHE_")
CONTESTANTS = Path(__file__).with_name("contestants.py")

T = TypeVar("T")
Needs = tuple[tuple[str, str], ...]
"""Package -> what installs it."""


class Unmeasured(SystemExit):
    """A contestant could not be measured; the message says why. Uncaught, it ends the benchmark with that message."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one contestant found out about itself.

    Attributes:
        trials: that it finished, all epochs each.
        seconds: from just before the first config is drawn until the last trial is told and stored.
        parts: of those seconds, where it can tell them apart.
        best: objective of its best trial; only to see that it did train.
    """

    trials: int
    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)
    best: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. `figures` are the contestant's own; `start_s` is the rest of its process's time."""

    title: str
    repetition: int
    figures: Figures
    start_s: float

    @property
    def seconds_a_trial(self) -> float:
        return self.figures.seconds / self.figures.trials


# -- what is needed ----------------------------------------------------------------------------------------


def backend_needs(backend: str) -> Needs:
    """Return what training on a backend needs."""
    return ((backend, f".[{backend}]"),)


def tuner_needs(backend: str) -> Needs:
    """Return what KerasTuner on a backend needs."""
    needs = (("keras_tuner", "keras-tuner>=1.4.8"), *backend_needs(backend))
    # KerasTuner 1.4.8 imports it there without asking for it, and fails every trial.
    return (*needs, ("tensorboard", "tensorboard")) if backend == "tensorflow" else needs


def to_install(needs: Needs) -> str:
    """Return the command that installs what is lacking; "" if all is there."""
    lacking = [what for package, what in needs if importlib.util.find_spec(package) is None]
    return (
        "pip install " + " ".join(f"{'-e ' if what[0] == '.' else ''}'{what}'" for what in lacking) if lacking else ""
    )


# -- measuring ---------------------------------------------------------------------------------------------


def in_turns(rows: Sequence[T], repetitions: int) -> Iterator[tuple[int, T]]:
    """Yield (repetition, row), everyone once before anyone twice."""
    for repetition in range(1, repetitions + 1):
        for row in rows:
            yield repetition, row


def environment(backend: str = "", device: Device = CPU, *, compiled: Path | None = None) -> dict[str, str]:
    """Return the environment of one of manyfit's own workers, but for JAX's persistent compilation cache.

    manyfit keeps such a cache from one command to the next; `compiled` names its folder, a new one where it is to compile
    from nothing. Everyone else has none, as is JAX's default: an empty one would only cost them the writing.
    """
    variables = {**os.environ, **device.environment(backend or "tensorflow")}
    own = {name: value for name, value in variables.items() if not name.startswith(CACHE_VARIABLES)}
    return own if compiled is None else {**own, "JAX_COMPILATION_CACHE_DIR": str(compiled)}


def timed(command: Sequence[str], variables: Mapping[str, str]) -> tuple[float, str]:
    """Run a command in an environment; return its seconds and its stdout. Unmeasured, with its stderr, if it fails."""
    began = time.perf_counter()
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise Unmeasured(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return wall, done.stdout


def contest(measure: str, work: Work, trials: int, folder: Path, variables: Mapping[str, str]) -> tuple[float, Figures]:
    """Run one of `contestants.MEASURES` in a process of its own; return the process's seconds and its figures.

    Unmeasured if it failed or finished fewer trials.
    """
    script = [str(CONTESTANTS), measure, json.dumps(asdict(work)), str(trials), str(folder)]
    wall, printed = timed([sys.executable, *script], variables)
    figures = Figures(**json.loads(printed.splitlines()[-1]))
    if figures.trials != trials:
        raise Unmeasured(f"{measure}: {figures.trials} of {trials} trials were finished; no comparison")
    return wall, figures


def command(
    work: Work, trials: int, study: Path, settings: Sequence[str], variables: Mapping[str, str]
) -> tuple[float, Figures]:
    """Write a study file and run `manyfit run` on it; return the command's seconds, and what its database tells.

    Its trials are those that had all their epochs. Unmeasured if the command or a trial failed.
    """
    # It brings in optuna, which contestants without it are not to pay for.
    from search.storage import records

    study.write_text(study_text(work, trials))
    flags = [flag for setting in settings for flag in ("--set", setting)]
    wall, _ = timed([*MANYFIT, "run", str(study), "--quiet", *flags], variables)
    stored = records.load(study.with_suffix(".db"), study.stem)
    whole = [trial for trial in stored.complete if len(trial.curve) == work.epochs]
    diverged = [trial for trial in stored.trials if trial.ended == "diverged"]
    if not whole or len(whole) + len(diverged) != trials:
        raise Unmeasured(f"manyfit: {len(whole)} of {trials} trials were finished; no comparison")
    return wall, Figures(len(whole), stored.seconds, best=stored.complete[0].value)


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


def parts(runs: Sequence[Run]) -> str:
    """Show the parts of a trial, in milliseconds."""
    return ", ".join(f"{name} {part_ms(runs, name):.2f}" for name in runs[0].figures.parts) or "not told apart"


def own_ms(runs: Sequence[Run]) -> float:
    """Return the median of what manyfit itself adds to a trial in milliseconds: all but its sampler."""
    own = [(run.figures.seconds - run.figures.parts["sampler"]) / run.figures.trials for run in runs]
    return median(own) * 1e3


def overhead_aim(title: str, runs: Sequence[Run]) -> str:
    """Say whether manyfit adds no more to a trial than it may."""
    own = own_ms(runs)
    verdict = "met" if own <= AIM_MS else "MISSED"
    return f"aim {verdict}: {title}: {own:.2f} ms a trial without its sampler (at most {AIM_MS:g})"


def spread(runs: Sequence[Run], *, unit: str = "s", digits: int = 2) -> str:
    """Show the median, and the lowest and highest figure, in "s" or "ms"."""
    figures = sorted(run.seconds_a_trial * {"s": 1.0, "ms": 1e3}[unit] for run in runs)
    return f"{median(figures):.{digits}f} {unit} ({figures[0]:.{digits}f}-{figures[-1]:.{digits}f})"


def hardware(device: Device = CPU) -> dict[str, Any]:
    """Return what this is measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        **({} if device.gpu is None else {"gpu": devices.gpus()[device.gpu]}),
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


def heading(machine: Mapping[str, Any], known: Mapping[str, str]) -> str:
    """Return the two lines above a table: the machine and the versions."""
    where = [
        machine["cpu"],
        f"{machine['cores']} cores",
        machine.get("gpu"),
        f"load before {machine['load_before'][0]}",
    ]
    return "\n".join(
        [", ".join(filter(None, where)), ", ".join(f"{name} {version}" for name, version in known.items())]
    )


def write_report(
    options: argparse.Namespace, machine: Mapping[str, Any], known: Mapping[str, str], runs: Iterable[Run], **more: Any
) -> None:
    """Write the raw figures to `options.json`, where one was named."""
    if not options.json:
        return
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": {key: value for key, value in vars(options).items() if key != "json"},
        "hardware": machine,
        "versions": known,
        "runs": [{**asdict(run), "seconds_a_trial": run.seconds_a_trial} for run in runs],
        **more,
    }
    options.json.write_text(json.dumps(report, indent=2, default=str) + "\n")


def at_least_one(text: str) -> int:
    """Read a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; received {text}")
    return number
