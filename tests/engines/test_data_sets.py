"""Data sets of TensorFlow and Keras in a data function's result: two of them are batches; in place of arrays they are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from data_kit import all_rows, load, refused, write_function

pytestmark = pytest.mark.slow

HEAD = """
import itertools
import keras, tensorflow as tf
x, y = np.arange(120.0).reshape(60, 2), np.arange(60) % 2

class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return x[10 * index : 10 * index + 10], y[10 * index : 10 * index + 10]

dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
batches = iter([(x, y)])
"""

RESULTS = [
    ("{'x': dataset, 'y': y}", "dataset", "unbatch"),
    ("{'x_train': dataset, 'y_train': y}", "dataset", "unbatch"),
    ("{'x': Batches(), 'y': y}", "Batches()", "np.concatenate"),
    ("(row for row in [(x, y)])", "iter([(x, y)])", "islice"),
    ("batches", "batches", "islice"),
]


@pytest.mark.parametrize(("result", "value", "word"), RESULTS)
def test_data_set_in_place_of_arrays_is_refused_with_code_that_mends_it(tmp_path, result, value, word):
    said = refused(tmp_path, write_function(tmp_path, f"{HEAD}\nreturn {result}"), "return arrays", word)
    code = re.search(r"return arrays.*?: (x, y = .*?)(?: for a batched|; then)", said)
    assert code, said
    name = "batches" if word == "islice" else "dataset"
    body = f"{HEAD}\n{name} = {value}\n{code[1]}\nreturn x, y"
    loaded = load(tmp_path, write_function(tmp_path, body, name="mended"), test=0)
    assert sorted(all_rows(loaded).ravel().tolist()) == list(range(120))


@pytest.mark.parametrize(
    ("result", "word"),
    [
        ("dataset", "received a _BatchDataset alone"),
        ("Batches()", "received a Batches alone"),
        ("[dataset]", "received a list alone"),
        ("dataset, None", "received NoneType for validation"),
        ("None, dataset", "received NoneType for train"),
        ("Batches(), y", "received ndarray for validation"),
        ("x, Batches()", "received ndarray for train"),
        ("{'train': dataset}", "there is no validation"),
        ("{'train': dataset, 'validation': (x, y)}", "received tuple for validation"),
    ],
)
def test_data_set_without_another_for_validation_is_refused(tmp_path, result, word):
    refused(
        tmp_path,
        write_function(tmp_path, f"{HEAD}\nreturn {result}"),
        word,
        'return {"train": batches, "validation": batches}',
    )


@pytest.mark.parametrize(
    ("result", "steps"),
    [
        ("dataset, dataset.take(3)", 9),
        ("Batches(), dataset.take(3)", 6),
        ("{'train': dataset, 'validation': dataset.take(3)}", 9),
    ],
)
def test_two_data_sets_are_batches_for_training_and_validation(tmp_path, result, steps):
    loaded = load(tmp_path, write_function(tmp_path, f"{HEAD}\nreturn {result}"))
    assert loaded.info.train_batches == steps
    assert loaded.x_validation.ravel().tolist() == list(range(42))
    assert loaded.y_validation.ravel().tolist() == [0, 1] * 10 + [0]


def test_tensors_are_arrays(tmp_path):
    loaded = load(tmp_path, write_function(tmp_path, f"{HEAD}\nreturn tf.constant(x), tf.constant(y)"), test=0)
    assert sorted(all_rows(loaded).ravel().tolist()) == list(range(120))
    ragged = "tf.ragged.constant([[1.0], [1.0, 2.0]] * 30)"
    refused(tmp_path, write_function(tmp_path, f"{HEAD}\nreturn {ragged}, y", name="ragged"), "x")
    assert np.isfinite(loaded.x_train).all()
