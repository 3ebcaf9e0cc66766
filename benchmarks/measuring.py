"""Shared by all benchmarks: it runs contestants in their own processes, and has figures, medians, machine and report.

Contestants import it, too: no import at the top may load keras, optuna, rich or a backend.
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
"""The aim: the most that manyfit adds to a trial of 20 epochs, without its sampler's time."""

LONG_TRIALS = 10_000
VERSIONED = ("manyfit", "keras", "keras-tuner", "optuna", "tensorflow", "jax", "numpy", "scikit-learn")
CPU = Device()
MANYFIT = (sys.executable, "-P", "-c", "from search.cli import main; main()")
CACHE_VARIABLES = ("JAX_COMPILATION_CACHE_", "JAX_PERSISTENT_CACHE_")
CONTESTANTS = Path(__file__).with_name("contestants.py")

T = TypeVar("T")
Needs = tuple[tuple[str, str], ...]
"""Pairs: a package, and the argument of pip that installs it."""


class Unmeasured(SystemExit):
    """A contestant could not be measured; the message says why. Uncaught, it ends the benchmark with that message."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one contestant, measured by itself.

    Attributes:
        trials: how many it finished with all epochs.
        seconds: from just before the first config is drawn until the last trial is reported and stored.
        parts: those seconds by part, where they are known.
        best: the objective of its best trial, only as evidence that it trained.
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


# -- needed packages ---------------------------------------------------------------------------------------


def backend_needs(backend: str) -> Needs:
    """Return the packages that training on a backend needs."""
    return ((backend, f".[{backend}]"),)


def tuner_needs(backend: str) -> Needs:
    """Return the packages that KerasTuner on a backend needs."""
    needs = (("keras_tuner", "keras-tuner>=1.4.8"), *backend_needs(backend))
    # On TensorFlow, KerasTuner 1.4.8 imports tensorboard without depending on it, and every trial fails without it.
    return (*needs, ("tensorboard", "tensorboard")) if backend == "tensorflow" else needs


def to_install(needs: Needs) -> str:
    """Return the command that installs the missing packages; "" if none is missing."""
    missing = [target for package, target in needs if importlib.util.find_spec(package) is None]
    targets = " ".join(f"{'-e ' if target[0] == '.' else ''}'{target}'" for target in missing)
    return f"pip install {targets}" if missing else ""


# -- measuring ---------------------------------------------------------------------------------------------


def in_turns(rows: Sequence[T], repetitions: int) -> Iterator[tuple[int, T]]:
    """Yield (repetition, row): all rows once before any row twice."""
    for repetition in range(1, repetitions + 1):
        for row in rows:
            yield repetition, row


def environment(backend: str = "", device: Device = CPU, *, compiled: Path | None = None) -> dict[str, str]:
    """Return the environment variables of manyfit's workers, except for JAX's persistent compilation cache.

    manyfit keeps such a cache between commands: `compiled` is its folder, a new one to measure with an empty cache. Rivals
    have none, which is JAX's default: writing an empty cache would only cost them time.
    """
    variables = {**os.environ, **device.environment(backend or "tensorflow")}
    own = {name: value for name, value in variables.items() if not name.startswith(CACHE_VARIABLES)}
    return own if compiled is None else {**own, "JAX_COMPILATION_CACHE_DIR": str(compiled)}


def run_timed(command: Sequence[str], variables: Mapping[str, str]) -> tuple[float, str]:
    """Run a command in an environment; return its seconds and its stdout. Unmeasured, with its stderr, if it fails."""
    began = time.perf_counter()
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise Unmeasured(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return wall, done.stdout


def compete(measure: str, work: Work, trials: int, folder: Path, variables: Mapping[str, str]) -> tuple[float, Figures]:
    """Run one of `contestants.MEASURES` in its own process; return the seconds of the process, and its figures.

    Unmeasured if it fails or finishes fewer trials.
    """
    script = [str(CONTESTANTS), measure, json.dumps(asdict(work)), str(trials), str(folder)]
    wall, printed = run_timed([sys.executable, *script], variables)
    figures = Figures(**json.loads(printed.splitlines()[-1]))
    if figures.trials != trials:
        raise Unmeasured(f"{measure}: {figures.trials} of {trials} trials were finished; no comparison")
    return wall, figures


def run_manyfit(
    work: Work, trials: int, study: Path, settings: Sequence[str], variables: Mapping[str, str]
) -> tuple[float, Figures]:
    """Write a study file and run `manyfit run` on it; return the seconds of the command, and figures from its database.

    The figures count trials with all their epochs. Unmeasured if the command or a trial fails.
    """
    # Imported here, because it imports optuna, and contestants without Optuna must not pay for that.
    from search.storage import records

    study.write_text(study_text(work, trials))
    flags = [flag for setting in settings for flag in ("--set", setting)]
    wall, _ = run_timed([*MANYFIT, "run", str(study), "--quiet", *flags], variables)
    stored = records.load(study.with_suffix(".db"), study.stem)
    whole = [trial for trial in stored.complete if len(trial.curve) == work.epochs]
    diverged = [trial for trial in stored.trials if trial.ended == "diverged"]
    if not whole or len(whole) + len(diverged) != trials:
        raise Unmeasured(f"manyfit: {len(whole)} of {trials} trials were finished; no comparison")
    return wall, Figures(len(whole), stored.seconds, best=stored.complete[0].value)


# -- reporting ---------------------------------------------------------------------------------------------


def by_title(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by row, in the table's order."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.title, []).append(run)
    return grouped


def seconds_a_trial(runs: Sequence[Run]) -> float:
    """Return the median of the runs' seconds per trial."""
    return median(run.seconds_a_trial for run in runs)


def part_ms(runs: Sequence[Run], part: str) -> float:
    """Return the median of a part's milliseconds per trial."""
    return median(run.figures.parts[part] / run.figures.trials for run in runs) * 1e3


def parts(runs: Sequence[Run]) -> str:
    """Format the parts of a trial, in milliseconds."""
    return ", ".join(f"{name} {part_ms(runs, name):.2f}" for name in runs[0].figures.parts) or "not told apart"


def own_ms(runs: Sequence[Run]) -> float:
    """Return the median of the milliseconds per trial that manyfit itself adds, without its sampler."""
    own = [(run.figures.seconds - run.figures.parts["sampler"]) / run.figures.trials for run in runs]
    return median(own) * 1e3


def overhead_aim(title: str, runs: Sequence[Run]) -> str:
    """Return a line: whether manyfit's overhead meets its aim."""
    own = own_ms(runs)
    verdict = "met" if own <= AIM_MS else "MISSED"
    return f"aim {verdict}: {title}: {own:.2f} ms a trial without its sampler (at most {AIM_MS:g})"


def spread(runs: Sequence[Run], *, unit: str = "s", digits: int = 2) -> str:
    """Format the median, the lowest and the highest seconds per trial, in "s" or "ms"."""
    figures = sorted(run.seconds_a_trial * {"s": 1.0, "ms": 1e3}[unit] for run in runs)
    return f"{median(figures):.{digits}f} {unit} ({figures[0]:.{digits}f}-{figures[-1]:.{digits}f})"


def hardware(device: Device = CPU) -> dict[str, Any]:
    """Return a description of this machine."""
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
    """Return the versions of Python and of all packages that are measured."""
    by_name = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            by_name[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            by_name[name] = "not installed"
    return by_name


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
    """Write the raw figures to `options.json`, if it is set."""
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
