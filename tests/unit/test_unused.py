"""What a study file sets and nothing reads is said once, with its key and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.errors import UsageError
from search.reading import studyfile, unused
from search.spec.ready import Ready

MODEL = {"parameters": 10}
OF_MLP = ("activation", "batch_norm", "dropout", "initializer", "l1", "l2", "units")


def found(folder: Path, text: str, **told: Any) -> dict[str, str]:
    """Return what nothing reads, by its key, for a study file and what a worker has told of its builder."""
    path = folder / "study.toml"
    path.write_text("[data]\nsource = 'sklearn:digits'\n" + text)
    ready = Ready(
        **{
            "data": {"task": "classification", "train_rows": 1000},
            "fingerprint": "",
            "source": "",
            "model": MODEL,
            "read": OF_MLP,
            "steps": 600,
            **told,
        }
    )
    return {one.key: one.why for one in unused.find(studyfile.read(path, allow_unused=True), ready)}


SEARCHED = "[space]\ndropout = { low = 0.0, high = 0.5 }\n"


@pytest.mark.parametrize(
    ("train", "key", "says"),
    [
        ("use_ema = true", "train.use_ema", "add ema_overwrite_frequency"),
        ("ema_momentum = 0.9", "train.ema_momentum", "without use_ema = true"),
        ("use_ema = false\nema_momentum = 0.9", "train.ema_momentum", "without use_ema = true"),
        ("ema_overwrite_frequency = 9", "train.ema_overwrite_frequency", "without use_ema = true"),
        ("use_ema = true\nema_overwrite_frequency = 601", "train.ema_overwrite_frequency", "more than the 600 steps"),
        ("gradient_accumulation_steps = 601", "train.gradient_accumulation_steps", "the weights never change"),
        ("clipnorm = 1.0\nglobal_clipnorm = 1.0", "train.clipnorm", "global_clipnorm is there, too"),
        ("optimizer = 'sgd'\nnesterov = true", "train.nesterov", "no effect without momentum"),
        ("optimizer = 'sgd'\nnesterov = true\nmomentum = 0.0", "train.nesterov", "no effect without momentum"),
        ("optimizer = 'adafactor'\nrelative_step = false", "train.relative_step", "either way"),
        ("loss_scale_factor = 8.0", "train.loss_scale_factor", "no effect in float32"),
        ("loss = 'mse'\nlabel_smoothing = 0.1", "train.label_smoothing", "write it there"),
        ("warmup = 0.1", "", ""),
        ("use_ema = true\nema_overwrite_frequency = 10\nema_momentum = 0.9", "", ""),
        ("optimizer = 'sgd'\nnesterov = true\nmomentum = 0.9", "", ""),
        ("clipnorm = 1.0", "", ""),
        ("gradient_accumulation_steps = 4", "", ""),
        ("label_smoothing = 0.1", "", ""),
    ],
)
def test_number_that_does_nothing_beside_the_others_is_said(tmp_path, train, key, says):
    all_of_it = found(tmp_path, f"[train]\n{train}\n{SEARCHED}")
    if not key:
        assert all_of_it == {}
    else:
        assert says in all_of_it[key]


@pytest.mark.parametrize(
    ("space", "train", "key", "says"),
    [
        ("use_ema = [true, false]", "", "space.use_ema", "add ema_overwrite_frequency"),
        ("ema_momentum = { low = 0.1, high = 0.9 }", "", "space.ema_momentum", "without use_ema = true"),
        ("rho = { low = 0.1, high = 0.9 }", "", "space.rho", "adam has no rho; adadelta and rmsprop read it"),
        ("momentum = { low = 0.1, high = 0.9 }", "", "space.momentum", "adam has no momentum; rmsprop and sgd read it"),
        ("end_factor = { low = 0.1, high = 0.9 }", "warmup = 0.1", "space.end_factor", "without a schedule"),
        ("label_smoothing = { low = 0.0, high = 0.2 }", "loss = 'mse'", "space.label_smoothing", "train.loss"),
        (
            "optimizer = ['sgd', 'adam']\nmomentum = { low = 0.0, high = 0.9, when = { optimizer = 'adam' } }",
            "",
            "space.momentum",
            "adam has no momentum",
        ),
        (
            "optimizer = ['sgd', 'adamw']\nmomentum = { low = 0.0, high = 0.9 }",
            "",
            "space.momentum",
            'read by sgd only; add when = { optimizer = "sgd" }',
        ),
        ("optimizer = ['sgd', 'adam']\nmomentum = { low = 0.0, high = 0.9, when = { optimizer = 'sgd' } }", "", "", ""),
        ("droput = { low = 0.0, high = 0.9 }", "", "space.droput", "did you mean 'dropout'?"),
        ("schedule = ['constant', 'cosine']\nend_factor = { low = 0.1, high = 0.9 }", "", "", ""),
    ],
)
def test_parameter_that_nothing_reads_is_said_once(tmp_path, space, train, key, says):
    all_of_it = found(tmp_path, f"[train]\n{train}\n[space]\n{space}\n")
    assert list(all_of_it) == ([key] if key else [])
    assert says in all_of_it.get(key, "")


@pytest.mark.parametrize("key", ["hidden", "layers", "unit", "dropout_rate"])
def test_fixed_argument_that_the_builder_never_reads_is_said_with_what_it_reads(tmp_path, key):
    all_of_it = found(tmp_path, f"[model]\n{key} = [32]\n{SEARCHED}")
    assert list(all_of_it) == [f"model.{key}"]
    assert "mlp reads activation, batch_norm, dropout, initializer, l1, l2, units" in all_of_it[f"model.{key}"]


def test_argument_of_the_model_that_training_overrules_is_said(tmp_path):
    all_of_it = found(tmp_path, f"[model]\nbatch_size = 64\noptimizer = 'sgd'\nepochs = 3\n{SEARCHED}")
    assert set(all_of_it) == {"model.batch_size", "model.optimizer", "model.epochs"}


def test_regression_smooths_no_labels(tmp_path):
    all_of_it = found(tmp_path, f"[train]\nlabel_smoothing = 0.1\n{SEARCHED}", data={"task": "regression"})
    assert "the task is regression" in all_of_it["train.label_smoothing"]


def test_model_that_comes_compiled_needs_nothing_of_train(tmp_path):
    text = (
        "[train]\noptimizer = 'sgd'\nloss = 'mse'\nmetrics = ['mae']\nlearning_rate = 0.1\nlabel_smoothing = 0.1\n"
        f"clipnorm = 1.0\n{SEARCHED}weight_decay = {{ low = 0.0, high = 0.1 }}\n"
    )
    all_of_it = found(tmp_path, text, compiles_itself=True, read=(*OF_MLP, "clipnorm"))
    assert set(all_of_it) == {
        "train.optimizer",
        "train.loss",
        "train.metrics",
        "train.learning_rate",
        "train.label_smoothing",
        "space.weight_decay",
    }
    assert all("compiles its model itself" in why for why in all_of_it.values())


def test_budget_that_leaves_no_room_is_said_and_never_refused(tmp_path):
    text = (
        "[study]\nepochs = 4\ntrials = 5\nstop_after = 5\n[search]\nearly_stopping = { patience = 4 }\n"
        "pruner = { name = 'halving', first_rung = 4 }\n[run]\nengine = 'fit'\nlanes = 4\n" + SEARCHED
    )
    all_of_it = found(tmp_path, text)
    assert set(all_of_it) == {"search.early_stopping", "search.pruner.first_rung", "study.stop_after", "run.lanes"}
    file = studyfile.read(tmp_path / "study.toml")
    unused.refuse(file, [unused.Unused(key, why, is_certain=False) for key, why in all_of_it.items()])


@pytest.mark.parametrize(
    ("pruner", "keys"),
    [
        ("{ name = 'patient', patience = 5 }", ["search.pruner.patience"]),
        ("{ name = 'patient', patience = 2 }", ["search.pruner.patience"]),
        ("'patient'", ["search.pruner"]),
        ("{ name = 'patient', patience = 1 }", []),
        ("{ name = 'patient', patience = 1, wrapped = { name = 'halving', first_rung = 4 } }",
         ["search.pruner.wrapped.first_rung"]),
        ("{ name = 'patient', patience = 0, wrapped = { name = 'median', warmup_epochs = 3 } }",
         ["search.pruner.wrapped.warmup_epochs"]),
        ("{ name = 'patient', patience = 0, wrapped = { name = 'patient', patience = 9 } }",
         ["search.pruner.wrapped.patience"]),
        ("{ name = 'patient', patience = 0, wrapped = 'patient' }", ["search.pruner.wrapped"]),
        ("{ name = 'median', warmup_epochs = 3 }", ["search.pruner.warmup_epochs"]),
        ("{ name = 'median', warmup_epochs = 2 }", []),
        ("{ name = 'median', startup_trials = 20 }", ["search.pruner.startup_trials"]),
        ("{ name = 'halving', eta = 21 }", ["search.pruner.eta"]),
        ("{ name = 'halving', eta = 20 }", []),
        ("'median'", []),
        ("'none'", []),
    ],
)  # fmt: skip
def test_pruner_that_prunes_nothing_in_so_few_epochs_or_trials_is_said(tmp_path, pruner, keys):
    all_of_it = found(tmp_path, f"[study]\nepochs = 4\n[search]\npruner = {pruner}\n{SEARCHED}")
    assert list(all_of_it) == keys


@pytest.mark.parametrize(("patience", "is_idle"), [(1, False), (2, False), (3, True), (4, True)])
def test_early_stopping_that_comes_with_the_last_epoch_is_said(tmp_path, patience, is_idle):
    stopping = f"[search]\nearly_stopping = {{ patience = {patience} }}\npruner = 'none'\n"
    all_of_it = found(tmp_path, f"[study]\nepochs = 4\n{stopping}{SEARCHED}")
    assert list(all_of_it) == (["search.early_stopping"] if is_idle else [])


@pytest.mark.parametrize(
    ("search", "space", "keys"),
    [
        ("sampler = 'grid'\nduplicates = true", "units = [[8], [16]]", ["search.duplicates"]),
        ("sampler = 'grid'\nduplicates = true\nstart = [{ units = [8] }, { units = [8] }]", "units = [[8], [16]]", []),
        ("sampler = 'random'\nduplicates = true", "units = [[8], [16]]", []),
        ("sampler = { name = 'grid', points = 5 }", "units = [[8], [16]]", ["search.sampler.points"]),
        ("sampler = { name = 'grid', points = 5 }", "batch_size = { low = 16, high = 20 }", ["search.sampler.points"]),
        ("sampler = { name = 'grid', points = 5 }", "dropout = { low = 0.0, high = 0.5, step = 0.1 }",
         ["search.sampler.points"]),
        ("sampler = { name = 'grid', points = 5 }", "dropout = { low = 0.0, high = 0.5 }\nunits = [[8], [16]]", []),
    ],
)  # fmt: skip
def test_setting_that_a_grid_does_not_need_is_said(tmp_path, search, space, keys):
    assert list(found(tmp_path, f"[search]\n{search}\n[space]\n{space}\n")) == keys


@pytest.mark.parametrize(
    ("written", "own", "keys"),
    [
        ("validation = 0.3", ("validation", "test"), ["data.validation"]),
        ("test = 0.3", ("validation", "test"), ["data.test"]),
        ("validation = 0.1\ntest = 0.1", ("test",), ["data.test"]),
        ("validation = 0.3\ntest = 0.3", (), []),
        ("", ("validation", "test"), []),
    ],
)
def test_share_of_a_split_that_the_source_brings_is_said_and_never_refused(tmp_path, written, own, keys):
    all_of_it = found(tmp_path, f"{written}\n{SEARCHED}", own_splits=own)
    assert list(all_of_it) == keys
    assert all("of its own" in why for why in all_of_it.values())
    file = studyfile.read(tmp_path / "study.toml")
    unused.refuse(file, unused.find(file, Ready({}, "", "", model=MODEL, read=OF_MLP, own_splits=own)))


def test_new_study_is_refused_with_file_line_and_key(tmp_path):
    found(tmp_path, f"[model]\nhidden = [32]\n{SEARCHED}")
    file = studyfile.read(tmp_path / "study.toml", allow_unused=True)
    with pytest.raises(UsageError) as caught:
        unused.refuse(file, [unused.Unused("model.hidden", "nothing reads it")])
    first, last = str(caught.value).splitlines()
    assert first == f"{tmp_path / 'study.toml'}, line 4, model.hidden: nothing reads it"
    assert "--allow-unused" in last


@pytest.mark.parametrize(
    ("code", "is_certain"),
    [
        ("x = config['width']", True),
        ("if config['width'] == 99:\n        x = config['depth']", False),
        ("x = [config[f'dep{i}'] for i in 'th']", False),
        ("from parts import tail\n    x = tail(config)", False),
        ("x = f'no {config} here'", True),
    ],
)
def test_name_that_stands_in_the_code_may_be_read_by_a_branch(tmp_path, code, is_certain):
    (tmp_path / "my_model.py").write_text(f"def build(config, data):\n    {code}\n")
    (tmp_path / "parts.py").write_text("def tail(config):\n    return config.get('depth')\n")
    path = tmp_path / "study.toml"
    path.write_text(
        "[data]\nsource = 'sklearn:digits'\n[model]\nbuild = 'my_model.py:build'\ndepth = 3\n[space]\nwidth = [1, 2]\n"
    )
    ready = Ready({}, "", "", model=MODEL, read=("width",))
    (one,) = unused.find(studyfile.read(path, allow_unused=True), ready)
    assert (one.key, one.is_certain) == ("model.depth", is_certain)


@pytest.mark.parametrize(
    ("search", "why"),
    [
        ("prune_start = true", "it is for the configs of search.start"),
        ("prune_start = true\npruner = 'none'\nstart = [{ dropout = 0.1 }]", "the pruner is none"),
        ("prune_start = true\nstart = [{ dropout = 0.1 }]", ""),
    ],
)
def test_prune_start_without_what_it_allows_is_told(tmp_path, search, why):
    assert found(tmp_path, f"{SEARCHED}[search]\n{search}\n").get("search.prune_start", "") == why
