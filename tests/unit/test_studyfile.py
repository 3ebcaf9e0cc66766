"""Good study files: every feature of them, and what the command line may change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import ROOT, record

from search.errors import StudyFileError
from search.reading import studyfile, unused
from search.spec.ready import Ready
from search.spec.study import StudyFile
from search.storage import records
from search.storage.store import Store
from search.trials.files import StudyFiles
from spaces import Choice, Float, Int, shown

DATA = '[data]\nsource = "sklearn:digits"\n'
SPACE = "[space]\ndropout = { low = 0.0, high = 0.5 }\n"

EVERYTHING = """
[study]
name = "All of it + 1.0"
objective = "val_auc"
direction = "maximize"
trials = 50
epochs = 12
seed = 7
time = "1h30m"
stop_after = 15

[data]
source = "rows.csv"
target = "label"
task = "binary"
validation = 0.2
test = 0.05
scale = "standard"
limit = 1000

[model]
build = "my_model.py:build"
activation = "relu"
units = [64, 32]
branch = { depth = 2, kinds = ["a", "b"] }

[train]
optimizer = "SGD"
learning_rate = 0.05
nesterov = true
batch_size = 64
loss = { name = "BinaryFocalCrossentropy", gamma = 2.0 }
metrics = ["auc", { name = "F1Score", average = "macro" }, "my_model.py:score"]
class_weight = { a = 1, b = 2.5 }
callbacks = ["my_model.py:callback"]
schedule = "cosine"
warmup = 0.1
end_factor = 0.01

[space]
momentum = { low = 0.0, high = 0.99 }
dropout = { low = 0.0, high = 0.5, step = 0.1 }
layers = { low = 1, high = 4 }
width = { low = 8, high = 64, step = 8 }
l2 = { low = 1e-6, high = 1e-2, log = true }
norm = ["batch", "layer"]
blocks = [[1, 2], [3]]
size = { low = 4, high = 32, log = true, when = { norm = "layer", layers = [3, 4] } }

[search]
sampler = { name = "tpe", multivariate = true, n_startup_trials = 5 }
pruner = { name = "patient", wrapped = { name = "percentile", percentile = 40 }, patience = 2 }
early_stopping = { patience = 4, min_delta = 0.001, start_from_epoch = 2 }

[[search.start]]
momentum = 0.9
norm = "batch"

[[search.start]]
blocks = [3]

[run]
engine = "fit"
backend = "jax"
devices = ["cpu", "cpu"]
storage = "kept/all.db"
trial_time = 90
worker_memory = "6GB"
deterministic = true
"""


def read(folder: Path, text: str, *overrides: str, name: str = "study.toml") -> studyfile.StudyFile:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return studyfile.read(path, overrides)


@pytest.fixture
def everything(tmp_path):
    (tmp_path / "rows.csv").write_text("x,label\n1,a\n2,b\n")
    (tmp_path / "kept").mkdir()
    (tmp_path / "my_model.py").write_text(
        "from somewhere import build\nscore: object = None\nif True:\n    async def callback(config): ...\n"
    )
    return read(tmp_path, EVERYTHING)


def test_every_key_is_understood(everything, tmp_path):
    settings = everything.settings
    assert everything.name == "All of it + 1.0"
    assert everything.direction == "maximize"
    assert everything.epochs == 12
    assert everything.storage == tmp_path / "kept" / "all.db"
    assert StudyFiles.of(everything).log == tmp_path / "kept" / "All of it + 1.0@all.log"
    assert (everything.builder.path, everything.builder.function) == (tmp_path / "my_model.py", "build")
    assert settings.study.time == 5400.0
    assert settings.run.trial_time == 90.0
    assert settings.run.worker_memory == 6_000_000_000
    assert settings.run.devices == ("cpu", "cpu")
    assert settings.train.class_weight == {"a": 1.0, "b": 2.5}
    assert settings.train.metrics[1] == {"name": "F1Score", "average": "macro"}
    assert settings.search.pruner.options["wrapped"] == {"name": "percentile", "percentile": 40}
    assert settings.search.early_stopping.start_from_epoch == 2
    assert settings.search.start == ({"momentum": 0.9, "norm": "batch"}, {"blocks": [3]})
    kinds = {name: type(parameter) for name, parameter in everything.space.items()}
    assert kinds == {
        "momentum": Float, "dropout": Float, "layers": Int, "width": Int, "l2": Float,
        "norm": Choice, "blocks": Choice, "size": Int,
    }  # fmt: skip
    assert everything.space["size"].when == {"norm": ("layer",), "layers": (3, 4)}


def test_config_begins_with_what_the_file_fixes(everything):
    assert everything.fixed() == {
        "activation": "relu",
        "units": [64, 32],
        "branch": {"depth": 2, "kinds": ["a", "b"]},
        "optimizer": "SGD",
        "batch_size": 64,
        "epochs": 12,
        "learning_rate": 0.05,
        "nesterov": True,
        "schedule": "cosine",
        "warmup": 0.1,
        "end_factor": 0.01,
    }


def test_settings_survive_json(everything):
    table = json.loads(json.dumps(everything.settings.model_dump(mode="json"), allow_nan=False))
    assert StudyFile.stored(everything.path, table) == everything


def test_defaults(tmp_path):
    file = read(tmp_path, DATA + SPACE, name="first try.toml")
    settings = file.settings
    assert file.name == "first try"
    assert settings.study.name == "first try"  # stored, so that a renamed file does not rename the study
    assert file.storage == tmp_path / "first try.db"
    assert (settings.study.trials, file.epochs, settings.study.seed) == (20, 20, 0)
    assert (settings.study.objective, file.direction) == ("val_loss", "minimize")
    assert (settings.data.validation, settings.data.test) == (0.1, 0.1)
    assert (settings.search.sampler.name, settings.search.pruner.name) == ("bayes", "halving")
    assert (settings.model.build, file.builder) == ("mlp", None)
    assert file.fixed() == {"optimizer": "adam", "batch_size": 32, "epochs": 20}


@pytest.mark.parametrize(
    ("objective", "direction"),
    [
        ("val_loss", "minimize"),
        ("loss", "minimize"),
        ("val_accuracy", "maximize"),
        ("val_AUC", "maximize"),
        ("val_mean_absolute_error", "minimize"),
        ("val_sparse_categorical_crossentropy", "minimize"),
        ("val_top_k_categorical_accuracy", "maximize"),
        ("val_f1_score", "maximize"),
        ("val_r2_score", "maximize"),
        ("val_root_mean_squared_error", "minimize"),
        ("val_mae", "minimize"),
    ],
)
def test_direction_is_told_by_the_name_of_the_metric(tmp_path, objective, direction):
    assert read(tmp_path, f'{DATA}{SPACE}[study]\nobjective = "{objective}"\n').direction == direction


@pytest.mark.parametrize(
    ("written", "seconds"),
    [('"90s"', 90), ('"10m"', 600), ('"1h30m"', 5400), ('"1.5h"', 5400), ("45", 45), ("0.5", 0.5), ('" 2m5s "', 125)],
)
def test_durations(tmp_path, written, seconds):
    assert read(tmp_path, f"{DATA}{SPACE}[study]\ntime = {written}\n").settings.study.time == seconds


@pytest.mark.parametrize(
    ("written", "taken"),
    [('"auto"', "auto"), ('"6GB"', 6 * 10**9), ('"512MiB"', 512 * 2**20), ("1000000", 1_000_000)],
)
def test_memory(tmp_path, written, taken):
    assert read(tmp_path, f"{DATA}{SPACE}[run]\nworker_memory = {written}\n").settings.run.worker_memory == taken


@pytest.mark.parametrize(
    ("written", "taken"), [('"auto"', "auto"), ("2", 2), ("[0, 2]", (0, 2)), ('["cpu", "cpu"]', ("cpu", "cpu"))]
)
def test_devices(tmp_path, written, taken):
    assert read(tmp_path, f"{DATA}{SPACE}[run]\ndevices = {written}\n").settings.run.devices == taken


# -- the space ---------------------------------------------------------------------------------------------------------


def test_preset_gives_way_to_what_stands_beside_it_and_to_what_is_fixed(tmp_path):
    file = read(
        tmp_path,
        DATA + "[model]\nactivation = 'gelu'\n[train]\nbatch_size = 16\n"
        "[space]\nuse = 'dense'\ndropout = { low = 0.1, high = 0.2 }\nnew = [1, 2]\n",
    )
    assert set(file.space) == {"learning_rate", "dropout", "weight_decay", "initializer", "units", "new"}
    assert (file.space["dropout"].low, file.space["dropout"].high) == (0.1, 0.2)
    assert "use" not in file.settings.space  # what is stored does not change with the preset


def test_epochs_may_be_searched(tmp_path):
    assert read(tmp_path, DATA + "[space]\nepochs = { low = 5, high = 40 }\n").epochs == 40
    assert read(tmp_path, DATA + "[space]\nepochs = [10, 30, 20]\n").epochs == 30


def test_whole_space_may_be_a_preset(tmp_path):
    assert len(read(tmp_path, DATA + "[space]\nuse = 'conv'\n").space) == 7


def test_optimizer_may_be_searched_with_numbers_of_its_own(tmp_path):
    text = (
        DATA
        + "[space]\noptimizer = ['sgd', 'adamw']\nmomentum = { low = 0.0, high = 0.9, when = { optimizer = 'sgd' } }\n"
    )
    read(tmp_path, text)


def test_number_of_one_of_the_searched_optimizers_may_be_fixed(tmp_path):
    text = DATA + "[train]\nmomentum = 0.9\n[space]\noptimizer = ['sgd', 'adam']\n"
    assert read(tmp_path, text).settings.train.numbers == {"momentum": 0.9}


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("study.trials=5", "study", "trials", 5),
        ("study.time=10m", "study", "time", 600.0),
        ("study.objective=val_accuracy", "study", "objective", "val_accuracy"),
        ("data.validation=0.25", "data", "validation", 0.25),
        ("run.deterministic=true", "run", "deterministic", True),
        ('run.devices=["cpu"]', "run", "devices", ("cpu",)),
        ("train.metrics=['accuracy', 'auc']", "train", "metrics", ("accuracy", "auc")),
        ("train={ batch_size = 8 }", "train", "batch_size", 8),
        (" study . trials = 6", "study", "trials", 6),
    ],
)
def test_any_key_can_be_set(tmp_path, override, section, key, value):
    file = read(tmp_path, DATA + SPACE, override)
    assert getattr(getattr(file.settings, section), key) == value


def test_value_that_is_set_may_hold_an_equals_sign(tmp_path):
    with pytest.raises(StudyFileError, match=r"--set study\.name: .*received 'with = sign'"):
        read(tmp_path, DATA + SPACE, 'study.name="with = sign"')


def test_set_reaches_into_the_space_and_may_add_to_it(tmp_path):
    file = read(
        tmp_path, DATA + SPACE, "space.dropout.high=0.6", "space.batch_size=[8, 16]", "space.rate={low=1, high=3}"
    )
    assert file.space.describe() == {
        "dropout": {"low": 0.0, "high": 0.6},
        "batch_size": {"choices": [8, 16]},
        "rate": {"low": 1, "high": 3},
    }


def test_set_reaches_into_a_preset_that_it_names(tmp_path):
    file = read(tmp_path, DATA + SPACE, "space.use=dense", "space.batch_size=[8, 16]")
    assert file.space["dropout"].high == 0.5
    assert file.space["batch_size"].choices == (8, 16)
    assert "units" in file.space


def test_later_set_wins_over_earlier_and_over_the_file(tmp_path):
    text = DATA + SPACE + "[study]\ntrials = 5\n"
    assert read(tmp_path, text, "study.trials=6", "study.trials=7").settings.study.trials == 7


@pytest.mark.parametrize("sampler", ['sampler = "tpe"\n', 'sampler = { name = "tpe", multivariate = true }\n'])
def test_option_of_a_sampler_can_be_set_however_the_file_names_it(tmp_path, sampler):
    file = read(tmp_path, f"{DATA}{SPACE}[search]\n{sampler}", "search.sampler.n_startup_trials=3")
    assert file.settings.search.sampler.name == "tpe"
    assert file.settings.search.sampler.options["n_startup_trials"] == 3


def test_set_does_not_change_the_file(tmp_path):
    read(tmp_path, DATA + SPACE, "space.dropout.high=0.6")
    assert (tmp_path / "study.toml").read_text() == DATA + SPACE


def test_name_that_the_command_line_gives_names_the_files_beside_the_study(tmp_path):
    file = read(tmp_path, DATA + SPACE, 'study.name="wide"')
    assert StudyFiles.of(file).best == tmp_path / "wide@study.best.json"
    assert file.storage == tmp_path / "study.db"


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("", "studies/study.db"),
        ("x.db", "studies/x.db"),
        ("../x.db", "x.db"),
        ("sqlite:///x.db", "studies/x.db"),
        ("a name with spaces.db", "studies/a name with spaces.db"),
    ],
)
def test_storage_is_relative_to_the_study_file(tmp_path, location, path, monkeypatch):
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir("/")
    file = read(tmp_path / "studies", f'{DATA}{SPACE}[run]\nstorage = "{location}"\n')
    assert file.storage == tmp_path / path


def test_absolute_storage_stays_where_it_is(tmp_path):
    for location in (str(tmp_path / "x.db"), f"sqlite:///{tmp_path / 'x.db'}"):
        assert read(tmp_path, f'{DATA}{SPACE}[run]\nstorage = "{location}"\n').storage == tmp_path / "x.db"


def test_study_file_by_a_relative_path_is_the_same_study(tmp_path, monkeypatch):
    whole = read(tmp_path, DATA + SPACE)
    monkeypatch.chdir(tmp_path)
    assert studyfile.read(Path("study.toml")) == whole


def test_builder_is_found_beside_the_study_file_and_is_not_run(tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')\ndef build(config, data): ...\n")
    assert read(tmp_path, DATA + SPACE + '[model]\nbuild = "mine.py:build"\n').builder.function == "build"


def test_stored_study_can_be_changed_without_its_file(tmp_path):
    (tmp_path / "old").mkdir()
    file = read(
        tmp_path / "old",
        DATA + "[train]\noptimizer = 'adam'\n[space]\nuse = 'dense'\n[search]\nstart = [{ dropout = 0.1 }]\n",
    )
    Store.create(file, record(file)).close()
    moved = tmp_path / "moved.db"
    shutil.copy(file.storage, moved)
    (tmp_path / "old" / "study.toml").unlink()
    stored = records.load(moved, "study", with_trials=False).file
    changed = studyfile.stored_with(stored, moved, ["study.trials=99"])
    assert changed.settings.study.trials == 99
    assert changed.storage == moved
    assert changed.name == "study"
    assert dict(changed.space) == dict(file.space)
    assert list(changed.space) == list(file.space)
    assert changed.settings.model_copy(update={"study": file.settings.study, "run": file.settings.run}) == file.settings
    with pytest.raises(StudyFileError, match=r"moved\.db, --set study\.trials: must be at least 1; received 0"):
        studyfile.stored_with(stored, moved, ["study.trials=0"])


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_study_of_the_project_is_good(path):
    file = studyfile.read(path)
    assert unused.find(file, Ready({}, "", "")) == []


def test_reading_takes_few_steps(tmp_path):
    """A million calls of Python's take about 0.1 s."""
    text, calls = DATA + SPACE, 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    read(tmp_path, text)
    sys.setprofile(count)
    try:
        read(tmp_path, text)
    finally:
        sys.setprofile(None)
    assert 0 < calls < 5_000


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_lines_may_end_as_on_any_system(tmp_path, end):
    text = '[study]\nname = "ends"\n[data]\nsource = "sklearn:digits"  # remark\n[space]\ndropout = { low = 0.0, high = 0.5 }\nunits = [\n1,\n2]\n'
    settings = []
    for name, written in (("lf", text), ("other", text.replace("\n", end))):
        (tmp_path / f"{name}.toml").write_bytes(written.encode())
        settings.append(studyfile.read(tmp_path / f"{name}.toml").settings)
    assert settings[0] == settings[1]
    assert settings[0].space == {"dropout": {"low": 0.0, "high": 0.5}, "units": [1, 2]}


@pytest.mark.parametrize(("value", "trials"), [("4 # remark", 4), ("4\n", 4), ("\t4\n\n# remark\n", 4)])
def test_override_may_have_a_remark_or_an_end_of_line(tmp_path, value, trials):
    path = tmp_path / "good.toml"
    path.write_text('[data]\nsource = "sklearn:digits"\n[space]\ndropout = { low = 0.0, high = 0.5 }\n')
    file = studyfile.read(path, [f"study.trials={value}", "space.units=[\n1,\n2]"])
    assert (file.settings.study.trials, file.settings.space["units"]) == (trials, [1, 2])


@pytest.mark.parametrize(
    "text",
    [
        "true", "[true, false]", "1979-05-27", "07:32:00", "1979-05-27T07:32:00", "1979-05-27T07:32:00Z", "inf", "-inf", "nan", "0.1", "3",
        "'a text'", "{ low = 1, 'a b' = [1979-05-27, { x = true }] }", "{}", "[]",
    ],
)  # fmt: skip
def test_received_value_is_shown_as_the_file_has_it(text):
    assert shown(tomllib.loads(f"value = {text}")["value"]) == text


def test_study_is_read_without_scipy_so_that_its_workers_start_half_a_second_earlier():
    code = (
        "import sys; from pathlib import Path; from search.reading import studyfile;"
        "print(studyfile.read(Path(sys.argv[1])).settings.search.sampler.name, 'scipy' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(ROOT / "studies" / "digits.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "bayes False\n"
