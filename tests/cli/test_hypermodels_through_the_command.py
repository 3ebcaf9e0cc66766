"""A builder in KerasTuner's form through the command: without a study file, in one without [space], and when it is wrong."""

from __future__ import annotations

import json
import re
import shlex
import tomllib

import pytest
from support import BROUGHT, ROOT, in_keras, manyfit, query

BUILDER = """
import keras


def build(hp):
    model = keras.Sequential([keras.Input((64,))])
    for i in range(hp.Int("layers", 1, 2)):
        model.add(keras.layers.Dense(hp.Choice(f"units_{i}", [4, 8]), "relu"))
    model.add(keras.layers.Dense(10, "softmax"))
    model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-3, 1e-1, sampling="log")), "sparse_categorical_crossentropy", ["loss"])
    return model
""".replace(', ["loss"]', "")
QUICK = ["--set", "study.epochs=2", "--set", "data.limit=200", "--backend", "jax"]


def written(folder, text=BUILDER, name="my_tuner"):
    (folder / f"{name}.py").write_text(text)
    return ["--build", f"{name}.py:build", "--data", "sklearn:digits"]


@pytest.mark.slow
def test_build_and_data_are_a_study_that_goes_on(tmp_path):
    where = written(tmp_path)
    done = manyfit("run", *where, *QUICK, "--trials", 2, "--sampler", "random", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"space: 4 parameters, 1 of them conditional, found in \d+ builds", done.stderr)
    assert "manyfit show my_tuner.db" in done.stderr
    best = json.loads((tmp_path / "my_tuner.best.json").read_text())
    assert {"layers", "units_0", "rate"} <= set(best["configs"][0]["params"])
    # The first trial has the builder's defaults.
    first = json.loads(manyfit("show", tmp_path / "my_tuner.db", "--trial", 0, "--json").stdout)["config"]
    assert (first["layers"], first["units_0"], first["rate"]) == (1, 4, 1e-3)
    again = manyfit("run", *where, *QUICK, "--trials", 3, "--sampler", "random", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "builds" not in again.stderr, "the space of a stored study is taken from its database"
    assert query(tmp_path / "my_tuner.db", "SELECT count(*) FROM trials") == [(3,)]
    written(tmp_path, BUILDER.replace("[4, 8]", "[4, 16]"))
    changed = manyfit("run", *where, *QUICK, "--trials", 4, "--sampler", "random", cwd=tmp_path)
    assert changed.returncode == 2
    assert "space.units_0.choices: was [4, 8], now [4, 16]" in changed.stderr


@pytest.mark.gallery
@pytest.mark.slow
def test_a_study_file_without_a_space_gets_one_and_is_written_out(tmp_path):
    written(tmp_path)
    text = '[data]\nsource = "sklearn:digits"\nlimit = 200\n[model]\nbuild = "my_tuner.py:build"\nlayers = 2\n[run]\nbackend = "jax"\n'
    (tmp_path / "short.toml").write_text(text)
    done = manyfit(
        "plan", "short.toml", "--set", "space.rate.high=0.01", "--write", "full.toml", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    space = {"units_0": [4, 8], "rate": {"low": 1e-3, "high": 1e-2, "log": True}, "units_1": [4, 8]}
    expected = {name: {"choices": entry} if isinstance(entry, list) else entry for name, entry in space.items()}
    assert {name: json.loads(done.stdout)["space"][name] for name in space} == expected
    file = tomllib.loads((tmp_path / "full.toml").read_text())
    assert file["space"] == expected
    assert file["model"] == {"build": "my_tuner.py:build", "layers": 2}
    assert file["search"]["start"] == [{"units_0": 4, "rate": 1e-3, "units_1": 4}]
    again = manyfit("plan", "short.toml", "--write", "full.toml", cwd=tmp_path)
    assert again.returncode == 2
    assert "full.toml is there already" in again.stderr
    listed = manyfit("plan", "full.toml", cwd=tmp_path)
    assert "rate = { low = 0.001, high = 0.01, log = true }" in listed.stdout
    assert "builds" not in listed.stderr
    # A space of the study file's own that lacks what the builder asks for.
    file_text = (tmp_path / "full.toml").read_text().replace("units_1 =", "units_one =").replace(", units_1 = 4", "")
    (tmp_path / "lacking.toml").write_text(file_text)
    lacking = manyfit("run", "lacking.toml", cwd=tmp_path)
    assert lacking.returncode == 2
    assert "the builder asks its hp for 'units_1', and this config has no 'units_1'" in lacking.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "a study file is missing; write `manyfit run STUDY`, or --build my_tuner.py:build --data x.npz"),
        (["plan", "--build", "my_tuner.py:build"], "--data is missing"),
        (["run", "--data", "sklearn:digits"], "--build is missing"),
        (["run", "a.toml", "--build", "my_tuner.py:build"], "write --set model.build=my_tuner.py:build"),
        (["run", "a.toml", "--data", "x.npz"], "write --set data.source=x.npz"),
        (["run", "--build", "my_tuner.py:bild", "--data", "sklearn:digits"], "did you mean 'build'?"),
        (["run", "--build", "my_tuner.py:build", "--data", "sklearn:digit"], "no such data: 'sklearn:digit'"),
        (["run", "--build", "other.py:build", "--data", "sklearn:digits"], "other.py is not there"),
        (["run", "--build", "mlp", "--data", "sklearn:digits"], "there is nothing to search"),
        (
            ["plan", "--build", "my_tuner.py:build", "--data", "sklearn:digits", "--write", "x.txt"],
            "ends in .toml; received x.txt",
        ),
        (
            ["plan", "--build", "my_tuner.py:build", "--data", "sklearn:digits", "--write", "in/x.toml"],
            "write the file there",
        ),
        (
            ["run", "--build", "my_tuner.py:keywords", "--data", "sklearn:digits"],
            "keywords(hp, *, classes) can't be called",
        ),
        (["run", "--build", "my_tuner.py:two", "--data", "sklearn:digits"], "there is nothing to search"),
    ],
)
def test_a_wrong_command_line_is_refused_before_the_builder_runs(tmp_path, arguments, words):
    written(tmp_path, BUILDER + "\n\ndef keywords(hp, *, classes):\n    pass\n\n\ndef two(config, data):\n    pass\n")
    done = manyfit(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert words in line
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".pyc") == ["my_tuner.py"]


WRONG = """
import sys
import keras
import keras_tuner as kt


def compiled(units):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(units), keras.layers.Dense(10, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def raises(hp):
    hp.Int("units", 1, 3)
    raise RuntimeError("no such layer")


def asks_nothing(hp):
    return compiled(4)


def by_chance(hp):
    import random
    return compiled(hp.Int(f"units_{random.randint(0, 10**9)}", 1, 3))


def returns_none(hp):
    hp.Int("units", 1, 3)


def exits(hp):
    hp.Int("units", 1, 3)
    sys.exit(3)


def bad_bounds(hp):
    return compiled(hp.Int("units", 8, 4))


def bad_default(hp):
    return compiled(hp.Choice("units", [4, 8], default=5))


def clash(hp):
    return compiled(hp.Int("a/b", 1, 3) + hp.Int("a b", 1, 3))


class Needs(kt.HyperModel):
    def __init__(self, classes):
        super().__init__()

    def build(self, hp):
        return compiled(hp.Int("units", 1, 3))


class ManyfitForm(keras.Model):
    def __init__(self, config, data):
        super().__init__()


number = 3
"""
REFUSALS = {
    "raises": "the builder fails with its default values and with all others: RuntimeError: no such layer",
    "asks_nothing": "the builder asks its hp for nothing that has two values",
    "by_chance": "which it did not before; names of hyperparameters, and which there are, must not be drawn by chance",
    "returns_none": "the builder must return a keras.Model; received NoneType",
    "exits": "fails with its default values and with all others: SystemExit: 3",
    "bad_bounds": "min_value 8 is greater than max_value 4 for 'units'",
    "bad_default": "the default should be one of the choices; received 5",
    "clash": "would both be the parameter 'a_b'; rename one of them",
    "Needs": "Needs can't be made without classes; write hypermodel = Needs(...)",
    "ManyfitForm": "is called with (config, data), so the parameters go under [space]",
    "number": "'number' is no function; received int",
}


def refusals(folder):
    from pathlib import Path

    from search.engines.hypermodels import finding
    from search.errors import UsageError
    from search.spec.settings import DataSection, ModelSection, Settings

    said = {}
    for name in REFUSALS:
        settings = Settings(data=DataSection(source="sklearn:digits"), model=ModelSection(build=f"wrong.py:{name}"))
        try:
            said[name] = str(finding.find(settings, Path(folder)))
        except UsageError as error:
            said[name] = f"refused: {error}"
    return said


@pytest.mark.slow
def test_builders_without_a_space_are_refused_with_the_reason(tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG)
    said = in_keras(refusals, str(tmp_path))
    for name, words in REFUSALS.items():
        assert said[name].startswith("refused: "), said[name]
        assert words in said[name]


@pytest.mark.slow
def test_a_refusal_of_the_worker_is_one_line_with_the_place(tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "s.toml").write_text('[data]\nsource = "sklearn:digits"\n\n[model]\nbuild = "wrong.py:Needs"\n')
    done = manyfit("run", "s.toml", "--backend", "jax", cwd=tmp_path)
    assert done.returncode == 2
    assert "s.toml, line 5, model.build: Needs can't be made without classes" in done.stderr.splitlines()[-1]


def without_kerastuner(folder):
    """Find spaces where KerasTuner can't be imported; return them, and what its missing names say."""
    import importlib.util
    import sys
    from pathlib import Path

    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: None if name == "keras_tuner" else found(name, package)

    from search.engines.hypermodels import finding, stand_in
    from search.errors import UsageError
    from search.spec.settings import DataSection, ModelSection, Settings, StudySection

    spaces = {}
    for name in ("ClassMlp", "failing", "TunedTraining"):
        section = DataSection(source="sklearn:digits", limit=200)
        model = ModelSection(build=f"hypermodels.py:{name}")
        settings = Settings(data=section, model=model, study=StudySection(epochs=2))
        spaces[name] = list(finding.find(settings, Path(folder)).space)
    said = []
    for number, line in enumerate(
        ("tuner = keras_tuner.RandomSearch(build)", "from keras_tuner.tuners import Hyperband")
    ):
        (Path(folder) / f"uses_{number}.py").write_text(f"import keras_tuner\n\ndef build(hp):\n    pass\n\n{line}\n")
        settings = Settings(data=section, model=ModelSection(build=f"uses_{number}.py:build"))
        try:
            finding.find(settings, Path(folder))
        except UsageError as error:
            said.append(str(error))
    return {"spaces": spaces, "said": said, "is_used": stand_in.is_used(), "path": sys.modules["keras_tuner"].__doc__}


@pytest.mark.gallery
@pytest.mark.slow
def test_kerastuner_need_not_be_installed_for_its_hypermodels(tmp_path):
    (tmp_path / "hypermodels.py").write_text((BROUGHT / "hypermodels.py").read_text())
    told = in_keras(without_kerastuner, str(tmp_path))
    assert told["is_used"]
    assert told["spaces"]["ClassMlp"] == ["units", "act", "dropout", "lr"]
    assert told["spaces"]["failing"] == ["units", "layers"]
    assert told["spaces"]["TunedTraining"] == ["units", "normalize", "shuffle", "batch_size"]
    for line in told["said"]:
        assert "pip install keras-tuner" in line, line


@pytest.mark.gallery
@pytest.mark.slow
def test_a_fit_of_its_own_is_pruned_stored_and_exported(tmp_path):
    (tmp_path / "hypermodels.py").write_text((BROUGHT / "hypermodels.py").read_text())
    where = ["--build", "hypermodels.py:CustomLoop", "--data", "sklearn:digits", "--trials", 3, "--backend", "jax"]
    sets = [
        "study.objective=my_metric",
        "study.direction=minimize",
        "data.limit=300",
        "study.epochs=2",
        "search.sampler=random",
    ]
    done = manyfit("run", *where, *[word for text in sets for word in ("--set", text)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no lanes: the hypermodel trains its models in a fit of its own" in done.stderr
    database = tmp_path / "hypermodels.db"
    best = json.loads((tmp_path / "hypermodels.best.json").read_text())["configs"][0]
    assert set(best["params"]) == {"units", "batch_size", "learning_rate"}
    assert len(best["curve"]["my_metric"]) == 2
    assert min(best["curve"]["my_metric"]) == pytest.approx(best["value"])
    saved = manyfit("export", database, "--model", tmp_path / "best.keras", cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr


@pytest.mark.gallery
@pytest.mark.slow
def test_the_guide_does_what_it_says(tmp_path):
    guide = (ROOT / "docs" / "from-kerastuner.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w*)\n(.*?)```", guide, re.DOTALL)
    ((_, builder),) = [block for block in blocks if block[0] == "python"]
    ((_, commands),) = [block for block in blocks if block[0] == ""]
    ((_, space),) = [block for block in blocks if block[0] == "toml"]
    (tmp_path / "my_tuner.py").write_text(builder)
    for line in commands.splitlines():
        # TensorFlow would compute the same and takes longer to start.
        done = manyfit(*shlex.split(line)[1:], "--set", "run.backend=jax", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert tomllib.loads((tmp_path / "tuned.toml").read_text())["space"] == tomllib.loads(space)["space"]
    assert (tmp_path / "tuned.best.json").exists()


@pytest.mark.gallery
@pytest.mark.slow
def test_rates_of_a_compiled_hypermodel_vary_in_lanes_and_give_the_values_of_fit(tmp_path):
    where = written(
        tmp_path, BUILDER.replace('hp.Int("layers", 1, 2)', "1").replace('hp.Choice(f"units_{i}", [4, 8])', "8")
    )
    values = {}
    for engine, also in (("lanes", ["--set", "run.lanes=3"]), ("fit", [])):
        more = [
            "--trials",
            3,
            "--sampler",
            "random",
            "--pruner",
            "none",
            "--set",
            f"run.engine={engine}",
            "--name",
            engine,
        ]
        done = manyfit("run", *where, *QUICK, *more, *also, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        if engine == "lanes":
            assert "lanes on jax, cpu: 3 trials at a time, in one compiled program" in done.stderr
        best = json.loads((tmp_path / f"{engine}@my_tuner.best.json").read_text())
        values[engine] = {config["params"]["rate"]: config["value"] for config in best["configs"]}
    assert len(values["lanes"]) == 3
    assert values["lanes"] == pytest.approx(values["fit"], rel=1e-5)
