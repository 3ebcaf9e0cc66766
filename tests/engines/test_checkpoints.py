"""Checkpoints: files that are whole or not there, trials that go on at their epoch, the weights of the best ones."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import (
    PROGRAMS,
    dice,
    end,
    in_keras,
    manyfit,
    query,
    settings,
    start,
    table,
    training,
    wait_for,
    write_study,
)

from search import arrayfile
from search.arrayfile import ArrayFileError
from search.engines import checkpoints
from search.engines.checkpoints import Checkpoints
from search.storage import upkeep, verify
from search.storage.records import load
from search.trials.events import Member
from search.trials.files import StudyFiles

# -- files ---------------------------------------------------------------------------------------------------------------

FULL = PROGRAMS / "save_on_a_full_disk.py"


SAVE = PROGRAMS / "save_checkpoints.py"


def state(number: int, size: int = 32) -> dict[str, np.ndarray]:
    """Return something like a member's state, another one for every number."""
    drawn = np.random.default_rng(number)
    return {
        "state/0": drawn.normal(size=(size, 4)).astype(np.float32),
        "state/1": drawn.integers(0, 9, 2).astype(np.uint32),
        "score": np.array(number / 10),
    }


def alike(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


def of(folder: Path) -> StudyFiles:
    """Return the files of a study whose database is in a folder."""
    return StudyFiles(folder / "study.db", "study")


def running(folder: Path) -> list[str]:
    return sorted(path.name for path in of(folder).running.iterdir())


def test_arrays_of_every_type_come_back_as_they_were(tmp_path):
    import ml_dtypes

    arrays = {
        "float32": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
        "not in one piece": np.arange(12, dtype=np.float64).reshape(3, 4)[:, ::2],
        "half": np.array([1.5, -0.0], np.float16),
        "seed": np.array([7, 2**32 - 1], np.uint32),
        "step": np.array(12, np.int64),
        "flag": np.array([True, False]),
        "nothing": np.empty((0, 3), np.float32),
        "score": np.array(-np.inf),
        "not a number": np.array([np.nan, np.inf]),
        "a/b c.d": np.ones(3, np.int8),
        "bfloat16": np.array([[1.5, -2.25], [3e38, 1e-30]], ml_dtypes.bfloat16),
        "bfloat16, one": np.array(0.1, ml_dtypes.bfloat16),
        "float8": np.array([1.0, 0.5], ml_dtypes.float8_e4m3fn),
    }
    path = tmp_path / "new" / "folder" / "1.npz"
    arrayfile.write(path, arrays, {"trial": 3, "more": [1, "two"]})
    found, meta = arrayfile.read(path)
    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in found.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()
    }
    assert (meta["trial"], meta["more"]) == (3, [1, "two"])
    assert list(path.parent.iterdir()) == [path]
    some, _ = arrayfile.read(path, "bfloat16")
    assert some.keys() == {"bfloat16", "bfloat16, one"}


def test_what_can_not_be_written_leaves_what_was_there(tmp_path):
    path = tmp_path / "1.npz"
    arrayfile.write(path, state(1), {})
    (tmp_path / ".1.npz.partial").mkdir()  # nobody can write there
    with pytest.raises(OSError):  # noqa: PT011 (which one is the system's to say)
        arrayfile.write(path, state(2), {})
    assert alike(arrayfile.read(path)[0], state(1))


DAMAGES = {
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "cut by a byte": lambda whole: whole[:-1],
    "empty": lambda whole: b"",
    "text": lambda whole: b"not a checkpoint at all\n" * 50,
    "zeros": lambda whole: bytes(len(whole)),
    "an array's byte": lambda whole: whole.replace(state(1)["state/0"].tobytes(), bytes(32 * 4 * 4), 1),
    "no meta": lambda whole: whole.replace(b"__meta__", b"__beta__"),
    "meta cut": lambda whole: whole.replace(b'{"epochs"', b'["epochs"'),
    "a pickle": lambda whole: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07os.path\x94.",
    "something behind it": lambda whole: whole + b"PK\x05\x06" + bytes(40),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_told_as_such_and_the_older_one_is_taken(tmp_path, damage):
    files = Checkpoints(of(tmp_path))
    files.save([(training(0), 3, state(0)), (training(1), 3, state(11))])
    files.save([(training(0), 5, state(0)), (training(1), 5, state(1))])
    newest = of(tmp_path).checkpoint(0, 2)
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    with pytest.raises(ArrayFileError, match="is damaged"):
        arrayfile.read(newest)
    epoch, found = files.load(training(1, done=9))
    assert epoch == 3
    assert alike(found, state(11))


def test_folder_or_unreadable_link_in_the_place_of_a_checkpoint_is_passed_over(tmp_path):
    files = Checkpoints(of(tmp_path))
    files.save([(training(1), 3, state(1))])
    of(tmp_path).checkpoint(0, 2).mkdir()
    of(tmp_path).checkpoint(0, 3).symlink_to(tmp_path / "nowhere.npz")
    assert files.load(training(1, done=9))[0] == 3


def test_no_single_wrong_bit_anywhere_makes_a_wrong_state_or_an_error(tmp_path):
    """Each byte of a checkpoint gets one of its bits turned over: the state comes out right, or it is the older one's."""
    drawn = dice()
    files = Checkpoints(of(tmp_path))
    older, newer = state(11, size=4), state(1, size=4)
    files.save([(training(1), 3, older)])
    files.save([(training(1), 5, newer)])
    newest = of(tmp_path).checkpoint(0, 2)
    whole, wrong = newest.read_bytes(), {}
    for place in range(len(whole)):
        bit = drawn.randrange(8)
        turned = bytearray(whole)
        turned[place] ^= 1 << bit
        newest.write_bytes(turned)
        try:
            with redirect_stderr(io.StringIO()):  # a line each time
                found = files.load(training(1, done=9))
        except Exception as error:
            wrong[place, bit] = f"{type(error).__name__}: {error}"
        else:
            if found is None or not alike(found[1], {3: older, 5: newer}[found[0]]):
                wrong[place, bit] = f"a state of {found and (found[0], sorted(found[1]))}"
    assert wrong == {}


def test_checkpoint_is_never_ahead_of_what_is_stored(tmp_path):
    files = Checkpoints(of(tmp_path))
    for epoch in (5, 7):
        files.save([(training(1), epoch, state(epoch)), (training(2), 0, state(0))])
    taken = {at_most: files.load(training(1, done=at_most)) for at_most in (0, 1, 4, 5, 6, 7, 99)}
    assert {at_most: found and found[0] for at_most, found in taken.items()} == {
        0: None, 1: None, 4: None, 5: 5, 6: 5, 7: 7, 99: 7,
    }  # fmt: skip
    assert all(alike(found[1], state(found[0])) for found in taken.values() if found)
    assert files.load(training(2, done=9)) is None  # no epoch of it was whole
    assert files.load(training(3, done=9)) is None
    assert files.load(training(1, replica=1, done=9)) is None


def test_member_1_is_not_taken_for_member_11(tmp_path):
    files = Checkpoints(of(tmp_path))
    files.save([(training(11), 4, state(11)), (training(1), 2, state(1)), (training(111), 6, state(111))])
    for number, epoch in ((1, 2), (11, 4), (111, 6)):
        found = files.load(training(number, done=9))
        assert found[0] == epoch
        assert alike(found[1], state(number))


def test_two_generations_of_each_worker_stay_and_all_workers_read_all(tmp_path):
    one, two = Checkpoints(of(tmp_path), worker=1), Checkpoints(of(tmp_path), worker=12)
    for epoch in range(1, 12):  # past 9, where names no longer sort as numbers do
        one.save([(training(1), epoch, state(epoch))])
    two.save([(training(2), 4, state(4))])
    assert running(tmp_path) == ["1.10.npz", "1.11.npz", "12.1.npz"]
    assert [two.load(training(1, done=99))[0], one.load(training(2, done=99))[0]] == [11, 4]
    again = Checkpoints(of(tmp_path), worker=1)  # its process died, and another goes on
    again.save([(training(1), 12, state(12))])
    assert running(tmp_path) == ["1.11.npz", "1.12.npz", "12.1.npz"]


def test_checkpoints_are_due_by_the_clock_and_not_at_all_without_a_folder(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    assert not Checkpoints(None).is_due
    files = Checkpoints(of(tmp_path))
    assert not files.is_due
    now += checkpoints.LEAST_S
    assert files.is_due
    files.save([(training(1), 1, state(1))])
    assert not files.is_due


@pytest.mark.parametrize(
    ("cost_s", "interval_s"),
    [(0.0, 1.0), (0.01, 1.0), (0.05, 1.0), (0.5, 10.0), (2.9, 58.0), (3.0, 60.0), (10.0, 200.0)],
)
def test_checkpoints_come_at_least_once_a_minute_but_for_a_twentieth_of_the_time(
    tmp_path, monkeypatch, cost_s, interval_s
):
    """One that takes longer than three seconds may come less often: the twentieth goes before the minute."""
    now = 1000.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)

    def members():
        nonlocal now
        now += cost_s  # what copying them from the device takes is a part of it
        yield training(1), epoch, state(epoch)

    files = Checkpoints(of(tmp_path))
    for epoch in (1, 2):  # noqa: B007 (in `members`)
        began = now = files._next
        assert files.is_due
        files.save(members())
        now = began + cost_s + interval_s - 0.01
        assert not files.is_due
        now += 0.02
        assert files.is_due
    assert files.load(training(1, done=9))[0] == 2


def test_disk_that_is_used_up_refuses_more_and_says_so_once(tmp_path):
    files = Checkpoints(of(tmp_path), disk=10_000)
    files.save([(training(1), 1, state(1, size=256))])  # 5 kB
    assert files.take_error() == ""
    told = []
    for epoch in range(2, 6):
        # As many members as there happen to be: in lanes that changes all the time.
        files.save([(training(number), epoch, state(number, size=256)) for number in range(epoch)])
        told.append(files.take_error())
    assert "run.disk allows" in told[0]
    assert told[1:] == [""] * 3
    assert files.load(training(1, done=9))[0] == 1, "what was there before is still good"
    assert running(tmp_path) == ["0.1.npz"]


def test_weights_of_the_best_go_before_checkpoints_where_disk_is_short(tmp_path):
    """What was not kept is lost; what a checkpoint would have saved is trained again."""
    files = Checkpoints(of(tmp_path), disk=29_000)
    for epoch in (1, 2):
        files.save([(training(number), epoch, state(number, size=256)) for number in range(2)])
    assert running(tmp_path) == ["0.1.npz", "0.2.npz"]
    for number in range(5):
        assert files.keep(of(tmp_path).weights(Member(number)), state(number, size=256), {"trial": number}) == ""
    assert running(tmp_path) == []
    assert {arrayfile.read(path)[1]["trial"] for path in of(tmp_path).all_weights()} == set(range(5))
    assert "run.disk allows" in files.keep(of(tmp_path).weights(Member(5)), state(5, size=256), {})


def test_checkpoints_go_on_where_there_is_room_for_two_and_not_for_a_third(tmp_path):
    files = Checkpoints(of(tmp_path), disk=14_000)
    for epoch in range(1, 8):  # 5 kB each
        files.save([(training(1), epoch, state(epoch, size=256))])
        assert files.load(training(1, done=99))[0] >= epoch - 1
    assert "run.disk allows" in files.take_error()


def test_name_of_a_file_that_gave_way_tells_nothing_of_the_next_of_that_name(tmp_path):
    files = Checkpoints(of(tmp_path), disk=14_000)
    for epoch in (1, 2):
        files.save([(training(1), epoch, state(epoch, size=256))])
    for number in (7, 8):
        assert files.keep(of(tmp_path).weights(Member(number)), state(number, size=256), {"trial": number}) == ""
    assert running(tmp_path) == []
    of(tmp_path).weights(Member(8)).unlink()
    files.save([(training(2), 5, state(2))])
    files.mark_ended([Member(1)])
    files.save([(training(3), 1, state(3))])
    assert files.load(training(2, done=99))[0] == 5


def test_checkpoint_without_marks_is_not_gone_on_from(tmp_path):
    arrayfile.write(of(tmp_path).checkpoint(0, 1), {"1.0/a": np.zeros(3)}, {"epochs": {"1.0": 3}})
    assert Checkpoints(of(tmp_path)).load(training(1, done=9)) is None


def test_checkpoint_of_one_that_waits_stays_while_others_go_on(tmp_path):
    """After two deaths in a row members go on one at a time; the others' only checkpoint is then the one of all."""
    files = Checkpoints(of(tmp_path))
    files.save([(training(number), 500, state(number)) for number in range(8)])
    again = Checkpoints(of(tmp_path))  # its worker has died
    for epoch in range(501, 506):
        again.save([(training(0), epoch, state(epoch))])
    assert {n: again.load(training(n, done=999))[0] for n in range(8)} == {0: 505} | dict.fromkeys(range(1, 8), 500)
    assert running(tmp_path) == ["0.1.npz", "0.5.npz", "0.6.npz"]
    again.mark_ended(Member(number) for number in range(1, 8))
    again.save([(training(0), 506, state(506))])
    assert running(tmp_path) == ["0.6.npz", "0.7.npz"]


@pytest.mark.parametrize("other", [{"config": {"units": 16}}, {"seed": 7}, {"epochs": 20}])
def test_checkpoint_of_another_training_of_that_number_is_not_taken(tmp_path, other):
    """A study that was begun anew, or brought back from its backup, may give a number to another config."""
    mine = replace(training(3, done=9), config={"units": 32})
    Checkpoints(of(tmp_path)).save([(mine, 4, state(3))])
    assert Checkpoints(of(tmp_path)).load(mine)[0] == 4
    assert Checkpoints(of(tmp_path)).load(replace(mine, **other)) is None


def test_full_disk_stops_no_training_and_the_older_checkpoint_stays(tmp_path):
    """A limit on the size of files: what a full disk is to the process."""
    done = subprocess.run([sys.executable, FULL, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["File too large", "File too large", "1 ['0.1.npz', 'running']"]


def test_kill_at_any_point_of_a_write_leaves_the_old_checkpoint_or_the_new(tmp_path):
    seen = []
    for point in range(1, 99):
        folder = tmp_path / f"{point}"
        env = {**os.environ, "MANYFIT_KILL_AT": str(point)}
        done = subprocess.run([sys.executable, SAVE, str(folder)], env=env, capture_output=True, text=True)
        assert done.returncode in (0, -9), done.stderr
        found = Checkpoints(of(folder)).load(training(1, done=9))
        seen.append(found[0] if found else 0)
        assert found is None or (found[1]["a"] == found[0]).all()
        Checkpoints(of(folder)).save([(training(1), 4, state(4))])
        assert Checkpoints(of(folder)).load(training(1, done=9))[0] == 4
        if done.returncode == 0:
            break
    assert seen == sorted(seen)
    assert set(seen) == {0, 1, 2, 3}


def test_tidying_leaves_what_is_worth_keeping_and_what_is_not_ours(tmp_path):
    files = Checkpoints(of(tmp_path))
    files.save([(training(7), 1, state(7))])
    for number in range(4):
        arrayfile.write(of(tmp_path).weights(Member(number)), state(number), {"trial": number})
    folder = of(tmp_path).folder
    for name in ("notes.txt", "trial-9.keras", ".trial-3.npz.partial", "running/.0.2.npz.partial"):
        (folder / name).write_bytes(b"x" * 100)
    assert {path.name for path in upkeep.delete_weights(of(tmp_path), [Member(1), Member(2), Member(3)])} == {
        "trial-0.npz"
    }
    assert (folder / "running/.0.2.npz.partial").exists(), "another worker may be writing it"
    gone = upkeep.tidy(of(tmp_path), [Member(1), Member(2)], [Member(6), Member(7)])
    names = {"trial-3.npz", ".trial-3.npz.partial", ".0.2.npz.partial"}
    assert {path.name for path in gone} == names
    left = {"notes.txt", "trial-9.keras", "trial-1.npz", "trial-2.npz"}
    assert {path.name for path in folder.iterdir()} == left | {"running"}
    assert {path.name for path in upkeep.tidy(of(tmp_path), [Member(1)], [Member(6)])} == {"0.1.npz", "trial-2.npz"}
    assert {path.name for path in folder.iterdir()} == left - {"trial-2.npz"}
    assert upkeep.tidy(of(tmp_path / "nowhere"), [], []) == {}


def test_folder_that_holds_nothing_more_goes(tmp_path):
    files = of(tmp_path)
    Checkpoints(files).save([(training(7), 1, state(7))])
    upkeep.tidy(files, [], [])
    assert not files.folder.exists()


# -- studies -------------------------------------------------------------------------------------------------------------

STUDY = """
[study]
objective = "val_accuracy"
trials = {trials}
[data]
source = "sklearn:digits"
limit = 800
[model]
build = "mlp"
units = [32]
batch_norm = true                # weights that no gradient changes
[train]
optimizer = "adamw"
batch_size = 32
[space]
learning_rate = {{ low = 1e-3, high = 3e-2, log = true }}
dropout = {{ low = 0.1, high = 0.5 }}
epochs = [{long}, 4]
[search]
sampler = "random"
pruner = "none"
start = {start}
[run]
keep = 2
"""

ENGINES = {
    # The first trials are long enough for several checkpoints, the others short.
    "lanes": (["run.engine=lanes", "run.lanes=2"], {"trials": 5, "long": 1000, "long_ones": 2}),
    "jax": (["run.engine=fit", "run.backend=jax"], {"trials": 3, "long": 400, "long_ones": 1}),
    "tensorflow": (
        ["run.engine=fit", "run.backend=tensorflow", "run.deterministic=true"],
        {"trials": 3, "long": 40, "long_ones": 1},
    ),
}


def study_of(folder: Path, name: str, *, trials: int, long: int, long_ones: int) -> Path:
    epochs = [long if number < long_ones else 4 for number in range(trials)]
    begin = "[" + ", ".join(f"{{ epochs = {count} }}" for count in epochs) + "]"
    return write_study(folder, STUDY.format(trials=trials, long=long, start=begin), name=name)


def saved(folder: Path) -> list[tuple[str, int]]:
    """Return the members in the checkpoints of a study that may be writing them, each with its epochs."""
    found = []
    for path in (folder / "running").glob("[0-9]*.npz"):
        with suppress(ArrayFileError):
            found += arrayfile.read_meta(path)["epochs"].items()
    return found


def stored(database: Path) -> dict[str, int]:
    """Return the members under way and how many epochs of each the database holds."""
    rows = query(
        database,
        "SELECT number, count(*) FROM trials JOIN manyfit_epochs USING (trial_id) WHERE state = 'RUNNING' GROUP BY 1",
    )
    return {f"{number}.0": epochs for number, epochs in rows}


@pytest.fixture(
    scope="module",
    params=["lanes", *(pytest.param(backend, marks=pytest.mark.faults) for backend in ("jax", "tensorflow"))],
)
def pair(request, tmp_path_factory):
    """A study that nothing disturbed, and the same one killed in the middle of a trial and gone on with: (whole, cut, epochs)."""
    how, shape = ENGINES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    whole, cut = study_of(folder, "whole", **shape), study_of(folder, "cut", **shape)
    # Both at once, to save time.
    undisturbed, disturbed = start("run", whole, *settings(how)), start("run", cut, *settings(how))
    try:

        def is_in_the_middle():
            assert disturbed.poll() is None, disturbed.communicate()[1]
            found, there = saved(folder / "cut.files"), stored(cut.with_suffix(".db"))
            return any(2 <= epoch <= there.get(member, 0) for member, epoch in found)

        wait_for(is_in_the_middle, "a checkpoint that the database has come to")
        end(disturbed)
        epochs = stored(cut.with_suffix(".db"))
        _, err = undisturbed.communicate(timeout=120)
        assert undisturbed.returncode == 0, err
    finally:
        for process in (undisturbed, disturbed):
            process.kill()
            process.communicate()
    done = manyfit("run", cut, *settings(how))
    assert done.returncode == 0, done.stderr
    return whole, cut, epochs


@pytest.mark.slow
def test_killed_trial_goes_on_from_its_checkpoint_and_the_table_is_the_same(pair):
    whole, cut, epochs = pair
    said = re.findall(r"trial (\d+) goes on from its checkpoint of epoch (\d+)", cut.with_suffix(".log").read_text())
    assert said
    for trial, epoch in said:
        assert 2 <= int(epoch) <= epochs[f"{trial}.0"]
    assert table(cut.with_suffix(".db"), "cut") == table(whole.with_suffix(".db"), "whole")
    for study in (whole, cut):
        assert load(study.with_suffix(".db"), study.stem).spent["save"] > 0
    assert query(cut.with_suffix(".db"), "SELECT * FROM manyfit_events WHERE kind LIKE 'recomputed%'") == []
    assert not (cut.with_name("cut.files") / "running").exists(), "the study is done"


@pytest.mark.slow
def test_weights_of_exactly_the_best_trials_are_kept_and_give_their_values(pair):
    whole, cut, _ = pair
    study = load(cut.with_suffix(".db"), "cut")
    best = {trial.number: trial for trial in study.complete[:2]}
    assert {path.name for path in study.files.folder.iterdir()} == {f"trial-{number}.npz" for number in best}
    # A program may divide by a count where Keras multiplies: the last bit of a share of 80 rows.
    assert evaluated(cut.with_suffix(".db"), "cut", study.resolved["backend"]) == pytest.approx(
        {str(number): trial.value for number, trial in best.items()}, rel=1e-6
    )
    assert any(trial.best_epoch < len(trial.curve) for trial in best.values()), "the last epochs' would do, too"
    for number in best:
        name = f"trial-{number}.npz"
        kept, theirs = (arrayfile.read(path.with_name(f"{path.stem}.files") / name)[0] for path in (cut, whole))
        assert alike(kept, theirs)
    assert verify.verify(cut.with_suffix(".db")).problems == []


def evaluated_anew(database, name):
    from pathlib import Path

    import numpy as np

    from search import arrayfile, data
    from search.engines.training import Trainer, leave_tensorflow_out
    from search.storage.records import load

    leave_tensorflow_out()
    stored = load(Path(database), name)
    settings, base = stored.file.settings, stored.file.base
    loaded = data.load(settings.data, base, settings.data.seed)
    trainer = Trainer.load(settings, base, loaded)
    found = {}
    for path in stored.files.all_weights():
        arrays, _ = arrayfile.read(path)
        trial = stored.trials[int(path.stem.removeprefix("trial-"))]
        model = trainer.model(trial.config, 999)
        statistics = [variable for variable in model.non_trainable_variables if "seed" not in variable.name]
        variables = {f"trainable/{i}": variable for i, variable in enumerate(model.trainable_variables)}
        variables |= {f"other/{i}": variable for i, variable in enumerate(statistics)}
        assert arrays.keys() == variables.keys(), (sorted(arrays), sorted(variables))
        for key, variable in variables.items():
            variable.assign(arrays[key])
        metrics = model.evaluate(loaded.x_validation, loaded.y_validation, batch_size=256, verbose=0, return_dict=True)
        found[trial.number] = float(str(np.float32(metrics["accuracy"])))
    return found


def evaluated(database: Path, name: str, backend: str) -> dict[str, float]:
    """Return the validation accuracy of all kept weights, in models that are built anew."""
    return in_keras(evaluated_anew, str(database), name, backend=backend)


def opened_by_keras(database, name, path):
    from pathlib import Path

    import keras

    from search import data
    from search.storage.records import load

    stored = load(Path(database), name)
    loaded = data.load(stored.file.settings.data, stored.file.base, stored.file.settings.data.seed)
    found = keras.models.load_model(path).evaluate(
        loaded.raw.x_validation, loaded.y_validation, verbose=0, return_dict=True
    )
    return found["accuracy"]


@pytest.mark.gallery
@pytest.mark.slow
def test_exported_model_opens_in_keras_and_gives_its_trials_value(pair, tmp_path):
    _, cut, _ = pair
    study, database = load(cut.with_suffix(".db"), "cut"), cut.with_suffix(".db")
    path = tmp_path / "best.keras"
    path.write_text("another model")
    # Killed when all is written but the name: the model that was there is whole.
    killed = manyfit("export", cut, "--model", path, env={"MANYFIT_KILL_AT": "2"})
    assert (killed.returncode, path.read_text()) == (-9, "another model")
    done = manyfit("export", cut, "--model", path)
    assert done.returncode == 0, done.stderr
    best = study.complete[0]
    assert f"the model of trial {best.number}; val_accuracy {best.value:.5g}, evaluated once more" in done.stderr
    opened = in_keras(opened_by_keras, str(database), "cut", str(path), backend=study.resolved["backend"])
    assert opened == pytest.approx(best.value, rel=1e-6)
    # The one that was killed has left its half, under a name that says so.
    assert [left.name.endswith(".partial.keras") for left in tmp_path.iterdir() if left != path] == [True]


@pytest.mark.slow
def test_fewer_weights_are_kept_when_fewer_are_asked_for(pair):
    """A study that is done is tidied by the same command with another run.keep. The last test of the pair."""
    _, cut, _ = pair
    best = load(cut.with_suffix(".db"), "cut").complete[0].number
    assert manyfit("run", cut, "--set", "run.keep=1").returncode == 0
    assert [path.name for path in cut.with_name("cut.files").iterdir()] == [f"trial-{best}.npz"]
    assert manyfit("run", cut, "--set", "run.keep=0").returncode == 0
    assert not cut.with_name("cut.files").exists()


@pytest.mark.gallery
@pytest.mark.slow
def test_search_goes_on_without_checkpoints_and_weights_where_disk_is_short_and_says_so_once(tmp_path):
    path = study_of(tmp_path, "small", trials=4, long=500, long_ones=3)
    done = manyfit("run", path, *settings(["run.engine=lanes", "run.lanes=2", "run.disk=2000"]))
    assert done.returncode == 0, done.stderr
    study = load(path.with_suffix(".db"), "small")
    assert [trial.state for trial in study.trials] == ["COMPLETE"] * 4
    told = [(kind, detail) for _, kind, detail in study.events if kind in ("no checkpoint", "weights not kept")]
    assert [detail["why"][:15] for kind, detail in told if kind == "no checkpoint"] == ["run.disk allows"]
    not_kept = {detail["trial"]: detail["why"] for kind, detail in told if kind == "weights not kept"}
    assert set(not_kept) >= {trial.number for trial in study.complete[:2]}
    assert all("run.disk allows" in why for why in not_kept.values())
    assert re.search(r"warning: the weights of trials \d, \d could not be kept", done.stderr.replace("\n", " ")), (
        done.stderr
    )
    refused = manyfit("export", path, "--model", tmp_path / "best.keras")
    assert refused.returncode == 2
    assert "run.disk allows" in refused.stderr
    assert not study.files.folder.exists()


@pytest.mark.slow
@pytest.mark.faults
def test_trials_with_callbacks_of_the_users_have_no_checkpoints_and_begin_anew(tmp_path):
    """What a callback knows of earlier epochs can't be saved. Weights could be kept, and here none are asked for."""
    (tmp_path / "mine.py").write_text("import keras\n\n\nclass Watch(keras.callbacks.Callback):\n    pass\n")
    how = settings(["run.engine=fit", "run.backend=jax", "run.keep=0", 'train.callbacks=["mine.py:Watch"]'])
    path = study_of(tmp_path, "cut", trials=1, long=200, long_ones=1)
    process = start("run", path, *how)
    wait_for(lambda: stored(path.with_suffix(".db")).get("0.0", 0) >= 8, "eight epochs")
    end(process)
    done = manyfit("run", path, *how)
    assert done.returncode == 0, done.stderr
    assert "goes on from its checkpoint" not in path.with_suffix(".log").read_text()
    (row,) = table(path.with_suffix(".db"), "cut")
    assert (row[1], len(row[7])) == ("COMPLETE", 200)
    assert query(path.with_suffix(".db"), "SELECT kind FROM manyfit_events") == []
    assert not path.with_name("cut.files").exists()
