"""What many batches in one call of `model.fit`'s step function save a trial of the fit engine, and that no number changes.

Claim (docs/benchmarks.md): a trial of digits takes 8 % less processor time, on TensorFlow and on JAX. Medians of 5 trials
each, in turns, on 2 busy cores of an AMD EPYC.

    python benchmarks/executions.py [--repetitions 5]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median

from measuring import backend_needs, environment, hardware, heading, run_timed, to_install, versions

ROOT = Path(__file__).resolve().parents[1]

TRIALS = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from manyfit.start import own_packages_first
own_packages_first()
from search import data
from search.engines import executions
from search.engines.fit import FitEngine
from search.engines.training import Trainer, leave_tensorflow_out
from search.reading import studyfile
from search.trials.events import Assignment, Member, Verdict

leave_tensorflow_out()
settings = studyfile.read(Path({root!r}) / "studies" / "digits.toml").settings
trainer = Trainer.load(settings, Path(), data.load(settings.data, Path(), settings.data.seed))
config = dict(optimizer="adamw", learning_rate=0.002, weight_decay=0.001, dropout=0.2)
config |= dict(units=[128, 128], batch_size=32, epochs=20)

def trial(most):
    executions.MOST_BATCHES = most
    engine = FitEngine(trainer)
    began, used = time.perf_counter(), time.process_time()
    engine.start(Assignment(Member(0), config, 20, seed=3))
    curve = []
    for epoch in range(1, 21):
        (event,) = engine.advance()
        curve.append(dict(event.metrics))
        engine.apply([Verdict(event.member, ends=epoch == 20)])
    return dict(wall=time.perf_counter() - began, cpu=time.process_time() - used, curve=curve)

trial(1)
print(json.dumps([[trial(most) for most in (1, 32)] for _ in range({repetitions})]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    print(heading(hardware(), versions()))
    for backend in ("tensorflow", "jax"):
        if missing := to_install(backend_needs(backend)):
            print(f"{backend}: not measured; {missing}")
            continue
        script = TRIALS.format(root=str(ROOT), repetitions=options.repetitions)
        _, printed = run_timed([sys.executable, "-P", "-c", script], environment(backend))
        pairs = json.loads(printed.splitlines()[-1])
        assert all(one["curve"] == many["curve"] for one, many in pairs), f"{backend}: the curves differ"
        for index, name in enumerate(("one batch", "32 batches")):
            wall, cpu = (median(pair[index][key] for pair in pairs) for key in ("wall", "cpu"))
            print(f"{backend}, {name} in a call: {wall:.2f} s a trial, {cpu:.2f} s of processor time")
        print(f"{backend}: the curves are equal, bit for bit")


if __name__ == "__main__":
    main()
