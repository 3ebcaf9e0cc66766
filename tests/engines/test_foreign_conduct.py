"""Models that exit, interrupt, shout, raise whole files and start daemons: each is one trial's fault, and none is left over."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import MANYFIT, is_alive, query, settings, wait_for, write_study

from search import log
from search.engines import failures
from search.storage.records import load
from search.storage.verify import verify

pytestmark = pytest.mark.slow

MINE = '''
"""A builder, its loss and its callbacks, which misbehave for some kinds."""
import os
import subprocess
import sys

import keras


class Odd(BaseException):
    pass


class Silent(Exception):
    def __str__(self):
        raise SystemExit("it has no words")


def silent():
    raise Silent


def give_up():
    raise Odd("enough")


def huge():
    raise ValueError("h" * 30_000_000)


IN_BUILD = {
    "exit": lambda: sys.exit("a builder's own exit"),
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt("by hand")),
    "base": give_up,
    "generator": lambda: (_ for _ in ()).throw(GeneratorExit("closed")),
    "huge": huge,
    "silent": silent,
}


def bad_loss(y_true, y_pred):
    raise SystemExit("in the loss")


def build(config, data):
    kind = config["kind"]
    if kind == "starts":
        code = "import time; time.sleep(900)"
        child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        daemon = subprocess.run(
            [sys.executable, "-c", "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', sys.argv[1]],"
             " start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)", code],
            stdout=subprocess.PIPE, text=True, check=True)
        with open(os.path.join(os.path.dirname(__file__), "pids"), "a") as file:
            file.write(f"{child.pid} {daemon.stdout}")
    if kind == "shouts":
        for _ in range(12):
            sys.stderr.write("s" * 5_000_000)
            sys.stderr.flush()
        os.write(2, b"!" * 20_000_000)
    if kind in IN_BUILD:
        IN_BUILD[kind]()
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(8, "relu"), keras.layers.Dense(data.outputs)])
    loss = bad_loss if kind == "loss" else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(config["learning_rate"]), loss, metrics=["accuracy"])
    return model


class Watching(keras.callbacks.Callback):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def on_epoch_end(self, epoch, logs=None):
        if self.kind == "in callback":
            raise KeyboardInterrupt("in a callback")


def watching(config):
    if config["kind"] == "callback":
        raise SystemExit(7)
    return Watching(config["kind"])
'''

WHYS = {
    "exit": "SystemExit: a builder's own exit",
    "interrupt": "KeyboardInterrupt: by hand",
    "base": "Odd: enough",
    "generator": "GeneratorExit: closed",
    "huge": "ValueError: hhhh",
    "silent": "Silent: its message can't be made",
    "loss": "SystemExit: in the loss",
    "callback": "SystemExit: 7",
    "in callback": "KeyboardInterrupt: in a callback",
}

STUDY = """
[study]
objective = "val_accuracy"
trials = {trials}
epochs = 2
[data]
source = "sklearn:digits"
limit = 300
[model]
build = "mine.py:build"
[space]
learning_rate = {{ low = 1e-4, high = 1e-2, log = true }}
kind = {kinds}
[search]
sampler = "random"
pruner = "none"
start = [{start}]
"""


def run_and_measure(path: Path, how: list[str]) -> tuple[int, str, int]:
    """Run the real command; return its exit code, what it said, and the most bytes that it took itself."""
    said = path.with_suffix(".said")
    with said.open("w") as file:
        process = subprocess.Popen([*MANYFIT, "run", str(path), *settings(how)], stdout=file, stderr=file)
        # Its peak by itself: what the system tells at the end counts its workers in, and whoever started it.
        most = 0
        while process.poll() is None:
            with suppress(OSError):
                fields = Path(f"/proc/{process.pid}/status").read_text().split()
                most = max(most, int(fields[fields.index("VmHWM:") + 1]) if "VmHWM:" in fields else 0)
            time.sleep(0.02)
    return process.returncode, said.read_text(), most * 1024


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "engine", [pytest.param("lanes", marks=pytest.mark.faults), pytest.param("fit", marks=pytest.mark.faults)]
)
def test_whatever_a_model_does_is_one_trials_fault_and_leaves_nothing_behind(tmp_path, engine):
    """F16. `fine` before, between and after them trains as ever."""
    (tmp_path / "mine.py").write_text(MINE)
    bad = [kind for kind in WHYS if engine == "fit" or "callback" not in kind]
    kinds = ["fine", *[kind for one in bad for kind in (one, "fine")], "starts", "shouts", "fine"]
    start = ", ".join(f'{{ kind = "{kind}" }}' for kind in kinds)
    # In the middle of the space, where a study is looked at first.
    choices = ["exit", "huge", "fine", "starts", "shouts", *[k for k in bad if k not in ("exit", "huge")]]
    if engine == "lanes":
        choices = ["fine", *[kind for kind in choices if kind != "fine"]]
    path = write_study(
        tmp_path, STUDY.format(trials=len(kinds), start=start, kinds=str(choices).replace("'", '"')), name="odd"
    )
    how = ["run.engine=lanes", "run.lanes=4"] if engine == "lanes" else ["run.engine=fit", "run.backend=jax"]
    if engine == "fit":
        how.append('train.callbacks=["mine.py:watching"]')
    code, said, size = run_and_measure(path, how)
    assert code == 0, said[-3000:]
    assert len(said) < 200_000
    assert 20e6 < size < 160e6, "the coordinator has gathered what was printed"
    trials = load(path.with_suffix(".db"), "odd").trials
    for trial, kind in zip(trials, kinds, strict=True):
        if kind in WHYS:
            assert (trial.state, trial.ended) == ("FAIL", "failed"), (kind, trial.why)
            assert trial.why.startswith(WHYS[kind])
            assert len(trial.why) <= failures.MOST_WORDS
            assert len(trial.detail) <= failures.MOST_TRACE + 100
            assert "mine.py" in trial.detail or engine == "lanes"
        else:
            assert (trial.state, len(trial.curve)) == ("COMPLETE", 2), (kind, trial.why)
    assert not query(path.with_suffix(".db"), "SELECT 1 FROM manyfit_events WHERE kind = 'worker lost'")
    assert verify(path.with_suffix(".db")).problems == []
    assert path.with_suffix(".log").stat().st_size < log.MAX_BYTES
    assert "more bytes)" in path.with_suffix(".log").read_text()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) >= 2
    wait_for(lambda: not any(map(is_alive, pids)), "the end of what the builder has started", timeout=10)


HANGS = """
import time
import keras


def build(config, data):
    if round(config["hangs"], 6) == 0.777:  # neither end nor middle, which are looked at before the first trial
        time.sleep(10_000)
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(8, "relu"), keras.layers.Dense(data.outputs)])
"""


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_hang_among_many_lanes_is_noticed_soon_and_the_one_to_blame_is_found(tmp_path):
    """F5: of 16 lanes with 20 s each, one hangs. All together would have 650 s; each hang costs less than 100 s."""
    (tmp_path / "mine.py").write_text(HANGS)
    kinds = ["0.1"] * 5 + ["0.777"] + ["0.1"] * 10
    start = ", ".join(f"{{ hangs = {value} }}" for value in kinds)
    text = STUDY.format(trials=16, start=start, kinds="[1, 2]").replace(
        "kind = [1, 2]", "hangs = { low = 0.0, high = 0.8 }"
    )
    path = write_study(tmp_path, text, name="hung")
    how = ["run.engine=lanes", "run.lanes=16", "run.trial_time=20"]
    code, said, _ = run_and_measure(path, how)
    assert code == 0, said
    trials = load(path.with_suffix(".db"), "hung").trials
    assert [trial.number for trial in trials if trial.state != "COMPLETE"] == [5]
    assert trials[5].ended == "timeout"
    lost = query(path.with_suffix(".db"), "SELECT count(*) FROM manyfit_events WHERE kind = 'worker lost'")
    assert lost[0][0] == 16, "they went on one at a time after the first hang"
    (waited,) = query(path.with_suffix(".db"), "SELECT detail FROM manyfit_events WHERE kind = 'timeout'")[0]
    assert '"waited"' in waited


def test_checkpoints_are_told_whole_again_when_they_can_be_written_again(tmp_path):
    import numpy as np
    from support import training

    from search.engines.checkpoints import Checkpoints
    from search.trials.files import StudyFiles

    files = Checkpoints(StudyFiles(tmp_path / "a.db", "a"))
    state = [(training(0), 1, {"a": np.zeros(9)})]
    assert files.is_saved
    (tmp_path / "a.files").mkdir()
    blocked = tmp_path / "a.files" / "running"
    told = []
    for is_blocked in (True, True, False, True, False):
        if is_blocked:
            blocked.write_text("")
        files.save(state)
        told.append((files.is_saved, bool(files.take_error())))
        if is_blocked:
            blocked.unlink()
        else:
            for path in blocked.iterdir():
                path.unlink()
            blocked.rmdir()
    # The same trouble is told once.
    assert told == [(False, True), (False, False), (True, False), (False, False), (True, False)]


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_grown_worker_is_renewed_after_a_checkpoint_that_failed_and_one_that_did_not(tmp_path):
    """L5: one failed checkpoint barred that for the rest of the command."""
    text = (
        STUDY.format(trials=1, start="", kinds="[1]")
        .replace("mine.py:build", "mlp")
        .replace("epochs = 2", "epochs = 100000")
    )
    text = text.replace("kind = [1]", "dropout = { low = 0.1, high = 0.5 }").replace("start = []", "")
    path = write_study(tmp_path, text, name="grown")
    (tmp_path / "grown.files").mkdir()
    (tmp_path / "grown.files" / "running").write_text("in the way")
    code = "from search.workers import pool; pool.BUSY_RENEWAL = 3.0; from search.cli import main; main()"
    how = settings(["run.engine=lanes", "run.lanes=1", "run.worker_memory=200000000"])
    process = subprocess.Popen(
        [*MANYFIT[:-1], code, "run", str(path), *how], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        database, grown = path.with_suffix(".db"), "has grown to"
        failed = "SELECT 1 FROM manyfit_events WHERE kind = 'no checkpoint'"
        wait_for(lambda: query(database, failed), "a checkpoint that fails", timeout=200)
        assert grown not in path.with_suffix(".log").read_text()
        (tmp_path / "grown.files" / "running").unlink()
        wait_for(lambda: grown in path.with_suffix(".log").read_text(), "another worker", timeout=200)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143
