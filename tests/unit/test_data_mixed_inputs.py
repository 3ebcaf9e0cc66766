"""Tables of numbers beside inputs that are encoded: scaled like all tables, also inside the exported model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_kit import load, refused, write_function
from support import in_keras

from search.errors import DataError

HEAD = """
rng = np.random.default_rng(0)
p = pd.DataFrame({"kind": rng.choice(["a", "b"], 60), "size": rng.normal(size=60)})
q = pd.DataFrame({"big": 1000 + 50 * rng.normal(size=60), "c": 16777217.0 + np.arange(60)})
texts = [f"good {n % 7} words" for n in range(60)]
y = np.arange(60) % 2
"""


def source(folder, result: str, name: str = "mine") -> str:
    return write_function(folder, f"{HEAD}\nreturn {result}", name=name)


@pytest.mark.parametrize("how", ["auto", "standard", "minmax"])
@pytest.mark.parametrize("other", ["'p': p", "'t': texts"])
def test_table_of_numbers_beside_an_encoded_input_is_scaled(tmp_path, how, other):
    loaded = load(tmp_path, source(tmp_path, f"{{{other}, 'q': q}}, y"), scale=how)
    x = loaded.x_train["q"].astype(np.float64)
    low, high = (x.mean(axis=0), x.std(axis=0)) if how != "minmax" else (x.min(axis=0), x.max(axis=0))
    # An exported model gets c in float32, which holds every second of these numbers.
    assert low == pytest.approx([0, 0], abs=0.05)
    assert high == pytest.approx([1, 1], abs=0.05)
    assert low[0] == pytest.approx(0, abs=1e-6)
    assert any("'c'" in warning and "steps" in warning for warning in loaded.warnings)


def test_order_of_inputs_is_that_of_the_source(tmp_path):
    assert list(load(tmp_path, source(tmp_path, "{'q': q, 't': texts, 'p': p}, y")).info.inputs) == ["q", "t", "p"]


@pytest.mark.parametrize("result", ["{'p': p, 'q': q}, y", "{'q': q, 't': texts}, y"])
def test_rounding_of_a_table_that_is_not_scaled_is_refused(tmp_path, result):
    refused(tmp_path, source(tmp_path, result), "'c'", "16777217", "round", scale="none")


@pytest.mark.parametrize("result", ["{'q': q, 'r': q + 1}, y", "(q.to_numpy(), p['size']), y"])
def test_rounding_of_numbers_among_several_plain_inputs_is_refused(tmp_path, result):
    given = source(tmp_path, result)
    refused(tmp_path, given, "16777217", "round", "divide")
    with pytest.raises(DataError) as caught:
        load(tmp_path, given)
    assert caught.value.fault == ""  # init would scale, which several arrays do not take


def test_whole_numbers_of_an_integer_type_stay_exact_among_several_inputs(tmp_path):
    loaded = load(tmp_path, source(tmp_path, "{'a': y + 16777217, 'b': q['big']}, y"))
    assert set(np.unique(loaded.x_train["a"])) == {16777217, 16777218}


def packed():
    """Return how far the layers in front of a model are from the study's features, for a table of numbers beside another."""
    import keras
    from data_kit import load

    from search.engines import packing, raw_rows

    differ, here = [], Path()
    for how in ("standard", "minmax"):
        loaded = load(here, source(here, "{'p': p, 'q': q}, y", f"m_{how}"), scale=how)
        raw_rows.find_tensorflow()
        model = packing._encoded(loaded, keras.layers.Identity())
        stage, rows = raw_rows.staged(model, loaded.raw.x_validation)
        given = stage.predict(rows, verbose=0)
        differ += [float(np.abs(given[name] - loaded.x_validation[name]).max()) for name in ("p", "q")]
    return differ


def test_scaling_of_such_a_table_is_inside_of_the_exported_model(tmp_path):
    assert max(in_keras(packed, cwd=tmp_path)) < 2e-2
