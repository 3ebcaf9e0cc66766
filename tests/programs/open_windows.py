"""Evaluates a model on windows of the validation days of every store, made by a loop over rows."""

import json
import sys

sys.modules.update(dict.fromkeys(["search", "models", "spaces"]))
import keras
import numpy as np
import pandas as pd

frame = pd.read_csv("rows.csv", keep_default_na=False, na_values=[""]).sort_values(["store", "day"], kind="stable")
frame = frame[frame.day >= "2024-02-18"]
rows = {name: [] for name in frame if name not in ("store", "day")}
targets = []
for _, series in frame.groupby("store"):
    for start in range(len(series) - 4):
        targets.append(series.sales.iloc[start + 4])
        for name, windows in rows.items():
            cells = series[name].iloc[start : start + 4]
            windows.append(cells.fillna("").to_numpy(object) if name in ("sky", "opened") else cells.to_numpy())
model = keras.models.load_model("best.keras")
rows = {name: np.array(cells) for name, cells in rows.items()}
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    rows = {name: tf.constant(cells) if cells.dtype == object else cells for name, cells in rows.items()}
else:
    after = model.get_layer("after_lookups")
    after.compile_from_config(model.get_compile_config())
    rows["sky"] = np.asarray(model.get_layer("lookup_sky")(rows["sky"]))
    rows["opened"] = np.asarray(model.get_layer("lookup_opened")(rows["opened"][..., None]))
    model = after
values = model.evaluate(rows, np.array(targets).reshape(-1, 1), batch_size=256, verbose=0, return_dict=True)
print(json.dumps({"value": float(values["loss"]), "rows": len(targets)}))
