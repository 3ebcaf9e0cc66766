"""Engines that are killed, stopped, crashed, hung and flooded: F1, F2, F4, F5, F6, F14, L3, L4, L5 and B1 of what manyfit survives.

Real commands, real training, real signals. MANYFIT_TEST_SEED repeats a test of random moments with the seed that it printed.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from support import children, dice, end, manyfit, query, settings, start, table, wait_for, write_study

from search.storage.records import load
from search.storage.verify import verify
from search.workers.pool import GROWTH_BYTES, KEEP_S

pytestmark = pytest.mark.faults

STUDY = """
[study]
objective = "val_accuracy"
trials = {trials}
epochs = {epochs}
[data]
source = "sklearn:digits"
[model]
build = "mlp"
units = {units}
[train]
optimizer = "adamw"
batch_size = {batch_size}
[space]
learning_rate = {{ low = 1e-4, high = 1e-2, log = true }}
dropout = {{ low = 0.1, high = 0.5 }}
[search]
{search}
"""

# What decides by everything that came before: one epoch lost or repeated, and another config is drawn or another trial pruned.
LEARNING = 'sampler = "tpe"\npruner = { name = "halving", first_rung = 4, eta = 2 }\nearly_stopping = { patience = 8 }'
# Where trials have nothing to do with each other.
APART = 'sampler = "random"\npruner = "none"'

LANES = ["run.engine=lanes", "run.lanes=8"]
JAX = ["run.engine=fit", "run.backend=jax"]
TENSORFLOW = ["run.engine=fit", "run.backend=tensorflow", "run.deterministic=true"]


def study_of(folder: Path, name: str, **values) -> Path:
    filled = {"trials": 40, "epochs": 30, "units": "[64]", "batch_size": 16, "search": APART, **values}
    return write_study(folder, STUDY.format(**filled), name=name)


@contextmanager
def running(path: Path, how: list[str], timeout: float = 400) -> Iterator[subprocess.Popen[str]]:
    """A study that is searched beside the test; it must have been done without a word when the test is through with it."""
    process = start("run", path, *settings(how))
    try:
        yield process
        _, err = process.communicate(timeout=timeout)
        assert process.returncode == 0, err
    finally:
        process.kill()
        process.communicate()


def epochs_in(path: Path) -> int:
    """Return how many epochs the database of a study holds, which may not be there yet."""
    try:
        return query(path.with_suffix(".db"), "SELECT count(*) FROM manyfit_epochs")[0][0]
    except Exception:
        return 0


def states_in(path: Path) -> list[str]:
    """Return the states of a study's trials, in the order of their numbers, which have to be 0, 1, 2 ..."""
    if not path.with_suffix(".db").exists():
        return []
    rows = query(path.with_suffix(".db"), "SELECT number, state FROM trials ORDER BY number")
    assert [number for number, _ in rows] == list(range(len(rows)))
    return [state for _, state in rows]


def events_in(path: Path, kind: str) -> list[dict]:
    rows = query(path.with_suffix(".db"), "SELECT detail FROM manyfit_events WHERE kind = ?", kind)
    return [json.loads(detail) for (detail,) in rows]


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """`kill -9` a coordinator; its workers must be gone 5 s later."""
    process.send_signal(signal.SIGSTOP)  # so that it starts no worker while they are counted
    workers = children(process.pid)
    end(process)
    wait_for(lambda: not alive(workers), f"the end of orphans {workers}", timeout=5)


def kill_worker(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> int:
    """Signal the worker of a coordinator, and return its pid."""
    (worker,) = wait_for(lambda: children(process.pid), "a worker", timeout=20)
    os.kill(worker, number)
    return worker


class Deaths:
    """The trials of a study that have lost their worker, each with the epochs that it had then; and how many did so last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.told, self.together = 0, 0
        self._epochs: dict[int, int] = {}

    def would_blame(self) -> bool:
        """Whether another death now would be that of a trial that is alone, and its second in a row: it would be to blame."""
        sql = "SELECT number, state, count(epoch) FROM trials LEFT JOIN manyfit_epochs USING (trial_id) GROUP BY 1, 2"
        rows = query(self._path.with_suffix(".db"), sql)
        lost = [told["trial"] for told in events_in(self._path, "worker lost")][self.told :]
        self._epochs |= {trial: rows[trial][2] for trial in lost}
        self.told, self.together = self.told + len(lost), len(lost) or self.together
        running = [(trial, epochs) for trial, state, epochs in rows if state == "RUNNING"]
        # With none, one is about to begin.
        return len(running) <= 1 and all(epochs <= self._epochs.get(trial, -1) for trial, epochs in running)


def check_whole(path: Path, expected: list, *, killed_workers: int = 0) -> None:
    """The study is complete and sound, came out as expected, and has the weights of its best trials beside it."""
    name = path.stem
    assert "RUNNING" not in states_in(path)
    differing = [
        ours[0] for ours, theirs in zip(table(path.with_suffix(".db"), name), expected, strict=True) if ours != theirs
    ]
    assert differing == []
    assert verify(path.with_suffix(".db")).problems == []
    assert events_in(path, "recomputed epoch differs") == []
    assert json.loads(path.with_name(f"{name}.best.json").read_text())["configs"]
    best = {f"trial-{trial.number}.npz" for trial in load(path.with_suffix(".db"), name).complete[:5]}
    # A worker that is killed in the moment of keeping can't; that is told.
    lost = {f"trial-{told['trial']}.npz" for told in events_in(path, "weights not kept")}
    assert len(lost) <= killed_workers
    there = {found.name for found in path.with_name(f"{name}.files").iterdir()}
    assert best - lost <= there <= best


# -- F1, F2: kills -------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("how", "kills", "shape"),
    [
        pytest.param(LANES, 16, {"trials": 40, "epochs": 60, "units": "[128]"}, id="lanes"),
        pytest.param(TENSORFLOW, 4, {"trials": 6, "epochs": 20}, id="tensorflow"),
    ],
)
def test_random_kills_of_the_worker_lose_and_repeat_nothing(tmp_path, how, kills, shape):
    """F1. A trial that is alone and dies for the second time in a row is to blame: such kills wait for an epoch."""
    rng = dice()
    whole, path = study_of(tmp_path, "whole", **shape), study_of(tmp_path, "killed", **shape)
    with running(whole, how), running(path, how) as process:
        deaths = Deaths(path)
        for count in range(kills):
            time.sleep(0.5)  # what came before the last kill is stored
            before = epochs_in(path)
            if count % 4 == 3 and deaths.would_blame() and deaths.together > 1:
                time.sleep(rng.uniform(0, 1))  # its successor is starting
            else:
                wait_for(lambda: epochs_in(path) > before or process.poll() is not None, "an epoch")  # noqa: B023
                time.sleep(rng.uniform(0, 0.5))
                wait_for(
                    lambda: not deaths.would_blame() or process.poll() is not None, "an epoch of one that is alone"
                )
            assert process.poll() is None, f"the study was over after {count} kills"
            kill_worker(process)
    assert len(states_in(path)) == shape["trials"]
    assert set(states_in(path)) == {"COMPLETE"}
    assert {told["reason"] for told in events_in(path, "worker lost")} == {"its worker was ended by SIGKILL"}
    check_whole(path, table(whole.with_suffix(".db"), "whole"), killed_workers=kills)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("how", "kills", "shape"),
    [
        pytest.param(LANES, 20, {"trials": 40, "epochs": 40, "units": "[256]", "batch_size": 8}, id="lanes"),
        pytest.param(JAX, 6, {"trials": 10, "epochs": 20}, id="jax"),
        pytest.param(TENSORFLOW, 4, {"trials": 10, "epochs": 20}, id="tensorflow"),
    ],
)
def test_random_kills_of_the_coordinator_lose_and_repeat_nothing(tmp_path, how, kills, shape):
    """F2. Some kills come in the middle of a start, the others after a few more epochs."""
    rng = dice()
    whole, path = (study_of(tmp_path, name, search=LEARNING, **shape) for name in ("whole", "killed"))
    assert manyfit("run", whole, *settings(how)).returncode == 0
    few = epochs_in(whole) // (2 * kills)  # the study is not to be over before the last one
    finished = 0
    for count in range(kills):
        process = start("run", path, *settings(how))
        try:
            if count % 4 == 0:
                time.sleep(rng.uniform(0, 4))
            else:
                wanted = epochs_in(path) + rng.randint(1, max(1, few))
                wait_for(lambda: epochs_in(path) >= wanted or process.poll() is not None, "epochs")  # noqa: B023
                time.sleep(rng.uniform(0, 0.05))
            assert process.poll() is None, f"the study was over after {count} kills: {process.communicate()[1]}"
            kill(process)
        finally:
            process.kill()
        now = sum(state in ("COMPLETE", "PRUNED", "FAIL") for state in states_in(path))
        assert now >= finished
        finished = now
    done = manyfit("run", path, *settings(how))
    assert done.returncode == 0, done.stderr
    assert len(states_in(path)) == shape["trials"]
    check_whole(path, table(whole.with_suffix(".db"), "whole"))
    assert "goes on from its checkpoint" in path.with_suffix(".log").read_text()


def test_process_that_a_builder_starts_hides_no_death_and_outlives_no_coordinator(tmp_path):
    """F2: it holds its worker's end of the channel, by which the deaths of both sides are known."""
    (tmp_path / "mine.py").write_text(
        "import multiprocessing, os, time\nimport keras\nstarted = []\n\n\n"
        "def build(config, data):\n"
        "    if not started:\n"
        '        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))\n'
        "        child.start()\n        started.append(child)\n"
        '        with open(os.path.join(os.path.dirname(__file__), "pids"), "a") as file:\n'
        '            file.write(f"{child.pid}\\n")\n'
        "    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(10)])\n"
        '    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])\n'
        "    return model\n"
    )
    path = study_of(tmp_path, "forked", trials=3, epochs=400)
    process = start("run", path, "--allow-unused", *settings(['model={ build = "mine.py:build" }', *JAX]))

    def forked() -> list[int]:
        return [int(pid) for pid in (tmp_path / "pids").read_text().split()]

    try:
        wait_for(lambda: epochs_in(path), "an epoch")
        (worker,) = set(children(process.pid)) - set(forked())
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: len(forked()) == 2, "another worker", timeout=30)
        before = epochs_in(path)
        wait_for(lambda: epochs_in(path) > before, "the study to go on")
        kill(process)
        wait_for(lambda: not alive(forked()), "the end of what the builder started", timeout=5)
    finally:
        process.kill()
        process.communicate()
        for pid in alive(forked()):
            os.kill(pid, signal.SIGKILL)


def test_coordinator_that_is_killed_while_its_worker_looks_at_a_model_without_end_leaves_no_orphan(tmp_path):
    """F2: such a worker has not come to listening for its coordinator's end."""
    (tmp_path / "mine.py").write_text("def build(config, data):\n    while True:\n        pass\n")
    path = study_of(tmp_path, "endless")
    process = start("run", path, *settings(['model={ build = "mine.py:build" }', "run.backend=jax"]))
    workers: list[int] = []
    try:
        workers = wait_for(lambda: children(process.pid), "a worker")

        def is_looking() -> bool:
            return psutil.Process(workers[0]).cpu_times().user > 6  # well after its imports

        wait_for(is_looking, "the builder's endless loop")
        kill(process)
    finally:
        process.kill()
        for worker in alive(workers):
            os.kill(worker, signal.SIGKILL)


# -- F4: signals ---------------------------------------------------------------------------------------------------------


def test_signals_end_a_study_on_lanes_in_time_and_it_comes_out_the_same(tmp_path):
    """F4: SIGTERM: 143 within 10 s; SIGINT: 130; two SIGINTs: at once. Each leaves a valid best.json and no process."""
    shape = {"trials": 24, "epochs": 40, "units": "[128]", "search": LEARNING}
    whole, path = study_of(tmp_path, "whole", **shape), study_of(tmp_path, "signalled", **shape)

    def begun(more: int) -> tuple[subprocess.Popen[str], list[int]]:
        wanted = epochs_in(path) + more
        process = start("run", path, *settings(LANES))
        wait_for(lambda: epochs_in(path) >= wanted or process.poll() is not None, "epochs")
        assert process.poll() is None, process.communicate()[1]
        return process, children(process.pid)

    with running(whole, LANES):
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            process, workers = begun(30)
            returncode, out, err = end(process, number)  # it waits for 10 s
            assert (returncode, out) == (code, ""), err
            assert "the same command goes on" in err
            assert alive(workers) == []
            assert "RUNNING" not in states_in(path)
            assert json.loads(path.with_name("signalled.best.json").read_text())["format"] == 1
        process, workers = begun(30)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        returncode, _, _ = end(process, signal.SIGINT)
        # The second may come when the first has already ended it.
        assert returncode in (-signal.SIGINT, 130)
        assert time.monotonic() - began < 2
        wait_for(lambda: not alive(workers), "the workers' end", timeout=5)
        json.loads(path.with_name("signalled.best.json").read_text())
    done = manyfit("run", path, *settings(LANES))
    assert done.returncode == 0, done.stderr
    check_whole(path, table(whole.with_suffix(".db"), "whole"))


def test_signal_ends_a_study_whose_disk_hangs_while_weights_are_kept(tmp_path):
    """F4: a file system that answers nothing, here a pipe that nobody reads."""
    path = study_of(tmp_path, "hung", trials=8, epochs=150, units="[128]")
    how = settings(["run.engine=lanes", "run.lanes=2"])
    process = start("run", path, *how)
    try:
        wait_for(lambda: epochs_in(path), "an epoch")
        folder = path.with_name("hung.files")
        folder.mkdir(exist_ok=True)
        os.mkfifo(folder / ".trial-0.npz.partial")

        def is_hung() -> bool:
            before = epochs_in(path)
            time.sleep(2)
            return epochs_in(path) == before

        wait_for(is_hung, "the end of trial 0")
        assert set(states_in(path)) == {"RUNNING"}
        returncode, _, err = end(process, signal.SIGTERM)
        assert returncode == 143, err
    finally:
        for pid in [*children(process.pid), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
    done = manyfit("run", path, *how)
    assert done.returncode == 0, done.stderr
    assert states_in(path) == ["COMPLETE"] * 8


# -- F5, F6, F14: workers that stop, crash, hang --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "shape"),
    [
        pytest.param(
            ["run.engine=lanes", "run.lanes=2", "run.trial_time=0.5"], {"trials": 40, "epochs": 30}, id="lanes"
        ),
        pytest.param([*JAX, "run.trial_time=10"], {"trials": 3, "epochs": 150, "units": "[16]"}, id="fit"),
    ],
)
def test_worker_that_stands_still_is_given_up_and_its_late_result_counts_for_nothing(tmp_path, how, shape):
    """F5. A trial that was alone with it has timed out; those of lanes blame nobody and go on."""
    whole, path = study_of(tmp_path, "whole", **shape), study_of(tmp_path, "stopped", **shape)
    with running(whole, how), running(path, how) as process:
        wait_for(lambda: epochs_in(path), "an epoch")
        worker = kill_worker(process, signal.SIGSTOP)
        # It may have been stopped while it wrote weights, which may take its time.
        wait_for(lambda: children(process.pid) not in ([], [worker]), "another worker", timeout=KEEP_S + 30)
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)
        assert alive([worker]) == []
    ours, theirs = (table(p.with_suffix(".db"), p.stem) for p in (path, whole))
    assert len(ours) == shape["trials"]
    changed = [row for row, other in zip(ours, theirs, strict=True) if row != other]
    if "run.engine=lanes" in how:
        assert changed == []
        assert events_in(path, "worker lost")
        return
    ((number, state, ended, why, _, value, _, curve),) = changed
    assert (state, ended) == ("COMPLETE", "timeout")
    assert why == "an epoch was not done when the trial's time was long over"
    assert curve == theirs[number][7][: len(curve)]
    assert value == max(epoch["val_accuracy"] for epoch in curve)
    assert len(events_in(path, "timeout")) == 1


FATES = '''
"""A builder in which some trials meet their end; `calm` is the same without."""
import ctypes
import os
import resource
import sys

import keras


def segfault():
    ctypes.string_at(0)


def ends():
    os._exit(1)


def exits():
    sys.exit(3)


def loops():
    while True:
        pass


def eats():
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, limits[1]))  # the machine is not to be eaten
    eaten = []
    try:
        while True:
            eaten.append(bytearray(2**24))
    finally:
        eaten.clear()
        resource.setrlimit(resource.RLIMIT_AS, limits)


FATES = {0.111: segfault, 0.222: ends, 0.333: exits, 0.444: loops, 0.666: eats}


def doomed(config, data):
    fate = FATES.get(round(config["fate"], 6))
    if fate is not None:
        print(f"last words of {fate.__name__}", file=sys.stderr, flush=True)
        fate()
    return calm(config, data)


def calm(config, data):
    config["fate"]
    return keras.Sequential([
        keras.Input(data.input_shape), keras.layers.Dense(16, "relu"), keras.layers.Dropout(config["dropout"]),
        keras.layers.Dense(data.outputs),
    ])
'''


@pytest.mark.parametrize(
    ("how", "fates"),
    [
        pytest.param(
            ["run.engine=lanes", "run.lanes=4", "run.trial_time=2"],
            [None, 0.111, None, 0.222, 0.444, 0.333, 0.666],
            id="lanes",
        ),
        # The others are in tests/cli/test_own_models.py.
        pytest.param(JAX, [None, 0.111, 0.333, 0.666], id="fit"),
    ],
)
def test_trial_that_crashes_hangs_or_eats_memory_fails_with_its_last_words_and_the_others_are_unchanged(
    tmp_path, how, fates
):
    """F6. Looking at a model meets only the lowest, highest and middle fate, which are harmless."""
    (tmp_path / "fates.py").write_text(FATES)
    trials = len(fates) + (5 if "run.engine=lanes" in how else 1)
    begin = "[" + ", ".join(f"{{ fate = {fate or 0.05} }}" for fate in fates) + "]"
    found = {}
    for name in ("calm", "doomed"):
        path = study_of(tmp_path, name, trials=trials, epochs=3, search=f"{APART}\nstart = {begin}")
        mine = [f'model={{ build = "fates.py:{name}" }}', "space.fate={ low = 0.0, high = 1.0 }"]
        done = manyfit("run", path, *settings([*how, *mine]))
        assert done.returncode == 0, done.stderr
        found[name] = table(path.with_suffix(".db"), name)
    doomed = load(tmp_path / "doomed.db", "doomed").trials
    whys = {
        0.111: ("crashed", "its worker was ended by SIGSEGV", "last words of segfault"),
        0.222: ("crashed", "its worker ended with exit code 1", "last words of ends"),
        0.333: ("failed", "SystemExit: 3", "sys.exit(3)"),
        0.444: ("timeout", "an epoch was not done when the trial.s time was long over", ""),
        0.666: ("failed", r"out of memory: the \w+ (has|may have) \S+ GB; MemoryError", "bytearray"),
    }
    for number, fate in enumerate(fates):
        if fate is not None:
            trial = doomed[number]
            ended, why, last = whys[fate]
            assert (trial.state, trial.ended, trial.value) == ("FAIL", ended, None), trial.why
            assert re.fullmatch(why, trial.why)
            assert last in trial.detail
            assert ended != "crashed" or len(trial.detail.splitlines()) <= 20
    others = [number for number in range(trials) if number >= len(fates) or fates[number] is None]
    assert [found["doomed"][n] for n in others] == [found["calm"][n] for n in others]
    assert {row[1] for row in found["calm"]} == {"COMPLETE"}


@pytest.mark.parametrize(
    ("how", "limit"),
    [
        pytest.param(["run.engine=lanes", "run.lanes=2"], 1.0, id="lanes"),
        pytest.param(JAX, 3.0, id="fit"),
    ],
)
def test_trial_that_passes_its_time_limit_is_given_up_and_its_place_is_free_again(tmp_path, how, limit):
    """F14."""
    path = study_of(tmp_path, "long", trials=4, epochs=100_000)
    done = manyfit("run", path, *settings([*how, f"run.trial_time={limit}"]))
    assert done.returncode == 0, done.stderr
    trials = load(path.with_suffix(".db"), "long").trials
    for trial in trials:
        assert (trial.state, trial.ended, trial.why) == ("COMPLETE", "timeout", f"its time of {limit:g} s was used up")
        assert trial.value == max(epoch["val_accuracy"] for epoch in trial.curve)
        assert sum(trial.seconds[:-1]) < limit <= sum(trial.seconds)
    assert sorted(told["trial"] for told in events_in(path, "timeout")) == [0, 1, 2, 3]
    assert verify(path.with_suffix(".db")).problems == []


# -- L3, L4, L5: load ----------------------------------------------------------------------------------------------------


def test_study_on_lanes_runs_while_five_clients_poll_the_dashboard_at_2_hz(tmp_path):
    """L3."""
    path = study_of(tmp_path, "polled", trials=60, epochs=60, units="[256]")
    over = threading.Event()
    answers: list[list[tuple[str, int]]] = [[] for _ in range(5)]
    paths = ["/api/studies", "/api/studies/1", "/api/studies/1/param_importances", "/csv/1", "/dashboard"]

    def poll(port: int, seen: list[tuple[str, int]]) -> None:
        while not over.is_set():
            asked = paths[len(seen) % len(paths)]
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                connection.request("GET", asked)
                response = connection.getresponse()
                response.read()
                seen.append((asked, response.status))
            over.wait(0.5)

    with running(path, LANES) as process:
        wait_for(lambda: epochs_in(path), "an epoch")
        board = start("dashboard", path, "--port", 0)
        try:
            port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", board.stderr.readline())[1])
            clients = [threading.Thread(target=poll, args=(port, seen)) for seen in answers]
            for client in clients:
                client.start()
            try:
                assert process.wait(timeout=200) == 0
            finally:
                over.set()
                for client in clients:
                    client.join()
        finally:
            end(board, signal.SIGINT)
    states = states_in(path)
    assert len(states) == 60
    assert set(states) == {"COMPLETE"}
    assert {(asked, status) for seen in answers for asked, status in seen if status != 200} == set()
    assert min(map(len, answers)) >= 10
    print(f"{sum(map(len, answers))} answers")


def test_trials_through_lanes_with_refills_need_one_program_a_key_and_come_out_as_in_one_lane(tmp_path):
    """L4: 64 trials of several lengths and two batch sizes."""
    found = {}
    for lanes in (8, 1):
        path = study_of(tmp_path, f"lanes{lanes}", trials=64, epochs=5, units="[16]", batch_size=32)
        path.write_text(path.read_text().replace("epochs = 5\n", "").replace("batch_size = 32\n", ""))
        space = ["space.epochs=[2, 3, 5]", "space.batch_size=[32, 64]", "data.limit=300", 'study.objective="val_loss"']
        done = manyfit("run", path, *settings(["run.engine=lanes", f"run.lanes={lanes}", *space]))
        assert done.returncode == 0, done.stderr
        compiled = events_in(path, "program compiled")
        assert sorted(told["batch_size"] for told in compiled) == [32, 64]
        found[lanes] = load(path.with_suffix(".db"), path.stem).trials
    assert {len(trial.curve) for trial in found[8]} == {2, 3, 5}
    for many, one in zip(found[8], found[1], strict=True):
        assert many.params == one.params
        assert many.value == pytest.approx(one.value, rel=1e-5, abs=1e-5)
        for ours, theirs in zip(many.curve, one.curve, strict=True):
            for name in ("loss", "val_loss", "learning_rate"):
                assert ours[name] == pytest.approx(theirs[name], rel=1e-5, abs=1e-5)


class Memory:
    """What a coordinator and its worker take while a study runs, by the number of its trials that have ended."""

    def __init__(self, path: Path, process: subprocess.Popen[str]) -> None:
        self._path, self._process = path, process
        self.coordinator: dict[int, int] = {}
        self.worker: dict[int, int] = {}

    def look(self) -> None:
        ended = sum(state in ("COMPLETE", "PRUNED", "FAIL") for state in states_in(self._path))
        with suppress(psutil.NoSuchProcess):
            ours = psutil.Process(self._process.pid)
            self.coordinator[ended] = ours.memory_info().rss
            for worker in ours.children():
                self.worker[ended] = max(worker.memory_info().rss, self.worker.get(ended, 0))

    def growth(self, sizes: dict[int, int], since: int) -> float:
        """Return by how many bytes a trial it has grown from then on: imports and the like are no growth."""
        first = min(ended for ended in sizes if ended >= since)
        last = max(sizes)
        return (sizes[last] - sizes[first]) / (last - first)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("engines", "trials"),
    [
        pytest.param({"lanes": LANES}, 200, id="lanes"),
        # A second each: as many as show what each of them leaves behind.
        pytest.param({"jax": JAX, "tensorflow": TENSORFLOW[:2]}, 60, id="fit"),
    ],
)
def test_many_small_trials_take_bounded_memory(tmp_path, engines, trials):
    """L5: the coordinator grows by <= 0.1 MB a trial, and no worker passes its limit (GROWTH_BYTES above its first size)."""
    small = ['data.source="sklearn:iris"', "train.batch_size=64", "model.units=[8]", 'train.optimizer="sgd"']
    small += ['study.objective="val_loss"', "train.metrics=[]"]
    processes = {
        name: start(
            "run",
            study_of(tmp_path, name, trials=trials, epochs=2, search='sampler = "tpe"'),
            *settings([*how, *small]),
        )
        for name, how in engines.items()
    }
    memory = {name: Memory(tmp_path / f"{name}.toml", process) for name, process in processes.items()}
    try:
        while any(process.poll() is None for process in processes.values()):
            for name, process in processes.items():
                if process.poll() is None:
                    memory[name].look()
            time.sleep(0.2)
        for process in processes.values():
            _, err = process.communicate()
            assert process.returncode == 0, err
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    for name, sizes in memory.items():
        assert len(states_in(tmp_path / f"{name}.toml")) == trials
        grown = {part: sizes.growth(getattr(sizes, part), trials // 4) / 1e6 for part in ("coordinator", "worker")}
        print(f"{name}: MB a trial: {grown}; MB at most: {max(sizes.worker.values()) / 1e6:.0f}")
        assert grown["coordinator"] <= 0.1, name
        first = sizes.worker[min(ended for ended in sizes.worker if ended)]
        assert max(sizes.worker.values()) <= first + GROWTH_BYTES, name


# -- B1: what is not finite ----------------------------------------------------------------------------------------------

ODD = '''
"""A metric and a loss that are not always finite."""
import keras
from keras import ops


def fine(y_true, y_pred):
    return ops.mean(ops.sigmoid(y_pred), axis=-1)


def nan(y_true, y_pred):
    return fine(y_true, y_pred) * float("nan")


def inf(y_true, y_pred):
    return fine(y_true, y_pred) + float("inf")


def minus(y_true, y_pred):
    return fine(y_true, y_pred) - float("inf")


def constant(y_true, y_pred):
    return fine(y_true, y_pred) * 0.0 + 0.25


def bad_loss(y_true, y_pred):
    return ops.mean(y_pred, axis=-1) + float("inf")


KINDS = {"fine": fine, "nan": nan, "inf": inf, "minus": minus, "constant": constant, "loss": fine, "explodes": fine}


def build(config, data):
    kind = config["kind"]
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(8, "relu"), keras.layers.Dense(data.outputs)])
    model.compile(
        keras.optimizers.SGD(1e30 if kind == "explodes" else config["learning_rate"]),
        loss=bad_loss if kind == "loss" else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.MeanMetricWrapper(KINDS[kind], name="odd")],
    )
    return model
'''


@pytest.mark.parametrize(
    "how", [pytest.param(["run.engine=lanes", "run.lanes=4"], id="lanes"), pytest.param(JAX, id="fit")]
)
def test_objective_that_is_not_finite_ends_its_trial_at_once_never_wins_and_changes_no_other(tmp_path, how):
    """B1. More of it is better, so that inf would be best of all."""
    (tmp_path / "odd.py").write_text(ODD)
    # The same functions, all finite.
    (tmp_path / "calm.py").write_text(
        ODD.replace('float("nan")', "1.0").replace('float("inf")', "0.0").replace("1e30", "1e-3")
    )
    kinds = ["fine", "nan", "inf", "minus", "constant", "loss", "explodes", "fine", "fine"]
    begin = "[" + ", ".join(f'{{ kind = "{kind}" }}' for kind in kinds) + "]"
    found = {}
    for name in ("odd", "calm"):
        path = study_of(tmp_path, name, trials=len(kinds), epochs=3, search=f"{APART}\nstart = {begin}", batch_size=64)
        mine = [
            f'model={{ build = "{name}.py:build" }}',
            f"space.kind={json.dumps(sorted(set(kinds)))}",
            'study.objective="val_odd"',
            'study.direction="maximize"',
        ]
        done = manyfit("run", path, "--allow-unused", *settings([*how, *mine]))
        assert done.returncode == 0, done.stderr
        found[name] = table(path.with_suffix(".db"), name)
    for (number, state, ended, why, _, value, _, curve), kind in zip(found["odd"], kinds, strict=True):
        if kind in ("fine", "constant"):
            assert (state, ended, len(curve)) == ("COMPLETE", "finished", 3), (number, kind, why)
        else:
            assert (state, ended, value) == ("PRUNED", "diverged", None), (number, kind, why)
            assert len(curve) <= (1 if kind == "explodes" else 0), (number, kind)
    assert found["odd"][4][5] == 0.25
    for number in (0, 7, 8):
        assert found["odd"][number] == found["calm"][number]
    best = json.loads((tmp_path / "odd.best.json").read_text(), parse_constant=pytest.fail)["configs"]
    assert sorted(config["trial"] for config in best) == [0, 4, 7, 8]
    assert verify(tmp_path / "odd.db").problems == []
