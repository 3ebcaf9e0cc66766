"""The tables of `search.spec.vocabulary` against the installed Keras."""

from __future__ import annotations

import pytest
from support import in_keras

from search.spec.keras_callbacks import _REFUSED_OPTIONS, OPTIONS, REFUSED
from search.spec.vocabulary import (
    OPTIMIZERS,
    TRAIN_NUMBERS,
    direction_in_use,
    direction_of,
    optimizer_arguments,
    optimizer_class,
)

# Wrappers around other optimizers, and Muon, which is none by itself: it takes the layers that are not its own.
SPECIAL = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap", "Muon"}


def what_keras_says():
    import inspect

    import keras

    tables, defaults, names = {}, {}, {}
    for name, kind in vars(keras.optimizers).items():
        if not inspect.isclass(kind):
            continue
        parameters = inspect.signature(kind.__init__).parameters
        tables[name] = [p for p in parameters if p not in ("self", "name", "kwargs")]
        defaults[name] = {
            p: v.default for p, v in parameters.items() if isinstance(v.default, bool | int | float | str | None)
        }
    for name, kind in vars(keras.metrics).items():
        if inspect.isclass(kind):
            try:
                metric = kind()
            except (TypeError, ValueError):
                continue
            names[name] = [metric.name, getattr(metric, "_direction", None)]
    from search.spec.vocabulary import OPTIMIZERS, TRAIN_NUMBERS, optimizer_arguments

    refused = []
    for name in OPTIMIZERS:
        for key in optimizer_arguments(name):
            rule = TRAIN_NUMBERS[key]
            for bound in (rule.low, rule.high):
                if rule.kind in (int, float) and abs(bound) < 1e300:
                    try:
                        getattr(keras.optimizers, name)(**{key: rule.kind(bound), "use_ema": True})
                    except ValueError:
                        refused.append([name, key, bound])
    callbacks = {
        name: [p for p in inspect.signature(kind.__init__).parameters if p not in ("self", "kwargs")]
        for name, kind in vars(keras.callbacks).items()
        if inspect.isclass(kind)
    }
    return [tables, defaults, names, refused, callbacks]


@pytest.fixture(scope="module")
def keras_says():
    return in_keras(what_keras_says)


@pytest.mark.slow
def test_no_optimizer_is_missing_and_none_is_made_up(keras_says):
    tables, *_ = keras_says
    assert set(tables) - SPECIAL == set(OPTIMIZERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_takes_the_numbers_of_our_table(keras_says, name):
    tables, *_ = keras_says
    assert set(optimizer_arguments(name)) == set(tables[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_default_of_keras_is_one_that_we_would_take(keras_says, name):
    """So that nobody is refused who spells a default out."""
    _, defaults, *_ = keras_says
    for key in optimizer_arguments(name):
        value = defaults[name].get(key)
        if value is not None:
            TRAIN_NUMBERS[key].check(key, value)


@pytest.mark.slow
def test_keras_takes_every_number_that_our_bounds_let_through(keras_says):
    # Lion with beta_1 = 0 is sign descent, which Keras refuses: that trial fails and says so.
    assert keras_says[3] == [["Lion", "beta_1", 0]]


@pytest.mark.slow
def test_direction_of_a_metric_is_that_of_keras_where_both_know_one(keras_says):
    _, _, metrics, *_ = keras_says
    known = 0
    for name, direction in metrics.values():
        ours = direction_of(f"val_{name}")
        if ours is not None and direction is not None:
            known += 1
            assert ours == {"up": "maximize", "down": "minimize"}[direction], name
    assert known >= 20


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val_accident_rate", None),
        ("val_account_balance", None),
        ("val_glossary", None),
        ("val_lossless", None),
        ("val_terrors", None),
        ("val_maestro", None),
        ("val_accuracy_loss", None),
        ("val_auc_1", "maximize"),
        ("val_sold_AUC", "maximize"),
        ("val_MeanIoU", "maximize"),
        ("val_f1score", "maximize"),
        ("val_my-recall", "maximize"),
        ("val_price_loss", "minimize"),
        ("valloss", "minimize"),
        ("val_nrmse2", "minimize"),
        ("val_cross_entropy", "minimize"),
    ],
)
def test_direction_is_implied_by_words_and_not_by_letters(name, direction):
    assert direction_of(name) == direction


def test_study_that_began_by_letters_goes_on_in_its_direction():
    assert direction_in_use(None, "val_accident_rate") == "maximize"
    assert direction_in_use("minimize", "val_accident_rate") == "minimize"
    assert direction_in_use(None, "val_cost") == "minimize"


@pytest.mark.slow
def test_direction_of_most_metrics_is_known(keras_says):
    _, _, metrics, *_ = keras_says
    unknown = {name for name, _ in metrics.values() if direction_of(name) is None}
    # Counts and sums, which nobody searches by.
    assert unknown <= {
        "mean",
        "sum",
        "metric",
        "true_positives",
        "true_negatives",
        "false_positives",
        "false_negatives",
    }


@pytest.mark.parametrize(("name", "expected"), [("adamw", "AdamW"), ("SGD", "SGD"), ("RmsProp", "RMSprop")])
def test_optimizer_is_found_in_any_case(name, expected):
    assert optimizer_class(name) == expected


@pytest.mark.slow
def test_every_callback_of_keras_and_each_of_its_options_may_be_named_or_is_refused_with_a_reason(keras_says):
    callbacks = keras_says[4]
    assert set(callbacks) == set(OPTIONS) | set(REFUSED)
    for name, options in OPTIONS.items():
        unknown = set(callbacks[name]) - set(options)
        assert unknown <= set(_REFUSED_OPTIONS), name
        assert set(options) <= set(callbacks[name])
