"""Rows of several inputs and outputs, and models for them."""

import keras
import numpy as np
from keras import Input, Model
from keras.layers import Concatenate, Dense, Embedding, GlobalAveragePooling1D

ROWS = 160
_RNG = np.random.default_rng(5)
IDS = _RNG.integers(0, 30, (ROWS, 4))
SIZE = _RNG.normal(size=(ROWS, 3))
PRICE = (SIZE @ [1.0, -2.0, 0.5] + (IDS == 3).sum(1)).astype("float32")
SOLD = (PRICE > 0).astype("int64")
KIND = np.array(["a", "b", "c"])[_RNG.integers(0, 3, ROWS)]
WEIGHTS = _RNG.uniform(0, 2, ROWS)


def named():
    return {"ids": IDS, "size": SIZE}, {"price": PRICE, "sold": SOLD, "kind": KIND}


def in_order():
    return (IDS, SIZE), (PRICE, SOLD)


def weighted():
    return SIZE, PRICE, WEIGHTS


def weighted_outputs():
    return {
        "x_ids": IDS,
        "x_size": SIZE,
        "y_price": PRICE,
        "y_sold": SOLD,
        "sample_weight": {"price": WEIGHTS, "sold": WEIGHTS[::-1]},
    }


def by_names():
    return {"ids": IDS, "size": SIZE}, {"price": PRICE, "sold": SOLD}


def accounts():
    return SIZE, {"account": SOLD, "price": PRICE}


def of_accounts(config, data):
    size = Input(data.input_shape)
    return Model(size, {"account": Dense(1, activation="sigmoid")(size), "price": Dense(1)(size)})


def two_targets():
    return SIZE, {"price": PRICE, "sold": SOLD}


def _trunk():
    ids, size = Input((4,), dtype="int32", name="ids"), Input((3,), name="size")
    x = Concatenate()([GlobalAveragePooling1D()(Embedding(30, 2)(ids)), size])
    return ids, size, Dense(6, activation="tanh")(x)


def by_name(config, data):
    ids, size, x = _trunk()
    heads = {"price": Dense(1)(x), "sold": Dense(1, activation="sigmoid")(x), "kind": Dense(3)(x)}
    return Model({"ids": ids, "size": size}, {name: heads[name] for name in data.targets})


def by_layer(config, data):
    """Outputs in a list, in another order than the data have them; their layers have the names."""
    ids, size, x = _trunk()
    return Model([size, ids], [Dense(1, activation="sigmoid", name="sold")(x), Dense(1, name="price")(x)])


def by_order(config, data):
    ids, size, x = _trunk()
    return Model([ids, size], [Dense(1)(x), Dense(1, activation="sigmoid")(x)])


def from_one(config, data):
    size = Input(data.input_shape)
    x = Dense(6, activation="tanh")(size)
    return Model(size, [Dense(1, name="price")(x), Dense(1, activation="sigmoid", name="sold")(x)])


def single(config, data):
    return keras.Sequential([Input(data.input_shape), Dense(6, activation="tanh"), Dense(1)])


class Own(Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.price, self.sold = Dense(6, activation="tanh"), Dense(1), Dense(1, activation="sigmoid")

    def call(self, given, training=False):
        x = self.hidden(given["size"])
        return {"price": self.price(x), "sold": self.sold(x)}


def own(config, data):
    return Own()


def misnamed(config, data):
    ids, size, x = _trunk()
    return Model({"ids": ids, "size": size}, {"cost": Dense(1)(x), "sold": Dense(1, activation="sigmoid")(x)})


def unnamed_layers(config, data):
    ids, size, x = _trunk()
    return Model([ids, size], [Dense(1)(x), Dense(1, activation="sigmoid")(x)])


def by_names_of_its_own(config, data):
    ids, size, x = _trunk()
    return Model([ids, size], {"price": Dense(1)(x), "sold": Dense(1, activation="sigmoid")(x)})


def other_inputs(config, data):
    ids, size, x = _trunk()
    return Model({"words": ids, "size": size}, {"price": Dense(1)(x), "sold": Dense(1, activation="sigmoid")(x)})


def of_reals(config, data):
    """Takes ids in half precision, which holds whole numbers up to 2048 only."""
    ids, size = Input((4,), dtype="float16", name="ids"), Input((3,), name="size")
    x = Concatenate()([keras.layers.Rescaling(1 / 5000)(ids), size])
    return Model([ids, size], {"price": Dense(1)(x), "sold": Dense(1, activation="sigmoid")(x)})


def large_ids():
    return {"ids": IDS + 5000, "size": SIZE}, {"price": PRICE, "sold": SOLD}


def table_and_texts():
    """A table with a category and blanks, texts, and numbers."""
    import pandas as pd

    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"age": rng.normal(40, 9, 200).round(1), "plan": rng.choice(["free", "pro"], 200)})
    frame.loc[::9, "age"] = np.nan
    texts = [" ".join(rng.choice(["a", "fine", "dull", "film"], 4)) for _ in range(200)]
    size = rng.normal(size=(200, 2))
    return {"table": frame, "title": texts, "size": size}, np.array([text.count("fine") for text in texts]) + size[:, 0]


def of_table_and_texts(config, data):
    inputs = {name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in data.inputs.items()}
    words = keras.layers.Embedding(data.vocabulary_sizes["title"], 3)(inputs["title"])
    parts = [inputs["table"], inputs["size"], keras.layers.GlobalAveragePooling1D()(words)]
    x = keras.layers.Dense(6, activation="relu")(keras.layers.Concatenate()(parts))
    return keras.Model(inputs, keras.layers.Dense(1)(x))
