"""Evaluates models of several inputs and outputs with Keras alone."""

import json
import sys

sys.modules.update(dict.fromkeys(["search", "models", "spaces"]))
import keras
import numpy as np

found = {}
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    trees = {}
    with np.load(path.replace(".keras", ".npz")) as rows:
        for name in rows.files:
            letter, _, key = name.partition("/")
            trees.setdefault(letter, {})[key] = rows[name]

    def tree(letter):
        given = trees.get(letter)
        if given is None or "" in given:
            return given and given[""]
        return tuple(given.values()) if "0" in given else given

    values = model.evaluate(tree("x"), tree("y"), sample_weight=tree("w"), batch_size=256, verbose=0, return_dict=True)
    found[path] = {name: float(value) for name, value in values.items()}
print(json.dumps(found))
