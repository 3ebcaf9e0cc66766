"""Comparisons before a model is exported, and the names of what it takes."""

from __future__ import annotations

from support import in_keras


def packed():
    import keras
    import numpy as np
    import pandas as pd

    from search.data import table_encoding
    from search.data.columns import read_table
    from search.engines import raw_rows
    from search.engines.packing import are_alike

    columns = ["a/b", "a_b", "lookup_c", "c", "after_lookups", "model", "sum", "sum_1", "equal", "where", "is_nan"]
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, len(columns))), columns=columns).rename(columns={"c": "c "})
    frame["c"] = rng.choice(["x", "y"], 40)
    frame.loc[3, "a/b"] = np.nan
    table, findings = read_table(frame, None, str)
    assert not findings.faults
    adapted = table_encoding.adapt(table, np.arange(30), "standard", "t")
    inner = keras.Sequential([keras.layers.Identity()], name="model")
    raw_rows.find_tensorflow()
    raw_rows.in_front({"": adapted}, "one", inner).save("whole.keras")
    stage, rows = raw_rows.staged(keras.models.load_model("whole.keras"), table.raw(np.arange(40)))
    received = stage.predict(rows, verbose=0)
    worst = float(np.abs(received - table_encoding.encode(adapted, table, np.arange(40))).max())

    ids = np.arange(4000, 20000, dtype=np.int32)
    floats = ids.astype(np.float32)
    alike = [are_alike(ids + 4, ids), are_alike(ids, ids), are_alike(floats, ids), are_alike(floats + 4, floats)]
    return {"worst": worst, "alike": alike}


def test_columns_may_have_the_names_of_layers_and_integers_must_be_equal(tmp_path):
    found = in_keras(packed, cwd=tmp_path)
    assert found["worst"] < 1e-5
    assert found["alike"] == [False, True, True, True]
