"""What people write who come from other tools, through the command: the error names the word to write here."""

from __future__ import annotations

import pytest
from support import write_study
from typer.testing import CliRunner

from search import cli

DATA = '[data]\nsource = "sklearn:digits"\n'
SPACE = "[space]\nlearning_rate = { low = 1e-4, high = 1e-1 }\n"
LOG = "write learning_rate = { low = 0.0001, high = 0.1, log = true }"

SECTIONS = {
    # W&B, Optuna, KerasTuner, scikit-learn, Ray Tune, Hydra, Ax
    "parameters": "did you mean 'space'?",
    "hyperparameters": "did you mean 'space'?",
    "search_space": "did you mean 'space'?",
    "param_grid": "did you mean 'space'?",
    "param_distributions": "did you mean 'space'?",
    "tuner": "did you mean 'search'?",
    "scheduler": "did you mean 'search'?",
    "dataset": "did you mean 'data'?",
    "trainer": "did you mean 'train'?",
    "experiment": "did you mean 'study'?",
    "outcome_constraints": "did you mean 'limits'?",
    "hydra": "a study is one file, and --set changes any key",
}
RANGES = {
    "{ min = 1e-4, max = 1e-1 }": "write learning_rate = { low = 0.0001, high = 0.1 }",
    '{ min = 1e-4, max = 1e-1, distribution = "log_uniform" }': LOG,  # W&B
    '{ min = 1e-4, max = 1e-1, distribution = "log_uniform_values" }': LOG,
    '{ min = 16, max = 64, distribution = "q_uniform", q = 8 }': "write learning_rate = { low = 16, high = 64, step = 8 }",
    "{ values = [0.1, 0.01] }": "write learning_rate = [0.1, 0.01]",
    "{ value = 0.1 }": "a fixed value stands under [train] or [model]: learning_rate = 0.1",
    '{ distribution = "normal", mu = 0.0, sigma = 1.0 }': "there is no normal distribution: give low and high",
    '{ distribution = "categorical", values = [0.1, 0.2], probabilities = [0.5, 0.5] }': "choices are drawn evenly",
    '{ min_value = 1e-4, max_value = 1e-1, sampling = "log" }': LOG,  # KerasTuner
    '{ type = "range", bounds = [1e-4, 1e-1], log_scale = true }': LOG,  # Ax
    '{ type = "choice", values = [0.1, 0.01] }': "write learning_rate = [0.1, 0.01]",
    '{ type = "fixed", value = 0.1 }': "a fixed value stands under [train] or [model]: learning_rate = 0.1",
    '{ type = "float", low = 1e-4, high = 1e-1, log = true }': LOG,  # Optuna
    '{ type = "categorical", choices = [0.1, 0.01] }': "write learning_rate = [0.1, 0.01]",
    '{ _type = "loguniform", _value = [1e-4, 1e-1] }': LOG,  # NNI
    "{ loguniform = [1e-4, 1e-1] }": LOG,
    "{ grid_search = [0.1, 0.01] }": "write learning_rate = [0.1, 0.01]",  # Ray Tune
    '"tune.loguniform(1e-4, 1e-1)"': LOG,
    '"tune.choice([0.1, 0.01])"': "write learning_rate = [0.1, 0.01]",
    '"interval(1e-4, 1e-1)"': "write learning_rate = { low = 0.0001, high = 0.1 }",  # Hydra
    '"choice(0.1, 0.01)"': "write learning_rate = [0.1, 0.01]",
    '"0.1,0.01"': "write learning_rate = [0.1, 0.01]",
}
PARAMETERS = {
    "lr = [0.1, 0.2]": "did you mean 'learning_rate'?",
    "lr = { min = 0.1, max = 0.2 }": "write learning_rate = { low = 0.1, high = 0.2 }",
    "bs = [16, 32]": "did you mean 'batch_size'?",
    "num_layers = [1, 2]": "did you mean 'units'?",
}
KEYS = {
    ("study", "max_trials = 3"): "did you mean 'trials'?",
    ("study", "n_trials = 3"): "did you mean 'trials'?",
    ("study", "num_samples = 3"): "did you mean 'trials'?",
    ("study", "n_iter = 3"): "did you mean 'trials'?",
    ("study", "run_cap = 3"): "did you mean 'trials'?",
    ("study", 'metric = "val_accuracy"'): "did you mean 'objective'?",
    ("study", 'mode = "max"'): "did you mean 'direction'?",
    ("study", 'goal = "maximize"'): "did you mean 'direction'?",
    ("study", 'direction = "max"'): "did you mean 'maximize'?",
    (
        "study",
        'objective = { metric = "val_loss", mode = "min" }',
    ): 'write objective = "val_loss", direction = "minimize"',
    ("study", 'objective = ["val_accuracy", "val_loss"]'): "a study has one objective",
    ("study", "max_epochs = 3"): "did you mean 'epochs'?",
    ("study", "executions_per_trial = 3"): "did you mean 'repeats'?",
    ("study", "n_splits = 5"): "did you mean 'folds'?",
    ("study", "load_if_exists = true"): "run always goes on with a study that is there",
    ("study", 'project_name = "x"'): "did you mean 'name'?",
    ("study", 'storage = "sqlite:///a.db"'): "storage belongs under [run]",
    ("study", "random_state = 3"): "did you mean 'seed'?",
    ("study", "timeout = 60"): "did you mean 'time'?",
    ("study", 'constraints = ["a <= 3"]'): "[limits] refuses configs by parameters, model_mb or latency_ms",
    ("study", "max_model_size = 1000"): "did you mean 'parameters'? That belongs under [limits]",
    ("train", "lr = 0.1"): "did you mean 'learning_rate'?",
    ("train", "n_epochs = 3"): "did you mean 'epochs'? That belongs under [study]",
    ("train", "validation_split = 0.1"): "did you mean 'validation'? That belongs under [data]",
    ("train", "steps_per_epoch = 10"): "an epoch is all training rows",
    ("train", 'optimizer = "torch.optim.Adam"'): "did you mean 'adam'?",
    (
        "train",
        'callbacks = ["keras.callbacks.EarlyStopping"]',
    ): "write early_stopping = { patience = 5 } under [search]",
    ("train", 'callbacks = ["keras.callbacks.CSVLogger"]'): "write 'CSVLogger'",
    ("train", 'callbacks = ["TuneReportCallback"]'): "manyfit reports every epoch to its sampler and pruner itself",
    ("data", "cv = 5"): "did you mean 'folds'? That belongs under [study]",
    ("data", "test_size = 0.2"): "did you mean 'test'?",
    ("search", 'algorithm = "bayes"'): "did you mean 'sampler'?",
    ("search", 'sampler = "TPESampler"'): "did you mean 'tpe'?",
    ("search", 'sampler = "optuna.samplers.TPESampler"'): "did you mean 'tpe'?",
    ("search", 'sampler = "CmaEsSampler"'): "did you mean 'cmaes'?",
    ("search", 'sampler = "BayesOptSearch"'): "did you mean 'bayes'?",
    ("search", 'sampler = "BayesianOptimization"'): "did you mean 'bayes'?",
    ("search", 'sampler = "RandomizedSearchCV"'): "did you mean 'random'?",
    ("search", 'sampler = "GridSearchCV"'): "did you mean 'grid'?",
    ("search", 'sampler = "Hyperband"'): "'hyperband' is a pruner here",
    ("search", 'sampler = "PopulationBasedTraining"'): "a trial keeps its config to its end",
    ("search", 'sampler = "NSGAIISampler"'): "a study has one objective",
    ("search", "asha = true"): "did you mean 'pruner'? (halving is that",
    ("search", 'pruner = "ASHAScheduler"'): "did you mean 'halving'?",
    ("search", 'pruner = "MedianStoppingRule"'): "did you mean 'median'?",
    ("search", 'pruner = "NopPruner"'): "did you mean 'none'?",
    ("search", 'pruner = { name = "halving", reduction_factor = 3 }'): "did you mean 'eta'?",
    ("search", 'pruner = { name = "halving", grace_period = 3 }'): "did you mean 'first_rung'?",
    ("search", 'pruner = { name = "halving", max_t = 3 }'): "the last rung follows from epochs under [study]",
    ("search", "points_to_evaluate = []"): "did you mean 'start'?",
    (
        "search",
        'early_stopping = { monitor = "val_loss", patience = 3 }',
    ): "early stopping watches the study's objective",
    (
        "search",
        "early_stopping = { patience = 3, restore_best_weights = true }",
    ): "the weights of the best epoch are kept",
    ("run", "gpus = 1"): "did you mean 'devices'?",
    ("run", "n_jobs = 4"): "did you mean 'devices'?",
    ("run", "max_concurrent_trials = 4"): "did you mean 'lanes'?",
    ("run", 'backend = "pytorch"'): "models train on JAX or TensorFlow",
    ("run", 'engine = "ray"'): "training runs on this machine",
    ("run", 'precision = "fp16"'): "did you mean 'mixed_float16'?",
    ("model", 'hypermodel = "my.py:build"'): "did you mean 'build'?",
}
LINES = {
    "tune STUDY": "did you mean 'run'?",
    "fit STUDY": "did you mean 'run'?",
    "search STUDY": "did you mean 'run'?",
    "optimize STUDY": "did you mean 'run'?",
    "agent STUDY": "manyfit run starts its workers itself",
    "create-study": "run goes on by itself with a study that is there",
    "best-trial STUDY": "did you mean 'show'?",
    "tensorboard STUDY": "did you mean 'dashboard'?",
    "infer MODEL": "did you mean 'predict'?",
    "test STUDY": "did you mean 'evaluate'?",
    "run STUDY --n-trials 3": "did you mean --trials?",
    "run STUDY --n_trials=3": "did you mean --trials?",
    "run STUDY --num-samples 3": "did you mean --trials?",
    "run STUDY --count 3": "did you mean --trials?",
    "run STUDY --epochs 3": "write --set study.epochs=3",
    "run STUDY --max-epochs 3": "write --set study.epochs=3",
    "run STUDY --timeout 60": "did you mean --time?",
    "run STUDY --n-jobs 4": "write --set run.devices=4",
    "run STUDY --resume": "run goes on by itself with a study that is there",
    "run STUDY --skip-if-exists": "run goes on by itself with a study that is there",
    "run STUDY --overwrite": "another --name begins another one",
    "run STUDY --study-name x": "did you mean --name?",
    "run STUDY --storage sqlite:///a.db": "write --set run.storage=sqlite:///a.db",
    "dashboard STUDY --storage x": "the database is named in the study file",
    "run STUDY --metric val_accuracy": "write --set study.objective=val_accuracy",
    "run STUDY --mode max": "write --set study.direction=maximize",
    "run STUDY --lr 0.1": "write --set train.learning_rate=0.1",
    "run STUDY --folds 5": "write --set study.folds=5",
    "run STUDY --search-alg tpe": "did you mean --sampler?",
    "run STUDY --scheduler asha": "did you mean --pruner?",
    "run STUDY --sampler TPESampler": "did you mean 'tpe'?",
    "run STUDY --pruner asha": "did you mean 'halving'?",
    "run STUDY --multirun": "every run is a search over [space]",
    "run STUDY --config x": "the study file is the argument",
    "run STUDY --dry-run": "manyfit plan STUDY prints what would run",
    "run STUDY --patience 3": "write --set search.early_stopping.patience=3",
    "run STUDY --executions-per-trial 3": "write --set study.repeats=3",
    "run STUDY train.learning_rate=0.1": "write --set train.learning_rate=0.1",
    "run STUDY learning_rate=0.1": "write --set train.learning_rate=0.1",
    "export STUDY --format csv": "did you mean --csv?",
    "new x.csv": "did you mean 'init'?",
    "init x.csv": "write manyfit init --data x.csv",
    "init --data x.csv --label y": "did you mean --target?",
    "init --data x.csv --overwrite": "did you mean --force?",
    "init --data x.csv --epochs 3": "change that in the file that it writes",
    "init --data x.csv --limit 3": "write --set data.limit=3",
}


def refused(*arguments):
    result = CliRunner().invoke(cli.app, [*map(str, arguments)])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("manyfit: ")
    return line


def of_file(folder, text):
    return refused("run", write_study(folder, text, name="study"))


def test_there_are_enough_of_them():
    assert len(SECTIONS) + len(RANGES) + len(PARAMETERS) + len(KEYS) + len(LINES) >= 120


@pytest.mark.parametrize("section", SECTIONS)
def test_section(tmp_path, section):
    line = of_file(tmp_path, f"{DATA}[{section}]\nx = 1\n{SPACE}")
    assert f"line 3, {section}: unknown key; " in line
    assert SECTIONS[section] in line


@pytest.mark.parametrize("entry", RANGES)
def test_range(tmp_path, entry):
    line = of_file(tmp_path, f"{DATA}[space]\nlearning_rate = {entry}\n")
    assert "line 4, space.learning_rate" in line
    assert RANGES[entry] in line


@pytest.mark.parametrize("entry", PARAMETERS)
def test_name_of_a_parameter(tmp_path, entry):
    line = of_file(tmp_path, f"{DATA}[space]\n{entry}\n")
    assert f"line 4, space.{entry.split()[0]}" in line
    assert PARAMETERS[entry] in line


@pytest.mark.parametrize(("section", "entry"), KEYS)
def test_key_or_value(tmp_path, section, entry):
    text = f"{DATA}{entry}\n{SPACE}" if section == "data" else f"{DATA}[{section}]\n{entry}\n{SPACE}"
    line = of_file(tmp_path, text)
    assert f", {section}.{entry.split()[0]}" in line
    assert KEYS[section, entry] in line


@pytest.mark.parametrize("words", LINES)
def test_command_line(tmp_path, words):
    path = write_study(tmp_path, f"{DATA}{SPACE}", name="study")
    line = refused(*(path if word == "STUDY" else word for word in words.split()))
    assert LINES[words] in line
    assert not path.with_suffix(".db").exists()
