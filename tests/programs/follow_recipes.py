"""Computes metrics by the recipes that an export prints, to the letter."""

import json
import re
import sys

sys.modules.update(dict.fromkeys(["search", "models", "spaces"]))
import keras
import numpy as np

values = {}
for path, recipes in json.loads(sys.argv[1]).items():
    model = keras.models.load_model(path)
    rows = np.load(path.removesuffix(".keras") + ".rows.npz")
    for name, recipe in recipes.items():
        metric, labels, outputs = re.fullmatch("compute it by (.+) of (.+) and (.+)", recipe).groups()
        metric = eval(metric)
        metric = metric() if isinstance(metric, type) else metric
        y = np.eye(3)[rows["y"]] if labels == "one-hot labels" else eval(labels, {"labels": rows["y"]})
        squash, _, given = outputs.rpartition(" of ")
        given = eval(given, {"model": model, "x": rows["x"]})
        metric.update_state(y, getattr(keras.ops, squash)(given) if squash else given)
        values[f"{path} {name}"] = float(keras.ops.convert_to_numpy(metric.result()))
print(json.dumps(values))
