"""Data sets of TensorFlow and Keras as a data function's result: refused with code that mends it."""

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
    ("dataset", "dataset", "unbatch"),
    ("Batches()", "dataset", "PyDataset"),
    ("(row for row in [(x, y)])", "batches", "islice"),
]


@pytest.mark.parametrize(("result", "name", "word"), RESULTS)
def test_data_set_is_refused_with_code_that_mends_it(tmp_path, result, name, word):
    said = refused(tmp_path, write_function(tmp_path, f"{HEAD}\nreturn {result}"), "received", "return arrays")
    code = re.search(r"return arrays.*?: (x, y = .*?)(?: for a batched|; then)", said)
    assert code, said
    body = f"{HEAD}\n{name} = {result}\n{code[1]}\nreturn x, y"
    loaded = load(tmp_path, write_function(tmp_path, body, name="mended"), test=0)
    assert sorted(all_rows(loaded).ravel().tolist()) == list(range(120))


@pytest.mark.parametrize("result", ["dataset, None", "dataset, dataset", "{'x': dataset, 'y': y}", "Batches(), y"])
def test_data_set_in_place_of_an_array_is_refused(tmp_path, result):
    refused(tmp_path, write_function(tmp_path, f"{HEAD}\nreturn {result}"), "x is", "return arrays")


def test_tensors_are_arrays(tmp_path):
    loaded = load(tmp_path, write_function(tmp_path, f"{HEAD}\nreturn tf.constant(x), tf.constant(y)"), test=0)
    assert sorted(all_rows(loaded).ravel().tolist()) == list(range(120))
    ragged = "tf.ragged.constant([[1.0], [1.0, 2.0]] * 30)"
    refused(tmp_path, write_function(tmp_path, f"{HEAD}\nreturn {ragged}, y", name="ragged"), "x")
    assert np.isfinite(loaded.x_train).all()
