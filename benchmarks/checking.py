"""The cost of comparing every trial's arithmetic before it shares a program, as a share of a study of 20 trials.

Claim (docs/benchmarks.md): of the processor time of a study of digits, the checks take 6.4 % with manyfit's own builder,
9.0 % with a user's builder, and 18.5 % with a layer of the user's; with 20,000 rows 2.2 %, 4.3 % and 7.4 %. 2 shared cores
of an AMD EPYC, one run each beside other work; 20 trials, 30 epochs, programs in the cache.

    python benchmarks/checking.py
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from search.engines.devices import Device
from search.reading import studyfile
from search.sessions.run import run
from search.workers import local

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "studies" / "digits.toml"
ROWS = """
def rows():
    from sklearn.datasets import make_classification

    x, y = make_classification(20_000, 64, n_informative=40, n_classes=10, random_state=0)
    return x.astype("float32"), y
"""

CHECKS = """
import json, sys, time
from pathlib import Path
from search import data
from search.engines.lanes import arithmetic, sizing
from search.engines.lanes.builder import TRACED, build, fingerprinted, study_has_user_code
from search.trials.events import Assignment, Member
from search.engines.training import Trainer, leave_tensorflow_out
from search.storage.records import load

leave_tensorflow_out()
stored = load(Path(sys.argv[1]), "digits")
settings = stored.file.settings
trainer = Trainer.load(settings, stored.file.base, data.load(settings.data, stored.file.base, settings.data.seed))
rows = sizing.rows_of(trainer)
traces, compared, seen, structures = 0.0, 0.0, {}, set()
built = [build(trainer, Assignment(Member(t.number), t.config, t.epochs, t.trainings[0].seed)) for t in stored.trials]
fingerprinted(build(trainer, built[0].assignment), rows)  # what the first trace imports is needed for training, too
for one in built:
    seen[one.structure] = seen.get(one.structure, 0) + 1
    if seen[one.structure] <= TRACED or study_has_user_code(trainer):
        began = time.process_time()
        fingerprinted(one, rows)
        traces += time.process_time() - began
    if (structure := one.structure_at_any_batch_size) not in structures:
        structures.add(structure)
        began = time.process_time()
        assert arithmetic.difference(one.model, one.slots, one.state, rows.train, one.batch_size) == ""
        compared += time.process_time() - began
print(json.dumps({"traces": traces, "compared": compared, "structures": len(structures)}))
"""


WITHOUT = """
import sys
from dataclasses import replace
sys.path.insert(0, {root!r})
from manyfit.start import own_packages_first
own_packages_first()
from search import registry

def make(wanted):
    from search.engines.lanes import arithmetic, builder, engine, sizing
    if {is_without}:
        unchecked = lambda built, rows: built
        for module in (builder, engine, sizing):
            module.fingerprinted = unchecked
        arithmetic.difference = lambda *given: ""
    return engine.make(wanted)

plain = registry.ENGINES.get
registry.ENGINES.get = lambda name: make if name == "lanes" else plain(name)
from search.workers.worker import run
run(int(sys.argv[1]))
"""
"""Starts a worker with the checks or without."""
BUILDERS = {
    "manyfit's own builder": "",
    "a builder of the user's": """
from models.mlp import build as ours


def build(config, data):
    return ours(config, data)
""",
    "a builder with a layer of the user's": """
import keras
from models.mlp import build as ours


class Plain(keras.layers.Layer):
    def call(self, x):
        return x * 1.0


def build(config, data):
    return keras.Sequential([*ours(config, data).layers, Plain()])
""",
}
"""With the first, two trials of each structure are traced; with the second, all; with the third, the whole program of all."""


def spent() -> float:
    """Return the processor time of this process and of its ended child processes, in seconds."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


Seconds = tuple[float, float]
"""Of a whole study: the processor's and the clock's."""


def side_by_side(folder: Path, text: str, builder: str, times: int) -> list[tuple[Seconds, Seconds]]:
    """Run a study with and without its checks, in turns; return pairs of seconds (with, without)."""
    (folder / "mine.py").write_text(builder, encoding="utf-8")
    text = text.replace('build = "mlp"', 'build = "mine.py:build"') if builder else text
    pairs = []
    for number in range(times + 1):
        pair = {}
        for is_without in (False, True) if number % 2 else (True, False):
            name = f"{'without' if is_without else 'with'}-{number}"
            worker = folder / f"{name}.py"
            worker.write_text(WITHOUT.format(root=str(ROOT), is_without=is_without), encoding="utf-8")
            local.START = worker
            (folder / f"{name}.toml").write_text(text, encoding="utf-8")
            before, began = spent(), time.perf_counter()
            run(studyfile.read(folder / f"{name}.toml"))
            pair[is_without] = spent() - before, time.perf_counter() - began
        pairs.append((pair[False], pair[True]))
    return pairs[1:]  # the first pair fills the compile cache


def main(times: int = 4) -> None:
    """Print the share of the checks in a study of a small data set, and in one with more rows."""
    text = STUDY.read_text(encoding="utf-8")
    print("digits, 1,438 rows and 30 epochs:")
    share(text)
    for whose, builder in BUILDERS.items():
        with tempfile.TemporaryDirectory() as folder:
            pairs = side_by_side(Path(folder), text, builder, times)
        for part, what in enumerate(("processor", "clock")):
            checked, unchecked = ([pair[side][part] for pair in pairs] for side in (0, 1))
            longer = [100 * (one / other - 1) for one, other in zip(checked, unchecked, strict=True)]
            print(
                f"a whole study by the {what}, {whose}, {len(pairs)} pairs side by side: "
                f"{median(checked):.2f} s with its checks, {median(unchecked):.2f} s without; "
                f"the median pair {median(longer):+.1f} %, from {min(longer):+.1f} % to {max(longer):+.1f} %"
            )
    print("20,000 rows of 64 numbers and 30 epochs:")
    share(text.replace('source = "sklearn:digits"', 'source = "rows.py:rows"'))


def share(text: str) -> None:
    """Run a study with each builder, run its checks once more alone, and print their share."""
    for whose, builder in BUILDERS.items():
        with tempfile.TemporaryDirectory() as folder:
            study = Path(folder) / "digits.toml"
            study.write_text(
                text.replace('build = "mlp"', 'build = "mine.py:build"') if builder else text, encoding="utf-8"
            )
            (Path(folder) / "mine.py").write_text(builder, encoding="utf-8")
            (Path(folder) / "rows.py").write_text(ROWS, encoding="utf-8")
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-P", "-c", "from search.cli import main; main()", "run", str(study)]
            subprocess.run(command, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            env = {**os.environ, **Device().environment("jax")}
            done = subprocess.run(
                [sys.executable, "-c", CHECKS, str(study.with_suffix(".db"))],
                check=True, capture_output=True, text=True, env=env,
            )  # fmt: skip
        checks = json.loads(done.stdout.splitlines()[-1])
        cost = checks["traces"] + checks["compared"]
        print(
            f"{whose}: {cost:.2f} of {whole:.1f} s, {100 * cost / whole:.1f} % (traces {checks['traces']:.2f} s, "
            f"{checks['structures']} comparisons {checks['compared']:.2f} s)"
        )


if __name__ == "__main__":
    main()
