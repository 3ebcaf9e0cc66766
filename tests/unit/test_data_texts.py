"""Arrays of texts: what models get is what keras.layers.TextVectorization gives, adapted on the training rows."""

from __future__ import annotations

import numpy as np
import pytest
from data_kit import load, refused, write_function
from pydantic import ValidationError
from support import in_keras

from search.spec.settings import Text

HEAD = """
rng = np.random.default_rng(0)
words = ["good", "Bad!", "it's", "fine,", "movie", "the", "THE", "a-b", "über", "no\\u00a0break", "x\\ty", "..."]
texts = [" ".join(rng.choice(words, rng.integers(0, 9))) for _ in range(60)]
y = np.array(["good" in text for text in texts])

def batches():
    yield np.array(texts[:30]), y[:30]
    yield np.array(texts[30:]), y[30:]
"""


def texts_of(seed: int = 0) -> list[str]:
    scope: dict = {"np": np}
    exec(HEAD, scope)  # noqa: S102 (the code of the data function)
    return scope["texts"]


def source(folder, result: str, name: str = "mine") -> str:
    return write_function(folder, f"{HEAD}\nreturn {result}", name=name)


FORMS = {
    "a list": "texts, y",
    "numpy": "np.array(texts), y",
    "objects": "np.array(texts, object), y",
    "bytes": "np.array([text.encode() for text in texts]), y",
    "a column": "np.array(texts).reshape(-1, 1), y",
    "pandas": "pd.Series(texts), y",
    "pandas strings": "pd.Series(texts, dtype='string', index=range(5, 65)), y",
    "variable strings": "np.array(texts, np.dtypes.StringDType()), y",
}


def test_texts_come_in_many_forms_and_are_the_same(tmp_path):
    found = {
        form: load(tmp_path, source(tmp_path, result, f"m{number}"))
        for number, (form, result) in enumerate(FORMS.items())
    }
    np.savez(tmp_path / "d.npz", x=np.array(texts_of()), y=["good" in text for text in texts_of()])
    found["npz"] = load(tmp_path, "d.npz")
    assert len({loaded.fingerprint for loaded in found.values()}) == 1
    loaded = found["npz"]
    assert loaded.x_train.dtype == np.int32
    longest = max(len(text.encode().replace(b"...", b"").split()) for text in texts_of())
    assert loaded.info.input_shape[0] <= longest
    assert (loaded.x_train[:, -1] > 0).any()
    assert loaded.x_train.max() == loaded.info.vocabulary_size - 1
    assert loaded.raw.x_validation.dtype == object
    assert set(loaded.raw.x_validation) <= set(texts_of())
    (column,) = loaded.columns
    assert (column["name"], column["kind"], column["features"]) == ("x", "text", loaded.info.input_shape[0])
    assert loaded.warnings == ()


SETTINGS = [
    {},
    {"max_tokens": 6},
    {"output_sequence_length": 3},
    {"output_sequence_length": 40, "max_tokens": 1000},
    {"output_mode": "multi_hot", "max_tokens": 7},
    {"output_mode": "count"},
    {"output_mode": "tf_idf"},
    {"output_mode": "tf_idf", "max_tokens": 5},
]


def of_keras(train, rows, cases):
    import keras

    found = []
    for arguments in cases:
        layer = keras.layers.TextVectorization(**arguments)
        layer.adapt(np.array(train, object))
        found.append((layer.get_vocabulary(), np.asarray(layer(np.array(rows, object)), float).tolist()))
    return found


@pytest.mark.slow
def test_features_are_those_of_a_layer_of_keras_adapted_on_the_training_rows(tmp_path):
    result = "{'x': texts, 'y': y, 'part': np.where(np.arange(60) % 4, 'train', 'val')}"
    loaded = [load(tmp_path, source(tmp_path, result), split="part", text=text, test=0) for text in SETTINGS]
    given = np.array(texts_of(), object)
    is_train = np.arange(60) % 4 > 0
    rows = [*given[is_train], *given[~is_train]]
    cases = [{"max_tokens": 20_000, **text} for text in SETTINGS]
    for case, each in zip(cases, loaded, strict=True):
        if "output_mode" not in case:
            case.setdefault("output_sequence_length", each.info.input_shape[0])
    wanted = in_keras(of_keras, given[is_train].tolist(), rows, cases, backend="tensorflow")
    for each, (vocabulary, features) in zip(loaded, wanted, strict=True):
        assert each.info.vocabulary_size == len(vocabulary)
        assert list(each.encoding.words) == vocabulary[-len(each.encoding.words) :]
        np.testing.assert_allclose(np.concatenate([each.x_train, each.x_validation]), features, rtol=1e-6)


def test_words_of_validation_and_test_rows_alone_are_unknown(tmp_path):
    x = np.array(["seen word"] * 20 + ["new word"] * 10 + ["secret word"] * 10)
    fold = np.array(["train"] * 20 + ["val"] * 10 + ["test"] * 10)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(40) % 2, fold=fold)
    loaded = load(tmp_path, "d.npz", split="fold")
    assert loaded.encoding.words == ("word", "seen")
    assert loaded.x_validation.tolist() == [[1, 2]] * 10
    assert loaded.x_train.tolist() == [[3, 2]] * 20


def test_texts_are_one_of_several_inputs(tmp_path):
    loaded = load(
        tmp_path,
        source(tmp_path, "{'title': texts, 'note': np.array(texts)[::-1], 'size': np.ones((60, 2))}, y"),
        text={"max_tokens": 8},
    )
    assert set(loaded.x_train) == {"title", "note", "size"}
    assert loaded.info.inputs["size"] == ((2,), "float32")
    assert loaded.info.inputs["title"][1] == "int32"
    assert loaded.info.vocabulary_sizes == {"title": 8, "note": 8}
    assert loaded.info.vocabulary_size == 0
    assert {column["name"] for column in loaded.columns} == {"title", "note"}
    assert loaded.raw.x_validation["title"].dtype == object
    assert loaded.x_train["title"].max() == 7
    given = np.array(texts_of())
    np.savez(tmp_path / "d.npz", x_title=given, x_size=np.ones((60, 2)), y=["good" in text for text in given])
    of_file = load(tmp_path, "d.npz", text={"max_tokens": 8})
    np.testing.assert_array_equal(of_file.x_train["title"], loaded.x_train["title"])


def test_texts_that_are_cut_are_told(tmp_path):
    np.savez(tmp_path / "d.npz", x=[*["w " * 600] * 20, *["v"] * 20], y=np.arange(40) % 2)
    loaded = load(tmp_path, "d.npz", test=0)
    assert loaded.info.input_shape == (512,)
    (warning,) = loaded.warnings
    assert "training texts have more than 512 words and are cut there; text = { output_sequence_length" in warning
    assert load(tmp_path, "d.npz", test=0, text={"output_sequence_length": 600}).warnings == ()


def test_settings_of_texts_leave_columns_of_a_table_beside_them_as_they_were(tmp_path):
    body = """
    words = [f"word{number}" for number in range(400)]
    some = [" ".join(np.random.default_rng(row).choice(words, 12)) for row in range(200)]
    return {"table": pd.DataFrame({"said": some}), "read": some}, np.arange(200) % 2
    """
    loaded = load(tmp_path, write_function(tmp_path, body), text={"output_mode": "multi_hot", "max_tokens": 300})
    assert {name: x.shape[1] for name, x in loaded.x_train.items()} == {"table": 256, "read": 300}


def test_texts_that_may_be_something_else_are_told(tmp_path):
    days = np.array([f"2024-{month:02}-{day:02}" for month in range(1, 7) for day in range(1, 29)])
    np.savez(tmp_path / "d.npz", x=days, y=np.arange(168) % 2)
    (warning,) = load(tmp_path, "d.npz").warnings
    assert "17 of the 17 words of the validation rows are unknown" in warning
    assert "dates, numbers and identifiers belong into a table of pandas" in warning


@pytest.mark.parametrize(
    ("result", "section", "words"),
    [
        ("[*texts[:59], None], y", {}, ("row 59 of x", "None is a missing value among texts", "''")),
        ("pd.Series([*texts[:59], float('nan')]), y", {}, ("row 59 of x", "missing value")),
        ("[*texts[:59], 3.5], y", {}, ("row 59 of x", "'3.5' (float) is no text")),
        ("np.array([*texts[:59], 3.5], object), y", {}, ("row 59 of x", "'3.5' (float) is no text")),
        ("np.array([*[t.encode() for t in texts[:59]], b'\\xff'], object), y", {}, ("row 59 of x", "is no UTF-8")),
        ("[*texts[:59], 'a\\ud800b'], y", {}, ("row 59 of x", "surrogate")),
        ("[''] * 60, y", {}, ("row 0 of x", "all texts are empty")),
        ("['...', '!'] * 30, y", {}, ("no training row has a word",)),
        ("[str(i / 2) for i in range(60)], y", {}, ("row 0 of x", "'0.0' and all other texts are numbers", "np.asarray(x, float)")),
        ("np.array(texts).reshape(30, 2), y[:30]", {}, ("row 0 of x", "2 texts a row", "table of pandas")),
        ("(texts, np.ones((60, 2))), y", {}, ("several inputs as a dictionary of arrays",)),
        ("texts[:50], y", {}, ("50 rows of features but 60 labels",)),
        ("{'x_train': texts, 'y_train': y, 'x_val': np.ones((60, 4)), 'y_val': y}", {}, ("x_val is not", "in every split")),
        ("{'train': batches, 'steps': 2, 'validation': batches, 'validation_steps': 2}", {},
         ("batches hold texts", "adapt a keras.layers.TextVectorization")),
        ("texts, y", {"scale": "standard"}, ('scale = "standard" is for numbers, and x is texts',)),
        ("texts, y", {"window": 3}, ("window is for rows of numbers, and x is texts",)),
        ("texts, y", {"columns": {"text": ("x",)}}, ("columns is for tables of pandas",)),
        ("np.ones((60, 2)), y", {"text": {}}, ("text is for arrays of texts and for columns of long texts, and there are none",)),
        ("pd.DataFrame({'t': [f'{t} is what row {i} says here' for i, t in enumerate(texts)]}), y", {"text": {"output_mode": "count"}},
         ("only max_tokens can be set",)),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_are_refused(tmp_path, result, section, words):
    refused(tmp_path, source(tmp_path, result), *words, **section)


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"max_tokens": 2}, "greater than or equal to 3"),
        ({"output_mode": "binary"}, "multi_hot"),
        ({"output_mode": "count", "output_sequence_length": 9}, "output_sequence_length is for output_mode"),
        ({"ngrams": 2}, "ngrams"),
    ],
)
def test_settings_of_texts_are_checked(setting, word):
    with pytest.raises(ValidationError, match=word):
        Text(**setting)
