"""What lanes may share: nothing that changes what a trial computes, by whatever way it gets into the model."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from support import BROUGHT, in_jax, manyfit, query, write_study

pytestmark = pytest.mark.slow

# Each builder reads "gain" by a way that layers, losses and optimizers do not tell of. Beside it: what it is tried with.
HIDDEN_WAYS = sorted(re.findall(r"^def (in_\w+)", (BROUGHT / "hidden.py").read_text(), re.MULTILINE))
A_FEW = [
    "in_a_loss_whose_config_leaves_it_out",
    "in_a_learning_rate_that_is_a_function",
]
THE_REST = sorted(set(HIDDEN_WAYS) - set(A_FEW))


def furthest_from_fit(ways):
    from brought import hidden
    from lanes_kit import assignment, by_fit, engine_of, train, trainer_of

    from search.spec.settings import ModelSection

    apart = {}
    for way in ways:
        regression = way in ("in_a_loss_whose_config_leaves_it_out", "in_the_axis_of_a_metric")
        mine = trainer_of(
            "sklearn:diabetes" if regression else "sklearn:digits", model=ModelSection(build=f"{hidden.__file__}:{way}")
        )
        members = [
            assignment(i, epochs=2, gain=gain, kind=kind, seed=5, learning_rate=10 ** -(2 + i / 4))
            for i, (gain, kind) in enumerate([(0.25, "huber"), (0.8, "mse"), (0.9, "huber")])
        ]
        for member in members:
            member.config["seed"] = 5
        lanes = train(engine_of(2, 2, trainer=mine), members, places=2)
        apart[way] = 0.0
        for member in members:
            _, logs = by_fit(member, 2, mine)
            found = lanes[member.member.trial][-1]
            apart[way] = max(
                [apart[way], *(abs(found[name] - value) / max(1.0, abs(value)) for name, value in logs.items())]
            )
    return apart


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param(A_FEW, id="a few"),
        *(
            pytest.param(THE_REST[part::6], id=f"the rest, {part + 1} of 6", marks=pytest.mark.gallery)
            for part in range(6)
        ),
    ],
)
def test_trial_never_gets_what_is_another_ones_by_a_way_that_no_layer_tells_of(ways):
    apart = in_jax(furthest_from_fit, ways)
    assert {way: size for way, size in apart.items() if not size < 1e-5} == {}
    assert len(apart) == len(ways)


def first_steps_apart(few):
    from lanes_kit import LIFTED_TOGETHER, assignment, build, fingerprinted, rows, trainer

    from search.engines.lanes import arithmetic

    found = {}
    for name, config in {
        **LIFTED_TOGETHER,
        **{
            o: {"optimizer": o, "weight_decay": 0.01, "dropout": 0.2}
            for o in (
                "sgd",
                "rmsprop",
                "adam",
                "adamw",
                "adagrad",
                "adadelta",
                "adamax",
                "nadam",
                "lion",
                "lamb",
                "ftrl",
                "adafactor",
                "schedulefreeadamw",
            )
        },
        "momentum": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
        "momentum 0": {"optimizer": "sgd", "momentum": 0.0},
        "centered": {"optimizer": "rmsprop", "momentum": 0.0, "centered": True},
        "amsgrad": {"optimizer": "adam", "amsgrad": True},
        "clipped": {"optimizer": "adam", "clipnorm": 0.5},
        "clipped together": {"optimizer": "adam", "global_clipnorm": 0.5},
        "averaged": {"optimizer": "sgd", "use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 1},
        "accumulated": {"optimizer": "sgd", "gradient_accumulation_steps": 2},
        "no dropout": {"optimizer": "adam", "dropout": 0.0},
        "decay 0": {"optimizer": "adamw", "weight_decay": 0.0},
        "penalties": {"optimizer": "sgd", "l1": 0.0, "l2": 1e-2},
        "smoothed": {"optimizer": "sgd", "label_smoothing": 0.1},
        "cosine": {"optimizer": "sgd", "schedule": "cosine", "warmup": 0.2, "end_factor": 0.0},
        "exponential": {"optimizer": "sgd", "schedule": "exponential", "warmup": 0.0},
        "batch_norm": {"optimizer": "adam", "batch_norm": True, "dropout": 0.1},
    }.items():
        if few and name not in LIFTED_TOGETHER:
            continue
        built = fingerprinted(build(trainer, assignment(0, seed=7, **config)), rows)
        found[name] = arithmetic.difference(built.model, built.slots, built.state, rows.train, 64)
    return {name: what for name, what in found.items() if what}


@pytest.mark.parametrize(
    "few", [pytest.param(True, id="a few"), pytest.param(False, id="all", marks=pytest.mark.gallery)]
)
def test_first_lifted_step_is_keras_own_for_every_optimizer_and_layer_that_lifts(few):
    """No false alarm: each of these would cost a program of its own a trial."""
    different = in_jax(first_steps_apart, few)
    assert different == {}


def drawing_beside_fit(folder, kind):
    from lanes_kit import apart, assignment, trainer_of

    from search.spec.settings import ModelSection

    mine = trainer_of(model=ModelSection(build=f"{folder}/drawing.py:build"))
    return apart(assignment(0, seed=3, kind=kind, learning_rate=0.01), mine, epochs=2)


@pytest.mark.gallery
@pytest.mark.parametrize("kind", ["sampling", pytest.param("lstm", marks=pytest.mark.gallery)])
def test_lane_keeps_the_random_stream_of_layers_that_draw_while_evaluated(tmp_path, kind):
    (tmp_path / "drawing.py").write_text("""
import keras
from keras import layers as L


class Sampling(L.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x):
        return x + 0.1 * keras.random.normal(keras.ops.shape(x), seed=self.seeds)


LAYERS = {
    "lstm": lambda: [L.Reshape((8, 8)), L.LSTM(6, dropout=0.3)],
    "sampling": lambda: [L.Dense(8), Sampling(), L.Dropout(0.2)],
}


def build(config, data):
    return keras.Sequential([keras.Input(data.input_shape), *LAYERS[config["kind"]](), L.Dense(data.outputs)])
""")
    assert in_jax(drawing_beside_fit, str(tmp_path), kind) < 1e-5


@pytest.mark.parametrize(
    ("builder", "objective", "backend"),
    [
        pytest.param("no_call", "loss", "tensorflow", marks=pytest.mark.gallery),
        pytest.param("no_call_but_a_judge", "val_rmse", "tensorflow", marks=pytest.mark.gallery),
        pytest.param("judged", "val_rmse", "tensorflow", marks=pytest.mark.gallery),
        pytest.param("outputs_by_name", "val_mae", "jax", marks=pytest.mark.gallery),
        ("several_optimizers", "val_mae", "jax"),
    ],
)
def test_model_that_keras_trains_by_steps_of_its_own_is_trained(tmp_path, builder, objective, backend):
    shutil.copy(BROUGHT / "own_steps.py", tmp_path / "own.py")
    path = write_study(tmp_path, SMALL_REGRESSION.format(builder=builder, objective=objective))
    done = manyfit("run", path, "--backend", backend)
    assert done.returncode == 0, done.stderr
    values = [value for (value,) in query(path.with_suffix(".db"), "SELECT value FROM trial_values")]
    assert len(values) == 2
    assert all(value > 0 for value in values)


def test_objective_that_an_own_test_step_does_not_report_is_refused(tmp_path):
    shutil.copy(BROUGHT / "own_steps.py", tmp_path / "own.py")
    path = write_study(tmp_path, SMALL_REGRESSION.format(builder="judged", objective="val_rmsle"))
    done = manyfit("run", path, "--backend", "tensorflow")
    assert done.returncode == 2
    assert "evaluation reports val_rmse" in done.stderr


SMALL_REGRESSION = """
[study]
objective = "{objective}"
direction = "minimize"
trials = 2
epochs = 2
[data]
source = "sklearn:diabetes"
scale = "standard"
[model]
build = "own.py:{builder}"
[space]
learning_rate = {{ low = 1e-3, high = 1e-2, log = true }}
"""


@pytest.mark.parametrize("engines", [pytest.param(["lanes"], id="lanes"), pytest.param(["fit"], id="fit")])
@pytest.mark.gallery
def test_metric_with_a_value_a_class_is_recorded_number_by_number(tmp_path, engines):
    (tmp_path / "mine.py").write_text("""
import keras
from keras import ops


class Predicted(keras.metrics.Metric):
    def __init__(self, size, **options):
        super().__init__(name="predicted", **options)
        self.size, self.count = size, self.add_variable((size,), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        found = ops.sum(ops.one_hot(ops.argmax(y_pred, -1), 10), 0)
        self.count.assign_add(found if self.size == 10 else ops.tile(found, self.size // 10))

    def result(self):
        return ops.convert_to_tensor(self.count)


def build(config, data):
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(data.outputs)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(config["learning_rate"]), loss, metrics=["accuracy", Predicted(config["size"])])
    return model
""")
    text = """
[study]
objective = "val_accuracy"
trials = 3
epochs = 2
[data]
source = "sklearn:digits"
limit = 300
[model]
build = "mine.py:build"
size = 10
[space]
learning_rate = { low = 1e-3, high = 1e-1, log = true }
"""
    path = write_study(tmp_path, text)
    for engine in engines:
        done = manyfit("run", path, "--name", engine, "--set", f"run.engine={engine}", "--backend", "jax")
        assert done.returncode == 0, done.stderr
    for (metrics,) in query(path.with_suffix(".db"), "SELECT metrics FROM manyfit_epochs"):
        curve = json.loads(metrics)
        assert sum(curve[f"val_predicted[{label}]"] for label in range(10)) == 30  # a tenth of the rows
    vector = manyfit(
        "run", path, "--name", "vector", "--set", "study.objective=val_predicted", "--set", "study.direction=maximize"
    )
    assert vector.returncode == 2
    assert "val_predicted[0]" in vector.stderr
    many = manyfit("run", path, "--name", "many", "--set", "model.size=1000")
    assert many.returncode == 2
    assert "the metric predicted gives 1000 numbers" in many.stderr


def stored_names():
    from search.engines.lanes import keys
    from search.engines.optimizers import Decay

    return keys._schedule_part(Decay(0.1, "cosine", 10, 0.0, 0.0), {})[0]


def test_keys_that_studies_store_survive_the_move_of_a_class():
    assert in_jax(stored_names) == "search.engines.training.Decay"
