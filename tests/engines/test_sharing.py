"""What lanes may share: nothing that changes what a trial computes, by whatever way it gets into the model."""

from __future__ import annotations

import json

import pytest
from support import in_jax, manyfit, query, write_study

pytestmark = pytest.mark.slow

# Each builder reads "gain" by a way that layers, losses and optimizers do not tell of. Beside it: what it is tried with.
HIDDEN = """
import keras
from keras import layers as L, ops

GAIN = 1.0
SHARED = None
SPARSE = keras.losses.SparseCategoricalCrossentropy


def net(config, data, *between, last=None, **dense):
    return keras.Sequential(
        [keras.Input(data.input_shape), L.Dense(8, activation="relu", **dense), *between, L.Dense(last or data.outputs)]
    )


def compiled(model, config, loss=None, metrics=("accuracy",), optimizer=None):
    optimizer = optimizer or keras.optimizers.Adam(config["learning_rate"])
    model.compile(optimizer, loss or SPARSE(from_logits=True), metrics=list(metrics))
    return model


def in_a_loss_whose_config_leaves_it_out(config, data):
    loss = {"mse": keras.losses.MeanSquaredError(), "huber": keras.losses.Huber(delta=config["gain"])}[config["kind"]]
    return compiled(net(config, data, last=1), config, loss, metrics=["mae"])


def in_the_axis_of_a_metric(config, data):
    metric = keras.metrics.CosineSimilarity(axis=-1 if config["gain"] < 0.5 else 0)
    return compiled(net(config, data, last=1), config, "mse", metrics=[metric])


def in_a_layer_class_of_the_builder(config, data):
    class Scale(L.Layer):
        def call(self, x):
            return x * config["gain"]

    return compiled(net(config, data, {"mse": L.Identity, "huber": Scale}[config["kind"]]()), config)


def in_a_global_of_the_module(config, data):
    global GAIN
    GAIN = config["gain"]

    class Scale(L.Layer):
        def call(self, x):
            return x * GAIN

    return compiled(net(config, data, Scale()), config)


def in_a_branch_by_a_threshold(config, data):
    axis = -1 if config["gain"] < 0.85 else 0

    class Softmax(L.Layer):
        def call(self, x):
            return ops.softmax(x, axis=axis)

    return compiled(net(config, data, Softmax()), config)


def in_a_constraint_of_the_builder(config, data):
    class Shrink(keras.constraints.Constraint):
        def __call__(self, w):
            return w * config["gain"]

    return compiled(net(config, data, kernel_constraint=Shrink()), config)


def in_an_optimizer_of_the_builder(config, data):
    class Scaled(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient * config["gain"], variable, learning_rate)

    return compiled(net(config, data), config, optimizer=Scaled(config["learning_rate"]))


def in_a_gradient_of_its_own(config, data):
    @ops.custom_gradient
    def clipped(x):
        def grad(*args, upstream=None):
            return (upstream if upstream is not None else args[0]) * config["gain"]

        return x, grad

    class Clip(L.Layer):
        def call(self, x):
            return clipped(x)

    return compiled(net(config, data, Clip()), config)


class Gain(L.Layer):
    lane_numbers = ("gain",)

    def __init__(self, gain, **options):
        super().__init__(**options)
        self.gain = gain

    def call(self, x):
        return x * self.gain if self.gain else x

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


def in_a_question_that_a_lifted_number_answers_wrongly(config, data):
    return compiled(net(config, data, Gain(config["gain"] if config["kind"] == "mse" else 0.0)), config)


def in_an_argument_of_call(config, data):
    inputs = keras.Input(data.input_shape)
    x = ops.clip(L.Dense(8)(inputs), -config["gain"], config["gain"])
    return compiled(keras.Model(inputs, L.Dense(data.outputs)(x)), config)
"""
HIDDEN_WAYS = sorted(line[4:].split("(")[0] for line in HIDDEN.splitlines() if line.startswith("def in_"))
A_FEW = [
    "in_a_loss_whose_config_leaves_it_out",
    "in_a_layer_class_of_the_builder",
    "in_a_question_that_a_lifted_number_answers_wrongly",
]


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param(A_FEW, id="a few"),
        pytest.param(sorted(set(HIDDEN_WAYS) - set(A_FEW)), id="the rest", marks=pytest.mark.gallery),
    ],
)
def test_trial_never_gets_what_is_another_ones_by_a_way_that_no_layer_tells_of(tmp_path, ways):
    (tmp_path / "hidden.py").write_text(HIDDEN)
    apart = in_jax(
        f"""
from search.spec.settings import ModelSection

apart = {{}}
for way in {ways}:
    regression = way in ("in_a_loss_whose_config_leaves_it_out", "in_the_axis_of_a_metric")
    mine = trainer_of("sklearn:diabetes" if regression else "sklearn:digits", model=ModelSection(build=f"{tmp_path}/hidden.py:{{way}}"))
    members = [
        assignment(i, epochs=2, gain=gain, kind=kind, seed=5, learning_rate=10 ** -(2 + i / 4))
        for i, (gain, kind) in enumerate([(0.25, "huber"), (0.8, "mse"), (0.9, "huber")])
    ]
    for number, member in enumerate(members):
        member.config["seed"] = 5
    lanes = train(engine_of(2, 2, trainer=mine), members, places=2)
    apart[way] = 0.0
    for member in members:
        _, logs = by_fit(member, 2, mine)
        found = lanes[member.member.trial][-1]
        apart[way] = max([apart[way], *(abs(found[name] - value) / max(1.0, abs(value)) for name, value in logs.items())])
print(json.dumps(apart))
""",
        quickly=True,
    )
    assert {way: size for way, size in apart.items() if not size < 1e-5} == {}
    assert len(apart) == len(ways)


def test_first_lifted_step_is_keras_own_for_every_optimizer_and_layer_that_lifts():
    """No false alarm: each of these would cost a program of its own a trial."""
    different = in_jax("""
from search.engines.lanes import arithmetic

found = {}
for name, config in {
    **{o: {"optimizer": o, "weight_decay": 0.01, "dropout": 0.2} for o in (
        "sgd", "rmsprop", "adam", "adamw", "adagrad", "adadelta", "adamax", "nadam", "lion", "lamb", "ftrl", "adafactor",
        "schedulefreeadamw",
    )},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True}, "momentum 0": {"optimizer": "sgd", "momentum": 0.0},
    "centered": {"optimizer": "rmsprop", "momentum": 0.0, "centered": True}, "amsgrad": {"optimizer": "adam", "amsgrad": True},
    "clipped": {"optimizer": "adam", "clipnorm": 0.5}, "clipped together": {"optimizer": "adam", "global_clipnorm": 0.5},
    "averaged": {"optimizer": "sgd", "use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 1},
    "accumulated": {"optimizer": "sgd", "gradient_accumulation_steps": 2},
    "no dropout": {"optimizer": "adam", "dropout": 0.0}, "decay 0": {"optimizer": "adamw", "weight_decay": 0.0},
    "penalties": {"optimizer": "sgd", "l1": 0.0, "l2": 1e-2}, "smoothed": {"optimizer": "sgd", "label_smoothing": 0.1},
    "cosine": {"optimizer": "sgd", "schedule": "cosine", "warmup": 0.2, "end_factor": 0.0},
    "exponential": {"optimizer": "sgd", "schedule": "exponential", "warmup": 0.0},
    "batch_norm": {"optimizer": "adam", "batch_norm": True, "dropout": 0.1},
}.items():
    built = identified(build(trainer, assignment(0, seed=7, **config)), rows)
    found[name] = arithmetic.difference(built.model, built.slots, built.state, rows.train, 64)
print(json.dumps({name: what for name, what in found.items() if what}))
""")
    assert different == {}


def test_lane_keeps_the_random_stream_of_layers_that_draw_while_evaluated(tmp_path):
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
    differences = in_jax(
        f"""
from search.spec.settings import ModelSection

mine = trainer_of(model=ModelSection(build="{tmp_path}/drawing.py:build"))
print(json.dumps({{
    kind: apart(assignment(0, seed=3, kind=kind, learning_rate=0.01), mine, epochs=2)
    for kind in ("lstm", "sampling")
}}))
""",
        quickly=True,
    )
    assert {kind: size for kind, size in differences.items() if not size < 1e-5} == {}


OWN_STEPS = '''
import keras
from keras import layers as L, ops


def error(model, x, y, training):
    return ops.mean((ops.reshape(y, (-1, 1)) - model(x, training=training)) ** 2)


class NoCall(keras.Model):
    """Trains a network inside of it by its own optimizer, and computes no outputs itself."""

    def __init__(self, rate):
        super().__init__()
        self.net = keras.Sequential([L.Dense(8, activation="relu"), L.Dropout(0.2), L.Dense(1)])
        self.tracker, self.second = keras.metrics.Mean(name="loss"), keras.optimizers.Adam(rate)

    @property
    def metrics(self):
        return [self.tracker]

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = error(self.net, *data, training=True)
        self.second.apply(tape.gradient(loss, self.net.trainable_variables), self.net.trainable_variables)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


class NoCallButAJudge(NoCall):
    def test_step(self, data):
        return {"rmse": ops.sqrt(error(self.net, *data, training=False))}


class Judged(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = L.Dense(8, activation="relu"), L.Dense(1)

    def call(self, x):
        return self.last(self.hidden(x))

    def test_step(self, data):
        return {"rmse": ops.sqrt(error(self, *data, training=False))}


def no_call(config, data):
    model = NoCall(config["learning_rate"])
    model.compile()
    return model


def no_call_but_a_judge(config, data):
    model = NoCallButAJudge(config["learning_rate"])
    model.compile()
    return model


def judged(config, data):
    model = Judged()
    model.compile(keras.optimizers.Adam(config["learning_rate"]), "mse")
    return model


def outputs_by_name(config, data):
    inputs = keras.Input(data.input_shape)
    model = keras.Model(inputs, {"main": L.Dense(1)(L.Dense(8, activation="relu")(inputs))})
    model.compile(keras.optimizers.Adam(config["learning_rate"]), loss={"main": "mse"}, metrics={"main": ["mae"]})
    return model
'''


@pytest.mark.parametrize(
    ("builder", "objective", "backend"),
    [
        pytest.param("no_call", "loss", "tensorflow", marks=pytest.mark.gallery),
        pytest.param("no_call_but_a_judge", "val_rmse", "tensorflow", marks=pytest.mark.gallery),
        pytest.param("judged", "val_rmse", "tensorflow", marks=pytest.mark.gallery),
        ("outputs_by_name", "val_mae", "jax"),
    ],
)
def test_model_that_keras_trains_by_steps_of_its_own_is_trained(tmp_path, builder, objective, backend):
    (tmp_path / "own.py").write_text(OWN_STEPS)
    path = write_study(tmp_path, SMALL_REGRESSION.format(builder=builder, objective=objective))
    done = manyfit("run", path, "--backend", backend)
    assert done.returncode == 0, done.stderr
    values = [value for (value,) in query(path.with_suffix(".db"), "SELECT value FROM trial_values")]
    assert len(values) == 2
    assert all(value > 0 for value in values)


def test_objective_that_an_own_test_step_does_not_report_is_refused(tmp_path):
    (tmp_path / "own.py").write_text(OWN_STEPS)
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


@pytest.mark.parametrize(
    "engines", [pytest.param(["lanes"], id="lanes"), pytest.param(["fit"], id="fit", marks=pytest.mark.gallery)]
)
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
