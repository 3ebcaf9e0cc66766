"""Training rows that come in batches: by tf.data, a PyDataset and a function."""

import math

import keras
import numpy as np

ROWS = 96
_RNG = np.random.default_rng(3)
X = _RNG.normal(size=(ROWS, 4)).astype("float32")
Y = (X @ [1.0, -1.0, 0.5, 2.0] > 0).astype("int32")
WEIGHTS = _RNG.uniform(0, 2, ROWS).astype("float32")
TRAIN, REST = slice(0, 70), slice(70, ROWS)
SIZE = 16


class Rows(keras.utils.PyDataset):
    def __init__(self, rows, **how):
        super().__init__(**how)
        self.x, self.y = X[rows], Y[rows]

    def __len__(self):
        return math.ceil(len(self.x) / SIZE)

    def __getitem__(self, index):
        rows = slice(index * SIZE, (index + 1) * SIZE)
        return self.x[rows], self.y[rows]


class Shuffled(Rows):
    """Another order in every epoch, by a seed of its own."""

    def __init__(self, rows):
        super().__init__(rows)
        self.rng = np.random.default_rng(0)

    def on_epoch_end(self):
        order = self.rng.permutation(len(self.x))
        self.x, self.y = self.x[order], self.y[order]


def pydataset():
    return {"train": Rows(TRAIN), "validation": Rows(REST)}


def shuffled():
    return Shuffled(TRAIN), Rows(REST)


def tfdata():
    import tensorflow as tf

    return tuple(tf.data.Dataset.from_tensor_slices((X[rows], Y[rows])).batch(SIZE) for rows in (TRAIN, REST))


def reshuffled():
    import tensorflow as tf

    train = tf.data.Dataset.from_tensor_slices((X[TRAIN], Y[TRAIN])).shuffle(70, seed=5).batch(SIZE)
    return train, tf.data.Dataset.from_tensor_slices((X[REST], Y[REST])).batch(SIZE)


def of_unknown_length():
    import tensorflow as tf

    like = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.int32))
    rows = tf.data.Dataset.from_generator(lambda: zip(X[TRAIN], Y[TRAIN], strict=True), output_signature=like)
    train = rows.shuffle(70, seed=5).batch(SIZE)
    return train, tf.data.Dataset.from_tensor_slices((X[REST], Y[REST])).batch(SIZE)


def batches_of(rows):
    for start in range(rows.start, rows.stop, SIZE):
        part = slice(start, min(start + SIZE, rows.stop))
        yield X[part], Y[part]


def functions():
    return {
        "train": lambda: batches_of(TRAIN),
        "validation": lambda: batches_of(REST),
        "steps": 5,
        "validation_steps": 2,
    }


def by_epoch():
    def train(epoch):
        order = np.random.default_rng(epoch).permutation(70)
        for start in range(0, 70, SIZE):
            yield X[order[start : start + SIZE]], Y[order[start : start + SIZE]]

    return {"train": train, "validation": lambda: batches_of(REST), "steps": 5, "validation_steps": 2}


def with_weights():
    def of(rows):
        return lambda: ((*batch, WEIGHTS[: len(batch[0])]) for batch in batches_of(rows))

    return {"train": of(TRAIN), "validation": of(REST), "steps": 5, "validation_steps": 2}


def unseeded():
    def train():
        order = np.random.default_rng().permutation(70)
        yield X[order[:SIZE]], Y[order[:SIZE]]

    return {"train": train, "validation": lambda: batches_of(REST), "steps": 1, "validation_steps": 2}


def build(config, data):
    return keras.Sequential(
        [keras.Input(data.input_shape), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(data.outputs)]
    )
