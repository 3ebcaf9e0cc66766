"""Opens a model with Keras and pandas alone, and evaluates it on rows as a user reads them."""

import json
import sys

sys.modules.update(dict.fromkeys(["search", "models", "spaces"]))
if sys.argv[3] == "without":

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name == "tensorflow":
                raise ModuleNotFoundError("No module named 'tensorflow'")

    sys.meta_path.insert(0, Absent())
import keras
import numpy as np
import pandas as pd

target = sys.argv[2]
frame = pd.read_csv("rows.csv", keep_default_na=False, na_values=[""])
frame = frame[frame.pop("part") == "validation"]
y = frame.pop(target)
if y.dtype != float:
    y = (y == "yes").astype("float32")
y = y.to_numpy().reshape(-1, 1)
model = keras.models.load_model(sys.argv[1])
rows = {}
for name in model.input if isinstance(model.input, dict) else frame:
    cells = frame[name]
    rows[name] = cells.to_numpy() if pd.api.types.is_numeric_dtype(cells) else cells.fillna("").to_numpy(object)
if keras.backend.backend() == "jax" and any(values.dtype == object for values in rows.values()):
    after = model.get_layer("after_lookups")
    after.compile_from_config(model.get_compile_config())
    for name, values in rows.items():
        if values.dtype == object:
            rows[name] = np.asarray(model.get_layer("lookup_" + name.replace(" ", "_"))(values))
    model = after
values = model.evaluate(rows, y, batch_size=256, verbose=0, return_dict=True)
outputs = model.predict(rows, verbose=0)
print(
    json.dumps(
        {
            "value": float(values["loss"]),
            "rows": len(outputs),
            "one": float(model.predict({k: v[:1] for k, v in rows.items()}, verbose=0)[0, 0] - outputs[0, 0]),
        }
    )
)
