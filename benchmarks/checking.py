"""What it costs to compare every trial's arithmetic before it shares a program: a share of a study of 20 trials.

Claim (docs/benchmarks.md): 4.0 % of the study's processor time with manyfit's own builder, 8.2 % with one of the user's,
whose trials are all traced; a whole command with such a builder takes 17 % longer (n = 5 pairs). 2 shared cores of an AMD
EPYC; 20 trials of digits, 30 epochs, the study of `make run`, its programs in the compile cache.

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

CHECKS = """
import json, sys, time
from pathlib import Path
from search import data
from search.engines.lanes import arithmetic, sizing
from search.engines.lanes.builder import TRACED, build, identified
from search.trials.events import Assignment, Member
from search.engines.training import Trainer, leave_tensorflow_out
from search.storage.records import load

leave_tensorflow_out()
stored = load(Path(sys.argv[1]), "digits")
settings = stored.file.settings
trainer = Trainer.load(settings, stored.file.base, data.load(settings.data, stored.file.base, settings.study.seed))
rows = sizing.rows_of(trainer)
traced, compared, seen, kinds = [], [], {}, set()
built = [build(trainer, Assignment(Member(t.number), t.config, t.epochs, t.seed)) for t in stored.trials]
identified(build(trainer, built[0].assignment), rows)  # what the first trace imports is needed for training, too
for one in built:
    began = time.process_time()
    one = identified(one, rows)
    traced.append((one.structure, time.process_time() - began))
    if (kind := sizing._without_batch_size(one)) not in kinds:
        kinds.add(kind)
        began = time.process_time()
        assert arithmetic.difference(one.model, one.slots, one.state, rows.train, one.batch_size) == ""
        compared.append(time.process_time() - began)
first = 0.0
for structure, seconds in traced:
    seen[structure] = seen.get(structure, 0) + 1
    first += seconds if seen[structure] <= TRACED else 0.0
print(json.dumps({"all": sum(s for _, s in traced), "first": first, "compared": sum(compared), "structures": len(kinds)}))
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
            module.identified = unchecked
        arithmetic.difference = lambda *given: ""
    return engine.make(wanted)

plain = registry.ENGINES.get
registry.ENGINES.get = lambda name: make if name == "lanes" else plain(name)
from search.workers.worker import run
run(int(sys.argv[1]))
"""
"""A worker, with the checks or without."""
BUILDER = "from models.mlp import build as ours\n\n\ndef build(config, data):\n    return ours(config, data)\n"


def side_by_side(folder: Path, times: int) -> list[tuple[float, float]]:
    """Run the study of a user's builder with and without its checks, one after the other; return the seconds of each pair."""
    (folder / "mine.py").write_text(BUILDER, encoding="utf-8")
    text = STUDY.read_text(encoding="utf-8").replace('build = "mlp"', 'build = "mine.py:build"')
    pairs = []
    for number in range(times + 1):
        pair = []
        for is_without in (False, True) if number % 2 else (True, False):
            name = f"{'without' if is_without else 'with'}-{number}"
            worker = folder / f"{name}.py"
            worker.write_text(WITHOUT.format(root=str(ROOT), is_without=is_without), encoding="utf-8")
            local.START = worker
            (folder / f"{name}.toml").write_text(text, encoding="utf-8")
            began = time.perf_counter()
            run(studyfile.read(folder / f"{name}.toml"))
            pair.append((is_without, time.perf_counter() - began))
        found = dict(pair)
        pairs.append((found[False], found[True]))
    return pairs[1:]  # the first pair fills the compile cache


def main(times: int = 5) -> None:
    """Run the study, do its checks once more by themselves, and print their share."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "digits.toml"
        study.write_text(STUDY.read_text(encoding="utf-8"), encoding="utf-8")
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
        pairs = side_by_side(Path(folder), times)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"the study: {whole:.1f} s of processor time")
    for whose, traces in (("manyfit's own builder", found["first"]), ("a builder of the user's", found["all"])):
        cost = traces + found["compared"]
        print(
            f"{whose}: {cost:.2f} s, {100 * cost / whole:.1f} % (traces {traces:.2f} s, "
            f"{found['structures']} comparisons {found['compared']:.2f} s)"
        )

    longer = [100 * (checked / unchecked - 1) for checked, unchecked in pairs]
    print(
        f"a whole command with a builder of the user's, {len(pairs)} pairs side by side: {median(c for c, _ in pairs):.2f} s "
        f"with its checks, {median(u for _, u in pairs):.2f} s without; the median pair {median(longer):+.1f} %"
    )


if __name__ == "__main__":
    main()
