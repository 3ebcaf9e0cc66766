"""Tables as people write them: separators, missing values, spellings of labels, headers of any width."""

from __future__ import annotations

import time

import numpy as np
import pytest
from data_kit import all_rows, data, load, refused, without_remarks, write_function, write_table

from search.errors import DataError
from search.spec.settings import DataSection

# ---------------------------------------------------------------- separators


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.txt", "d.TAB"])
@pytest.mark.parametrize("separator", [";", "\t", "|", ",", "; "])
def test_columns_are_parted_by_what_parts_the_header(tmp_path, name, separator):
    write_table(tmp_path, f"size{separator}n{separator}kind", f"{{half}}{separator}{{i}}{separator}{{kind}}", name=name)
    loaded = load(tmp_path, name, target="kind", test=0)
    assert loaded.info.class_names == ("cat", "dog")
    assert sorted(map(tuple, all_rows(loaded).tolist())) == [(i / 2, i) for i in range(40)]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("price, EUR;n;kind", "{half};{i};{kind}"),
        ('"a;b","c;d",kind', "{half},{i},{kind}"),
        ("a,b\tc|d\tkind", "{half}\t{i}\t{kind}"),
        ('"a, and b"|n|"kind"', '{half}|"{i}"|{kind}'),
        ("a;b,n,kind", "{half},{i},{kind}"),
    ],
)
def test_names_may_hold_other_separators(tmp_path, header, row):
    write_table(tmp_path, header, row)
    loaded = load(tmp_path, "d.csv", target="kind", test=0)
    assert sorted(map(tuple, all_rows(loaded).tolist())) == [(i / 2, i) for i in range(40)]


@pytest.mark.parametrize(
    ("row", "extra", "words"),
    [
        ("{half};{i};{kind}", "1;2;cat;4", ("line 7",)),
        ("{half};{i};{kind}", "1;2", ("line 7", "'kind'", "empty")),
        ("{half};{i};{kind};3", "", ("more cells than the header",)),
        ("{half};{i};{kind}", "1,5;2;cat", ("line 7", "'size'", "'1,5'", "comma", "decimal point")),
        ("{half};{i};{kind}", "-1.234,5;2;cat", ("line 7", "'-1.234,5'", "decimal point")),
        ('{half},"{i},25",{kind}', "", ("line 1",)),
    ],
)
def test_rows_that_do_not_fit_the_header_are_named(tmp_path, row, extra, words):
    write_table(tmp_path, "size;n;kind", row, extra=extra)
    if row.startswith("{half},"):
        refused(tmp_path, "d.csv", "d.csv", target="kind")
    else:
        refused(tmp_path, "d.csv", "d.csv", *words, target="kind")


@pytest.mark.parametrize(
    ("header", "row"), [("n;size", "{i};{i},5"), ("n\tsize", "{i}\t{i},5"), ("n,size", '{i},"{i},5"')]
)
def test_target_with_decimal_commas_is_no_class(tmp_path, header, row):
    write_table(tmp_path, header, row)
    refused(tmp_path, "d.csv", "line 2", "'size'", "'0,5'", "decimal point", target="size")


def test_columns_parted_by_blanks_are_said_not_to_be(tmp_path):
    write_table(tmp_path, "size kind", "{i} {kind}", name="d.txt")
    refused(tmp_path, "d.txt", "no column 'kind'", target="kind")


def test_a_missing_target_is_told_of_its_own_key(tmp_path):
    write_table(tmp_path, "size;kind", "{i};{kind}")
    with pytest.raises(DataError) as caught:
        data.check(DataSection(source="d.csv", target="churn"), tmp_path)
    assert caught.value.key == "data.target"
    assert "it has size, kind" in str(caught.value)


# ---------------------------------------------------------------- missing values


@pytest.mark.parametrize(
    "word", ["NaN", "nan", "NA", "N/A", "null", "None", "-", "?", "NULL", "#N/A", "missing", "<NA>", "\\N", "#VALUE!", "n.a.",
             "(null)", "1.#QNAN", "#N/A N/A", "k. A."]
)  # fmt: skip
@pytest.mark.parametrize("label", ["{bit}", "{half}", "true"])
def test_word_for_a_missing_value_is_no_class_beside_numbers(tmp_path, word, label):
    write_table(tmp_path, "size,kind", "{half}," + label, extra=f"1,{word}")
    refused(tmp_path, "d.csv", "line 7", "'kind'", repr(word), "missing value", target="kind")


@pytest.mark.parametrize("word", ["x", "n.z.", "unknown"])
def test_one_word_among_labels_that_are_numbers_is_told_of(tmp_path, word):
    write_table(tmp_path, "size,kind", "{half},{bit}", rows=40, extra="\n".join([f"1,{word}"] * 5))
    (warning,) = load(tmp_path, "d.csv", target="kind").warnings
    assert "line 7" in warning
    assert f"{word!r} is a class of its own, and all other labels are numbers" in warning


@pytest.mark.parametrize("word", [">50", "12 EUR", "1.2.3"])
def test_cell_that_is_no_number_among_targets_is_told_of_by_its_row(tmp_path, word):
    write_table(tmp_path, "size,price", "{half},{half}", rows=60, extra=f"1,{word}")
    refused(tmp_path, "d.csv", "line 7", "'price'", f"{word!r} is no number", target="price")


@pytest.mark.parametrize("word", ["", "  ", "NaN", "NA", "null", "?", "-", "n/a"])
def test_word_for_a_missing_value_among_numbers_is_missing(tmp_path, word):
    write_table(tmp_path, "size,kind", "{half},{kind}", extra=f"{word},cat")
    loaded = load(tmp_path, "d.csv", target="kind", test=0, scale="none")
    known = sorted(i / 2 for i in range(40))
    assert loaded.kinds == {"size": "number"}
    missing = [value for value in all_rows(loaded)[:, 0].tolist() if value not in known]
    # The median of an even number of training rows may lie between two of them.
    assert len(all_rows(loaded)) == 41
    assert len(missing) <= 1


@pytest.mark.parametrize("word", ["NA", "None", "?"])
def test_word_for_a_missing_value_among_texts_is_a_class_that_is_told_of(tmp_path, word):
    write_table(tmp_path, "size,kind", "{half},{kind}", rows=60, extra="\n".join([f"1,{word}"] * 5))
    loaded = load(tmp_path, "d.csv", target="kind")
    assert set(loaded.info.class_names) == {"cat", "dog", word}
    (warning,) = loaded.warnings
    assert f"{word!r} (5 rows) is a class of its own" in warning


def test_plus_and_minus_are_two_classes(tmp_path):
    source = write_function(tmp_path, "return np.arange(40) / 7, np.array(['+', '-'] * 20)")
    loaded = load(tmp_path, source)
    assert loaded.info.class_names == ("+", "-")
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    "labels", ["['1', '2', 'nan', '1'] * 20", "['0.5', '1.5', 'None'] * 20", "[1, 2, np.nan, 'NA'] * 20"]
)
def test_word_for_a_missing_value_in_an_array_of_text_is_no_class(tmp_path, labels):
    source = write_function(tmp_path, f"y = np.array({labels})\nreturn np.arange(len(y)) / 7, y")
    refused(tmp_path, source, "row 2 of x", "missing value")


@pytest.mark.parametrize("label", ["''", "' '", "'\\t'"])
def test_empty_label_is_refused(tmp_path, label):
    source = write_function(tmp_path, f"return np.arange(40) / 7, np.array(['a', {label}] * 20)")
    refused(tmp_path, source, "row 1 of x", "empty")


# ---------------------------------------------------------------- spellings


@pytest.mark.parametrize("label", ["cat ", " cat", "cat\t", "\u00a0cat", '"cat "'])
def test_blanks_around_a_label_make_no_class(tmp_path, label):
    write_table(tmp_path, "size,kind", "{half},{kind}", extra=f"1,{label}")
    loaded = load(tmp_path, "d.csv", target="kind")
    assert loaded.info.class_names == ("cat", "dog")
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("Cat", "cat"), ("'Cat'", "'cat'")),
        (("1.0", "1", "x"), ("'1'", "'1.0'")),
        (("01", "1", "x"), ("'01'", "'1'")),
        (("a b", "a  b"), ("'a b'", "'a  b'")),
        (("a", "a\u200b", "b"), ("two classes", "u200b")),
        (("soft\u00adware", "software"), ("two classes",)),
        (("caf\u00e9", "cafe\u0301"), ("two classes",)),
    ],
)
def test_classes_that_look_alike_are_told_of(tmp_path, labels, told):
    source = write_function(tmp_path, f"return np.arange(60) / 7, np.resize(np.array({list(labels)!r}), 60)")
    loaded = load(tmp_path, source)
    assert len(loaded.info.class_names) == len(labels)
    (warning,) = loaded.warnings
    assert all(word in warning for word in told)


@pytest.mark.parametrize("labels", [("1", "1.0", "2"), ("01", "1", "2"), ("1e0", "1", "2"), ("1", "+1", "2")])
def test_numbers_written_in_two_ways_are_one_class_of_a_table_and_told_of(tmp_path, labels):
    (tmp_path / "d.csv").write_text("a,k\n" + "".join(f"{i / 2},{labels[i % 3]}\n" for i in range(60)))
    loaded = load(tmp_path, "d.csv", target="k")
    assert loaded.info.class_names == ("1", "2")
    (warning,) = loaded.warnings
    assert all(word in warning for word in (repr(labels[0]), repr(labels[1]), "are one number"))


@pytest.mark.parametrize("end", [",", ", ", ",0"])
@pytest.mark.parametrize("labels", [("1", "2"), ("01", "1"), ("2", "02")])
def test_spellings_are_those_of_the_target_where_rows_end_in_a_separator(tmp_path, end, labels):
    """The sample: a second reading took the cells of another column, and told of labels that are not there."""
    header = "a,k,b" if end == ",0" else "a,k"
    rows = "".join(f"{i % 7}.50,{labels[i % 2]}{end}\n" for i in range(60))
    extra = "".join(f"{i % 7}.5,3{end}\n" for i in range(20))
    (tmp_path / "d.csv").write_text(f"{header}\n{rows}{extra}")
    warnings = without_remarks(load(tmp_path, "d.csv", target="k").warnings)
    assert [repr(label) in warning for warning in warnings for label in labels] == [True] * (2 * (labels != ("1", "2")))


# ---------------------------------------------------------------- width


def wide(path, columns: int) -> None:
    header = ",".join(f"c{i}" for i in range(columns))
    (path / "d.csv").write_text(header + "\n" + (",".join(["1"] * columns) + "\n"))


def test_header_of_100000_columns_is_checked_in_linear_time(tmp_path):
    """Each name was once counted in the whole header: minutes."""
    wide(tmp_path, 100_000)
    began = time.process_time()
    data.check(DataSection(source="d.csv", target="c5"), tmp_path)
    with pytest.raises(DataError, match="no column"):
        data.check(DataSection(source="d.csv", target="nothing like these"), tmp_path)
    assert time.process_time() - began < 10


def test_wide_table_with_a_column_twice_is_refused(tmp_path):
    wide(tmp_path, 50_000)
    text = (tmp_path / "d.csv").read_text().replace(",c49999\n", ",c7\n")
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(DataError, match="'c7' stands there twice"):
        data.check(DataSection(source="d.csv", target="c5"), tmp_path)


@pytest.mark.gallery
def test_wide_table_of_reals_and_truths_is_read_in_linear_time(tmp_path):
    columns = 20_000
    header = ",".join([*(f"c{i}" for i in range(columns)), "kind"])
    cells = ",".join("0.5" if i % 2 else "true" for i in range(columns))
    (tmp_path / "d.csv").write_text(header + "\n" + "".join(f"{cells},{'ab'[i % 2]}\n" for i in range(30)))
    began = time.process_time()
    loaded = load(tmp_path, "d.csv", target="kind")
    assert loaded.info.input_shape == (columns,)
    assert np.array_equal(loaded.x_train[0, :4], [1, 0.5, 1, 0.5])
    assert time.process_time() - began < 15


def test_tables_of_numbers_are_remarked_on_as_others_are(tmp_path):
    rows = [(100 + i, 7, i % 9, i % 9, i % 2) for i in range(60)]
    (tmp_path / "d.csv").write_text("customer,site,a,b,y\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    said = "\n".join(load(tmp_path, "d.csv", target="y").warnings)
    assert "column 'site': all cells are equal" in said
    assert "column 'customer': every row has another value, so it looks like an identifier; drop it" in said
    assert "columns 'a' and 'b' are equal" in said


def test_many_useless_columns_are_told_in_one_line(tmp_path):
    """Images as a table: the pixels at the edge are all 0."""
    names = [f"pixel{i}" for i in range(40)]
    rows = [[0] * 38 + [i % 7, i % 5, i % 2] for i in range(60)]
    (tmp_path / "d.csv").write_text(
        ",".join([*names, "y"]) + "\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows)
    )
    (warning,) = load(tmp_path, "d.csv", target="y").warnings
    assert "38 columns ('pixel0', 'pixel1', 'pixel2', ...): all cells are equal" in warning
