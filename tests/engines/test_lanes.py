"""Lanes: what a lane computes, and that it depends on nobody else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import DiedError, end, in_jax, manyfit, query, start, table, wait_for, write_study

pytestmark = pytest.mark.slow


RECIPES = {
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01, "beta_1": 0.8, "beta_2": 0.99},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05},
    "momentum": {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.001},
    "nadam": {"optimizer": "nadam"}, "adamax": {"optimizer": "adamax"}, "lion": {"optimizer": "lion", "learning_rate": 1e-4},
    "adagrad": {"optimizer": "adagrad"}, "adadelta": {"optimizer": "adadelta", "learning_rate": 0.5},
    "lamb": {"optimizer": "lamb"}, "ftrl": {"optimizer": "ftrl"},
    "schedule_free": {"optimizer": "schedulefreeadamw"},
    "clipped": {"optimizer": "adam", "clipnorm": 0.5},
    "averaged": {"optimizer": "sgd", "learning_rate": 0.05, "use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 4},
    "accumulated": {"optimizer": "sgd", "learning_rate": 0.05, "gradient_accumulation_steps": 2},
    "penalties": {"optimizer": "sgd", "learning_rate": 0.05, "l1": 1e-3, "l2": 1e-2},
    "smoothed": {"optimizer": "sgd", "learning_rate": 0.05, "label_smoothing": 0.1},
    "cosine": {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine", "warmup": 0.2, "end_factor": 0.1},
    "exponential": {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "exponential", "warmup": 0.1},
    "batch_norm": {"optimizer": "sgd", "learning_rate": 0.05, "batch_norm": True},
    "dropout": {"optimizer": "sgd", "learning_rate": 0.05, "dropout": 0.3},
}  # fmt: skip


def lanes_beside_fit(few):
    from lanes_kit import LIFTED_TOGETHER, apart, assignment

    recipes = LIFTED_TOGETHER if few else {**LIFTED_TOGETHER, **RECIPES}
    return {name: apart(assignment(0, seed=7, **config)) for name, config in recipes.items()}


@pytest.mark.parametrize(
    "few", [pytest.param(True, id="a few"), pytest.param(False, id="all", marks=pytest.mark.gallery)]
)
def test_lane_agrees_with_fit_in_weights_and_metrics_after_several_epochs(few):
    differences = in_jax(lanes_beside_fit, few, optimized=not few)
    assert {name: size for name, size in differences.items() if not size < 1e-5} == {}


def zeros_beside_others():
    from lanes_kit import apart, assignment

    found = {}
    for name, config in {
        "momentum": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.05},
        "nesterov": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "learning_rate": 0.05},
        "rmsprop": {"optimizer": "rmsprop", "momentum": 0.9, "learning_rate": 1e-3},
        "rho": {"optimizer": "rmsprop", "rho": 0.9, "learning_rate": 1e-3},
        "weight_decay": {"optimizer": "adamw", "weight_decay": 0.1},
        "beta_1": {"optimizer": "adam", "beta_1": 0.9},
        "dropout": {"optimizer": "sgd", "dropout": 0.3},
        "label_smoothing": {"optimizer": "sgd", "label_smoothing": 0.2},
        "l1": {"optimizer": "sgd", "l1": 0.01, "l2": 0.0},
        "l2": {"optimizer": "sgd", "l1": 0.0, "l2": 0.01},
        "warmup": {"optimizer": "sgd", "schedule": "cosine", "warmup": 0.3},
        "end_factor": {"optimizer": "sgd", "schedule": "cosine", "end_factor": 0.3},
    }.items():
        zero = {**config, ("momentum" if name in ("nesterov", "rmsprop") else name): 0.0}
        found[name] = apart(assignment(0, seed=7, **zero), beside=assignment(0, seed=7, **config))
    return found


@pytest.mark.gallery
def test_zero_of_a_lifted_number_agrees_with_fit_beside_one_that_is_not_zero():
    differences = in_jax(zeros_beside_others)
    assert {name: size for name, size in differences.items() if not size < 1e-5} == {}


def pairs_that_share():
    import keras
    from brought import pairs
    from lanes_kit import assignment, keys, lifting, trainer

    found = {}
    for name, (make, one, two) in pairs.CASES.items():
        made = []
        for value in (one, two):
            keras.utils.clear_session()
            model = make(value)
            if not model.compiled:
                trainer.compile(model, assignment(0, optimizer="sgd").config)
            try:
                lifting.prepare(model)
                made.append(keys.program_key(keys.describe(model, lifting.find_slots(model), 64)))
            except lifting.NotLiftable:
                made.append(len(made))
        found[name] = made[0] == made[1]
    return found


def test_what_computes_differently_never_shares_a_program():
    """Each case is a model that is made twice, with two values: the keys must differ, or the value be one that is lifted."""
    found = in_jax(pairs_that_share)
    assert {name for name, is_shared in found.items() if is_shared} == {
        "shared: nested dropout", "shared: own optimizer", "shared: lane_numbers of a loss", "shared: own metric",
    }  # fmt: skip


def numbers_that_are_asked_for_more():
    import keras
    from lanes_kit import assignment, in_a_lane, lifting, trainer_of

    class Asks(keras.layers.Layer):
        lane_numbers = ("factor",)
        factor = 0.7

        def call(self, x):
            return x * 2 if self.factor > 0.5 else x

    mine = trainer_of()
    object.__setattr__(
        mine, "build", lambda config, data: keras.Sequential([keras.Input((64,)), Asks(), keras.layers.Dense(10)])
    )
    try:
        in_a_lane(assignment(0), trainer=mine)
        said = ""
    except lifting.NotLiftable as error:
        said = str(error)
    return said


def test_number_that_is_asked_for_more_than_zero_is_not_lifted_in_silence():
    said = in_jax(numbers_that_are_asked_for_more)
    assert "tests whether a number that differs between lanes is > 0.5" in said


def test_what_a_key_can_not_see_is_found_by_comparing_the_arithmetic(tmp_path):
    (tmp_path / "mine.py").write_text("""
import keras

FACTOR = 1.0


class Hidden(keras.layers.Layer):
    def call(self, x):
        return x * FACTOR


def build(config, data):
    global FACTOR
    FACTOR = config["dropout"]
    return keras.Sequential([keras.Input(data.input_shape), Hidden(), keras.layers.Dense(data.outputs)])
""")
    found = manyfit("plan", write_study(tmp_path), "--set", 'model={ build = "mine.py:build" }').stdout
    assert "dropout changes what is computed in a way that no layer's config shows" in " ".join(found.split())


@pytest.mark.gallery
def test_builder_that_wants_to_exit_fails_its_trial_and_no_other(tmp_path):
    (tmp_path / "mine.py").write_text("""
import keras


def build(config, data):
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(config["width"]), keras.layers.Dropout(config["dropout"])]
                            + [keras.layers.Dense(data.outputs)])


def late(config, data):
    if config["width"] == 7:
        raise SystemExit("seven is not my number")
    return build(config, data)
""")
    path = write_study(tmp_path, trials=6, epochs=2)
    starts = ", ".join(f"{{ width = {width} }}" for width in (5, 7, 9))
    done = manyfit(
        "run",
        path,
        *LANES,
        "--set",
        'model={ build = "mine.py:late" }',
        "--set",
        "space.width={low=1, high=64}",
        "--set",
        f"search.start=[{starts}]",
    )
    assert done.returncode == 0, done.stderr
    rows = table(path.with_suffix(".db"), "small")
    failed = [row for row in rows if row[1] == "FAIL"]
    assert [(row[0], row[3]) for row in failed] == [(1, "SystemExit: seven is not my number")]


def layers_and_metrics_beside_fit():
    from brought import layers_of_all_kinds
    from lanes_kit import apart, assignment, trainer, trainer_of

    from search.spec.settings import ModelSection, RunSection, TrainSection

    found = {}
    for name in layers_of_all_kinds.MODELS:
        mine = trainer_of(model=ModelSection(build=f"{layers_of_all_kinds.__file__}:build", kind=name))
        found[name] = apart(assignment(0, seed=3, optimizer="sgd", learning_rate=0.02, kind=name), mine)
    weighted = trainer_of(
        train=TrainSection(class_weight="balanced", metrics=("accuracy", "SparseCategoricalCrossentropy"))
    )
    found["class weights"] = apart(assignment(0, seed=3, optimizer="sgd", learning_rate=0.02), weighted)
    metrics = TrainSection(metrics=("accuracy", "AUC", "Precision", "Recall"))
    binary = trainer_of("sklearn:breast_cancer", train=metrics, run=RunSection())
    found["metrics with state"] = apart(assignment(0, seed=3, optimizer="sgd", learning_rate=0.02), binary)
    regression = trainer_of("sklearn:diabetes", train=TrainSection(metrics=("mae", "R2Score")))
    # Its errors are in the thousands: the bound is relative to them.
    found["regression"] = apart(assignment(0, seed=3, optimizer="adam", learning_rate=1e-3), regression) / 1e3
    bfloat = trainer_of(run=RunSection(precision="mixed_bfloat16"))
    assert trainer.model(assignment(0).config, 0).layers[0].compute_dtype == "float32"
    assert bfloat.model(assignment(0).config, 0).layers[0].compute_dtype == "bfloat16"
    # Its arithmetic has three digits, and XLA may keep more of them inside a program.
    found["mixed_bfloat16, a thousandth of it"] = (
        apart(assignment(0, seed=3, optimizer="sgd", learning_rate=0.02), bfloat) / 1e3
    )
    return found


@pytest.mark.gallery
def test_lane_agrees_with_fit_whatever_the_layers_metrics_weights_and_precision():
    differences = in_jax(layers_and_metrics_beside_fit)
    assert {name: size for name, size in differences.items() if not size < 1e-5} == {}


def curves_among_neighbours():
    from lanes_kit import assignment, engine_of, train

    def of_five(neighbours, places=4):
        return train(engine_of(places, 4), [*neighbours, assignment(5, seed=9, dropout=0.2)], places)[5]

    alone = of_five([])
    beside = of_five([assignment(1, dropout=0.5)])
    elsewhere = of_five([assignment(1), assignment(2), assignment(3, learning_rate=0.1)])
    with_nan = of_five([assignment(1, learning_rate=1e30), assignment(2)])
    in_another_block = of_five([assignment(n) for n in (1, 2, 3, 4)], places=8)
    return [alone, beside, elsewhere, with_nan, in_another_block]


def test_result_does_not_depend_on_neighbours_on_the_lane_or_on_how_many_train_at_a_time():
    curves = in_jax(curves_among_neighbours)
    assert all(curve == curves[0] for curve in curves)


def curves_by_lane_counts():
    from lanes_kit import assignment, engine_of, train

    return [train(engine_of(width, width), [assignment(5, seed=9, dropout=0.2)])[5] for width in (1, 8)]


def test_lane_counts_agree_within_rounding():
    one, many = in_jax(curves_by_lane_counts)
    assert max(abs(a[key] - b[key]) for a, b in zip(one, many, strict=True) for key in a) < 1e-5


def traces_of_lifted_numbers():
    from lanes_kit import assignment, engine_of, train

    engine = engine_of(4, 4)
    many = [
        assignment(
            n,
            epochs=2 + n % 3,
            learning_rate=0.001 * (n + 1),
            dropout=[0.0, 0.4][n % 2],
            l2=[0.0, 0.01][n % 2],
            label_smoothing=[0.1, 0.0][n % 2],
            momentum=[0.0, 0.9][n % 2],
            optimizer="sgd",
            initializer=["he_normal", "zeros", "glorot_uniform"][n % 3],
        )
        for n in range(12)
    ]
    found = train(engine, many)
    return [engine.traces, len(engine._programs.loaded), [len(found[n]) for n in range(12)]]


def test_members_that_differ_in_lifted_numbers_share_a_program_that_is_traced_once():
    traces, programs, epochs = in_jax(traces_of_lifted_numbers)
    assert (traces, programs) == (1, 1)
    assert epochs == [2 + n % 3 for n in range(12)]


def programs_by_shape():
    from lanes_kit import EpochEnd, Noted, assignment, engine_of

    engine = engine_of(6, 2)
    for n, config in enumerate([{"batch_size": 32}, {"batch_size": 64}, {"units": [8]}, {"batch_size": 32}]):
        engine.start(assignment(n, **config))
    ticks, noted = [], []
    for _ in range(3):
        events = engine.advance()
        noted += [e.kind for e in events if isinstance(e, Noted)]
        ticks.append([(e.member.trial, e.epoch) for e in events if isinstance(e, EpochEnd)])
    return [len(engine._programs.loaded), engine.traces, ticks, noted]


def test_shapes_and_batch_sizes_are_programs_of_their_own_and_take_turns():
    programs, traces, ticks, noted = in_jax(programs_by_shape)
    assert (programs, traces) == (3, 3)
    assert ticks == [[[n, epoch] for n in range(4)] for epoch in (1, 2, 3)]
    assert noted == ["program compiled"] * 3


def who_takes_free_places():
    from lanes_kit import EpochEnd, Verdict, assignment, engine_of

    engine = engine_of(2, 2)
    for n in range(4):
        engine.start(assignment(n))
    ticks = []
    for _ in range(4):
        ends = [e for e in engine.advance() if isinstance(e, EpochEnd)]
        ticks.append([(e.member.trial, e.epoch) for e in ends])
        engine.apply([Verdict(e.member, ends=(e.member.trial, e.epoch) in ((1, 1), (0, 2))) for e in ends])
    return ticks


def test_more_members_than_places_wait_and_then_take_the_free_ones_in_order():
    ticks = in_jax(who_takes_free_places)
    assert ticks == [[[0, 1], [1, 1]], [[0, 2], [2, 1]], [[2, 2], [3, 1]], [[2, 3], [3, 2]]]


def blocks_that_are_left():
    from lanes_kit import EpochEnd, Verdict, assignment, engine_of, train

    engine = engine_of(6, 2)
    for n in range(6):
        engine.start(assignment(n, epochs=6))
    curve, blocks = [], []
    for tick in range(6):
        ends = [e for e in engine.advance() if isinstance(e, EpochEnd)]
        blocks.append(sum(len(loaded.blocks) for loaded in engine._programs.loaded.values()))
        curve += [dict(e.metrics) for e in ends if e.member.trial == 5]
        # One of each block ends, so that three blocks hold one member each.
        engine.apply([Verdict(e.member, ends=tick == 1 and e.member.trial in (0, 2, 4)) for e in ends])
    return [blocks, curve, train(engine_of(1, 2), [assignment(5, epochs=6)])[5]]


def test_members_close_ranks_so_that_no_block_is_kept_for_a_few():
    blocks, moved, undisturbed = in_jax(blocks_that_are_left)
    assert blocks == [3, 3, 2, 2, 2, 2]
    assert moved == undisturbed


def weights_of_best_epochs():
    import jax
    import numpy as np
    from lanes_kit import Block, Program, assignment, build, rows, shuffled, trainer

    given = assignment(5, epochs=6, learning_rate=0.1)
    built = build(trainer, given)
    block = Block(Program(built.model, built.slots, rows, width=2, batch_size=64))
    block.program.compile(built.state)
    block.fill(1, built.state)
    weights, scores = [], []
    for epoch in range(1, 7):
        block.begin({1: shuffled(rows.count, given.seed, epoch)})
        scores.append(-float(block.end()["val_loss"][1]))
        weights.append(jax.device_get(block.take(1)["trainable"]))
    state = jax.device_get(block.take(1))
    best = int(np.argmax(scores))
    same = all((a == b).all() for a, b in zip(state["best"]["trainable"], weights[best], strict=True))
    return [best, scores, same and float(state["score"]) == scores[best]]


def test_best_weights_are_those_of_the_best_epoch():
    best, scores, same = in_jax(weights_of_best_epochs)
    assert same
    assert best < 5, f"no epoch after the best one, so this shows nothing: {scores}"


def memory_for_two_lanes():
    import jax
    import keras
    from jax._src.interpreters.batching import BatchTracer
    from lanes_kit import EpochEnd, LanesEngine, Noted, Verdict, assignment, rows, train, trainer_of

    class Large(keras.layers.Layer):
        """A layer that a device has memory for in two lanes and no more."""

        def call(self, x):
            inner = x
            while isinstance(inner, jax.core.Tracer):
                if isinstance(inner, BatchTracer) and inner.val.ndim > x.ndim and inner.val.shape[inner.batch_dim] > 2:
                    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
                inner = getattr(inner, "val", getattr(inner, "primal", None))
            return x

    def build(config, data):
        layers = [keras.Input(data.input_shape), Large(), keras.layers.Flatten(), keras.layers.Dense(data.classes)]
        return keras.Sequential(layers)

    mine = trainer_of()
    object.__setattr__(mine, "build", build)
    assignments = [assignment(n, epochs=2, learning_rate=0.01 * (n + 1)) for n in range(4)]
    undisturbed = train(LanesEngine(mine, rows, places=1, width=1), assignments, places=1)
    engine = LanesEngine(mine, rows, places=4, width=4)
    for one in assignments:
        engine.start(one)
    lanes, curves = [], {n: [] for n in range(4)}
    while engine.members:
        events = engine.advance()
        lanes += [event.detail for event in events if isinstance(event, Noted) and event.kind == "out of memory"]
        ends = [event for event in events if isinstance(event, EpochEnd)]
        for event in ends:
            curves[event.member.trial].append(dict(event.metrics))
        engine.apply([Verdict(event.member, ends=event.epoch == 2) for event in ends])
    return [lanes, curves, undisturbed]


def test_lanes_that_get_no_memory_begin_anew_with_fewer():
    """F7, by a layer that raises what a device does: the same each time, which the test below is not."""
    lanes, curves, undisturbed = in_jax(memory_for_two_lanes)
    assert [(each["lanes_before"], each["lanes"] <= 2) for each in lanes] == [(4, True)]
    assert {trial: len(curve) for trial, curve in curves.items()} == {str(n): 2 for n in range(4)}
    assert curves == undisturbed


def short_of_memory():
    import os
    import resource

    import jax
    from lanes_kit import Failed, Noted, Verdict, assignment, build, engine_of, train, trainer

    large = {"epochs": 4, "units": [2048, 2048], "batch_size": 64, "optimizer": "sgd"}
    undisturbed = train(engine_of(1, 1), [assignment(0, **large)], places=1)[0]
    engine = engine_of(4, 4)
    for n in range(4):
        engine.start(assignment(n, **large))
    engine.start(assignment(4, **{**large, "units": [14_000, 14_000]}))  # too large, even alone
    engine.start(assignment(5, **{**large, "units": [40_000, 40_000]}))  # more than there is at all
    each = sum(array.nbytes for array in jax.tree.leaves(build(trainer, assignment(0, **large)).state))
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + 6 * each, -1))
    lanes, curves, failed = [], {}, {}
    while engine.members:
        ended = []
        for event in engine.advance():
            if isinstance(event, Noted):
                lanes += [event.detail["lanes"]] if event.kind == "out of memory" else []
            elif isinstance(event, Failed):
                failed[event.member.trial] = event.reason
                ended.append(Verdict(event.member, ends=True))
            else:
                curves.setdefault(event.member.trial, {})[event.epoch] = dict(event.metrics)
                ended.append(Verdict(event.member, ends=event.epoch == 4))
        engine.apply(ended)
    return [curves, undisturbed, lanes, failed]


@pytest.mark.faults
def test_out_of_memory_gives_up_lanes_and_loses_nothing():
    """F7: a device with too little memory for four lanes: RESOURCE_EXHAUSTED is what it says then.

    Where it is LLVM that gets no memory, or a thread, the process ends: that is a dead worker, and another row of FAULTS.
    """
    try:
        curves, undisturbed, lanes, failed = in_jax(short_of_memory, timeout=70, optimized=True)
    except DiedError as error:
        pytest.skip(f"LLVM, or a thread, got no memory first: {error}")
    if set(failed) == {str(n) for n in range(6)}:
        pytest.skip("the process itself has taken all that one lane needs")
    assert lanes
    assert lanes[-1] < 4
    assert set(failed) == {"4", "5"}
    assert re.fullmatch(
        r"out of memory: the process may have \d.*; of the model, .* take \d.*: RESOURCE_EXHAUSTED: .*", failed["4"]
    )
    assert re.fullmatch(r"the model is too large: 1,603,\d+,\d+ parameters take 6.4 GB, .*", failed["5"])
    assert {trial: list(curve) for trial, curve in curves.items()} == {str(n): list("1234") for n in range(4)}
    for ours, alone in zip(curves["0"].values(), undisturbed, strict=True):
        assert max(abs(ours[key] - alone[key]) for key in alone) < 1e-4


def keys_of_own_layers():
    import keras
    from lanes_kit import assignment, keys, lifting, trainer

    class Scale(keras.layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.hidden = factor * 2  # not in its config

        def call(self, x):
            return x * self.hidden

        def get_config(self):
            return super().get_config()

    found = []
    for factor in (1.0, 2.0, 1.0):
        keras.utils.clear_session()
        model = keras.Sequential([keras.Input((64,)), Scale(factor), keras.layers.Dense(10)])
        trainer.compile(model, assignment(0).config)
        lifting.prepare(model)
        found.append(keys.program_key(keys.describe(model, lifting.find_slots(model), 64)))
    return found


def test_own_layers_with_other_numbers_never_share_a_program():
    keys = in_jax(keys_of_own_layers)
    assert keys[0] == keys[2] != keys[1]


LANES = ("--set", "run.engine=lanes", "--set", "run.lanes=4")


def test_lanes_search_a_study_and_an_interrupted_one_comes_out_the_same(tmp_path):
    tables = []
    for name in ("whole", "cut"):
        path = write_study(tmp_path, name=name, trials=14, epochs=12)
        database = path.with_suffix(".db")
        if name == "cut":
            process = start("run", path, *LANES)
            wait_for(lambda: query(database, "SELECT 1 FROM manyfit_epochs WHERE epoch = 3"), "epoch 3")  # noqa: B023
            assert end(process, 2)[0] == 130
            assert query(database, "SELECT count(*) FROM trials WHERE state = 'RUNNING'") == [(0,)]
        done = manyfit("run", path, *LANES)
        assert done.returncode == 0, done.stderr
        tables.append(table(database, name))
    assert len(tables[0]) == 14
    assert tables[0] == tables[1]
    assert "recomputed" not in manyfit("show", tmp_path / "cut.toml").stdout


MINE = """
import keras


class Own(keras.Model):
    def __init__(self, outputs):
        super().__init__()
        self.dense = keras.layers.Dense(outputs)

    def call(self, x):
        return self.dense(x)


def model(data, *layers):
    return keras.Sequential([keras.Input(data.input_shape), *layers, keras.layers.Dense(data.outputs)])


def subclassed(config, data):
    return Own(data.outputs)


def with_lambda(config, data):
    return model(data, keras.layers.Lambda(lambda x: x * 2))


def with_slope(config, data):
    return model(data, keras.layers.LeakyReLU(config["dropout"]))


def with_convolution(config, data):
    return model(data, keras.layers.Reshape((8, 8, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten())


def plain(config, data):
    return model(data, keras.layers.Dropout(config["dropout"]))


def watch(config):
    return keras.callbacks.Callback()
"""


@pytest.mark.parametrize(
    ("build", "says"),
    [
        ("subclassed", "Own is a model class of its own, not Sequential or Functional"),
        pytest.param(
            "with_lambda",
            "the layer lambda is a Lambda, whose function may hold anything",
            marks=pytest.mark.gallery,
        ),
    ],
)
def test_model_that_can_not_be_lifted_is_refused_with_the_reason_where_lanes_are_asked_for(tmp_path, build, says):
    (tmp_path / "mine.py").write_text(MINE)
    path = write_study(tmp_path)
    done = manyfit("run", path, *LANES, "--set", f'model={{ build = "mine.py:{build}" }}')
    assert done.returncode == 2
    assert says in done.stderr
    assert 'set engine = "fit"' in done.stderr
    assert not path.with_suffix(".db").exists()


@pytest.mark.parametrize(
    ("build", "more", "says"),
    [
        pytest.param("subclassed", (), "Own is a model class of its own", marks=pytest.mark.gallery),
        (
            "with_slope",
            (),
            "the parameter dropout changes the layer leaky_re_lu (LeakyReLU) in a way that can't be lifted",
        ),
        pytest.param(
            "with_convolution",
            (),
            "the layer conv2d is a convolution, which lanes make slower on a CPU",
            marks=pytest.mark.gallery,
        ),
        *(
            pytest.param("plain", ("--set", setting), says, marks=pytest.mark.gallery)
            for setting, says in (
                ('train.callbacks=["mine.py:watch"]', "train.callbacks: mine.py:watch: needs model.fit"),
                ("run.backend=tensorflow", "run.backend is tensorflow, and lanes need jax"),
                ("run.precision=mixed_float16", "a loss that is scaled as training goes"),
            )
        ),
    ],
)
def test_what_lanes_do_not_serve_falls_back_to_fit_with_a_line_saying_why(tmp_path, build, more, says):
    (tmp_path / "mine.py").write_text(MINE)
    path = write_study(tmp_path, trials=1, epochs=1)
    done = manyfit("run", path, "--set", f'model={{ build = "mine.py:{build}" }}', *more)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("fit on"))
    assert line.startswith("fit on tensorflow, cpu: one trial at a time; no lanes: ")
    assert says in line


def test_lanes_are_taken_by_themselves_and_what_was_resolved_is_obeyed(tmp_path):
    path = write_study(tmp_path, trials=12, epochs=2)
    first = manyfit("run", path)
    assert "lanes on jax, cpu: 3 trials at a time, in up to 2 compiled programs" in first.stderr
    shown = json.loads(manyfit("show", path, "--json").stdout)
    assert {tuple(sorted(found)) for found in shown["compiled"]} == {("batch_size", "lanes", "seconds")}
    assert len(shown["compiled"]) == 2
    assert set(shown["spent"]) == {"build", "compile", "train", "wait", "save"}
    again = manyfit("run", path, "--trials", 20)
    assert "lanes on jax, cpu: 3 trials at a time" in again.stderr
    for key, value in (("run.engine", "fit"), ("run.precision", "mixed_bfloat16")):
        refused = manyfit("run", path, "--trials", 21, "--set", f"{key}={value}")
        assert refused.returncode == 2
        assert "was started on" in refused.stderr


def test_lanes_that_can_not_fit_are_refused_before_the_first_trial(tmp_path):
    path = write_study(tmp_path)
    done = manyfit("run", path, "--set", "run.lanes=30_000_000")
    assert done.returncode == 2
    assert "run.lanes: 30000000 lanes need about" in done.stderr
    assert not path.with_suffix(".db").exists()


@pytest.mark.gallery
def test_lanes_train_on_several_devices(tmp_path):
    path = write_study(tmp_path, trials=8, epochs=3)
    done = manyfit("run", path, *LANES, "--set", 'run.devices=["cpu", "cpu"]')
    assert done.returncode == 0, done.stderr
    assert "4 trials at a time in each of 2 workers" in done.stderr
    assert sorted(row[0] for row in table(path.with_suffix(".db"), "small")) == list(range(8))


@pytest.mark.gallery
def test_lanes_need_no_tensorflow(tmp_path):
    """A tensorflow that can't be imported stands for one that is not installed: nothing may ask for it on JAX."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text('raise ImportError("not here")')
    path = write_study(tmp_path, trials=2, epochs=2)
    done = manyfit("run", path, *LANES, "--set", "run.backend=jax", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "lanes on jax" in done.stderr


def test_plan_tells_lanes_programs_and_memory(tmp_path):
    path = write_study(tmp_path)
    found = json.loads(manyfit("plan", path, "--json", *LANES).stdout)
    assert (found["engine"], found["backend"], found["lanes"], found["programs"]) == ("lanes", "jax", 4, 2)
    assert 0 < found["memory"]["needed"] < found["memory"]["allowed"]
    assert "lanes on jax, cpu: 4 trials at a time, in up to 2 compiled programs" in manyfit("plan", path, *LANES).stdout
