"""Tables with categories, dates, texts and blanks: what is guessed, what is refused, and what models get."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from data_kit import data, load, refused, write_function
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from search.errors import DataError
from search.spec.settings import Columns, DataSection

ROWS = 200
RNG = np.random.default_rng(0)
BASE = pd.DataFrame(
    {
        "size": RNG.normal(50, 12, ROWS).round(3),
        "plan": RNG.choice(["free", "pro", "team"], ROWS),
        "is_old": RNG.choice([True, False], ROWS),
        "y": RNG.choice(["no", "yes"], ROWS),
    }
)


def table(folder, *, drop=(), **columns):
    """Write BASE with more or other columns as d.csv; return it."""
    frame = BASE.assign(**columns).drop(columns=list(drop))
    frame.to_csv(folder / "d.csv", index=False)
    return frame


def kinds(folder, **columns):
    table(folder, **columns)
    return load(folder, "d.csv", target="y").kinds


def message(folder, *words, settings=None, **columns):
    table(folder, **columns)
    return refused(folder, "d.csv", *words, target="y", columns=settings)


def warnings(folder, settings=None, **columns):
    table(folder, **columns)
    return list(load(folder, "d.csv", target="y", columns=settings).warnings)


def cells(*values):
    """Fill a column with values in turn."""
    return [values[row % len(values)] for row in range(ROWS)]


DAYS = [str(day.date()) for day in pd.date_range("2023-11-05", periods=ROWS)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (cells(1, 2, 5), "number"),
        (cells("1", "", "3.5"), "number"),
        (cells("1", "NA", "?", "-", "n/a", "3"), "number"),
        (cells(True, False, ""), "boolean"),
        (cells("true", "FALSE", "?"), "boolean"),
        (cells("yes", "no"), "category"),
        (cells("yes", "no", "NA"), "category"),
        (cells("a1", "b2", "7"), "category"),
        (DAYS, "date"),
        (["", *DAYS[1:]], "date"),
        ([f"{day}T12:30:00Z" for day in DAYS], "date"),
        ([f"{day} 7:05" for day in DAYS], "date"),
        ([pd.Timestamp(day).strftime("%d/%m/%Y") for day in DAYS], "date"),
        ([pd.Timestamp(day).strftime("%m-%d-%Y") for day in DAYS], "date"),
        ([pd.Timestamp(day).strftime("%d.%m.%Y") for day in DAYS], "date"),
        ([f"{row} things were said on this day" for row in range(ROWS)], "text"),
        (cells("12 kg", "15 kg"), "category"),
    ],
)
def test_kinds_are_guessed(tmp_path, values, kind):
    assert kinds(tmp_path, seen=values) == {"size": "number", "plan": "category", "is_old": "boolean", "seen": kind}


def swapped(values, row, value):
    return [*values[:row], value, *values[row + 1 :]]


FAULTS = {
    "mixed": (cells(1, 2, "x"), ("line 4", "'x' is no number", 'category = ["bad"]')),
    "text_among_numbers": (swapped(list(range(ROWS)), 7, "abc"), ("line 9", "'abc' is no number")),
    "decimal_comma": (cells("1,5", "2,5"), ("line 2", "'1,5' is written with a comma", "decimal point")),
    "thousands": ([f"{row},{row % 10}00" for row in range(1, ROWS + 1)], ("line 2", "thousands separators")),
    "thousands_of_some": (cells(5, 12, "1,234"), ("line 4", "'1,234' is written with a comma")),
    "units": ([f"{row} kg" for row in range(ROWS)], ("line 2", "'0 kg' is a number with a unit")),
    "money": ([f"${row}.50" for row in range(ROWS)], ("line 2", "number with a unit")),
    "percent": ([f"{row}%" for row in range(ROWS)], ("line 2", "number with a unit")),
    "truth": (cells("true", "false", "true", "maybe"), ("line 5", "'maybe' is neither true nor false")),
    "empty": ([""] * ROWS, ("column 'bad' is empty", 'drop = ["bad"]')),
    "words_for_nothing": (["NA", *["?"] * (ROWS - 1)], ("only words for missing values", 'drop = ["bad"]')),
    "infinite": (swapped(list(range(ROWS)), 3, "inf"), ("line 5", "inf is not finite")),
    "dates_in_two_forms": (
        [pd.Timestamp(day).strftime("%d/%m/%Y" if row % 2 else "%Y-%m-%d") for row, day in enumerate(DAYS)],
        ("several forms", "'2023-11-05' (", "line 2", "'06/11/2023' (", "line 3"),
    ),
    "day_and_month_swapped": (cells("13/01/2024", "01/13/2024"), ("several forms", "'13/01/2024'", "'01/13/2024'")),
    "ambiguous_dates": (cells("01/02/2024", "03/04/2024"), ("'01/02/2024' may be day/month or month/day",)),
    "no_such_day": (swapped(DAYS, 5, "2024-02-30"), ("line 7", "'2024-02-30' is no date")),
    "date_and_word": (swapped(DAYS, 5, "soon"), ("line 7", "'soon' is no date", 'category = ["bad"]')),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_column_are_told_with_line_and_remedy(tmp_path, fault):
    """B5."""
    values, words = FAULTS[fault]
    message(tmp_path, "column 'bad'", *words, bad=values)


def test_all_faults_are_told_at_once(tmp_path):
    table(tmp_path, **{name: values for name, (values, _) in FAULTS.items()})
    with pytest.raises(DataError) as caught:
        load(tmp_path, "d.csv", target="y")
    first, *lines = str(caught.value).splitlines()
    assert first.endswith(f"{len(FAULTS)} columns can't be read:")
    assert [next(name for name in FAULTS if f"column {name!r}" in line) for line in lines] == list(FAULTS)


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in ("empty", "words_for_nothing")])
def test_a_column_with_a_fault_can_be_a_category_or_dropped(tmp_path, fault):
    table(tmp_path, bad=FAULTS[fault][0])
    for settings in ({"category": ("bad",)}, {"drop": ("bad",)}):
        loaded = load(tmp_path, "d.csv", target="y", columns=settings)
        assert loaded.kinds.get("bad", "drop") == next(iter(settings))
        assert np.isfinite(loaded.x_train).all()


@pytest.mark.parametrize(
    ("settings", "values", "words"),
    [
        ({"number": ("bad",)}, cells("1", "x"), ("line 3", "'x' is no number")),
        ({"number": ("bad",)}, cells("12 kg", "1"), ("line 2", "'12 kg' is no number")),
        ({"date": ("bad",)}, cells("x", "2024-01-01"), ("line 2", "'x' is no date")),
        ({"date": ("bad",)}, cells(20240101, 20240102), ("a date is a text such as 2024-03-01",)),
        ({"drop": ("bd",)}, cells(1, 2), ("columns.drop names 'bd'", "did you mean 'bad'?")),
        ({"category": ("y",)}, cells(1, 2), ("columns.category and target both name 'y'",)),
        ({"drop": ("size", "plan", "is_old", "bad")}, cells(1, 2), ("columns.drop leaves no column",)),
    ],
)
def test_settings_that_do_not_fit_the_table_are_refused(tmp_path, settings, values, words):
    message(tmp_path, *words, settings=settings, bad=values)


def test_columns_are_checked_before_the_table_is_read(tmp_path):
    table(tmp_path)
    with pytest.raises(DataError, match="did you mean 'plan'") as caught:
        data.check(DataSection(source="d.csv", target="y", columns={"text": ("plam",)}), tmp_path)
    assert caught.value.key == "data.columns"


def test_a_column_has_one_kind():
    with pytest.raises(ValueError, match="columns names 'a' twice"):
        Columns(drop=("a",), text=("a",))


@pytest.mark.parametrize("rows", [[3], [3, 10]])
def test_missing_targets_are_named(tmp_path, rows):
    more = "(and so are 1 more)" if len(rows) > 1 else "the cell is empty;"
    message(tmp_path, "line 5", "column 'y'", more, y=[None if row in rows else "yn"[row % 2] for row in range(ROWS)])


# Names and cells that are other bytes in each encoding.
WRITTEN = {
    "latin-1": ("größe", ["Köln", "Orléans"]),
    "cp1252": ("prix €", ["Köln – Ost", "10 € “net”"]),
    "cp1251": ("город", ["Москва", "Тверь"]),
    "shift_jis": ("都市", ["東京", "大阪"]),
    "gb18030": ("城市", ["北京", "上海"]),
    "utf-16": ("город", ["東京", "Köln"]),
    "utf-16-le": ("größe", ["東京", "Köln"]),
    "utf-16-be": ("größe", ["東京", "Köln"]),
    "utf-32": ("größe", ["東京", "Köln"]),
    "UTF8": ("größe", ["東京", "Köln"]),
    "utf-8-sig": ("größe", ["東京", "Köln"]),
}


@pytest.mark.parametrize("encoding", WRITTEN)
def test_encoding_of_a_text_file_is_named(tmp_path, encoding):
    name, values = WRITTEN[encoding]
    frame = table(tmp_path).assign(
        **{name: cells(*values), "klasse": cells("für", "gegen") if "ö" in values[0] else BASE.y}
    )
    frame.drop(columns="y").to_csv(tmp_path / "d.csv", index=False, encoding="utf-8")
    wanted = load(tmp_path, "d.csv", target="klasse")
    frame.drop(columns="y").to_csv(tmp_path / "d.csv", index=False, encoding=encoding)
    loaded = load(tmp_path, "d.csv", target="klasse", encoding=encoding)
    assert loaded.fingerprint == wanted.fingerprint
    assert loaded.kinds == wanted.kinds
    assert name in loaded.kinds
    assert set(loaded.raw.x_validation[name]) == set(values)


@pytest.mark.parametrize(
    ("written", "named", "words"),
    [
        ("latin-1", None, ("is not UTF-8: byte f6", 'encoding = "latin-1"', "save it as UTF-8")),
        ("cp1252", None, ("is not UTF-8", 'or "cp1252"')),
        ("utf-16", None, ("byte order mark of UTF-16", 'set encoding = "utf-16" in [data]')),
        ("utf-32", None, ("byte order mark of UTF-32", 'set encoding = "utf-32" in [data]')),
        ("utf-16-le", None, ("bytes of zero", 'encoding = "utf-16-le"')),
        ("utf-16", "latin-1", ("byte order mark of UTF-16", "not iso8859-1", 'set encoding = "utf-16"')),
        ("utf-16", "utf-16-le", ("byte order mark of UTF-16", 'set encoding = "utf-16"')),
        ("utf-8-sig", "latin-1", ("byte order mark of UTF-8", "remove encoding")),
        ("utf-16-be", "latin-1", ("bytes of zero", '"utf-16-be"')),
        ("latin-1", "ascii", ("is not ascii: byte f6", "name another encoding")),
        ("latin-1", "utf-16", ("is not utf-16",)),
    ],
)  # fmt: skip
def test_text_file_in_another_encoding_is_refused(tmp_path, written, named, words):
    frame = table(tmp_path, city=cells("Köln", "Bonn"))
    frame.to_csv(tmp_path / "d.csv", index=False, encoding=written)
    refused(tmp_path, "d.csv", *words, target="y", encoding=named)


def test_byte_of_another_encoding_far_behind_the_header_is_refused(tmp_path):
    frame = pd.concat([table(tmp_path)] * 20, ignore_index=True).assign(city="Koln")
    frame.loc[3900, "city"] = "Köln"
    frame.to_csv(tmp_path / "d.csv", index=False, encoding="latin-1")
    refused(tmp_path, "d.csv", "is not UTF-8", 'encoding = "latin-1"', target="y")


def test_encoding_is_of_text_files(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((9, 2)), y=np.arange(9.0))
    refused(tmp_path, "d.npz", "encoding is of a table in a text file", "remove encoding", encoding="latin-1")
    for name in ("rot13", "hex", "latin-77"):
        with pytest.raises(ValueError, match="no such encoding of texts"):
            DataSection(source="d.csv", target="y", encoding=name)
    assert DataSection(source="d.csv", encoding="latin1").encoding == DataSection(source="d", encoding="L1").encoding


def test_byte_order_mark_is_no_part_of_a_name(tmp_path):
    table(tmp_path).to_csv(tmp_path / "d.csv", index=False, encoding="utf-8-sig")
    assert list(load(tmp_path, "d.csv", target="y").kinds) == ["size", "plan", "is_old"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": range(ROWS)}, ("'id': every row has another value", 'drop = ["id"]')),
        ({"user_id": [7919 * row for row in range(ROWS)]}, ("'user_id': every row has another value",)),
        ({"code": [f"u{row:04}" for row in range(ROWS)]}, ("'code': every row has another value",)),
        ({"one": 7}, ("'one': all cells are equal",)),
        ({"twin": BASE["size"]}, ("'size' and 'twin' are equal",)),
        ({"plan_2": BASE["plan"]}, ("'plan' and 'plan_2' are equal",)),
        (
            {"leak": BASE["y"].map({"no": "left", "yes": "stayed"})},
            ("'leak' alone predicts all but 0.0% of the labels",),
        ),
        ({"score": BASE["y"].eq("yes") + RNG.normal(0, 0.1, ROWS)}, ("'score' alone predicts",)),
        ({"weight": cells("12 kg", "15 kg")}, ("'weight': '12 kg' looks like a number with a unit",)),
        ({"city": cells("Bonn", "bonn", "Köln")}, ("'Bonn' and 'bonn' are two categories",)),
        ({"mixed": cells("1", "?", "2")}, ("'mixed': '?' stand for missing values",)),
    ],
)
def test_suspicious_columns_are_warned_of(tmp_path, columns, words):
    found = warnings(tmp_path, **columns)
    for word in words:
        assert any(word in text for text in found), (word, found)


def test_usual_columns_are_not_warned_of(tmp_path):
    assert warnings(tmp_path, day=DAYS, note=[f"{row} things were said today" for row in range(ROWS)]) == []


def test_leak_of_a_regression_is_warned_of(tmp_path):
    frame = table(tmp_path, y=BASE["size"] * 3 + 1 + RNG.normal(0, 0.1, ROWS), other=RNG.normal(size=ROWS))
    (found,) = load(tmp_path, "d.csv", target="y").warnings
    assert "column 'size' alone predicts 99." in found
    assert "of the target's variance" in found
    # Half of the variance is no leak.
    frame.assign(y=frame["y"] + RNG.normal(0, 36, ROWS)).to_csv(tmp_path / "d.csv", index=False)
    assert load(tmp_path, "d.csv", target="y").warnings == ()


# ---------------------------------------------------------------- features


@pytest.mark.parametrize("scale", ["auto", "standard", "minmax", "none"])
def test_features_are_those_of_scikit_learn(tmp_path, scale):
    """Adapted on the training rows alone; the source's own splits show which they are."""
    rng = np.random.default_rng(1)
    count = 400
    frame = pd.DataFrame(
        {
            "size": rng.normal(50, 12, count),
            "income": np.where(rng.random(count) < 0.2, np.nan, rng.lognormal(8, 1, count)),
            "flag": rng.random(count) < 0.3,
            "plan": rng.choice(["free", "pro", "team"], count),
            "town": rng.choice([f"town {number}" for number in range(150)], count),
            "grade": pd.Series(rng.choice(["a", "b", None], count)),
        }
    )
    y = rng.integers(0, 2, count)
    frame.assign(y=y).to_pickle(tmp_path / "frame.pkl")
    body = """
    frame = pd.read_pickle('frame.pkl')
    y = frame.pop('y').to_numpy()
    return {'x_train': frame[:300], 'y_train': y[:300], 'x_val': frame[300:], 'y_val': y[300:]}
    """.replace("'frame.pkl'", repr(str(tmp_path / "frame.pkl")))
    loaded = load(tmp_path, write_function(tmp_path, body), scale=scale, test=0)
    scaler = {"minmax": MinMaxScaler(), "none": "passthrough"}.get(scale, StandardScaler())
    frequent = OneHotEncoder(
        min_frequency=2, max_categories=101, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    expected = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), scaler), ["size", "income", "flag"]),
            (
                "missing",
                OneHotEncoder(categories=[[True]], handle_unknown="ignore", sparse_output=False),
                ["is missing"],
            ),
            ("plan", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["plan"]),
            ("town", frequent, ["town"]),
            ("grade", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["grade"]),
        ]
    )
    given = frame.assign(**{"is missing": frame["income"].isna(), "flag": frame["flag"].astype(float)})
    assert np.allclose(loaded.x_train, expected.fit_transform(given[:300]), atol=1e-5)
    assert np.allclose(loaded.x_validation, expected.transform(given[300:]), atol=1e-5)
    assert loaded.x_train.dtype == np.float32
    assert loaded.encoding.features[:5] == ("size", "income", "flag", "income is missing", "plan = free")
    assert len(loaded.encoding.features) == loaded.x_train.shape[1] == loaded.info.input_shape[0]


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%YT%H:%M:%S", "%m/%d/%Y %H:%M"])
def test_dates_become_their_parts_and_the_time_since_the_first(tmp_path, form):
    moments = pd.Series(pd.to_datetime(np.random.default_rng(2).integers(0, 2 * 10**9, 400), unit="s")).dt.floor("min")
    texts = moments.dt.strftime(form).where(moments.index % 10 > 0, "")
    # The target carries the row's number, so that rows can be found again.
    pd.DataFrame({"at": texts, "y": np.arange(400) / 2}).to_csv(tmp_path / "d.csv", index=False)
    loaded = load(tmp_path, "d.csv", target="y", scale="none", test=0)
    assert loaded.encoding.features == ("at: days", "at: month", "at: day", "at: weekday", "at: hour", "at is missing")
    rows = np.concatenate([loaded.x_train, loaded.x_validation])
    at = (2 * np.concatenate([loaded.y_train, loaded.y_validation])[:, 0]).astype(int)
    known, seen = at % 10 > 0, moments[at[at % 10 > 0]]
    first = moments[[row for row in (2 * loaded.y_train[:, 0]).astype(int) if row % 10]].min().floor("D")
    parts = [(seen - first) / pd.Timedelta(1, "D"), seen.dt.month, seen.dt.day, seen.dt.day_of_week, seen.dt.hour]
    assert np.allclose(rows[known][:, :5], np.stack(parts, axis=1), atol=1e-3)
    assert (rows[:, 5] == ~known).all()
    # Missing dates have the median of the training rows in every part.
    assert (rows[~known][:, :5] == loaded.encoding.medians).all()


def test_words_of_long_texts_are_features(tmp_path):
    notes = [f"{'Good' if row % 2 else 'bad,'} parcel, number {row}!" for row in range(ROWS)]
    table(tmp_path, note=notes, drop=("size", "plan", "is_old"))
    loaded = load(tmp_path, "d.csv", target="y", columns={"text": ("note",)})
    assert loaded.encoding.features == ("note: bad", "note: good", "note: number", "note: parcel")
    assert (loaded.x_train[:, 2:] == 1).all()
    assert (loaded.x_train[:, 0] + loaded.x_train[:, 1] == 1).all()
    assert not [warning for warning in loaded.warnings if "words" in warning]
    cut = load(tmp_path, "d.csv", target="y", columns={"text": ("note",)}, text={"max_tokens": 3})
    # All rows have "number" and "parcel".
    assert set(cut.encoding.features) >= {"note: number", "note: parcel"}
    assert len(cut.encoding.features) == 3
    (warning,) = [warning for warning in cut.warnings if "words" in warning]
    assert "column 'note' has 4 words that two or more training rows have, of which the 3 most frequent" in warning


def test_many_categories_are_capped(tmp_path):
    """The most frequent 100 have a feature each, all others share one."""
    count = 20_000
    town = np.minimum(np.random.default_rng(3).geometric(0.01, count), 400)
    rare = [f"{row:06}" for row in range(count)]
    pd.DataFrame({"town": [f"t{t:03}" for t in town], "rare": rare, "y": np.arange(count) % 2}).to_csv(
        tmp_path / "d.csv", index=False
    )
    loaded = load(tmp_path, "d.csv", target="y", columns={"category": ("rare",)})
    assert [column["how"] for column in loaded.columns] == [
        "100 categories, all others are one",
        "0 categories, all others are one",
    ]
    assert (loaded.x_train[:, :101].sum(axis=1) == 1).all()
    assert loaded.encoding.features[99:] == ("town = t400", "town: other", "rare: other")
    assert any("'rare': every row has another value" in text for text in loaded.warnings)


@pytest.mark.parametrize(
    ("codes", "known"),
    [
        ((1, 2, 30), (1.0, 2.0, 30.0)),
        ((1, 2, 30, None), (1.0, 2.0, 30.0)),
        (("01", "2", "30"), ("01", "2", "30")),
        ((1.5, 2, 30), ("1.5", "2.0", "30.0")),
    ],
)
def test_numbers_may_be_categories(tmp_path, codes, known):
    table(tmp_path, zip=cells(*codes))
    loaded = load(tmp_path, "d.csv", target="y", columns={"category": ("zip",)})
    (zips,) = [column for column in loaded.encoding.categories if column.name == "zip"]
    assert zips.known == known
    assert (loaded.x_train[:, -len(zips.features) :].sum(axis=1) == 1).all()


def test_unknown_and_missing_categories_of_validation_rows_have_no_feature_of_their_own(tmp_path):
    splits = {
        "x_train": pd.DataFrame({"a": ["p", "q"] * 20, "n": [1.0, 2.0] * 20}),
        "x_val": pd.DataFrame({"a": ["p", "new", None, "q"] * 5, "n": [1.0, np.nan, 3.0, 2.0] * 5}),
    }
    for key, frame in splits.items():
        frame.to_pickle(tmp_path / key)
    body = f"""
    x, v = (pd.read_pickle('{tmp_path}/' + key) for key in ('x_train', 'x_val'))
    return {{'x_train': x, 'y_train': np.arange(40) % 2, 'x_val': v, 'y_val': np.arange(20) % 2}}
    """
    loaded = load(tmp_path, write_function(tmp_path, body), test=0, scale="none")
    assert loaded.encoding.features == ("n", "a = p", "a = q")
    # The median of the training rows stands for the missing number.
    assert loaded.x_validation[:4].tolist() == [[1, 1, 0], [1.5, 0, 0], [3, 0, 0], [2, 0, 1]]


# ---------------------------------------------------------------- sources


FRAME = """
frame = pd.DataFrame({'n': np.arange(60.0), 'a': ['p', 'q', None] * 20, 'y': np.arange(60) % 2})
"""


@pytest.mark.parametrize(
    ("body", "settings"),
    [
        ("return frame", {"target": "y"}),
        ("return frame.drop(columns='y'), frame['y']", {}),
        ("return frame[:50], frame[50:]", {"target": "y"}),
        ("return {'x': frame[['n', 'a']], 'y': frame['y'].to_numpy()}", {}),
    ],
)
def test_functions_may_return_tables(tmp_path, body, settings):
    loaded = load(tmp_path, write_function(tmp_path, FRAME + body), **settings)
    assert loaded.kinds == {"n": "number", "a": "category"}
    assert loaded.encoding.features == ("n", "a = p", "a = q", "a is missing")


CELLS = {
    "Decimal": ("[decimal.Decimal('1.5'), decimal.Decimal(2)] * 30", "number"),
    "date": ("[datetime.date(2024, 1, 1 + row % 28) for row in range(60)]", "date"),
    "datetime64": ("pd.date_range('2024', periods=60)", "date"),
    "zone": ("pd.date_range('2024', periods=60, tz='Asia/Tokyo')", "date"),
    "Int64": ("pd.array([1, None] * 30, dtype='Int64')", "number"),
    "boolean": ("pd.array([True, None] * 30, dtype='boolean')", "boolean"),
    "category": ("pd.Series(['p', 'q'] * 30, dtype='category')", "category"),
    "category of numbers": ("pd.Series([3, 4] * 30, dtype='category')", "category"),
    "string": ("pd.array(['p', None] * 30, dtype='string')", "category"),
    "nan and texts": ("[np.nan, 'p', 'q'] * 20", "category"),
    "float16": ("np.arange(60).astype('float16')", "number"),
}


@pytest.mark.parametrize("name", CELLS)
def test_columns_of_pandas_of_any_type(tmp_path, name):
    code, kind = CELLS[name]
    body = f"import datetime, decimal\nframe = pd.DataFrame({{'a': ['p', 'q'] * 30, 'b': {code}}})\nreturn frame, np.arange(60) % 2"
    loaded = load(tmp_path, write_function(tmp_path, body))
    assert loaded.kinds == {"a": "category", "b": kind}
    assert np.isfinite(loaded.x_train).all()


@pytest.mark.parametrize(
    ("body", "settings", "words"),
    [
        ("return frame", {}, ("which column is learnt?", "target")),
        ("return frame", {"target": "z"}, ("no column 'z'", "it has n, a, y")),
        ("return frame.to_numpy(), 1", {"target": "y"}, ("received tuple",)),
        ("return np.ones((60, 2)), frame['y']", {"columns": {"drop": ("n",)}}, ("columns is for tables of pandas",)),
        ("return frame[['n', 'a', 'a']], frame['y']", {}, ("'a' stands there twice",)),
        (
            "return {'x': frame[['n', 'a']], 'y': frame['y'], 'x_val': frame[['n']], 'y_val': frame['y']}",
            {},
            ("no column 'a'",),
        ),
        ("return (frame[['n', 'a']], frame['y']), (frame[['a', 'n']], frame['y'])", {}, ("different orders",)),
        ("frame['n'] = [{'x': 1}] * 60\nreturn frame", {"target": "y"}, ("column 'n'", "cells of type dict")),
        ("frame['n'] = [[1]] * 60\nreturn frame", {"target": "y"}, ("column 'n'", "cells of type list")),
        ("frame['n'] = [b'x'] * 60\nreturn frame", {"target": "y"}, ("column 'n'", "bytes")),
        ("frame['n'] = pd.to_timedelta(frame['n'], 'D')\nreturn frame", {"target": "y"}, ("column 'n'", "timedelta64")),
        ("frame['y'] = frame['a']\nreturn frame", {"target": "y"}, ("missing value",)),
        (
            "frame['n'] = 20_000_001 + np.arange(60)\nreturn frame",
            {"target": "y", "scale": "none"},
            ("'n'", "would round"),
        ),
    ],
)
def test_tables_of_functions_that_are_refused(tmp_path, body, settings, words):
    """B5."""
    refused(tmp_path, write_function(tmp_path, FRAME + body), *words, **settings)


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_files_of_arrow_hold_what_a_csv_holds(tmp_path, kind):
    frame = table(tmp_path, day=DAYS, seen=cells(1.5, None))
    wanted = load(tmp_path, "d.csv", target="y")
    frame.index = range(7, 7 + ROWS)  # an index is no column
    (frame.to_parquet if kind == "parquet" else frame.reset_index(drop=True).to_feather)(tmp_path / f"d.{kind}")
    loaded = load(tmp_path, f"d.{kind}", target="y")
    assert (loaded.fingerprint, loaded.kinds) == (wanted.fingerprint, wanted.kinds)
    frame.assign(day=pd.to_datetime(frame["day"]), plan=frame["plan"].astype("category")).to_parquet(
        tmp_path / "e.parquet"
    )
    assert load(tmp_path, "e.parquet", target="y").fingerprint == wanted.fingerprint


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_damaged_files_of_arrow_are_refused(tmp_path, kind):
    """B5."""
    refused(tmp_path, f"d.{kind}", "no such file", target="y")
    (tmp_path / f"d.{kind}").write_bytes(b"")
    refused(tmp_path, f"d.{kind}", f"no {kind} file, or a damaged one", target="y")
    (tmp_path / f"d.{kind}").write_text("a,y\n1,2\n")
    refused(tmp_path, f"d.{kind}", f"no {kind} file, or a damaged one", target="y")
    frame = BASE[:50]
    (frame.to_parquet if kind == "parquet" else frame.to_feather)(tmp_path / f"d.{kind}")
    refused(tmp_path, f"d.{kind}", "which column is learnt")
    refused(tmp_path, f"d.{kind}", "no column 'x'", target="x")
    refused(tmp_path, f"d.{kind}", "columns.drop names 'plam'", "'plan'", target="y", columns={"drop": ("plam",)})
    whole = (tmp_path / f"d.{kind}").read_bytes()
    (tmp_path / f"d.{kind}").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, f"d.{kind}", f"no {kind} file, or a damaged one", target="y")
    (frame[:0].to_parquet if kind == "parquet" else frame[:0].to_feather)(tmp_path / f"d.{kind}")
    refused(tmp_path, f"d.{kind}", "there are no rows", target="y")


def test_columns_are_for_tables(tmp_path):
    refused(tmp_path, "sklearn:iris", "columns is for the columns of a table", columns={"drop": ("a",)})


# ---------------------------------------------------------------- as before


def test_numbers_without_blanks_are_not_encoded(tmp_path):
    """The features are those of earlier versions, bit by bit, so that their studies go on."""
    frame = table(tmp_path, drop=("plan",))
    loaded = load(tmp_path, "d.csv", target="y", test=0)
    x = frame[["size", "is_old"]].to_numpy(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=frame["y"].to_numpy(str))
    same = load(tmp_path, "d.npz", test=0)
    assert loaded.fingerprint == same.fingerprint
    assert loaded.kinds == {}
    # A dropped column is not there at all.
    table(tmp_path)
    assert load(tmp_path, "d.csv", target="y", test=0, columns={"drop": ("plan",)}).fingerprint == same.fingerprint


def test_the_target_may_stand_in_any_column(tmp_path):
    frame = table(tmp_path)
    first = load(tmp_path, "d.csv", target="y").fingerprint
    frame[["y", "size", "plan", "is_old"]].to_csv(tmp_path / "d.csv", index=False)
    assert load(tmp_path, "d.csv", target="y").fingerprint == first


def test_dates_of_several_time_zones_become_those_of_utc_and_none_is_mixed_with_others(tmp_path):
    body = """
    import datetime
    zones = [datetime.timezone.utc, datetime.timezone(datetime.timedelta(hours=2))]
    day = datetime.datetime(2024, 3, 1, 1)
    at = [(day + datetime.timedelta(days=row)).replace(tzinfo=zones[row % 2]) for row in range(60)]
    return pd.DataFrame({"at": at, "v": np.arange(60.0) ** 2}), np.arange(60) % 2
    """
    loaded = load(tmp_path, write_function(tmp_path, body), scale="none", test=0)
    hours, labels = loaded.x_train[:, loaded.encoding.features.index("at: hour")], loaded.y_train.ravel()
    assert (hours == np.where(labels == 1, 23, 1)).all()
    assert any("become those of UTC" in warning for warning in loaded.warnings)
    mixed = body.replace("return", "at[3] = day\n    return")
    refused(tmp_path, write_function(tmp_path, mixed, name="mixed"), "holds dates with a time zone and dates without")
