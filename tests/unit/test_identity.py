"""A study that was started with something else is refused with a difference that a person can read."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import pytest
from data_kit import load as load_data
from support import REPLAY, query, record, replay, replay_file, toml

from search.core.study import Study
from search.errors import IdentityError
from search.sessions.run import run
from search.spec import code_files, identity
from search.spec.ready import Ready
from search.trials.events import Noted
from search.trials.history import History

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
    "units": [[64], [32]],
    "layers": {"low": 1, "high": 4},
    "optimizer": ["sgd", "adam"],
    "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
}


def declared(folder, **settings):
    """Return a study's identity as a database gives it back."""
    file = replay_file(folder, REPLAY.split("[search]")[0], **{"space": SPACE, "model__activation": "relu", **settings})
    return json.loads(json.dumps(identity.declared(file)))


def differences(stored, now) -> list[str]:
    with pytest.raises(IdentityError) as caught:
        identity.check_unchanged("digits", stored, now)
    assert caught.value.exit_code == 2
    first, *lines, last = str(caught.value).splitlines()
    assert first == "study 'digits' was started with something else:"
    assert "another --name" in last
    return [line.strip() for line in lines]


def changed_space(**parameters):
    """Return SPACE with parameters replaced, added, or (None) removed."""
    return {name: entry for name, entry in {**SPACE, **parameters}.items() if entry is not None}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"dropout": {"low": 0.0, "high": 0.6}}, "space.dropout.high: was 0.5, now 0.6"),
        ({"dropout": {"low": 0.0, "high": 0.5, "step": 0.1}}, "space.dropout.step: was absent, now 0.1"),
        ({"learning_rate": {"low": 1e-4, "high": 1e-1}}, "space.learning_rate.log: was true, now absent"),
        ({"units": [[64], [16]]}, "space.units.choices: was [[64], [32]], now [[64], [16]]"),
        ({"units": [[32], [64]]}, "space.units.choices: was [[64], [32]], now [[32], [64]]"),
        (
            {"optimizer": ["sgd", "adam", "lion"]},
            'space.optimizer.choices: was ["sgd", "adam"], now ["sgd", "adam", "lion"]',
        ),
        ({"new": [True, False]}, 'space.new: was absent, now {"choices": [true, false]}'),
        ({"dropout": None}, 'space.dropout: was {"low": 0.0, "high": 0.5}, now absent'),
        (
            {"momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "adam"}}},
            'space.momentum.when.optimizer: was ["sgd"], now ["adam"]',
        ),
        ({"momentum": {"low": 0.0, "high": 0.9}}, 'space.momentum.when: was {"optimizer": ["sgd"]}, now absent'),
    ],
)
def test_changed_parameter_is_told(tmp_path, changed, line):
    """B3."""
    assert differences(declared(tmp_path), declared(tmp_path, space=changed_space(**changed))) == [line]


def test_parameter_of_another_kind_is_told(tmp_path):
    """B3."""
    before = declared(tmp_path)
    real = declared(tmp_path, space=changed_space(layers={"low": 1.0, "high": 4.0}))
    assert differences(before, real) == ["space.layers.low: was 1, now 1.0", "space.layers.high: was 4, now 4.0"]
    choice = declared(tmp_path, space=changed_space(layers=[1, 2, 3, 4]))
    assert differences(before, choice) == [
        "space.layers.low: was 1, now absent",
        "space.layers.high: was 4, now absent",
        "space.layers.choices: was absent, now [1, 2, 3, 4]",
    ]


def test_numbers_are_no_truth_values(tmp_path):
    numbers = declared(tmp_path, space=changed_space(flag=[1, 0]))
    booleans = declared(tmp_path, space=changed_space(flag=[True, False]))
    assert differences(numbers, booleans) == ["space.flag.choices: was [1, 0], now [true, false]"]


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"study__seed": 1}, ["seed: was 0, now 1"]),
        ({"study__epochs": 10}, ["epochs: was 9, now 10"]),
        (
            {"study__objective": "val_accuracy"},
            ['objective: was "val_loss", now "val_accuracy"', 'direction: was "minimize", now "maximize"'],
        ),
        ({"study__direction": "maximize"}, ['direction: was "minimize", now "maximize"']),
        ({"data__source": "sklearn:wine"}, ['data.source: was "sklearn:digits", now "sklearn:wine"']),
        ({"data__validation": 0.2}, ["data.validation: was 0.1, now 0.2"]),
        ({"data__limit": 500}, ["data.limit: was null, now 500"]),
        ({"model__build": "cnn"}, ['model.build: was "mlp", now "cnn"']),
        ({"model__activation": "gelu"}, ['model.activation: was "relu", now "gelu"']),
        ({"model__batch_norm": True}, ["model.batch_norm: was absent, now true"]),
        ({"train__batch_size": 64}, ["train.batch_size: was 32, now 64"]),
        ({"train__weight_decay": 0.01}, ["train.weight_decay: was absent, now 0.01"]),
        ({"search__sampler": "random"}, ['search.sampler.name: was "bayes", now "random"']),
        ({"search__pruner__eta": 2}, ["search.pruner.eta: was absent, now 2"]),
        (
            {"search__early_stopping": {"patience": 5}},
            ['search.early_stopping: was null, now {"patience": 5, "min_delta": 0.0, "start_from_epoch": 0}'],
        ),
        ({"search__start": [{"dropout": 0.1}]}, ['search.start: was [], now [{"dropout": 0.1}]']),
    ],
)
def test_every_other_change_is_told(tmp_path, settings, lines):
    """B3."""
    assert differences(declared(tmp_path), declared(tmp_path, **settings)) == lines


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"study__trials": 99},
        {"study__time": "10m"},
        {"study__stop_after": 5},
        {"run__trial_time": 60},
        {"run__devices": ["cpu", "cpu"]},
        {"study__epochs": 9},
        {"model__build": "mlp"},
        {"search__sampler": {"name": "bayes"}},
        {"search__pruner": "halving"},
    ],
    ids=str,
)
def test_budget_and_what_only_spells_out_a_default_may_change(tmp_path, settings):
    identity.check_unchanged("digits", declared(tmp_path), declared(tmp_path, **settings))


def test_fingerprints_are_compared_once_a_worker_has_told_them(tmp_path):
    stored = declared(tmp_path)
    stored["data"]["fingerprint"], stored["model"]["source"] = "aaa", "bbb"
    identity.check_unchanged("digits", stored, declared(tmp_path))
    now = json.loads(json.dumps(stored))
    now["data"]["fingerprint"] = "ccc"
    assert differences(stored, now) == ["data.fingerprint: the data are not the same"]
    now = json.loads(json.dumps(stored))
    now["model"]["source"] = "ddd"
    assert differences(stored, now) == ["model.source: the builder's source has changed"]


def test_values_that_differ_late_are_shown_where_they_differ(tmp_path):
    before, now = declared(tmp_path), declared(tmp_path)
    before["data"]["targets"] = {"classes": [f"class {number}" for number in range(900)]}
    now["data"]["targets"] = {"classes": [*before["data"]["targets"]["classes"][:-1], "another"]}
    (line,) = differences(before, now)
    assert line.startswith("data.targets.classes: was ...")
    assert 'class 899"], now ...' in line
    assert line.endswith('"another"]')


CODES = np.arange(90) % 3
X = np.random.default_rng(0).normal(size=(90, 4)).astype("float32")


def ready(folder, y):
    """Return what a worker reports of the data."""
    np.savez(folder / "d.npz", x=X, y=y)
    data = load_data(folder, "d.npz")
    return Ready(asdict(data.info), data.fingerprint, "source", targets=data.targets)


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        # The sample: class_weight = { "1" = 50.0 } moved from the second class to the first.
        (CODES, CODES + 1, ['classes: was ["0", "1", "2"], now ["1", "2", "3"]']),
        (np.array(["a", "b", "c"])[CODES], np.array(["a", "c", "d"])[CODES], ['classes: was ["a", "b", "c"], now ["a", "c", "d"]']),
        (CODES % 2, CODES % 2 * 2 - 1, ['classes: was ["0", "1"], now ["-1", "1"]']),
        (CODES, CODES[:, None], ['shape: was "(rows,)", now "(rows, 1)"']),
        (CODES[:, None], np.eye(3)[CODES], ['shape: was "(rows, 1)", now "(rows, 3)"', 'dtype: was "int32", now "float32"']),
        (np.eye(3, dtype=int)[CODES], CODES, ['shape: was "(rows, 3)", now "(rows,)"']),
        (CODES, CODES.astype("float32"), ['dtype: was "int32", now "float32"']),
        (X[:, 0], X[:, :1], ['shape: was "(rows,)", now "(rows, 1)"']),
    ],
)  # fmt: skip
def test_renamed_classes_and_targets_of_another_form_are_told(tmp_path, before, now, lines):
    """The fingerprint does not see them: the numbers are the same."""
    file = replay_file(tmp_path)
    reports = [ready(tmp_path, y) for y in (before, now)]
    assert reports[0].fingerprint == reports[1].fingerprint
    stored = [json.loads(json.dumps(identity.full(file, report))) for report in reports]
    assert differences(*stored) == [f"data.targets.{line}" for line in lines]
    with pytest.raises(IdentityError, match=r"data\.targets"):
        identity.check_ready(file, stored[0], reports[1])
    # Before a worker has reported, and in a study of a version that did not store them, they are not compared.
    identity.check_unchanged("digits", stored[0], identity.declared(file))
    del stored[0]["data"]["targets"]
    assert identity.check_ready(file, stored[0], reports[1])["data"]["targets"] == reports[1].targets


@pytest.mark.parametrize("y", [CODES, CODES.astype("uint8"), CODES + 0, list(map(int, CODES))], ids=range(4))
def test_what_models_get_in_the_same_form_is_the_same_study(tmp_path, y):
    file = replay_file(tmp_path)
    identity.check_ready(file, json.loads(json.dumps(identity.full(file, ready(tmp_path, CODES)))), ready(tmp_path, y))


def test_imported_files_are_of_the_identity_until_another_builder_begins(tmp_path):
    file = replay_file(tmp_path)

    def history(*events):
        stored = {**identity.declared(file), "model": {"source": "s", "files": {"a.py": "1"}}}
        return History(file, {}, stored, 0.0, "", events=[(datetime.now(UTC), *event) for event in events])

    def imported(**files):
        return "imported", {"files": {f"{name}.py": digest for name, digest in files.items()}}

    assert history().full_identity == history().identity
    assert history(imported(b="2"), ("timeout", {"trial": 1}), imported(c="3")).full_identity["model"]["files"] == {
        "a.py": "1", "b.py": "2", "c.py": "3",
    }  # fmt: skip
    # A file that changed while a command ran: the first trial's counts.
    assert history(imported(b="2"), imported(b="3")).imported == {"b.py": "2"}
    for kind in ("builder mended", "builder changed"):
        assert history(imported(b="2"), (kind, {}), imported(c="3")).imported == {"c.py": "3"}


def test_module_on_pythonpath_that_only_a_trial_imports_is_compared_where_it_is_found(tmp_path, monkeypatch):
    (tmp_path / "m.py").write_text(
        "import importlib\ndef build(config, data): importlib.import_module(config['dropout'])\n"
    )
    (tmp_path / "path" / "arch").mkdir(parents=True)
    module = tmp_path / "path" / "arch" / "b.py"
    module.write_text("WIDTH = 3\n")
    file = replay_file(tmp_path, model__build="m.py:build")
    stored = {**identity.declared(file), "model": {**identity.declared(file)["model"], "source": "s"}}
    stored["model"]["files"] = code_files.hashes({"m.py": tmp_path / "m.py", "<arch.b>": module})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    identity.check_files(file, stored)
    module.write_text("WIDTH = 30\n")
    with pytest.raises(IdentityError, match=r"changed: <arch\.b>"):
        identity.check_files(file, stored)
    monkeypatch.delenv("PYTHONPATH")
    identity.check_files(file, stored)


@pytest.mark.parametrize("age_s", [-60, -0.5, 0.5, 60])
def test_imported_file_counts_if_it_is_older_than_the_process(tmp_path, monkeypatch, age_s):
    (tmp_path / "m.py").write_text("def build(config, data): __import__(config['dropout'])\n")
    module = tmp_path / "written_by_somebody.py"
    module.write_text("WIDTH = 3\n")
    file = replay_file(tmp_path, model__build="m.py:build")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module.stem, raising=False)
    __import__(module.stem)
    began = module.stat().st_mtime + age_s
    try:
        files = code_files.imported_since({"m.py"}, file.settings, file.base, began)
    finally:
        del sys.modules[module.stem]
    right = hashlib.sha256(module.read_bytes()).hexdigest()[:32]
    assert files[module.name] == (right if age_s > 0 else "")
    module.write_text("WIDTH = 30\n")
    changed = code_files.changed_files(files, {}, file.settings, file.base)
    assert changed == ([module.name] if age_s > 0 else [])


def test_imports_that_several_workers_report_are_noted_once(tmp_path):
    study = Study(replay_file(tmp_path))
    events = [Noted("imported", {"files": {name: "1"}}) for name in ("a.py", "b.py", "a.py", "b.py")]
    for event in (*events, Noted("imported", {"files": {"a.py": "2"}})):
        study.record([event])
    assert [event.detail["files"] for event in study.noted] == [{"a.py": "1"}, {"b.py": "1"}, {"a.py": "2"}]


def test_long_difference_is_cut(tmp_path):
    many = {f"p{i}": [1, 2] for i in range(50)}
    lines = differences(
        declared(tmp_path), declared(tmp_path, space=changed_space(**many, units=[list(range(1, 100)), [1]]))
    )
    assert len(lines) <= 21
    assert all(len(line) < 260 for line in lines)


def test_changed_study_is_refused_before_any_trial_and_the_database_stays_as_it_is(tmp_path):
    """B3."""
    file = replay_file(tmp_path, study__trials=3)
    replay(file)
    before = query(file.storage, "SELECT * FROM trials"), query(file.storage, "SELECT * FROM manyfit_studies")
    changed = replay_file(tmp_path, study__trials=9, space__dropout={"low": 0.0, "high": 0.9})
    with pytest.raises(IdentityError, match=r"space\.dropout\.high: was 0\.5, now 0\.9"):
        run(changed)
    assert before == (query(file.storage, "SELECT * FROM trials"), query(file.storage, "SELECT * FROM manyfit_studies"))


def test_note_names_what_a_study_is(tmp_path):
    file = replay_file(tmp_path, model__units=[16], search__early_stopping={"patience": 4})
    data = {"train_rows": 80, "validation_rows": 10, "test_rows": 10, "task": "classification"}
    text = identity.note(file, record(file).resolved, data)
    for part in (
        "minimize `val_loss`",
        "sklearn:digits",
        "80 rows",
        "units = `[16]`",
        "early stopping after 4",
        "jax",
        "| dropout |",
    ):
        assert part in text


def test_toml_of_this_test_is_what_it_says():
    assert toml(SPACE["momentum"]) == '{ low = 0.0, high = 0.9, when = { optimizer = "sgd" } }'


def test_versions_name_what_computes():
    assert {"keras", "optuna", "numpy"} <= set(identity.versions())


@pytest.mark.parametrize("is_installed", [True, False])
def test_packages_that_pip_has_installed_anywhere_are_no_code_of_the_users(tmp_path, monkeypatch, is_installed):
    """`pip install --target` of Keras, on PYTHONPATH: all of Keras was read, for a minute, and hashed."""
    package = tmp_path / "path" / "tool"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for folder, content in (
        (package.parent, "tool/__init__.py,," if is_installed else "other.py,,"),
        (tmp_path, "more.py,,"),
    ):
        (folder / "tool-1.0.dist-info").mkdir()
        (folder / "tool-1.0.dist-info" / "RECORD").write_text(f"{content}\ntool-1.0.dist-info/RECORD,,\n")
    (tmp_path / "m.py").write_text("import tool\n\n\ndef build(config, data):\n    return tool\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    file = replay_file(tmp_path, model__build="m.py:build")
    files = code_files.source_files(file.settings, file.base)
    assert "m.py" in files
    assert any("tool" in name for name in files) is not is_installed


def test_number_of_batches_is_a_part_of_a_study_whose_rows_come_in_batches(tmp_path):
    file = replay_file(tmp_path, REPLAY)

    def full(**data):
        return json.loads(json.dumps(identity.full(file, Ready(data, "rows", "source"))))

    assert "batches" not in full(train_rows=90)["data"]
    assert differences(full(train_batches=40), full(train_batches=400)) == ["data.batches: was 40, now 400"]
    identity.check_unchanged("digits", full(train_batches=40), full(train_batches=40))
    # Before a worker has read the rows, their batches are not known.
    identity.check_unchanged("digits", full(train_batches=40), json.loads(json.dumps(identity.declared(file))))
