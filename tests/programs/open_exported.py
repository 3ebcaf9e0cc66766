"""Opens exported models with Keras alone, and prints what they give and evaluate to."""

import json
import sys

sys.modules.update(dict.fromkeys(["search", "models", "spaces"]))
import keras
import numpy as np

found = {}
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    rows = np.load(path.removesuffix(".keras") + ".rows.npz")
    told = {
        "rate": None,
        "outputs": [float(v) for v in np.ravel(keras.tree.flatten(model.predict(rows["x"], verbose=0))[0])[:20]],
    }
    if model.compiled:
        values = model.evaluate(rows["x"], rows["y"], batch_size=256, verbose=0, return_dict=True)
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        told |= {"rate": rate, "values": {name: float(value) for name, value in values.items() if np.ndim(value) == 0}}
    found[path] = told
print(json.dumps(found))
