"""Cells and texts that look like something else: dates with offsets, NUL characters, long numbers, misread letters."""

from __future__ import annotations

import pandas as pd
import pytest
from data_kit import load, refused, write_function, write_table

# ---------------------------------------------------------------- letters


def test_utf_8_that_is_said_to_be_latin_1_is_warned_of(tmp_path):
    write_table(tmp_path, "town,n,y", "{kind} Köln,{i},{bit}")
    (warning,) = [text for text in load(tmp_path, "d.csv", target="y", encoding="latin-1").warnings if "UTF-8" in text]
    assert "ü as Ã¼" in warning
    for encoding in ("utf-8", None):
        loaded = load(tmp_path, "d.csv", target="y", encoding=encoding)
        assert not [text for text in loaded.warnings if "UTF-8" in text]


@pytest.mark.parametrize("town", ["Köln", "Koeln"])
def test_table_in_latin_1_is_not_warned_of(tmp_path, town):
    write_table(tmp_path, "town,n,y", f"{{kind}} {town},{{i}},{{bit}}")
    path = tmp_path / "d.csv"
    path.write_bytes(path.read_text().encode("latin-1"))
    assert not [text for text in load(tmp_path, "d.csv", target="y", encoding="latin-1").warnings if "UTF-8" in text]


@pytest.mark.parametrize("column", ["category", "text"])
def test_nul_in_a_column_of_texts_is_refused(tmp_path, column):
    body = "frame = pd.DataFrame({'c': ['a b', 'c\\0'] * 20, 'n': range(40)})\nreturn frame, np.arange(40) % 2"
    refused(tmp_path, write_function(tmp_path, body), "row 1", "'c'", "NUL", columns={column: ["c"]})


@pytest.mark.parametrize("texts", ["['a b', 'c\\0 d'] * 20", "np.array([b'a b', b'c\\0d'] * 20)"])
def test_nul_in_a_text_is_refused(tmp_path, texts):
    refused(tmp_path, write_function(tmp_path, f"return {texts}, np.arange(40) % 2"), "row 1 of x", "NUL")


# ---------------------------------------------------------------- dates with offsets


@pytest.mark.parametrize(
    "cell", ["2024-01-{day}T12:00:00+02:00", "{day}.01.2024 12:00 -0500", "2024-01-{day} 12:00:00.5 CET"]
)
def test_dates_with_offsets_are_no_categories_without_a_word(tmp_path, cell):
    cells = [cell.format(day=10 + row % 20) for row in range(40)]
    pd.DataFrame({"at": cells, "n": range(40), "y": [0, 1] * 20}).to_csv(tmp_path / "d.csv", index=False)
    (warning,) = [text for text in load(tmp_path, "d.csv", target="y").warnings if "offset from UTC" in text]
    assert "'at'" in warning
    assert repr(cells[0]) in warning
    refused(tmp_path, "d.csv", "line 2", "offset from UTC", "one time zone", target="y", columns={"date": ["at"]})


@pytest.mark.parametrize("cell", ["2024-01-{day}T12:00:00Z", "2024-01-{day}", "shop {day} 12:00 CET"])
def test_other_cells_have_no_offset(tmp_path, cell):
    cells = [cell.format(day=10 + row % 20) for row in range(40)]
    pd.DataFrame({"at": cells, "n": range(40), "y": [0, 1] * 20}).to_csv(tmp_path / "d.csv", index=False)
    assert not [text for text in load(tmp_path, "d.csv", target="y").warnings if "offset from UTC" in text]


# ---------------------------------------------------------------- long numbers


def test_long_identifiers_are_not_alike(tmp_path):
    cells = [str(10**20 + row // 2) for row in range(120)]
    pd.DataFrame({"c": cells, "n": range(120), "y": [0, 1] * 60}).to_csv(tmp_path / "d.csv", index=False)
    loaded = load(tmp_path, "d.csv", target="y", columns={"category": ["c"]})
    assert not [text for text in loaded.warnings if "categories" in text]


@pytest.mark.parametrize("first", [10**20, 2**53])
@pytest.mark.parametrize("has_category", [True, False])
def test_long_whole_numbers_are_compared_as_they_are_written(tmp_path, first, has_category):
    numbers = {
        "long": [first + row for row in range(60)],
        "same": [first] * 60,
        "copy": [first + row for row in range(60)],
    }
    frame = pd.DataFrame({**numbers, "n": [row % 7 / 3 for row in range(60)], "y": [0, 1] * 30})
    if has_category:
        frame["kind"] = ["a", "b", "c"] * 20
    frame.to_csv(tmp_path / "d.csv", index=False)
    warnings = load(tmp_path, "d.csv", target="y", scale="standard").warnings
    assert [text for text in warnings if "'long'" in text and "every row has another value" in text]
    assert [text for text in warnings if "'same'" in text and "all cells are equal" in text]
    assert [text for text in warnings if "'long' and 'copy' are equal" in text]
    assert not [text for text in warnings if "'long': all cells" in text]


def test_many_spellings_are_told_in_one_line(tmp_path):
    cells = [f"{letter}{row % 20}" for row in range(80) for letter in "aA"]
    pd.DataFrame({"c": cells, "n": range(160), "y": [0, 1] * 80}).to_csv(tmp_path / "d.csv", index=False)
    (warning,) = [
        text for text in load(tmp_path, "d.csv", target="y").warnings if "alike" in text or "write it" in text
    ]
    assert "20 pairs of categories" in warning
    assert "'a0' and 'A0'" in warning


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("07", "7"), ("Bonn", "bonn "), ("1e2", "100")])
def test_few_spellings_are_told_one_by_one(tmp_path, one, other):
    cells = [one, other, "b"] * 40
    pd.DataFrame({"c": cells, "n": range(120), "y": [0, 1] * 60}).to_csv(tmp_path / "d.csv", index=False)
    loaded = load(tmp_path, "d.csv", target="y", columns={"category": ["c"]})
    (warning,) = [text for text in loaded.warnings if "write it one way" in text]
    assert repr(one) in warning


# ---------------------------------------------------------------- splits of texts


@pytest.mark.parametrize(
    ("held", "texts"),
    [("['2012', '7'] * 5", ["2012", "7"]), ("['', ' '] * 5", ["", " "]), ("np.array(['1', '2'] * 5)", ["1", "2"])],
)
def test_split_has_the_form_of_the_training_rows(tmp_path, held, texts):
    body = (
        f"y = np.arange(10) % 2\nreturn {{'x_train': ['a 2012', 'b'] * 5, 'y_train': y, 'x_val': {held}, 'y_val': y}}"
    )
    loaded = load(tmp_path, write_function(tmp_path, body), test=0)
    # Of equally frequent words the last one is first.
    known = {"b": 2, "a": 3, "2012": 4}
    expected = [[known.get(word, 1) for word in text.split()] for text in texts] * 5
    assert [[int(token) for token in row if token] for row in loaded.x_validation] == expected


def test_training_rows_of_numbers_as_texts_are_refused(tmp_path):
    refused(tmp_path, write_function(tmp_path, "return ['1', '2'] * 20, np.arange(40) % 2"), "give x as numbers")


def test_first_text_that_is_missing_is_named(tmp_path):
    body = "return [None, 'a b', 'c d', 'e'] * 10, np.arange(40) % 2"
    refused(tmp_path, write_function(tmp_path, body), "row 0 of x", "missing value among texts")
