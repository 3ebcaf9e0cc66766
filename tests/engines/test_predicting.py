"""`manyfit predict` gives what a study's own model gives for the same rows, whatever the source."""

from __future__ import annotations

import pytest
from support import in_keras

pytestmark = [pytest.mark.slow, pytest.mark.gallery]


def written(folder):
    """Write sources of data; return for each: its section of [data], and a function that writes rows of it as new ones."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = 60
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows).astype(float),
            "city": rng.choice(["Rome", "Oslo", "Bern"], rows),
            "joined": pd.date_range("2020-01-01", periods=rows).strftime("%Y-%m-%d"),
            "zip": rng.choice(["01", "02", "10"], rows),
            "churn": rng.choice(["yes", "no"], rows),
        }
    )
    frame.loc[::9, ["age", "city"]] = None
    frame.to_csv(folder / "mixed.csv", index=False)
    numbers = pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(5, 2, rows), "y": rng.normal(size=rows)})
    numbers.to_csv(folder / "numbers.csv", index=False)
    x = rng.integers(0, 255, (rows, 4, 5, 3)).astype(np.uint8)
    np.savez(folder / "classes.npz", x=rng.normal(size=(rows, 3)), y=np.array(["bird", "cat", "dog"] * 20))
    np.savez(folder / "targets.npz", x=rng.normal(size=(rows, 3)), y=rng.normal(size=(rows, 2)) * 100)
    np.savez(folder / "itself.npz", x=(x := x.reshape(rows, -1)[:, :6] + rng.normal(size=(rows, 6))), y=x)
    for number in range(rows):
        image = Image.fromarray(rng.integers(0, 255, (4, 5, 3)).astype(np.uint8))
        image.save(folder / "pets" / ("cat" if number % 2 else "dog") / f"{number:02}.png")
    (folder / "mine.py").write_text(
        "import numpy as np, pandas as pd\n"
        "words = np.array(['a good film', 'a bad film', 'so good', 'no', 'bad bad'] * 12, dtype=object)\n"
        "def texts():\n"
        "    return words, np.arange(60) % 2\n"
        "def several():\n"
        "    table = pd.DataFrame({'kind': ['x', 'y'] * 30, 'size': np.arange(60.0)})\n"
        "    return {'table': table, 'word': words, 'more': np.arange(60) / 7}, {'sold': np.arange(60) % 2, 'price': np.arange(60.0)}\n"
        "def build(config, data):\n"
        "    import keras\n"
        "    inputs = {name: keras.Input(shape, dtype=kind, name=name) for name, (shape, kind) in data.inputs.items()}\n"
        "    x = keras.layers.Concatenate()([keras.layers.Reshape((-1,))(keras.ops.cast(i, 'float32')) for i in inputs.values()])\n"
        "    ends = {'sold': 'sigmoid', 'price': None}\n"
        "    return keras.Model(inputs, {n: keras.layers.Dense(1, activation=a, name=n)(x) for n, a in ends.items()})\n"
    )
    own = {"build": "mine.py:build"}
    return {
        "mixed": ({"source": "mixed.csv", "target": "churn", "columns": {"category": ["zip"]}}, None),
        "numbers": ({"source": "numbers.csv", "target": "y", "scale": "standard"}, None),
        "classes": ({"source": "classes.npz", "scale": "minmax"}, None),
        "targets": ({"source": "targets.npz"}, None),
        "itself": ({"source": "itself.npz", "scale": "standard", "task": "regression"}, None),
        "pets": ({"source": "pets"}, None),
        "texts": ({"source": "mine.py:texts", "text": {"output_mode": "multi_hot"}}, None),
        "several": ({"source": "mine.py:several"}, own),
    }


def new_rows(folder, name, raw):
    """Write rows as people have them; return the source that names them."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    path = folder / f"new_{name}"
    if name == "mixed":
        # In another order, with another column, blanks as blanks.
        frame = pd.DataFrame(raw).assign(other=1).iloc[:, ::-1]
        frame.to_csv(f"{path}.csv", index=False)
        return f"{path}.csv"
    if name == "numbers":
        frame = pd.DataFrame(raw, columns=["a", "b"])[["b", "a"]]
        frame.to_csv(f"{path}.csv", index=False)
        return f"{path}.csv"
    if name == "texts":
        pd.DataFrame({"text": raw}).to_csv(f"{path}.csv", index=False)
        return f"{path}.csv"
    if name == "pets":
        path.mkdir()
        for number, image in enumerate(raw):
            Image.fromarray(image).save(path / f"{number:03}.png")
        return str(path)
    if name == "several":
        tables = {key: np.asarray(raw[key]).tolist() for key in raw}
        (folder / "new.py").write_text(
            "import numpy as np, pandas as pd\n"
            f"given = {tables!r}\n"
            "def rows():\n"
            "    table = pd.DataFrame({'size': given['size'], 'kind': given['kind']})\n"
            "    return {'more': np.array(given['more']), 'word': given['word'], 'table': table}\n"
        )
        return "new.py:rows"
    np.savez(f"{path}.npz", x=raw)
    return f"{path}.npz"


def predicted(names):
    """Export models of every kind of data, and set predictions of raw rows against the study's own model."""
    import keras
    import numpy as np
    import pandas as pd
    from export_kit import FOLDER, export, trainer_of
    from keras.src.utils import module_utils
    from scipy.special import expit, softmax

    from search.engines import evaluating, predicting
    from search.engines.protocol import EvaluateModel
    from search.trials.events import Member

    for folder in ("cat", "dog"):
        (FOLDER / "pets" / folder).mkdir(parents=True)
    found = {}
    sources = written(FOLDER)
    for name in names:
        section, model = sources[name]
        export(f"m-{name}", section, model)
        trainer = trainer_of(section, model)
        config = {**trainer.settings.model.arguments, "optimizer": "adam", "batch_size": 32, "epochs": 3}
        own = trainer.model(config, 3)
        outputs = own.predict(trainer.data.x_validation, verbose=0)
        # As in a worker on JAX that has not exported the model.
        module_utils.tensorflow._available = False
        order = EvaluateModel(Member(0), config, 3, "", str(FOLDER / f"m-{name}.keras"))
        values = evaluating.evaluate(trainer, order).detail["values"]
        study = own.evaluate(trainer.data.x_validation, trainer.data.y_validation, batch_size=256, return_dict=True)
        source = new_rows(FOLDER, name, trainer.data.raw.x_validation)
        options = {"source": source, "base": str(FOLDER), "output": str(FOLDER / f"predictions_{name}.csv"), "code": []}
        detail = predicting.predict(FOLDER / f"m-{name}.keras", options).detail
        of_classes = name in ("mixed", "classes", "pets", "texts", "several")
        named = "sold prediction" if name == "several" else "prediction" if of_classes else "none"
        table = pd.read_csv(options["output"], dtype={named: str})
        if name == "several":
            sold = np.asarray(outputs["sold"])
            expected = np.concatenate([outputs["price"], 1 - sold, sold], axis=1)
        elif name == "classes":
            expected = softmax(outputs, axis=1)
        elif name in ("mixed", "pets", "texts"):
            expected = np.concatenate([1 - expit(outputs), expit(outputs)], axis=1)
        elif name == "itself":
            expected = outputs * trainer.data.scaling.spread + trainer.data.scaling.mean
        else:
            expected = outputs
        numbers = table.select_dtypes("number").to_numpy()
        found[name] = {
            "columns": detail["columns"],
            "rows": [detail["rows"], len(table), len(trainer.data.y_validation if name != "several" else sold)],
            "apart": float(np.abs(numbers - expected).max() / max(1.0, float(np.abs(expected).max()))),
            "lines": detail["lines"],
            "loss": [values["loss"], float(study["loss"])],
        }
        if of_classes:
            data = trainer.data.output("sold") if name == "several" else trainer.data
            labels = list(data.info.class_names)
            chances = table[[named.replace("prediction", f"probability of {label}") for label in labels]]
            found[name]["agree"] = table[named].tolist() == [labels[at] for at in chances.to_numpy().argmax(axis=1)]
        keras.utils.clear_session()

    return found


@pytest.mark.parametrize(
    "names",
    [
        ["numbers", "classes", "itself", "pets"],
        ["targets", "mixed", "texts", "several"],
    ],
    ids=["arrays", "columns and texts"],
)
def test_predictions_of_raw_rows_are_those_of_the_studys_own_model(tmp_path, names):
    found = in_keras(predicted, names, cwd=tmp_path)
    assert list(found) == names
    assert {name: case["apart"] for name, case in found.items() if case["apart"] > 1e-5} == {}
    for case in found.values():
        assert len(set(case["rows"])) == 1
        assert case.get("agree", True)
        assert case["loss"][0] == pytest.approx(case["loss"][1], rel=1e-4)
    columns = {name: case["columns"] for name, case in found.items()}
    if "pets" in names:
        assert columns["classes"] == ["prediction", *(f"probability of {name}" for name in ("bird", "cat", "dog"))]
        assert columns["pets"][0] == "file"
    else:
        assert columns["targets"] == ["prediction 0", "prediction 1"]
        assert columns["several"][:2] == ["price prediction", "sold prediction"]
        assert [line.rpartition(": ")[2] for line in found["mixed"]["lines"]] == ["other"]
