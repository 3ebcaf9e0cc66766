"""The time from `manyfit run` to a new study's first epoch, and where it goes.

Claim (docs/benchmarks.md): the coordinator's own work before its worker starts, and after the worker is ready, is 0.8 s of
processor time.

    python benchmarks/starting.py [--repetitions 5] [--tree OTHER_CHECKOUT]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from measuring import environment, hardware, heading, run_timed, versions

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("wall", "before the worker", "meanwhile", "after the worker", "worker")

MEASURED = """
import json, os, sys, time
began = time.time()
from search.cli import main
from search.trials.events import EpochEnd
from search.workers import local
from search.workers.pool import WorkerPool

marks = dict()

def marking(owner, name, before="", after=""):
    original = getattr(owner, name)

    def marked(*arguments, **options):
        if before:
            marks.setdefault(before, time.process_time())
        try:
            return original(*arguments, **options)
        finally:
            if after:
                marks.setdefault(after, time.process_time())

    setattr(owner, name, marked)

def advance(self):
    events = original(self)
    if any(isinstance(event, EpochEnd) for event in events) and "wall" not in marks:
        marks["wall"] = time.time() - began
        marks["end"] = time.process_time()
        fields = open("/proc/%d/stat" % self._workers[0].link.process.pid).read().rpartition(") ")[2].split()
        marks["worker"] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return events

original, WorkerPool.advance = WorkerPool.advance, advance
marking(local, "launch", before="launched")
marking(WorkerPool, "wait_until_ready", before="waiting", after="ready")
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended
figures = dict(wall=marks["wall"], worker=marks["worker"])
figures["before the worker"] = marks["launched"]
figures["meanwhile"] = marks["waiting"] - marks["launched"]
figures["after the worker"] = marks["end"] - marks["ready"]
print(json.dumps(figures))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--tree", type=Path, action="append", help="a checkout to compare with; may be repeated")
    options = parser.parse_args()
    print(heading(hardware(), versions()))
    trees = [ROOT, *(options.tree or [])]
    found: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    for _ in range(options.repetitions + 1):
        for tree in trees:
            variables = {**os.environ, **environment("jax"), "PYTHONPATH": str(tree)}
            with tempfile.TemporaryDirectory() as folder:
                study = Path(folder) / "digits.toml"
                study.write_text((ROOT / "studies" / "digits.toml").read_text())
                how = ["--set", "study.trials=1", "--set", "study.epochs=1", "--set", "search.pruner=none"]
                command = [sys.executable, "-P", "-c", MEASURED, "run", str(study), "--quiet", "--no-check", *how]
                found[tree].append(json.loads(run_timed(command, variables)[1].splitlines()[-1]))
    for tree, runs in found.items():
        print(tree)
        for part in PARTS:
            # The first run fills caches.
            print(f"  {part}: {median(run[part] for run in runs[1:]):.2f} s")


if __name__ == "__main__":
    main()
