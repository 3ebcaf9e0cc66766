"""Losses and metrics get labels and outputs in the form that they are made for, whatever the source and the model give."""

from __future__ import annotations

import shutil

import pytest
from support import BROUGHT, in_keras, ran

pytestmark = pytest.mark.slow

# One source a task, each with labels in another form.
A_FEW = ("binary one-hot", "classes column", "bits", "number column")
# Without a graph, TensorFlow computes at once what JAX compiles one by one.
BACKENDS = ["tensorflow", pytest.param("jax", marks=pytest.mark.gallery)]
WIDE = [
    pytest.param(A_FEW, "tensorflow", id="a few, tensorflow"),
    pytest.param(None, "jax", id="all, jax", marks=pytest.mark.gallery),
    pytest.param(None, "tensorflow", id="all, tensorflow", marks=pytest.mark.gallery),
]


def what_the_tables_leave_out():
    import inspect

    import keras
    from objectives_kit import needs

    def classes(room, base):
        return {n for n, k in vars(room).items() if inspect.isclass(k) and issubclass(k, base)}

    losses = classes(keras.losses, keras.losses.Loss) ^ set(needs.LOSSES)
    metrics = classes(keras.metrics, keras.metrics.Metric) ^ set(needs.METRICS)
    wrapped = [n for n in needs.LOSSES if not hasattr(getattr(keras.losses, n)(), "_fn_kwargs")]
    return [sorted(losses), sorted(metrics), wrapped]


def test_every_loss_and_metric_of_keras_is_in_the_tables():
    found = in_keras(what_the_tables_leave_out, backend="tensorflow")
    assert found == [["Loss"], ["Accuracy", "Mean", "MeanMetricWrapper", "Metric", "Sum"], []]


def all_metrics(sources):
    import keras
    import numpy as np
    from objectives_kit import (
        CONFIG,
        SOURCES,
        TrainSection,
        Truth,
        UsageError,
        close,
        metric_options,
        needs,
        right_metric,
        trainer_of,
    )

    found, refused, count = {}, {}, 0
    for source in sources or SOURCES:
        is_number = source.startswith("number")
        classes = {"b": 2, "c": 4}[source[0]] if source != "bits" and not is_number else 0
        loss = "binary_crossentropy" if source == "bits" else None
        trainer = trainer_of(source, loss=loss, metrics=())
        for end in ("logits", "probabilities"):
            if is_number and end == "probabilities":
                continue
            model = trainer.build({"end": end}, trainer.data.info)
            truth = Truth(trainer, model, is_logits=end == "logits" and not is_number)
            y, raw = (keras.ops.convert_to_tensor(array) for array in (trainer.data.y_validation, truth.raw))
            for name in ["Accuracy", *needs.METRICS]:
                entry = {"name": name, **metric_options(name, classes)}
                train = TrainSection(loss=loss, metrics=(entry,))
                object.__setattr__(trainer, "settings", trainer.settings.model_copy(update={"train": train}))
                try:
                    trainer.compile(model, CONFIG)
                except UsageError as error:
                    refused.setdefault(source, {})[name] = str(error)
                    continue
                (metric,) = model._compile_metrics._user_metrics
                metric.update_state(y, raw)
                value, right = float(metric.result()), right_metric(name, truth)
                count += 1
                # Negative outputs of a regression are no rates: Poisson is not a number of them.
                if not close(value, right) and np.isfinite([value, right]).any():
                    found[f"{source}, {end}, {name}"] = [value, right]
    return [found, {source: sorted(names) for source, names in refused.items()}, count]


TASKS = ("binary", "classes", "bits", "number")
NEEDS_AN_OUTPUT_A_CLASS = [
    "CategoricalAccuracy", "CategoricalCrossentropy", "CategoricalHinge", "OneHotIoU", "OneHotMeanIoU",
    "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy", "SparseTopKCategoricalAccuracy", "TopKCategoricalAccuracy",
]  # fmt: skip
NEEDS_CLASSES = [
    "IoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
]  # fmt: skip


@pytest.mark.parametrize(("sources", "backend"), WIDE)
def test_every_metric_of_keras_is_right_for_labels_of_every_form_or_refused(sources, backend):
    wrong, refused, count = in_keras(all_metrics, sources, backend=backend)
    assert wrong == {}
    assert count > (200 if sources else 600)
    by_task = {task: [set(names) for source, names in refused.items() if source.startswith(task)] for task in TASKS}
    assert all(names == set(NEEDS_AN_OUTPUT_A_CLASS) for names in by_task["binary"])
    assert by_task["classes"] == []
    assert by_task["bits"] == [set(NEEDS_CLASSES)]
    assert by_task["number"]
    assert all({"AUC", "F1Score", "Accuracy", "IoU"} <= names for names in by_task["number"])
    assert not any({"MeanSquaredError", "R2Score", "Poisson"} & names for names in by_task["number"])


def metrics_beside_predictions():
    from objectives_kit import Truth, close, metric_options, right_metric, trained, trainer_of

    wrong, count = {}, 0
    for source, end, names in (
        ("binary", "logits", ["Accuracy", "AUC", "F1Score", "Precision", "Recall", "Hinge", "R2Score", "KLDivergence"]),
        (
            "classes",
            "logits",
            [
                "Accuracy",
                "AUC",
                "F1Score",
                "Precision",
                "MeanSquaredError",
                "TopKCategoricalAccuracy",
                "CategoricalAccuracy",
            ],
        ),
        (
            "classes one-hot",
            "probabilities",
            ["Accuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy", "CategoricalCrossentropy", "MeanIoU"],
        ),
        ("bits", "logits", ["Accuracy", "BinaryAccuracy", "F1Score", "AUC", "BinaryCrossentropy"]),
    ):
        entries = tuple({"name": name, **metric_options(name, 4)} for name in names)
        trainer = trainer_of(
            source, loss="binary_crossentropy" if source == "bits" else None, metrics=entries, class_weight=None
        )
        model, report = trained(trainer, end=end)
        truth = Truth(trainer, model, is_logits=end == "logits")
        for name, metric in zip(names, model._compile_metrics.metrics, strict=True):
            value, right = report[f"val_{metric.name}"], right_metric(name, truth)
            count += 1
            # Keras's R2Score and AUC differ from those of one batch by rounding alone.
            if not close(value, right, 1e-3):
                wrong[f"{source}, {name}"] = [value, right]
    return [wrong, count]


@pytest.mark.gallery
def test_metrics_of_a_training_by_fit_are_those_of_its_predictions():
    found = in_keras(metrics_beside_predictions, backend="tensorflow")
    assert found == [{}, 25]


def all_losses(sources):
    import keras
    from objectives_kit import (
        CONFIG,
        SOURCES,
        TrainSection,
        Truth,
        UsageError,
        close,
        needs,
        right_loss,
        sigmoid,
        softmax,
        trainer_of,
    )

    found, refused = {}, {}
    for source in sources or SOURCES:
        for end in ("logits", "probabilities"):
            is_number = source.startswith("number")
            if is_number and end == "probabilities":
                continue
            trainer = trainer_of(source, metrics=())
            model = trainer.build({"end": end}, trainer.data.info)
            for name in needs.LOSSES:
                settings = trainer.settings.model_copy(update={"train": TrainSection(loss=name, metrics=())})
                object.__setattr__(trainer, "settings", settings)
                try:
                    trainer.compile(model, CONFIG)
                except UsageError as error:
                    refused.setdefault(source, {})[name] = str(error)
                    continue
                elementwise = name in ("BinaryCrossentropy", "BinaryFocalCrossentropy")
                of_classes = name in ("CategoricalCrossentropy", "CategoricalFocalCrossentropy", "KLDivergence")
                squash = sigmoid if elementwise else softmax if of_classes and trainer.data.info.outputs > 1 else None
                truth = Truth(trainer, model, is_logits=end == "logits", squash=squash)
                value = float(model.loss(keras.ops.convert_to_tensor(trainer.data.y_validation), truth.raw))
                right = right_loss(name, truth)
                if name == "Poisson" and end == "logits":
                    continue  # of negative rates: not a number in Keras either
                if not close(value, right):
                    found[f"{source}, {end}, {name}"] = [value, right]
    return [found, {source: sorted(names) for source, names in refused.items()}]


REFUSED_LOSSES = {
    "binary": [
        "CTC", "CategoricalCrossentropy", "CategoricalFocalCrossentropy", "CategoricalGeneralizedCrossEntropy", "CategoricalHinge",
        "SparseCategoricalCrossentropy",
    ],
    "classes": ["CTC"],
    "bits": ["CTC", "CategoricalGeneralizedCrossEntropy", "Circle", "SparseCategoricalCrossentropy"],
}  # fmt: skip


@pytest.mark.parametrize(("sources", "backend"), WIDE)
def test_every_loss_of_keras_is_right_for_labels_of_every_form_or_refused(sources, backend):
    wrong, refused = in_keras(all_losses, sources, backend=backend)
    assert wrong == {}
    assert len(refused) == (len(sources) if sources else 12)
    for source, names in refused.items():
        if source.startswith("number"):
            assert {"BinaryCrossentropy", "KLDivergence"} <= set(names)
            assert not {"Huber", "MeanSquaredError"} & set(names)
        else:
            assert names == REFUSED_LOSSES[source.split()[0]], source


def objects_by_spelling():
    from keras.src.utils.naming import to_snake_case
    from objectives_kit import AT, UsageError, keras_names, metric_options, needs

    options = {
        "Huber": {"delta": 0.5},
        "BinaryFocalCrossentropy": {"gamma": 5.0},
        "BinaryCrossentropy": {"label_smoothing": 0.2},
        "SparseCategoricalCrossentropy": {"ignore_class": 1},
        "Tversky": {"alpha": 0.9},
        "CategoricalFocalCrossentropy": {"alpha": 0.7},
        "CategoricalGeneralizedCrossEntropy": {"q": 0.3},
        "Circle": {"gamma": 10.0},
        "CosineSimilarity": {"axis": 0},
    }
    wrong = []
    for key, table in (("train.loss", needs.LOSSES), ("train.metrics", needs.METRICS)):
        for name in table:
            given = options.get(name, {}) if key == "train.loss" else metric_options(name, 3)
            for spelling in (
                name,
                name.lower(),
                name.upper(),
                to_snake_case(name),
                to_snake_case(name).upper(),
                name[0].lower() + name[1:],
            ):
                made = keras_names.find(key, {"name": spelling, **given}).make()
                arguments = getattr(made, "_fn_kwargs", None) or {k: getattr(made, k, None) for k in given}
                same = all(arguments.get(k) == v or (k in AT.get(name, {})) for k, v in given.items())
                if type(made).__name__ != name or not same:
                    wrong.append([key, spelling])
    short = {
        s: keras_names.find("train.loss", s).name
        for s in ("mse", "MAE", "mape", "msle", "bce", "KLD", "cosine", "logcosh", "log_cosh")
    }
    short |= {
        s: keras_names.find("train.metrics", s).name for s in ("rmse", "f1", "top_k", "r2", "Mse", "logcosh", "roc_auc")
    }
    said = []
    for key, entry in (
        ("train.loss", {"name": "huber", "delt": 0.5}),
        ("train.metrics", {"name": "auc", "curv": "PR"}),
        ("train.loss", "huberr"),
        ("train.metrics", {"name": "Precision", "from_logits": 3}),
        ("train.loss", {"name": "mse", "from_logit": True}),
        ("train.metrics", "mean"),
        ("train.loss", {"name": "CategoricalGeneralizedCrossEntropy", "q": 4.0}),
    ):
        try:
            keras_names.find(key, entry).make()
            said.append("")
        except UsageError as error:
            said.append(str(error))
    return [wrong, short, said]


def test_a_loss_or_metric_is_the_same_object_in_every_spelling_and_unknown_options_are_refused():
    found = in_keras(objects_by_spelling, backend="tensorflow")
    wrong, short, said = found
    assert wrong == []
    assert short == {
        "mse": "MeanSquaredError", "MAE": "MeanAbsoluteError", "mape": "MeanAbsolutePercentageError", "bce": "BinaryCrossentropy",
        "msle": "MeanSquaredLogarithmicError", "KLD": "KLDivergence", "cosine": "CosineSimilarity", "logcosh": "LogCoshError",
        "log_cosh": "LogCosh", "rmse": "RootMeanSquaredError", "f1": "F1Score", "top_k": "TopKCategoricalAccuracy",
        "r2": "R2Score", "Mse": "MeanSquaredError", "roc_auc": "AUC",
    }  # fmt: skip
    for text, parts in zip(
        said,
        (
            ("train.loss: Huber has no option 'delt'", "did you mean 'delta'", "it takes delta, reduction, dtype"),
            ("train.metrics: AUC has no option 'curv'", "did you mean 'curve'"),
            ("train.loss: Keras does not take 'huberr'", "did you mean 'huber'"),
            ("train.metrics: from_logits of Precision is true or false; received 3",),
            ("train.loss: MeanSquaredError has no option 'from_logit'",),
            ("train.metrics: Keras does not take 'mean'",),
            ("train.loss: CategoricalGeneralizedCrossEntropy does not take these options",),
        ),
        strict=True,
    ):
        assert all(part in text for part in parts), text


def losses_of_tables():
    import keras
    from objectives_kit import trained, trainer_of

    rows = []
    for source, entry, kind in (
        ("number", {"name": "huber", "delta": 0.5}, keras.losses.Huber(delta=0.5)),
        (
            "binary",
            {"name": "binary_focal_crossentropy", "gamma": 5.0},
            keras.losses.BinaryFocalCrossentropy(gamma=5.0, from_logits=True),
        ),
        (
            "binary",
            {"name": "bce", "label_smoothing": 0.2},
            keras.losses.BinaryCrossentropy(label_smoothing=0.2, from_logits=True),
        ),
        (
            "classes",
            {"name": "sparse_categorical_crossentropy", "ignore_class": 2},
            keras.losses.SparseCategoricalCrossentropy(ignore_class=2, from_logits=True),
        ),
        ("number", "mse", keras.losses.MeanSquaredError()),
        ("binary", {"name": "poisson", "reduction": "sum_over_batch_size"}, keras.losses.Poisson()),
    ):
        trainer = trainer_of(source, loss=entry, metrics=())
        end = "probabilities" if source == "binary" and entry["name"] == "poisson" else "logits"
        model, report = trained(trainer, end=end, batch_size=500)
        raw, y = model.predict(trainer.data.x_validation, verbose=0), trainer.data.y_validation
        rows.append([report["val_loss"], float(kind(y.reshape(-1, 1) if source != "classes" else y, raw))])
    return rows


@pytest.mark.gallery
def test_a_table_in_small_letters_trains_with_its_options_and_is_told_of_logits():
    found = in_keras(losses_of_tables, backend="tensorflow")
    for reported, right in found:
        assert reported == pytest.approx(right, rel=1e-5)


def losses_and_their_metrics():
    import keras
    from objectives_kit import CONFIG, UsageError, trainer_of

    rows = {}
    for source in ("binary", "classes", "classes one-hot", "bits"):
        for name in (
            "hinge",
            "squared_hinge",
            "categorical_hinge",
            "kl_divergence",
            "mse",
            "mae",
            "binary_crossentropy",
            "categorical_crossentropy",
            "sparse_categorical_crossentropy",
            "cosine_similarity",
            "poisson",
        ):
            trainer = trainer_of(source, loss=name, metrics=[name])
            try:
                model = trainer.model({**CONFIG, "end": "probabilities" if name == "poisson" else "logits"}, 1)
            except UsageError:
                continue
            y, outputs = (
                keras.ops.convert_to_tensor(a) for a in (trainer.data.y_validation, model(trainer.data.x_validation))
            )
            (metric,) = model._compile_metrics._user_metrics
            metric.update_state(y, outputs)
            rows[f"{source} {name}"] = [float(model.loss(y, outputs)), float(metric.result())]
    return rows


@pytest.mark.gallery
def test_a_metric_of_a_loss_says_what_the_loss_of_that_name_says():
    found = in_keras(losses_and_their_metrics, backend="tensorflow")
    assert len(found) > 25
    for name, (loss, metric) in found.items():
        # Keras's loss of this name is the negative of its metric.
        assert (-loss if "cosine" in name else loss) == pytest.approx(metric, rel=1e-4), name


def own_objectives_beside_scikit_learn(few):
    import numpy as np
    from objectives_kit import BINARY, FOLDER, NUMBERS, X, sk, trained, trainer_of

    shutil.copy(BROUGHT / "own_objectives.py", FOLDER / "own.py")
    header = ",".join(f"x{i}" for i in range(6)) + ",y"
    np.savetxt(FOLDER / "table.csv", np.column_stack([X, NUMBERS[:, 0]]), delimiter=",", header=header, comments="")
    np.savetxt(FOLDER / "labels.csv", np.column_stack([X, BINARY]), delimiter=",", header=header, comments="")
    rows = {}
    for source in ("number column",) if few else ("number", "number column", "table.csv"):
        for loss in ("Loss", "flat_loss", None) if few else ("Loss", "FlatLoss", "loss", "flat_loss", None):
            train = {"loss": loss and f"own.py:{loss}", "metrics": ["own.py:R2", "own.py:flat_mae", "mae", "r2_score"]}
            trainer = trainer_of(source, target="y" if source.endswith("csv") else None, **train)
            model, report = trained(trainer, epochs=2)
            raw, y = model.predict(trainer.data.x_validation, verbose=0)[:, 0], trainer.data.y_validation.reshape(-1)
            rows[f"{source}, {loss}"] = [
                [report[f"val_{name}"] for name in ("loss", "r2", "flat_mae", "mae", "r2_score")],
                [
                    float(np.mean((raw - y) ** 2)),
                    sk.r2_score(y, raw),
                    *[float(np.abs(raw - y).mean())] * 2,
                    sk.r2_score(y, raw),
                ],
            ]
    for source in ("table.csv",) if few else ("number column", "table.csv"):
        for loss, factor in (("Twice", 2), ("WithFunction", 3)):
            trainer = trainer_of(
                source, target="y" if source.endswith("csv") else None, loss=f"own.py:{loss}", metrics=["mse"]
            )
            _, report = trained(trainer)
            rows[f"{source}, {loss}"] = [[report["val_loss"]], [factor * report["val_mse"]]]
        trainer = trainer_of(source, target="y" if source.endswith("csv") else None, loss="own.py:Gaussian", metrics=[])
        model, report = trained(trainer, outputs=2)
        (mean, log), y = model.predict(trainer.data.x_validation, verbose=0).T, trainer.data.y_validation.reshape(-1)
        rows[f"{source}, Gaussian"] = [[report["val_loss"]], [float(np.mean((y - mean) ** 2 * np.exp(-log) + log))]]
    for source in (
        ("classes column",) if few else ("binary", "binary column", "labels.csv", "classes", "classes column")
    ):
        trainer = trainer_of(
            source, target="y" if source.endswith("csv") else None, metrics=["own.py:hits", "own.py:Hits", "accuracy"]
        )
        _, report = trained(trainer, epochs=2, outputs=4 if "classes" in source else 2)
        own = [report["val_hits"], report["val_more_hits"]]
        rows[f"{source}, an output for each class"] = [own, [report["val_accuracy"]] * 2]
    for source in ("labels.csv",) if few else ("binary", "binary column", "binary floats", "labels.csv"):
        trainer = trainer_of(source, target="y" if source.endswith("csv") else None, metrics=["own.py:f1", "f1_score"])
        model, report = trained(trainer, epochs=2, batch_size=500)
        raw, y = model.predict(trainer.data.x_validation, verbose=0)[:, 0], trainer.data.y_validation.reshape(-1)
        rows[source] = [[report["val_f1"], report["val_f1_score"]], [sk.f1_score(y, raw > 0)] * 2]
    return rows


@pytest.mark.parametrize(("sources", "backend"), WIDE)
def test_own_losses_and_metrics_pair_each_row_with_its_own_whatever_the_shape_of_the_labels(sources, backend):
    found = in_keras(own_objectives_beside_scikit_learn, bool(sources), backend=backend)
    for name, (reported, right) in found.items():
        assert reported == pytest.approx(right, rel=1e-4), name


MAPS = """
import keras
import numpy as np
from keras import layers as L


def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6, 6, 1)).astype("float32")
    return x, (x + rng.normal(size=x.shape) > 0.3).astype("float32")


def build(config, data):
    return keras.Sequential([keras.Input(data.input_shape), L.Conv2D(1, 3, padding="same", bias_initializer="ones")])
"""


def metrics_of_maps():
    import numpy as np
    from objectives_kit import FOLDER, sigmoid, sk, trained, trainer_of

    (FOLDER / "maps.py").write_text(MAPS)
    names = ["accuracy", "binary_accuracy", "auc", "precision", "recall", "mae", "mse", "binary_crossentropy"]
    trainer = trainer_of(
        "maps.py:rows", build="maps.py:build", task="regression", loss="binary_crossentropy", metrics=names
    )
    model, report = trained(trainer, batch_size=100)
    logits, y = model.predict(trainer.data.x_validation, verbose=0).reshape(-1), trainer.data.y_validation.reshape(-1)
    p = sigmoid(logits)
    right = [
        *[sk.accuracy_score(y, p > 0.5)] * 2, sk.roc_auc_score(y, p), sk.precision_score(y, p > 0.5),
        sk.recall_score(y, p > 0.5), np.abs(p - y).mean(), ((p - y) ** 2).mean(), sk.log_loss(y, p),
    ]  # fmt: skip
    return {name: [report[f"val_{name}"], float(value)] for name, value in zip(names, right, strict=True)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_metrics_of_maps_are_of_probabilities_where_the_model_gives_logits(backend):
    for name, (reported, right) in in_keras(metrics_of_maps, backend=backend).items():
        assert reported == pytest.approx(right, rel=5e-3 if name == "auc" else 1e-4), name


def shapes_that_arrive():
    from objectives_kit import CONFIG, FOLDER, trainer_of

    shutil.copy(BROUGHT / "own_objectives.py", FOLDER / "own.py")
    for source in (
        "binary",
        "binary column",
        "binary one-hot",
        "classes",
        "classes column",
        "classes one-hot",
        "numbers",
        "sklearn:breast_cancer",
        "sklearn:diabetes",
        "sklearn:iris",
    ):
        trainer = trainer_of(source, build="own.py:compiled")
        model = trainer.model(CONFIG, 0)
        print("OF", source, flush=True)
        model.loss(trainer.data.y_train[:4], model(trainer.data.x_train[:4]))


def test_a_model_that_comes_compiled_gets_labels_in_the_shape_of_the_source():
    done = ran(shapes_that_arrive, backend="tensorflow")
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith(("OF", "SHAPE"))]
    shapes = {of[3:]: shape.removeprefix("SHAPE ") for of, shape in zip(lines[::2], lines[1::2], strict=True)}
    assert shapes == {
        "binary": "()", "binary column": "(1,)", "binary one-hot": "(2,)", "classes": "()", "classes column": "(1,)",
        "classes one-hot": "(4,)", "numbers": "(3,)", "sklearn:breast_cancer": "(1,)", "sklearn:diabetes": "(1,)", "sklearn:iris": "()",
    }  # fmt: skip


LOGITS = {
    "own linear",
    "small",
    "drawing",
    "class linear",
    "by name",
    "class by name",
    "linear and dropout",
    "sum",
    "tanh",
    "relu",
    "recurrent",
}


def what_ends_are_told_to_be():
    import sys

    from objectives_kit import CONFIG, FOLDER, UsageError, trainer_of

    shutil.copy(BROUGHT / "ends.py", FOLDER / "ends.py")
    sys.path.insert(0, str(FOLDER))
    import ends

    rows = {}
    for source in ("binary", "classes", "bits"):
        trainer = trainer_of(source, build="ends.py:build", loss="bce" if source == "bits" else None)
        for kind in ends.MODELS:
            try:
                model = trainer.model({**CONFIG, "kind": kind}, 3)
                rows[f"{source}: {kind}"] = model.loss._fn_kwargs["from_logits"]
            except UsageError as error:
                rows[f"{source}: {kind}"] = str(error)
    fixed = trainer_of("binary", build="ends.py:build", loss={"name": "bce", "from_logits": False})
    rows["fixed"] = fixed.model({**CONFIG, "kind": "own linear"}, 3).loss._fn_kwargs["from_logits"]
    rows["fixed for a loss that has no such option"] = str(
        trainer_of("binary", build="ends.py:build", loss={"name": "dice", "from_logits": True})
        .model({**CONFIG, "kind": "clipped"}, 3)
        .loss.form.outputs
    )
    return rows


@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_are_told_by_what_comes_out_and_where_they_can_not_be_the_user_is_asked(backend):
    found = in_keras(what_ends_are_told_to_be, backend=backend)
    assert found.pop("fixed") is False
    assert found.pop("fixed for a loss that has no such option") == "sigmoid"
    for name, said in found.items():
        source, kind = name.split(": ")
        if kind == "clipped" or (kind in ("own squashed", "one minus") and source == "binary"):
            assert "can't be told" in str(said), (name, said)
            assert "from_logits = true" in str(said)
        else:
            assert said is (kind in LOGITS), (name, said)


def state_of_seeds():
    import numpy as np
    from objectives_kit import CONFIG, FOLDER, trainer_of

    shutil.copy(BROUGHT / "ends.py", FOLDER / "ends.py")
    trainer = trainer_of("binary", build="ends.py:build")
    model = trainer.model({**CONFIG, "kind": "drawing"}, 3)
    (state,) = [np.array(v).tolist() for v in model.non_trainable_variables if "seed" in v.path]
    return state


def test_evaluating_a_model_to_judge_it_leaves_its_random_stream_where_it_was():
    assert in_keras(state_of_seeds, backend="tensorflow") == [3, 0]


def schedules_step_by_step():
    import keras

    from search.engines.optimizers import Decay

    steps = 20
    linear, cosine = Decay(0.1, "linear", steps, 0.0, 0.0), Decay(0.1, "cosine", steps, 0.0, 0.1)
    of = keras.optimizers.schedules
    pairs = [
        (linear, of.PolynomialDecay(0.1, steps, end_learning_rate=0.0)),
        (cosine, of.CosineDecay(0.1, steps, alpha=0.1)),
    ]
    ours, theirs = ([[float(pair[i](step)) for step in range(steps + 1)] for pair in pairs] for i in (0, 1))
    return [ours, theirs, [float(linear(steps - 1)), float(linear(steps))]]


def test_linear_and_cosine_schedules_are_keras_own_step_by_step():
    ours, theirs, last = in_keras(schedules_step_by_step, backend="tensorflow")
    assert ours == [pytest.approx(row, abs=1e-8) for row in theirs]
    # The last of n steps is number n - 1: it has 1/n of the way left. The end is what is recorded after it.
    assert last == pytest.approx([0.1 / 20, 0.0], abs=1e-8)
