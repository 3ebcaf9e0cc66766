"""What people wrote who came from other tools, and what they are told: line, key, and what to write."""

from __future__ import annotations

import re

import pytest

from search.errors import StudyFileError
from search.reading import studychecks, studyfile
from search.registry import PRUNERS, SAMPLERS
from search.spec import settings, synonyms
from search.spec.vocabulary import OPTIMIZERS, TRAIN_NUMBERS, closest

DATA = '[data]\nsource = "sklearn:digits"\n'
SPACE = "[space]\ndropout = { low = 0.0, high = 0.5 }\n"


def told(folder, text: str) -> str:
    """Return the error of a study file, without its name."""
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StudyFileError) as raised:
        studyfile.read(path)
    message = str(raised.value)
    assert message.startswith(f"{path}, ")
    assert "\n" not in message
    return message.removeprefix(f"{path}, ")


def notes(folder, text: str) -> list[str]:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return studychecks.notes(studyfile.read(path))


# -- sections and keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "section", ["search_space", "parameters", "hyperparameters", "params", "hp", "config_space", "SearchSpace", "Space"]
)
def test_parameters_go_under_space(tmp_path, section):
    found = told(tmp_path, f"{DATA}[{section}]\ndropout = [0.1, 0.2]\n")
    assert found == f"line 3, {section}: unknown key; did you mean 'space'? (parameters go under [space])"


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("[study]\nmetric = 1", "study.metric: unknown key; did you mean 'objective'?"),
        ('[data]\ncharset = "latin-1"', "data.charset: unknown key; did you mean 'encoding'?"),
        ('[data]\ntokenizer = {}', "data.tokenizer: unknown key; did you mean 'text'?"),
        ('[data]\ntext = { vocab_size = 9 }', "data.text.vocab_size: unknown key; did you mean 'max_tokens'?"),
        ("[study]\nmonitor = 1", "study.monitor: unknown key; did you mean 'objective'?"),
        ("[study]\ngoal = 1", "study.goal: unknown key; did you mean 'direction'?"),
        ("[study]\nmode = 1", "study.mode: unknown key; did you mean 'direction'?"),
        ("[study]\nmax_trials = 1", "study.max_trials: unknown key; did you mean 'trials'?"),
        ("[study]\nn_trials = 1", "study.n_trials: unknown key; did you mean 'trials'?"),
        ("[study]\nnum_samples = 1", "study.num_samples: unknown key; did you mean 'trials'?"),
        ("[study]\nrandom_state = 1", "study.random_state: unknown key; did you mean 'seed'?"),
        ("[study]\ntimeout = 1", "study.timeout: unknown key; did you mean 'time'?"),
        ("[study]\nexecutions_per_trial = 3", "unknown key; did you mean 'repeats'?"),
        ("[study]\nn_splits = 5", "study.n_splits: unknown key; did you mean 'folds'?"),
        ("[data]\ncv = 5", "did you mean 'folds'? That belongs under [study]"),
        ("[study]\nn_jobs = 4", "study.n_jobs: unknown key; did you mean 'devices'? That belongs under [run]"),
        ("[study]\ngpus = 4", "did you mean 'devices'? That belongs under [run]"),
        ("[run]\nworkers = 4", "run.workers: unknown key; did you mean 'devices'?"),
        ("[run]\ngpus = 4", "run.gpus: unknown key; did you mean 'devices'?"),
        ("[search]\nmethod = 'x'", "search.method: unknown key; did you mean 'sampler'?"),
        ("[search]\nalgorithm = 'x'", "search.algorithm: unknown key; did you mean 'sampler'?"),
        ("[search]\nscheduler = 'x'", "search.scheduler: unknown key; did you mean 'pruner'?"),
        ("[search]\nmax_trials = 9", "did you mean 'trials'? That belongs under [study]"),
        ("[search]\ntrials = 9", "search.trials: unknown key; trials belongs under [study]"),
        ("[search]\nn_startup_trials = 9", 'sampler = { name = "tpe", n_startup_trials = 5 }'),
        ("[search.early_stopping]\nrounds = 9", "search.early_stopping.rounds: unknown key; did you mean 'patience'?"),
        ("[train]\nlr = 0.1", "train.lr: unknown key; did you mean 'learning_rate'?"),
        ("[train]\noptimiser = 'sgd'", "train.optimiser: unknown key; did you mean 'optimizer'?"),
        ("[train]\nvalidation_split = 0.1", "did you mean 'validation'? That belongs under [data]"),
        ("[train]\nn_epochs = 3", "did you mean 'epochs'? That belongs under [study]"),
        ("[data]\nnormalize = true", "data.normalize: unknown key; did you mean 'scale'?"),
        ("[data]\nval_split = 0.1", "data.val_split: unknown key; did you mean 'validation'?"),
        ("[model]\nhidden = [32]", "model.hidden: mlp has no hidden; did you mean 'units'?"),
        ("[model]\ndroput = 0.1", "model.droput: mlp has no droput; did you mean 'dropout'?"),
        ("[model]\nlearning_rate = 0.1", "model.learning_rate: mlp has no learning_rate; learning_rate belongs under [train]"),
        ("[model]\nnothing_like_it = 1", "model.nothing_like_it: mlp has no nothing_like_it; it has units, activation"),
        ("[optimizer]\nname = 'sgd'", "optimizer: unknown key; optimizer belongs under [train]"),
        ("[early_stopping]\npatience = 3", "early_stopping: unknown key; early_stopping belongs under [search]"),
    ],
)  # fmt: skip
def test_key_of_another_tool_is_told_what_it_is_called_here(tmp_path, written, means):
    text = f"{DATA}{SPACE}{written}\n" if not written.startswith("[data]") else f"{SPACE}{DATA}{written[7:]}\n"
    assert means in told(tmp_path, text)


@pytest.mark.parametrize(
    ("key", "value", "means"),
    [
        ("sampler", "TPESampler", "tpe"), ("sampler", "TPE", "tpe"), ("sampler", "bayesian", "bayes"),
        ("sampler", "BayesianOptimization", "bayes"), ("sampler", "RandomizedSearchCV", "random"), ("sampler", "hyperopt", "tpe"),
        ("sampler", "GridSearch", "grid"), ("sampler", "CMA-ES", "cmaes"), ("sampler", "sobol", "qmc"),
        ("pruner", "asha", "halving"), ("pruner", "ASHAScheduler", "halving"), ("pruner", "successive_halving", "halving"),
        ("pruner", "SuccessiveHalvingPruner", "halving"), ("pruner", "MedianPruner", "median"), ("pruner", "medain", "median"),
        ("pruner", "HyperBandScheduler", "hyperband"), ("pruner", "NopPruner", "none"), ("pruner", "FIFO", "none"),
    ],
)  # fmt: skip
def test_sampler_or_pruner_of_another_tool_is_named(tmp_path, key, value, means):
    found = told(tmp_path, f'{DATA}{SPACE}[search]\n{key} = "{value}"\n')
    assert found.startswith(f"line 6, search.{key}: no such {key}: '{value}'; did you mean '{means}'?")


@pytest.mark.parametrize(
    ("key", "value", "kind", "means"),
    [
        ("sampler", "hyperband", "pruner", "hyperband"), ("sampler", "halving", "pruner", "halving"),
        ("sampler", "asha", "pruner", "halving"), ("sampler", "MedianPruner", "pruner", "median"),
        ("pruner", "tpe", "sampler", "tpe"), ("pruner", "random", "sampler", "random"),
        ("pruner", "TPESampler", "sampler", "tpe"),
    ],
)  # fmt: skip
def test_sampler_in_the_place_of_a_pruner_is_told_and_the_reverse(tmp_path, key, value, kind, means):
    found = told(tmp_path, f'{DATA}{SPACE}[search]\n{key} = "{value}"\n')
    assert f"no such {key}: '{value}'; '{means}' is a {kind} here: write {kind} = \"{means}\"" in found


@pytest.mark.parametrize("key", ["sampler", "pruner"])
def test_name_that_is_close_to_none_is_taken_for_no_name_of_the_other_kind(tmp_path, key):
    found = told(tmp_path, f'{DATA}{SPACE}[search]\n{key} = "xyzzy"\n')
    assert "is a " not in found
    assert f"no such {key}: 'xyzzy'; there are" in found


@pytest.mark.parametrize(
    ("section", "line", "write"),
    [
        ("train", "metrics = 'accuracy'", 'metrics = ["accuracy"]'),
        ("train", "metrics = { name = 'auc' }", 'metrics = [{ name = "auc" }]'),
        ("train", "callbacks = 'my.py:f'", 'callbacks = ["my.py:f"]'),
        ("search", "start = { dropout = 0.1 }", "start = [{ dropout = 0.1 }]"),
        ("study", "time = '1 hour'", 'time = "1h"'),
        ("study", "time = '1 hour 30 minutes'", 'time = "1h30m"'),
        ("study", "time = '2 days'", 'time = "48h"'),
        ("study", "time = '1:30:00'", 'time = "1h30m"'),
        ("run", "trial_time = '90 sec'", 'trial_time = "1m30s"'),
        ("run", "devices = 'gpu'", 'devices = "auto"'),
        ("run", "devices = 'cpu'", 'devices = ["cpu"]'),
        ("run", "devices = ['gpu:0', 'gpu:1']", "devices = [0, 1]"),
        ("run", "devices = '0,1'", "devices = [0, 1]"),
        ("train", "optimizer = { name = 'sgd', momentum = 0.9 }", 'optimizer = "sgd" and momentum = 0.9 under [train]'),
        ("train", "optimizer = { class_name = 'SGD', config = { momentum = 0.9 } }", 'optimizer = "SGD" and momentum = 0.9'),
        ("train", "optimizer = ['adam', 'sgd']", 'optimizer = ["adam", "sgd"] under [space]'),
        ("study", "trials = '20'", "trials = 20"),
        ("study", "epochs = 5.0", "epochs = 5"),
        ("run", "deterministic = 'true'", "deterministic = true"),
    ],
)  # fmt: skip
def test_refused_value_whose_sense_is_clear_is_told_as_the_line_to_write(tmp_path, section, line, write):
    found = told(tmp_path, f"{DATA}{SPACE}[{section}]\n{line}\n")
    assert f"; write {write}" in found


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("study", "time = 'soon'"), ("study", "time = '0 hours'"), ("study", "time = '1:30'"), ("run", "devices = 'fast'"),
        ("run", "devices = []"), ("run", "devices = [true]"), ("train", "metrics = 5"),
        ("train", "optimizer = { momentum = 0.9 }"),
        ("study", "trials = 'ten'"), ("study", "trials = true"), ("run", "deterministic = 1"), ("search", "start = 5"),
        ("train", "optimizer = { name = 'sgd', since = 2024-01-01 }"), ("train", "callbacks = 5"),
    ],
)  # fmt: skip
def test_refused_value_without_clear_sense_is_told_no_line(tmp_path, section, line):
    assert "; write " not in told(tmp_path, f"{DATA}{SPACE}[{section}]\n{line}\n")


@pytest.mark.parametrize(
    ("line", "write"), [("validation = '20%'", "validation = 0.2"), ("test = '0.2'", "test = 0.2")]
)
def test_share_that_is_a_text_is_told_as_a_number(tmp_path, line, write):
    assert told(tmp_path, f"{DATA}{line}\n{SPACE}").endswith(f"; write {write}")


@pytest.mark.parametrize("key", ["x", "y", "x_train", "y_test"])
def test_arrays_are_not_named_in_the_file(tmp_path, key):
    assert "are called x and y themselves" in told(tmp_path, f"{DATA}{key} = 'x'\n{SPACE}")


# -- optimizers, whose case does not matter ----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizers", ['["Adam", "adam"]', '["sgd", "adam", "SGD"]', '{ choices = ["Lion", "lioN"] }'])
def test_optimizer_stands_once_in_any_spelling(tmp_path, optimizers):
    found = told(tmp_path, f"{DATA}[space]\noptimizer = {optimizers}\n")
    assert found.startswith("line 4, space.optimizer: each optimizer may stand once, in capitals or not; received ")


@pytest.mark.parametrize("written", ["'sgd'", "['SGD', 'sgd']", "['sGd']"])
def test_condition_and_start_name_an_optimizer_in_any_case_and_the_space_keeps_its_own(tmp_path, written):
    path = tmp_path / "study.toml"
    momentum = f"momentum = {{ low = 0.0, high = 0.9, when = {{ optimizer = {written} }} }}"
    start = "[search]\nstart = [{ optimizer = 'adam' }]\n"
    path.write_text(f"{DATA}[space]\noptimizer = ['Adam', 'SGD']\n{momentum}\n{start}")
    study = studyfile.read(path)
    assert study.space.describe()["optimizer"] == {"choices": ["Adam", "SGD"]}
    assert study.space["momentum"].when == {"optimizer": ("SGD",)}
    assert study.settings.search.start == ({"optimizer": "Adam"},)


def test_condition_on_an_optimizer_that_is_not_listed_is_still_refused(tmp_path):
    space = (
        "[space]\noptimizer = ['Adam', 'SGD']\nmomentum = { low = 0.0, high = 0.9, when = { optimizer = 'lion' } }\n"
    )
    assert "must be one of ['Adam', 'SGD']; received 'lion'" in told(tmp_path, DATA + space)


def test_stored_study_with_an_optimizer_twice_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(studychecks, "_is_stored", lambda study: True)
    path = tmp_path / "study.toml"
    path.write_text(f"{DATA}[space]\noptimizer = ['Adam', 'adam']\n")
    assert studyfile.read(path).space.describe() == {"optimizer": {"choices": ["Adam", "adam"]}}


@pytest.mark.parametrize(
    ("section", "key", "value", "means"),
    [
        ("run", "backend", "tf", "tensorflow"), ("run", "precision", "fp16", "mixed_float16"), ("study", "direction", "max", "maximize"),
        ("study", "direction", "minimise", "minimize"), ("train", "schedule", "cosine_annealing", "cosine"),
        ("train", "optimizer", "gradient_descent", "sgd"), ("train", "optimizer", "rms_prop", "rmsprop"),
        ("model", "build", "dense", "mlp"), ("model", "build", "convnet", "cnn"), ("model", "activation", "ReLU", "relu"),
        ("model", "initializer", "xavier", "glorot_uniform"), ("model", "initializer", "he-normal", "he_normal"),
    ],
)  # fmt: skip
def test_value_of_another_tool_is_named(tmp_path, section, key, value, means):
    found = told(tmp_path, f'{DATA}{SPACE}[{section}]\n{key} = "{value}"\n')
    assert found.startswith(f"line 6, {section}.{key}: ")
    assert f"did you mean {means!r}?" in found


@pytest.mark.parametrize(("given", "write"), [("5", "5"), ("true", "5"), ("12", "12")])
def test_early_stopping_is_a_table(tmp_path, given, write):
    found = told(tmp_path, f"{DATA}{SPACE}[search]\nearly_stopping = {given}\n")
    assert f"search.early_stopping: must be a table; write early_stopping = {{ patience = {write} }}" in found


# -- ranges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "write"),
    [
        ("{ min = 0.0, max = 0.5 }", "write dropout = { low = 0.0, high = 0.5 }"),
        ("{ min_value = 0.0, max_value = 0.5, step = 0.1 }", "write dropout = { low = 0.0, high = 0.5, step = 0.1 }"),
        ('{ low = 1e-4, high = 0.5, sampling = "log" }', "write dropout = { low = 0.0001, high = 0.5, log = true }"),
        ('{ distribution = "log_uniform_values", min = 1e-4, max = 0.5 }', "{ low = 0.0001, high = 0.5, log = true }"),
        ('{ type = "float", bounds = [0, 1] }', "write dropout = { low = 0.0, high = 1.0 }"),
        ('{ type = "int", low = 1, high = 9 }', "write dropout = { low = 1, high = 9 }"),
        ("{ loguniform = [1e-3, 0.5] }", "write dropout = { low = 0.001, high = 0.5, log = true }"),
        ("{ lower = 0.0, upper = 0.5 }", "write dropout = { low = 0.0, high = 0.5 }"),
        ("{ values = [0.1, 0.2] }", "write dropout = [0.1, 0.2]"),
        ('{ type = "categorical", choices = [0.1, 0.2] }', "write dropout = [0.1, 0.2]"),
        ("{ value = 0.1 }", "a fixed value stands under [train] or [model]: dropout = 0.1"),
        ("{ min = 0.0, max = 0.5, condition = { optimizer = 'sgd' } }", 'high = 0.5, when = { optimizer = "sgd" } }'),
        ("{ min = 0.0 }", "did you mean 'low'?"),
        ("{ low = 0.0, hihg = 0.5 }", "did you mean 'high'?"),
    ],
)  # fmt: skip
def test_range_of_another_tool_is_written_as_here(tmp_path, entry, write):
    found = told(tmp_path, f"{DATA}[space]\ndropout = {entry}\n")
    assert re.match(r"line 4, space\.dropout\.\w+: unknown key; ", found)
    assert write in found


def test_what_is_told_to_write_can_be_read(tmp_path):
    for entry in ("{ min = 1e-4, max = 0.5, log_scale = true }", "{ values = [0.1, 0.2] }", "{ bounds = [0.0, 1.0] }"):
        write = told(tmp_path, f"{DATA}[space]\ndropout = {entry}\n").split("; write ")[1]
        assert list(studyfile.read(_written(tmp_path, f"{DATA}[space]\n{write}\n")).space) == ["dropout"]


def _written(folder, text):
    path = folder / "written.toml"
    path.write_text(text)
    return path


# -- where the mistake is, not where it shows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "more", "line", "says"),
    [
        ("droput = [0.1, 0.2]", "[search]\nstart = [{ dropout = 0.1 }]", 4, "space.droput: did you mean 'dropout'? (search.start uses dropout)"),
        ("lr = [0.1, 0.2]", "[search]\nstart = [{ learning_rate = 0.1 }]", 4, "space.lr: did you mean 'learning_rate'? (search.start uses"),
        ("dropout = [0.1, 0.2]", "[search]\nstart = [{ droput = 0.1 }]", 6, "search.start.0.droput: no such parameter; the space has dropout; did you mean 'dropout'?"),
        ("optimiser = ['sgd', 'adam']\nmomentum = { choices = [0.1, 0.9], when = { optimizer = 'sgd' } }", "", 4, "space.optimiser: did you mean 'optimizer'? (space.momentum.when uses optimizer)"),
        ("optimizer = ['sgd', 'adam']\nmomentum = { choices = [0.1, 0.9], when = { optimiser = 'sgd' } }", "", 5, "space.momentum.when: 'optimiser' is not a parameter of the space"),
        ("hidden_units = [32, 64]", "", 4, "space.hidden_units: neither training nor mlp reads hidden_units; did you mean 'units'?"),
        ("seed = [1, 2]", "", 4, "space.seed: neither training nor mlp reads seed; seed belongs under [study]"),
    ],
)  # fmt: skip
def test_error_is_of_the_line_with_the_mistake(tmp_path, space, more, line, says):
    assert told(tmp_path, f"{DATA}[space]\n{space}\n{more}\n").startswith(f"line {line}, {says}")


# -- the built-in builders, as the file is read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("builder", "line", "says"),
    [
        ("mlp", "units = '32'", "units must be the widths of the dense layers: a list of whole numbers"),
        ("cnn", "units = [32, -1]", "units must be the widths of the dense layers: a list of whole numbers"),
        ("mlp", "dropout = 1.5", "dropout must be a number in 0..1; received 1.5"),
        ("mlp", "activation = 'rellu'", "did you mean 'relu'?"),
        ("cnn", "kernel_size = 0", "kernel_size must be a whole number of at least 1, or [height, width]"),
        ("mlp", "batch_norm = 1", "batch_norm must be true or false; received 1"),
        ("mlp", "l2 = -0.1", "l2 must be a number of at least 0; received -0.1"),
    ],
)
def test_wrong_argument_of_a_builder_is_told_with_its_line(tmp_path, builder, line, says):
    found = told(tmp_path, f'{DATA}[space]\nlearning_rate = [0.1, 0.2]\n[model]\nbuild = "{builder}"\n{line}\n')
    assert found.startswith(f"line 7, model.{line.split()[0]}: ")
    assert says in found


@pytest.mark.parametrize(
    ("builder", "entry", "says"),
    [
        ("mlp", "units = [[64], [32, 0]]", "received [32, 0]"),
        ("cnn", "units = { low = 16.0, high = 64.0 }", "received 16.0"),
        ("mlp", "dropout = { low = 0.0, high = 1.5 }", "dropout must be a number in 0..1; received 1.5"),
        ("mlp", "activation = ['relu', 'swush']", "did you mean 'swish'?"),
        ("cnn", "batch_norm = [0, 1]", "batch_norm must be true or false; received 0"),
        ("cnn", "filters = ['32', '64']", "filters must be the filters of the blocks"),
    ],
)
def test_searched_argument_is_checked_as_a_fixed_one_is(tmp_path, builder, entry, says):
    found = told(tmp_path, f'{DATA}[model]\nbuild = "{builder}"\n[space]\n{entry}\n')
    assert found.startswith(f"line 6, space.{entry.split()[0]}: ")
    assert says in found


@pytest.mark.parametrize("builder", ["mlp", "cnn"])
@pytest.mark.parametrize("units", ["32", "[32]", "[64, 32]"])
def test_both_builders_take_one_form_of_units(tmp_path, builder, units):
    assert notes(tmp_path, f'{DATA}{SPACE}[model]\nbuild = "{builder}"\nunits = {units}\n') == []


def test_argument_of_a_builder_of_ones_own_may_be_anything(tmp_path):
    (tmp_path / "mine.py").write_text("def build(config, data): ...\n")
    text = f'{DATA}[model]\nbuild = "mine.py:build"\nhidden = "x"\nunits = -1\n[space]\ndroput = [1.5, 2.5]\n'
    assert len(studyfile.read(_written(tmp_path, text)).space) == 1


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("def build(trial, config, data):", "build(trial, config, data) can't be called as build(config, data)"),
        ("def build():", "build() can't be called as build(config, data)"),
        ("def build(config, data, *, width):", "build(config, data, *, width) can't be called as build(config, data)"),
    ],
)
def test_builder_that_can_not_be_called_is_refused_as_the_file_is_read(tmp_path, head, says):
    (tmp_path / "mine.py").write_text(f"{head}\n    ...\n")
    found = told(tmp_path, f'{DATA}{SPACE}[model]\nbuild = "mine.py:build"\n')
    assert found.startswith(f"line 6, model.build: {says}")
    assert found.endswith("; write def build(config, data)")
    assert ("the ranges go under [space]" in found) == ("(trial" in head)


@pytest.mark.parametrize(
    "head",
    [
        "def build(config, data):", "def build(*args):", "def build(config, data, width=3):", "def build(config, *rest, **more):",
        "@decorated\ndef build(hp):", "build = partial(other, 1)\nclass X:", "def build(hp): ...\ndef build(config, data):",
        "def build(hp): ...\nbuild = wrapped(build)\nclass X:",
    ],
)  # fmt: skip
def test_builder_that_may_be_called_is_taken(tmp_path, head):
    (tmp_path / "mine.py").write_text(f"{head}\n    ...\n")
    notes(tmp_path, f'{DATA}{SPACE}[model]\nbuild = "mine.py:build"\n')


# -- the objective, and notes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["accuracy", "loss", "auc"])
def test_test_rows_are_never_an_objective(tmp_path, metric):
    found = told(tmp_path, f"{DATA}{SPACE}[study]\nobjective = 'test_{metric}'\n")
    assert found.startswith("line 6, study.objective: test rows are never used in a search")
    assert f"did you mean 'val_{metric}'?" in found


def test_objective_by_another_name_of_its_rows_is_told_ours(tmp_path):
    found = told(tmp_path, f"{DATA}{SPACE}[study]\nobjective = 'validation_accuracy'\n")
    assert "training reports no 'validation_accuracy'; did you mean 'val_accuracy'?" in found


@pytest.mark.parametrize("objective", ["accuracy", "loss"])
def test_objective_of_the_training_rows_is_noted(tmp_path, objective):
    assert notes(tmp_path, f"{DATA}{SPACE}[study]\nobjective = '{objective}'\n") == [
        f"objective '{objective}' is computed on the training rows; 'val_{objective}' judges rows that were not trained on"
    ]


@pytest.mark.parametrize(
    ("objective", "direction", "extreme"),
    [("val_accuracy", "minimize", "lowest"), ("val_loss", "maximize", "highest"), ("val_mae", "maximize", "highest")],
)
def test_direction_against_the_objective_is_noted(tmp_path, objective, direction, extreme):
    (note,) = notes(tmp_path, f"{DATA}{SPACE}[study]\nobjective = '{objective}'\ndirection = '{direction}'\n")
    assert note.startswith(f"direction = \"{direction}\" searches the {extreme} '{objective}'")


@pytest.mark.parametrize(
    "study", ["objective = 'val_accuracy'\ndirection = 'maximize'", "objective = 'val_x'\ndirection = 'minimize'"]
)
def test_direction_that_suits_the_objective_is_not_noted(tmp_path, study):
    assert notes(tmp_path, f"{DATA}{SPACE}[study]\n{study}\n") == []


@pytest.mark.parametrize(("options", "count"), [(", scramble = false", 1), (", scramble = true", 0), ("", 0)])
def test_sequence_that_no_seed_changes_is_noted(tmp_path, options, count):
    found = notes(tmp_path, f"{DATA}{SPACE}[search]\nsampler = {{ name = 'qmc'{options} }}\n")
    assert len(found) == count
    assert all("another seed draws nearly the same configs" in note for note in found)


@pytest.mark.parametrize(
    ("entry", "form"),
    [
        ("learning_rate = [1e-4, 1e-1]", "learning_rate = { low = 0.0001, high = 0.1, log = true }"),
        ("dropout = [0.5, 0.1]", "dropout = { low = 0.1, high = 0.5 }"),
        ("l2 = [0, 0.1]", "l2 = { low = 0.0, high = 0.1 }"),
    ],
)
def test_two_real_choices_are_noted_with_the_range_that_was_meant(tmp_path, entry, form):
    (note,) = notes(tmp_path, f"{DATA}[space]\n{entry}\n")
    assert " has two choices, " in note
    assert note.endswith(form)


@pytest.mark.parametrize(
    "entry", ["batch_size = [32, 64]", "learning_rate = [0.1, 0.2, 0.3]", "activation = ['relu', 'gelu']"]
)
def test_usual_choices_are_not_noted(tmp_path, entry):
    assert notes(tmp_path, f"{DATA}[space]\n{entry}\n") == []


# -- the registry itself -----------------------------------------------------------------------------------------------


def test_every_synonym_stands_for_a_name_that_there_is():
    names = {
        *settings.Settings.model_fields,
        *(key for field in settings.Settings.model_fields.values() for key in getattr(field.annotation, "model_fields", {})),
        *settings.EarlyStopping.model_fields,
        *TRAIN_NUMBERS,
        *(name.lower() for name in OPTIMIZERS),
        *SAMPLERS,
        *PRUNERS,
    }  # fmt: skip
    known = {word for word in synonyms._SYNONYMS if word in names}
    assert len(known) > 80


@pytest.mark.parametrize("name", [*SAMPLERS, *PRUNERS, *settings.StudySection.model_fields])
def test_no_name_of_ours_is_taken_for_another(name):
    for known in (SAMPLERS, tuple(PRUNERS), tuple(settings.StudySection.model_fields)):
        if name in known:
            assert closest(name, known) == f"; did you mean {name!r}?"
