"""Claim: a study over depth and width is 1.2 to 1.3 times as fast in lanes, with rare structures beside them, as by `fit`.

n: 1 round; 64 trials of 8 epochs of digits, drawn at random. Hardware: 2 shared cores of an AMD EPYC, no GPU.

Run: `.venv/bin/python benchmarks/depth.py`; `--help` lists the options. Two studies: "one width" has a depth of 1 to 4, one
of four widths for all layers and two batch sizes (32 structures); "a width each" a depth of 1 to 3 and one of three widths
for each layer (39 structures, the deep ones rare). All engines train the same trials; JAX's compilation cache is empty.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from measuring import MANYFIT, at_least_one, environment, hardware, heading, in_turns, run_timed, versions

BUILDER = """
import keras


def build(config, data):
    layers = [keras.Input(data.input_shape)]
    for number in range(1, config["depth"] + 1):
        width = config["width"] if "width" in config else config[f"units_{number}"]
        layers += [keras.layers.Dense(width, activation="relu"), keras.layers.Dropout(config["dropout"])]
    return keras.Sequential([*layers, keras.layers.Dense(data.outputs)])
"""
STUDY = """
[study]
objective = "val_accuracy"
trials = {trials}
epochs = {epochs}
[data]
source = "sklearn:digits"
[model]
build = "builder.py:build"
[space]
{space}
[search]
sampler = "random"
"""
SPACES = {
    "one width": """
depth = { low = 1, high = 4 }
width = { choices = [16, 32, 64, 128] }
dropout = { low = 0.0, high = 0.5 }
learning_rate = { low = 1e-4, high = 1e-2, log = true }
batch_size = { choices = [32, 64] }
""",
    "a width each": """
dropout = { low = 0.0, high = 0.5 }
learning_rate = { low = 1e-4, high = 1e-2, log = true }
depth = { low = 1, high = 3 }
units_1 = { choices = [32, 64, 128] }
units_2 = { choices = [32, 64, 128], when = { depth = [2, 3] } }
units_3 = { choices = [32, 64, 128], when = { depth = [3] } }
""",
}
ENGINES = {
    "fit, TensorFlow": ("fit", "tensorflow"),
    "fit, JAX": ("fit", "jax"),
    "auto": ("auto", "auto"),
}


def measure(space: str, engine: str, *, trials: int, epochs: int) -> dict[str, Any]:
    """Run a study once in a folder of its own; return seconds of wall and CPU, and how its trials were trained."""
    with tempfile.TemporaryDirectory(prefix="manyfit-bench-") as name:
        folder = Path(name)
        (folder / "builder.py").write_text(BUILDER)
        study = folder / "study.toml"
        study.write_text(STUDY.format(trials=trials, epochs=epochs, space=SPACES[space]))
        name_of_engine, backend = ENGINES[engine]
        variables = environment(compiled=folder / "compiled")
        settings = ("--set", f'run.engine="{name_of_engine}"', "--set", f'run.backend="{backend}"')
        before = _cpu_s()
        wall, _ = run_timed([*MANYFIT, "run", str(study), "--quiet", *settings], variables)
        cpu = _cpu_s() - before
        _, printed = run_timed([*MANYFIT, "show", str(study), "--json"], variables)
        shown = json.loads(printed)
        beside = sum(event["kind"] == "trained by fit beside the lanes" for event in shown.get("events", []))
        return {"wall": wall, "cpu": cpu, "programs": len(shown["compiled"]), "beside": beside}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure in turns and print a line for each study and engine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=at_least_one, default=64)
    parser.add_argument("--epochs", type=at_least_one, default=8)
    parser.add_argument("--repetitions", type=at_least_one, default=1)
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows that have this in their title")
    options = parser.parse_args()
    print(heading(hardware(), versions()))
    rows = [(space, engine) for space in SPACES for engine in ENGINES if options.only in f"{space}: {engine}"]
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {row: [] for row in rows}
    for _, row in in_turns(rows, options.repetitions):
        runs[row].append(measure(*row, trials=options.trials, epochs=options.epochs))
    for (space, engine), measured in runs.items():
        wall, cpu = (median(one[part] for one in measured) for part in ("wall", "cpu"))
        last = measured[-1]
        print(
            f"{space}: {engine}: {wall:.0f} s, {options.trials * 60 / wall:.1f} trials a minute, {cpu:.0f} CPU seconds, "
            f"{last['programs']} programs, {last['beside']} trials beside lanes"
        )


if __name__ == "__main__":
    main()
