"""New rows for a trained model: columns are found by name, and what the model does not take is refused with its place."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from data_kit import draw
from support import ORIGIN

from search.data import new_rows
from search.errors import DataError
from search.spec.model_file import ColumnNotes, InputNotes, ModelNotes, OutputNotes, PreprocessingNotes

MIXED = InputNotes(
    kind="table",
    columns=[
        ColumnNotes(name="age", kind="number", has_missing=True),
        ColumnNotes(name="city", kind="category", are_texts=True),
        ColumnNotes(name="joined", kind="date", are_texts=True, order="dmy"),
        ColumnNotes(name="zip", kind="category", are_texts=True),
        ColumnNotes(name="grade", kind="category"),
    ],
)
NUMBERS = InputNotes(
    shape=[2], dtype="float64", enters="float32", columns=[ColumnNotes(name=name, kind="number") for name in "ab"]
)
FLAT = InputNotes(shape=[3], dtype="float64", enters="float32")
IDS = InputNotes(shape=[3], dtype="int64", enters="int32")
IMAGES = InputNotes(shape=[4, 5, 3], dtype="uint8", enters="float32")
GREY = InputNotes(shape=[4, 5, 1], dtype="uint8", enters="float32")
TEXTS = InputNotes(kind="texts")
HEAD = "age,city,joined,zip,grade\n1,Rome,31.12.2020,01,2\n"


def notes(*inputs, form="", **more):
    is_table = any(each.kind == "table" for each in inputs)
    given = {"is_inside": True, **more.pop("preprocessing", {})}
    return ModelNotes(
        **ORIGIN,
        version="0",
        backend="jax",
        fingerprint="f",
        fitted="f",
        source="s",
        build="mlp",
        form=form or ("dict" if is_table or len(inputs) > 1 else "one"),
        inputs=list(inputs),
        outputs=[OutputNotes(task="regression", shape=[1], gives="values")],
        preprocessing=PreprocessingNotes(**given),
        **more,
    )


def read(folder, source, *inputs, **more):
    return new_rows.read(source, folder, notes(*inputs, **more))


def test_columns_are_found_by_name_and_cells_stay_as_they_are_written(tmp_path):
    (tmp_path / "n.csv").write_text(
        "id,zip,grade,joined,age,city\n7,01,3,01.02.2021,40,Rome\n8,10,,02.03.2021,,\n9,02,1,,1.5,New\n"
    )
    rows = read(tmp_path, "n.csv", MIXED)
    assert (rows.count, list(rows.x)) == (3, ["age", "city", "joined", "zip", "grade"])
    assert rows.x["zip"].tolist() == ["01", "10", "02"]
    assert rows.x["city"].tolist() == ["Rome", "", "New"]
    assert rows.x["joined"].tolist() == ["01.02.2021", "02.03.2021", ""]
    np.testing.assert_array_equal(rows.x["age"], np.array([40, np.nan, 1.5], np.float32))
    np.testing.assert_array_equal(rows.x["grade"], np.array([3, np.nan, 1], np.float32))
    left, *blanks = rows.warnings
    assert left.endswith("left out: id")
    assert [text.partition(", column ")[2].partition(":")[0] for text in blanks] == ["'city'", "'joined'", "'grade'"]


def test_a_single_row_with_blanks_alone_in_a_column_is_taken(tmp_path):
    (tmp_path / "n.csv").write_text("age,city,joined,zip,grade\n,,,01,\n")
    rows = read(tmp_path, "n.csv", MIXED)
    assert (rows.x["city"].tolist(), rows.x["zip"].tolist()) == ([""], ["01"])
    assert np.isnan(rows.x["age"]).all()


def test_numbers_are_scaled_where_the_model_does_not_do_it(tmp_path):
    (tmp_path / "n.csv").write_text("b,a\n1,2\n3,4\n")
    outside = {"is_inside": False, "mean": [1.0, 2.0], "spread": [2.0, 4.0]}
    rows = read(tmp_path, "n.csv", NUMBERS, preprocessing=outside)
    np.testing.assert_allclose(rows.x, [[0.5, -0.25], [1.5, 0.25]])
    np.testing.assert_array_equal(read(tmp_path, "n.csv", NUMBERS).x, [[2, 1], [4, 3]])


def test_sources_of_a_study_give_their_rows(tmp_path):
    assert read(tmp_path, "sklearn:iris", InputNotes(shape=[4], dtype="float64", enters="float32")).count == 150
    (tmp_path / "mine.py").write_text(
        "import numpy as np, pandas as pd\n"
        "def frame():\n    return pd.DataFrame({'b': [1, 2], 'c': [0, 0], 'a': [3, 4]})\n"
        "def texts():\n    return ['good', 'bad film']\n"
        "def pair():\n    return {'ids': np.arange(6).reshape(2, 3), 'word': ['x', 'y']}\n"
    )
    np.testing.assert_array_equal(read(tmp_path, "mine.py:frame", NUMBERS).x, [[3, 1], [4, 2]])
    assert read(tmp_path, "mine.py:texts", TEXTS).x.tolist() == ["good", "bad film"]
    ids, word = IDS.model_copy(update={"name": "ids"}), TEXTS.model_copy(update={"name": "word"})
    rows = read(tmp_path, "mine.py:pair", ids, word)
    assert (rows.x["ids"].dtype, rows.x["word"].tolist()) == (np.int32, ["x", "y"])
    for number in (2, 0, 1):
        draw(tmp_path / "new" / "inner" / f"{number}.png", number * 10, (5, 4))
    images = read(tmp_path, "new", IMAGES)
    assert (images.files, images.x[:, 0, 0, 0].tolist()) == (("inner/0.png", "inner/1.png", "inner/2.png"), [0, 10, 20])


@pytest.mark.parametrize(
    ("table", "taken", "says"),
    [
        ("age,citi,joined,zip,grade\n1,Rome,31.12.2020,01,2\n", MIXED, r"lacks the column 'city'; did you mean 'citi'\?; it has"),
        ("age,city\n1,Rome\n", MIXED, r"lacks the columns 'joined', 'zip', 'grade'; it has age, city"),
        (f"{HEAD}old,Rome,31.12.2020,01,2\n", MIXED, r"line 3, column 'age': 'old' is no number"),
        (f"{HEAD}1,Rome,soon,01,2\n", MIXED, r"line 3, column 'joined': 'soon' is no date"),
        (f"{HEAD}1,Rome,12/31/2020,01,2\n", MIXED, r"'12/31/2020' is written in another form than the dates"),
        (f"{HEAD}1,Rome,31.12.2020,01,good\n", MIXED, r"line \d, column 'grade': '.*' is a text, and the categories"),
        (f"{HEAD}inf,Rome,31.12.2020,01,2\n", MIXED, r"line 3, column 'age': inf is not finite"),
        ("age,city,joined,zip,grade,age\n1,Rome,31.12.2020,01,2,1\n", MIXED, r"the column 'age' stands there twice"),
        ("age,city,joined,zip,grade\n", MIXED, r"there are no rows below the header"),
        ("a,b\n1,2\n3,\n", NUMBERS, r"line 3: feature 'b' is nan"),
        ("a,b\n1,2\n3,x\n", NUMBERS, r"line 3, column 'b': 'x' is no number"),
        ("a,b,c\n1,2,3\n", FLAT, r"is a table, and the model takes rows of the shape \(3,\), whose columns have no names"),
        ("a,b\nx,y\n", TEXTS, r"lacks the column 'text'"),
    ],
)  # fmt: skip
def test_tables_that_a_model_does_not_take_are_refused(tmp_path, table, taken, says):
    (tmp_path / "n.csv").write_text(table)
    with pytest.raises(DataError, match=says):
        read(tmp_path, "n.csv", taken)


@pytest.mark.parametrize(
    ("arrays", "taken", "says"),
    [
        ({"x": np.zeros((4, 7))}, FLAT, r"x has the shape \(4, 7\); the model takes rows of the shape \(3,\): give \(rows, 3\)"),
        ({"x": np.zeros((0, 3))}, FLAT, r"x has the shape \(0, 3\)"),
        ({"x": np.array(["a", "b", "c"])}, FLAT, r"x holds texts, and the model takes numbers"),
        ({"x": np.array([[1, 2, 3], [1, np.nan, 3.0]])}, FLAT, r"row 1 of x .*: feature 1 is nan"),
        ({"x_train": np.zeros((4, 3)), "x_test": np.zeros((4, 3))}, FLAT, r"holds train, test; which one are the rows\? Name it x"),
        ({"x": np.full((4, 3), 0.5)}, IDS, r"x, row 0 .*: is no whole number, and the model takes whole numbers"),
        ({"x": np.zeros((4, 4, 5, 3))}, IMAGES, r"x is float64, and the model takes bytes from 0 to 255"),
        ({"x": np.zeros((4, 7))}, TEXTS, r"x is no array of texts"),
        ({"x": np.zeros((4, 3), complex)}, FLAT, r"is of type complex128"),
    ],
)  # fmt: skip
def test_arrays_that_a_model_does_not_take_are_refused(tmp_path, arrays, taken, says):
    np.savez(tmp_path / "n.npz", **arrays)
    with pytest.raises(DataError, match=says):
        read(tmp_path, "n.npz", taken)


def test_other_sources_that_a_model_does_not_take_are_refused(tmp_path):
    def refused(source, *taken, **more):
        with pytest.raises(DataError) as caught:
            read(tmp_path, source, *taken, **more)
        return str(caught.value)

    assert "no such file" in refused("nowhere.npz", FLAT)
    assert "no such file" in refused("nowhere.csv", MIXED)
    (tmp_path / "n.txt.gz").write_bytes(b"x")
    assert "no known kind of rows" in refused("n.txt.gz", FLAT)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def pair():\n    return np.zeros((3, 3)), np.zeros(3)\n"
        "def one():\n    return {'word': ['x', 'y']}\n"
    )
    assert "x is 2 values; give the rows alone, without targets" in refused("mine.py:pair", FLAT)
    ids, word = IDS.model_copy(update={"name": "ids"}), TEXTS.model_copy(update={"name": "word"})
    assert "lacks ids; the model takes ids of the shape (3,) a row and texts word" in refused("mine.py:one", ids, word)
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused("empty", IMAGES)
    draw(tmp_path / "new" / "0.png", 1, (5, 4))
    assert "the model takes no images in bytes; it takes x of the shape (3,) a row" in refused("new", FLAT)
    assert "has colours" in refused("new", GREY)
    draw(tmp_path / "new" / "1.png", 1, (8, 8))
    assert "is 8 high and 8 wide, and the model takes 4 and 5" in refused("new", IMAGES)
    (tmp_path / "new" / "1.png").write_bytes(b"no image")
    assert "1.png: can't be read as an image" in refused("new", IMAGES)
    windows = InputNotes(shape=[4, 2], dtype="float64", enters="float32")
    pd.DataFrame({"a": [1.0]}).to_csv(tmp_path / "n.csv", index=False)
    assert "the model takes windows of 4 rows in a row, (4, 2)" in refused("n.csv", windows, window=4)
    outside = {"is_inside": False, "how": "the encoding is NOT inside"}
    (tmp_path / "m.csv").write_text(HEAD)
    assert "the encoding is NOT inside" in refused("m.csv", MIXED, preprocessing=outside)
