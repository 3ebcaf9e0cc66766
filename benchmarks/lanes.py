"""Claim: on small networks manyfit's lanes finish 34 and 21 times the trials an hour of KerasTuner on TensorFlow and JAX.

n: 2 rounds; manyfit's rows all of their trials, everyone else's 8 unless `--whole`. Hardware: 2 shared cores of an AMD EPYC.

Run: `.venv/bin/python benchmarks/lanes.py`; `--help` lists the options. `--quick` checks in minutes that all works; its
figures mean nothing. `--device gpu` needs one NVIDIA GPU and, beside manyfit, only JAX.

All contestants train the same network on the same rows for the same epochs, each in its own process, and they take turns:
A B C A B C. manyfit's compilation cache is empty unless the row's name says "warm cache"; the others have none. manyfit and
Optuna store in SQLite, KerasTuner in its own files; `model.fit` is a plain loop (build, compile, fit, clear_session) that
stores nothing. "A trial" is the same for all: the time from just before the first config is drawn until the last trial is
reported and stored, divided by the number of trials. It includes every compilation, manyfit's also if it precedes the first
config. The rest of a process (start, imports, data, its end) has a column of its own, and is in "whole command".
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import measuring
import telling
from lineup import LANES, PEAK, WARM, Outcome, Row, Scale, lineup
from measuring import CPU, Figures, Run, Unmeasured, at_least_one, by_title
from rich.console import Console

from search.engines import devices
from search.engines.devices import Device

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
RIVALS = 8


def measure(row: Row, repetition: int, device: Device) -> Run:
    """Run a row once in its own process and folder; Unmeasured, with its stderr, if it fails."""
    with tempfile.TemporaryDirectory(prefix="manyfit-bench-") as name:
        folder = Path(name)
        if row.measure == LANES:
            wall, figures = measure_lanes(row, folder, device)
        else:
            variables = measuring.environment(row.backend, device if row.backend else CPU)
            wall, figures = measuring.compete(row.measure, row.work, row.trials, folder, variables)
    return Run(row.title, repetition, figures, start_s=wall - figures.seconds)


def measure_lanes(row: Row, folder: Path, device: Device) -> tuple[float, Figures]:
    """Run `manyfit run` with lanes and read its time by part; for a warm cache, run the same study before it.

    The worker may compile before the study's clock starts. Such seconds of compiling are added to the clock's seconds.
    """
    variables = measuring.environment(row.backend, device, compiled=folder / "compiled")
    where = "cpu" if device.gpu is None else device.gpu
    settings = ('run.engine="lanes"', 'run.backend="jax"', f"run.devices={json.dumps([where])}", *row.settings)
    if row.name == WARM:
        measuring.run_manyfit(row.work, row.trials, folder / "before.toml", settings, variables)
    study = folder / "study.toml"
    wall, figures = measuring.run_manyfit(row.work, row.trials, study, settings, variables)
    _, printed = measuring.run_timed([*measuring.MANYFIT, "show", str(study), "--json"], variables)
    parts = spent(json.loads(printed))
    unclocked = max(0.0, sum(parts.values()) - figures.seconds)
    return wall, replace(figures, parts=parts, seconds=figures.seconds + min(unclocked, parts.get("compile", 0.0)))


def spent(shown: Mapping[str, Any]) -> dict[str, float]:
    """Return the worker's seconds by part from the output of `manyfit show --json`; {} if there are none."""
    parts = shown.get("spent")
    return {name: float(parts[name]) for name in telling.SPENT if name in parts} if isinstance(parts, Mapping) else {}


def measure_all(rows: Sequence[Row], repetitions: int, device: Device, progress: Console) -> Outcome:
    """Measure all rows that can run here, in turns. A row that fails is reported, and the others go on."""
    reasons = {row.title: row.missing for row in (PEAK, *rows) if row.missing}
    for title, reason in reasons.items():
        progress.print(f"skipped: {title}: {reason}")
    runs: list[Run] = []
    for repetition, row in measuring.in_turns([PEAK, *rows], repetitions):
        if row.title in reasons:
            continue
        try:
            run = measure(row, repetition, device)
        except Unmeasured as failure:
            progress.print(f"failed: {row.title}: {failure}")
            reasons[row.title] = str(failure).strip().splitlines()[-1]
            continue
        runs.append(run)
        progress.print(f"{repetition} of {repetitions}: {run.title}: {run.figures.seconds:.1f} s + {run.start_s:.1f} s")
    return Outcome(rows, {title: group for title, group in by_title(runs).items() if title not in reasons}, reasons)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    rivals = parser.add_mutually_exclusive_group()
    rivals.add_argument(
        "--peer-trials", type=at_least_one, metavar="N", help=f"of everyone but manyfit, at most (default {RIVALS})"
    )
    rivals.add_argument("--whole", action="store_true", help="everyone runs as many as manyfit: about an hour")
    parser.add_argument("--repetitions", type=at_least_one, help="of the whole round (default 2; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="everything small: a look whether it works, and no claim")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="only sections of the table that have this in their title"
    )
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), default="cpu", help="gpu: the first NVIDIA GPU, and a convnet"
    )
    parser.add_argument(
        "--data", type=Path, default=SHARED, metavar="FOLDER", help="of mnist.npz, fashion_mnist.npz (../shared/data)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures")
    options = parser.parse_args()
    if options.device == "gpu" and not devices.gpus():
        parser.error("--device gpu: nvidia-smi names no GPU on this machine")
    options.peer_trials = options.peer_trials or (2 if options.quick else RIVALS)
    options.repetitions = options.repetitions or (1 if options.quick else 2)
    return options


def main() -> None:
    """Measure, print the tables and the aims, write the raw figures."""
    options = parse()
    scale = Scale(None if options.whole else options.peer_trials, options.quick, options.data.resolve(), options.device)
    device = Device(0) if options.device == "gpu" else CPU
    rows = [row for row in lineup(scale) if options.only.lower() in row.work.title.lower()]
    if not rows:
        raise SystemExit(f"no section of the table has {options.only!r} in its title")
    machine, versions = measuring.hardware(device), measuring.versions()
    outcome = measure_all(rows, options.repetitions, device, Console(stderr=True, highlight=False, soft_wrap=True))
    console = Console(highlight=False, width=150)
    console.print(measuring.heading(machine, versions))
    about = f"median of {options.repetitions} (lowest-highest), on the {options.device.upper()}"
    console.print(telling.speeds(outcome, f"QUICK LOOK, NO CLAIM: {about}" if options.quick else about))
    if any(row.measure == LANES and row.title in outcome.runs for row in rows):
        console.print(telling.spending(outcome))
    for line in (*telling.notes(outcome), *telling.aims(outcome, is_quick=options.quick)):
        console.print(line)
    runs = [run for group in outcome.runs.values() for run in group]
    measuring.write_report(options, machine, versions, runs, not_measured=outcome.reasons)


if __name__ == "__main__":
    main()
