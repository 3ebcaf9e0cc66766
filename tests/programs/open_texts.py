"""Evaluates a model on the texts of a data function with Keras alone."""

import json
import sys

sys.modules.update(dict.fromkeys(["search", "models", "spaces"]))
import keras
import numpy as np

sys.path.insert(0, ".")
import docs

given = getattr(docs, sys.argv[1])()
rows = given["part"] == "validation"
y = given["y"][rows].reshape(-1, 1)
if isinstance(given["x"], tuple):
    frame, photo, first = given["x"]
    columns = {name: cells.to_numpy(float if name == "length" else object) for name, cells in frame.items()}
    given["x"] = {**columns, "1": photo, "2": first}
many = isinstance(given["x"], dict)
x = (
    given["x"][rows]
    if not many
    else {
        name: np.array(values, None if name in ("length", "1") else object)[rows] for name, values in given["x"].items()
    }
)
model = keras.models.load_model("best.keras")
if keras.backend.backend() == "jax":
    after = model.get_layer("after_lookups")
    after.compile_from_config(model.get_compile_config())
    if many:
        x = {
            name: np.asarray(model.get_layer("lookup_" + name)(v)) if v.dtype == object else v for name, v in x.items()
        }
    else:
        x = np.asarray(model.get_layer("lookup_text")(x))
    model = after
print(json.dumps(model.evaluate(x, y, batch_size=256, verbose=0, return_dict=True)))
