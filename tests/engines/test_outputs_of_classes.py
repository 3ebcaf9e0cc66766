"""What outputs of classes give by the loss that trained them, and losses for which a run is not stopped."""

from __future__ import annotations

from support import in_keras

MODELS = """
import keras
from keras import ops


def linear(config, data):
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(data.outputs)])


def bounded(config, data):
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(1, activation="sigmoid")])


def squared(config, data):
    model = linear(config, data)
    model.compile("sgd", "mse")
    return model


def ignoring(config, data):
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(data.classes - 1, activation="softmax")])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(ignore_class=data.classes - 1))
    return model


def between(y, outputs):
    # The mean of one class against that of the other; without one of them it is not finite.
    y = ops.cast(ops.reshape(y, (-1, 1)), "float32")
    return ops.sum(y * outputs) / ops.sum(y) - ops.sum((1 - y) * outputs) / ops.sum(1 - y) + 0 * outputs
"""


def by_loss():
    """Return what outputs give by case, and the findings of a run's own check."""
    from pathlib import Path

    import numpy as np

    Path("losses_of_classes.py").write_text(MODELS)
    x = np.random.default_rng(0).normal(size=(90, 3))
    for name, classes in (("two", 2), ("three", 3)):
        y = np.arange(90) * classes // 90
        np.savez(f"{name}.npz", x_train=x, y_train=y, x_validation=x, y_validation=y)
    from export_kit import trainer_of

    from search.checking import quick
    from search.engines import exporting, noting
    from search.engines.heads import heads_of

    found = {}
    for name, rows, build, train in (
        ("crossentropy", "two", "linear", {}),
        ("mse", "two", "linear", {"loss": "mse"}),
        ("mse of three", "three", "linear", {"loss": "mse"}),
        ("hinge", "two", "linear", {"loss": "hinge"}),
        ("hinge of three", "three", "linear", {"loss": "categorical_hinge"}),
        ("focal", "two", "linear", {"loss": "binary_focal_crossentropy"}),
        ("focal of probabilities", "two", "bounded", {"loss": "binary_focal_crossentropy"}),
        ("mse of probabilities", "two", "bounded", {"loss": "mse"}),
        ("mse of the builder", "two", "squared", {}),
        ("ignore_class", "three", "ignoring", {}),
        ("between", "two", "linear", {"loss": "losses_of_classes.py:between"}),
    ):
        trainer = trainer_of(
            {"source": f"{rows}.npz", "test": 0.0}, {"build": f"losses_of_classes.py:{build}"}, **train
        )
        config = {"optimizer": "adam", "batch_size": 32, "epochs": 3}
        model = trainer.model(config, 0)
        (head,) = heads_of(model, trainer.data)
        own = bool(exporting.bare_model(trainer, config, 0).compiled)
        given = noting.given_by(model, trainer, head, config, own=own)
        texts = [finding.text for finding in quick.of_model(model, trainer)]
        found[name] = [given.gives, given.squash, given.threshold, texts]
    return found


def columns_of(gives, threshold, outputs, names):
    """Return the columns of a table of predictions, and the remarks."""
    import numpy as np

    from search.engines import predicting
    from search.spec.model_file import OutputNotes

    output = OutputNotes(task="binary", class_names=names, shape=[len(outputs[0])], gives=gives, threshold=threshold)
    columns = predicting._columns(output, np.array(outputs, np.float32))
    return {column.name: column.values.tolist() for column in columns}


def intervals_of_accuracies():
    """Return how intervals of accuracies were made, of one label a row and of four, by outputs that are half right."""
    import keras
    import numpy as np

    from search.engines import evaluating

    evaluating.RESAMPLES = 20
    found = {}
    for width in (1, 4):
        x = y = np.tile([[0.0], [1.0]], (8, width))
        model = keras.Sequential([keras.Input((width,)), keras.layers.Identity()])
        model.compile(loss="mse", metrics=[keras.metrics.BinaryAccuracy(name="accuracy")])
        outputs = np.zeros_like(y)
        made = evaluating.intervals(evaluating._Rows(model, x, y, None, 32), outputs, {"accuracy": 0.5, "loss": 0.5})
        found[str(width)] = made["accuracy"][2]
    return found


def test_accuracy_of_several_labels_a_row_is_no_share_of_rows(tmp_path):
    assert in_keras(intervals_of_accuracies, cwd=tmp_path) == {"1": "Wilson", "4": "bootstrap"}


def test_outputs_that_approximate_labels_are_no_logits_and_sound_losses_stop_no_run(tmp_path):
    found = in_keras(by_loss, cwd=tmp_path)
    assert found == {
        "crossentropy": ["logits", "sigmoid", None, []],
        "mse": ["scores", "", 0.5, []],
        "mse of three": ["scores", "", 0.5, []],
        "hinge": ["scores", "", 0.0, []],
        "hinge of three": ["scores", "", 0.0, []],
        "focal": ["scores", "", 0.0, []],
        "focal of probabilities": ["scores", "", 0.5, []],
        "mse of probabilities": ["probabilities", "", None, []],
        "mse of the builder": ["scores", "", 0.5, []],
        "ignore_class": ["probabilities", "", None, []],
        "between": ["scores", "", None, []],
    }


def test_margins_are_scores_whose_sign_is_the_class(tmp_path):
    margins = ("scores", 0.0, [[-2.0], [0.25]], ["no", "yes"])
    assert in_keras(columns_of, *margins, cwd=tmp_path) == {"prediction": ["no", "yes"], "score": [-2.0, 0.25]}
