"""Opens ensembles with Keras alone, and prints what they give and evaluate to."""

import json
import sys

sys.modules.update(dict.fromkeys(["search", "models", "spaces"]))
import keras
import numpy as np

found = {}
for path in sys.argv[1:]:
    model, rows = keras.models.load_model(path), np.load(path.removesuffix(".keras") + ".npz")
    given = model.predict(rows["x"], verbose=0)
    values = model.evaluate(rows["x"], rows["y"], batch_size=256, verbose=0, return_dict=True)
    found[path] = {"predicted": np.asarray(given).tolist(), "values": values}
print(json.dumps(found))
