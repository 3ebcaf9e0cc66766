"""Splits by group, by order and by a column: set against scikit-learn, pandas and plain indexing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from data_kit import load, refused, without_remarks, write_function
from pydantic import ValidationError
from sklearn.model_selection import GroupShuffleSplit, TimeSeriesSplit

from search import data
from search.errors import DataError
from search.spec.settings import DataSection


def written(folder, rows: int = 240, **columns):
    """Write a table whose feature `number` numbers the rows, with a binary target `sick`; return it."""
    sick = np.random.default_rng(3).integers(0, 2, rows)
    frame = pd.DataFrame({"number": np.arange(rows), "sick": sick, **columns})
    frame.to_csv(folder / "d.csv", index=False)
    return frame


def patients(folder, rows: int = 240, groups: int = 30):
    names = [f"p{index}" for index in np.random.default_rng(5).integers(0, groups, rows)]
    return written(folder, rows, patient=names)


def numbers(loaded) -> dict[str, list[int]]:
    """Return the `number` of every row of training and validation; the test rows are all others."""
    return {
        "train": loaded.x_train[:, 0].astype(int).tolist(),
        "validation": loaded.x_validation[:, 0].astype(int).tolist(),
    }


def groups_of(frame, loaded, column="patient") -> dict[str, set]:
    rows = numbers(loaded)
    rows["test"] = sorted(set(frame.number) - set(rows["train"]) - set(rows["validation"]))
    assert len(rows["train"]) + len(rows["validation"]) + len(rows["test"]) == len(frame)
    assert len(rows["test"]) == loaded.info.test_rows
    return {split: set(frame.set_index("number")[column][index]) for split, index in rows.items()}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.25])
def test_rows_of_a_group_lie_in_one_split_as_by_group_shuffle_split(tmp_path, seed, share):
    frame = patients(tmp_path)
    loaded = load(tmp_path, "d.csv", seed, target="sick", group="patient", validation=share, test=share)
    assert loaded.info.input_shape == (1,)  # the group is no feature
    groups = groups_of(frame, loaded)
    assert not groups["train"] & groups["validation"]
    assert not groups["train"] & groups["test"]
    assert not groups["validation"] & groups["test"]
    # scikit-learn rounds up, so it is told how many groups.
    count = round(share * frame.patient.nunique())
    _, test = next(GroupShuffleSplit(1, test_size=count, random_state=0).split(frame, groups=frame.patient))
    assert len(groups["test"]) == len(groups["validation"]) == frame.patient.iloc[test].nunique()
    # The draw is the most even one of many: shares of rows and of classes are near those asked for.
    assert abs(loaded.info.validation_rows / len(frame) - share) < 0.03
    sick = frame.set_index("number").sick[numbers(loaded)["validation"]]
    assert abs(sick.mean() - frame.sick.mean()) < 0.06


def test_another_seed_takes_other_groups_and_the_same_seed_the_same(tmp_path):
    patients(tmp_path)
    how = {"target": "sick", "group": "patient"}
    assert load(tmp_path, "d.csv", 1, **how).fingerprint == load(tmp_path, "d.csv", 1, **how).fingerprint
    assert load(tmp_path, "d.csv", 1, **how).fingerprint != load(tmp_path, "d.csv", 2, **how).fingerprint


def test_training_keeps_rows_of_a_class_that_few_groups_have(tmp_path):
    frame = patients(tmp_path)
    frame["sick"] = frame.patient.isin(["p3", "p17"]).astype(int)
    frame.to_csv(tmp_path / "d.csv", index=False)
    for seed in range(10):
        loaded = load(tmp_path, "d.csv", seed, target="sick", group="patient")
        assert set(loaded.y_train.ravel()) == {0, 1}
        missing = {f"{tmp_path}/d.csv: no {split} row is of the class '1'" for split in ("validation", "test")}
        assert missing & set(loaded.warnings)


def test_most_even_draw_of_groups_of_different_sizes_is_taken_and_uneven_ones_are_told(tmp_path):
    written(tmp_path, patient=["big"] * 200 + ["a"] * 20 + ["b"] * 20)
    loaded = load(tmp_path, "d.csv", target="sick", group="patient")
    assert (loaded.info.train_rows, without_remarks(loaded.warnings)) == (200, [])
    written(tmp_path, patient=["big"] * 120 + ["bigger"] * 110 + ["b"] * 10)
    loaded = load(tmp_path, "d.csv", target="sick", group="patient", test=0, validation=0.2)
    (warning,) = without_remarks(loaded.warnings)
    assert warning == f"{tmp_path}/d.csv: validation has 4% of the rows instead of 20%, because groups are whole"


def test_limit_keeps_the_groups_apart(tmp_path):
    frame = patients(tmp_path)
    loaded = load(tmp_path, "d.csv", target="sick", group="patient", limit=100)
    rows = numbers(loaded)
    assert len(rows["train"]) + len(rows["validation"]) + loaded.info.test_rows == 100
    by_number = frame.set_index("number").patient
    assert not set(by_number[rows["train"]]) & set(by_number[rows["validation"]])


@pytest.mark.parametrize("kind", ["numbers", "dates", "times"])
def test_last_rows_in_order_are_the_test_rows_as_by_time_series_split(tmp_path, kind):
    order = np.random.default_rng(0).permutation(200)
    values = {
        "numbers": order / 2 - 30,
        "dates": (pd.Timestamp("2023-12-01") + pd.to_timedelta(order, "D")).strftime("%Y-%m-%d"),
        "times": (pd.Timestamp("2023-12-01") + pd.to_timedelta(order * 7, "min")).strftime("%Y-%m-%dT%H:%M"),
    }[kind]
    frame = written(tmp_path, 200, when=values)
    loaded = load(tmp_path, "d.csv", target="sick", order="when", validation=0.15, test=0.2)
    assert loaded.info.input_shape == (1,)
    ordered = frame.assign(order=order).sort_values("order").number.to_numpy()
    *_, (rest, test) = TimeSeriesSplit(2, test_size=40).split(ordered)
    *_, (train, validation) = TimeSeriesSplit(2, test_size=30).split(ordered[rest])
    assert len(test) == loaded.info.test_rows
    assert numbers(loaded) == {"train": ordered[train].tolist(), "validation": ordered[rest][validation].tolist()}


def test_rows_of_one_time_stay_together(tmp_path):
    frame = written(tmp_path, 200, when=np.arange(200) // 8)
    loaded = load(tmp_path, "d.csv", target="sick", order="when")
    # 20 rows are asked for: the border of the test rows falls into time 22, that of the validation rows into time 19.
    when = frame.set_index("number").when
    rows = numbers(loaded)
    assert loaded.info.test_rows == (frame.when >= 22).sum() == 24
    assert sorted(set(when[rows["validation"]])) == [19, 20, 21]
    assert max(when[rows["train"]]) == 18


def test_split_that_comes_as_a_column_is_taken_as_it_is(tmp_path):
    names = np.random.default_rng(1).choice(["train", "Training", "val", "VALID", "validation ", "test"], 240)
    frame = written(tmp_path, fold=names)
    loaded = load(tmp_path, "d.csv", target="sick", split="fold")
    split = frame.fold.str.strip().str.lower().str[:2]
    assert numbers(loaded) == {
        "train": frame.number[split == "tr"].tolist(),
        "validation": frame.number[split == "va"].tolist(),
    }
    assert loaded.info.test_rows == (split == "te").sum()
    assert loaded.own_splits == ("validation", "test")
    assert loaded.info.input_shape == (1,)


def test_validation_rows_are_cut_from_the_training_rows_where_the_column_marks_none(tmp_path):
    written(tmp_path, fold=["test"] * 40 + ["train"] * 200, when=np.arange(240))
    loaded = load(tmp_path, "d.csv", target="sick", split="fold", order="when", validation=0.2)
    assert loaded.own_splits == ("test",)
    assert numbers(loaded) == {"train": list(range(40, 200)), "validation": list(range(200, 240))}
    (warning,) = without_remarks(loaded.warnings)
    assert warning == (
        f"{tmp_path}/d.csv: 40 of the 40 test rows do not come after the last train row in order, so their metrics say less "
        "about rows to come"
    )


def arrays(folder, **more):
    """Write an .npz of 60 rows, each numbered by its feature."""
    x = np.arange(60.0).reshape(-1, 1)
    np.savez(folder / "d.npz", **{"x": x, "y": x[:, 0] / 7, **more})


def test_an_array_beside_x_groups_or_orders_the_rows(tmp_path):
    machine = np.repeat([4, 7, 9], 20)
    arrays(tmp_path, machine=machine)
    loaded = load(tmp_path, "d.npz", group="machine", test=0)
    taken = {split: set(machine[rows]) for split, rows in numbers(loaded).items()}
    assert sorted(map(len, taken.values())) == [1, 2]
    assert set.union(*taken.values()) == {4, 7, 9}
    arrays(tmp_path, hour=-np.arange(60))
    loaded = load(tmp_path, "d.npz", order="hour", test=0)
    assert numbers(loaded) == {"train": list(range(59, 5, -1)), "validation": [5, 4, 3, 2, 1, 0]}
    days = np.datetime64("2024-02-28") + np.arange(60)[::-1]
    arrays(tmp_path, day=days.reshape(-1, 1))
    assert load(tmp_path, "d.npz", order="day", test=0).fingerprint == loaded.fingerprint
    arrays(tmp_path, fold=np.where(np.arange(60) % 3, "train", "val"))
    assert numbers(load(tmp_path, "d.npz", split="fold", test=0))["validation"] == list(range(0, 60, 3))


def test_splits_of_an_archive_have_arrays_of_groups_each(tmp_path):
    x = np.arange(40.0).reshape(-1, 1)
    splits = {"x_train": x, "y_train": x[:, 0] / 7, "x_test": x, "y_test": x[:, 0] / 7}
    machine = np.repeat([1, 2, 3, 4], 10)
    np.savez(tmp_path / "d.npz", **splits, machine_train=machine, machine_test=machine + 4)
    loaded = load(tmp_path, "d.npz", group="machine")
    assert {len(set(machine[rows])) for rows in numbers(loaded).values()} == {1, 3}
    np.savez(tmp_path / "d.npz", **splits, machine_train=machine, machine_test=machine + 2)
    refused(
        tmp_path, "d.npz",
        "the group 3 has rows in train (",
        "row 20 of x_train (counted from 0)) and in test (",
        "row 0 of x_test (counted from 0)), and so have 1 more; give all rows of a group the same split, or remove group",
        group="machine",
    )  # fmt: skip


def test_function_may_return_the_group_as_a_column_or_beside_the_rows(tmp_path):
    body = """
        rows = np.arange(90)
        x = pd.DataFrame({"number": rows, "station": [f"s{row % 9}" for row in rows]}, index=rows[::-1])
        return {"x": x, "y": rows / 7}
    """
    loaded = load(tmp_path, write_function(tmp_path, body), group="station", test=0)
    stations = [{row % 9 for row in rows} for rows in numbers(loaded).values()]
    assert sorted(map(len, stations)) == [1, 8]
    assert loaded.info.input_shape == (1,)
    beside = """
        rows = np.arange(90)
        return {"x": rows.reshape(-1, 1), "y": rows / 7, "station": pd.Series([f"s{row % 9}" for row in rows])}
    """
    again = load(tmp_path, write_function(tmp_path, beside, name="beside"), group="station", test=0)
    assert again.fingerprint == loaded.fingerprint


COLUMNS = {
    "patient": [str(row // 4) for row in range(28)],
    "day": [f"2024-01-{1 + row:02d}" for row in range(28)],
    "fold": ["val" if row > 20 else "train" for row in range(28)],
}


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ({"group": "patiant"}, {"patient": {}},
         "d.csv has no column 'patiant'; did you mean 'patient'?; it has number, sick, patient"),
        ({"order": "Day"}, {"day": {}}, "d.csv has no column 'Day'; did you mean 'day'?"),
        ({"split": "sick"}, {}, "the column 'sick' is the target; name another column, or remove split"),
        ({"group": "patient"}, {"patient": {9: ""}}, "line 11, column 'patient': group is empty"),
        ({"order": "day"}, {"day": {9: "10/01/2024"}},
         "line 11, column 'day': '10/01/2024' can't order rows; write dates as 2024-01-31 or 2024-01-31T12:00, or give numbers"),
        ({"order": "day"}, {"day": {9: "2024-01-10T12:00+02:00"}},
         "line 11, column 'day': '2024-01-10T12:00+02:00' can't be ordered beside '2024-01-01': one has an offset from UTC"),
        ({"order": "day"}, {"day": {9: "2024-01-10T12+02:00"}},
         "line 11, column 'day': '2024-01-10T12+02:00' can't be ordered beside '2024-01-01': one has an offset from UTC"),
        ({"order": "day"}, {"day": {9: "2024-01-10 12:00:00.5Z"}},
         "line 11, column 'day': '2024-01-10 12:00:00.5Z' can't be ordered beside '2024-01-01': one has an offset from UTC"),
        ({"order": "day"}, {"day": {9: "20240110T120000-0500"}},
         "line 11, column 'day': '20240110T120000-0500' can't be ordered beside '2024-01-01': one has an offset from UTC"),
        ({"order": "day"}, {"day": {9: "2024-01-32"}}, "line 11, column 'day': '2024-01-32' can't order rows"),
        ({"order": "day"}, {"day": dict.fromkeys(range(28), "true")}, "line 2, column 'day': True can't order rows; give"),
        ({"order": "patient"}, {"patient": {9: "inf"}}, "line 11, column 'patient': inf can't order rows; give finite"),
        ({"order": "patient"}, {"patient": dict.fromkeys(range(28), "5")},
         "d.csv: order has too few different values to take the last 3 of 28 rows for another split"),
        ({"split": "fold"}, {"fold": {9: "holdout"}},
         "line 11, column 'fold': 'holdout' is no split; write train, validation (or val) or test"),
        ({"split": "patient"}, {"patient": {}}, "line 2, column 'patient': '0' is no split; write train, validation"),
        ({"split": "fold"}, {"fold": dict.fromkeys(range(28), "test")}, "d.csv: no row is of the split train; mark some"),
        ({"split": "fold", "group": "patient"}, {"fold": {}, "patient": {}},
         "the group 5 has rows in train (d.csv, line 22) and in validation (d.csv, line 23); give all rows of a group the"),
        ({"group": "patient"}, {"patient": dict.fromkeys(range(28), "5")},
         "d.csv: 1 group is too few for 3 splits, each of which needs groups of its own; add rows of other groups"),
        ({"group": "patient"}, {"patient": {**dict.fromkeys(range(14), "5"), **dict.fromkeys(range(14, 28), "6")}},
         "d.csv: 2 groups are too few for 3 splits"),
    ],
)  # fmt: skip
def test_bad_columns_are_refused(tmp_path, section, changes, message):
    columns = {
        name: [cells.get(row, cell) for row, cell in enumerate(COLUMNS[name])] for name, cells in changes.items()
    }
    written(tmp_path, 28, **columns)
    assert message in refused(tmp_path, "d.csv", target="sick", **section).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("section", "more", "message"),
    [
        ({"group": "machine"}, {}, "d.npz: has no array 'machine' beside x; it has x, y"),
        ({"group": "machin"}, {"machine": np.arange(60)},
         "d.npz: has no array 'machin'; did you mean 'machine'?; it has x, y, machine"),
        ({"group": "machine"}, {"machine_train": np.arange(60)}, "d.npz: has no array 'machine' beside x; it has x, y, machine"),
        ({"group": "machine"}, {"machine": np.arange(59)},
         "d.npz: machine has 59 values but x has 60 rows; there must be one for each"),
        ({"group": "machine"}, {"machine": np.ones((60, 2))},
         "row 0 of machine (counted from 0): group has the shape (60, 2); give one value a row, (rows,)"),
        ({"order": "hour"}, {"hour": np.where(np.arange(60) == 7, np.nan, 1.0)},
         "row 7 of hour (counted from 0): order is empty; fill it in, or remove the row"),
        ({"group": "machine"}, {"machine": np.array(["a"] * 50 + [" "] * 10)},
         "row 50 of machine (counted from 0): group is empty"),
        ({"order": "y"}, {}, "d.npz: 'y' are the targets; name another array"),
        ({"group": "machine"}, {"machine": np.arange(60), "hour": np.arange(60)}, "d.npz: unknown key 'hour'"),
        ({"split": "fold"},
         {"fold": np.array(["train"] * 60), "x_test": np.ones((3, 1)), "y_test": np.ones(3), "fold_test": ["test"] * 3},
         "d.npz: has train and test rows of its own, so split has nothing to say; remove it"),
        ({"order": "day", "test": 0},
         {"day": np.arange(60), "x_test": np.ones((3, 1)), "y_test": np.ones(3),
          "day_test": np.array(["2024-01-01", "2024-01-02", "2024-01-03"])},
         "d.npz: order has dates in one of train and test and numbers in the other; make them alike"),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused(tmp_path, section, more, message):
    arrays(tmp_path, **more)
    assert message in refused(tmp_path, "d.npz", **section).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize("source", ["sklearn:iris", "photos"])
def test_sources_without_columns_have_no_groups(tmp_path, source):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        data.check(DataSection(source=source, group="patient"), tmp_path)
    assert f"group names a column of a table or an array beside x; {source!r} has neither: remove group" == str(
        caught.value
    )


def test_roles_that_contradict_each_other_are_refused():
    with pytest.raises(
        ValidationError, match="group and order both say how rows are split; keep group for whole groups by"
    ):
        DataSection(source="d.csv", group="patient", order="day")
    with pytest.raises(ValidationError, match="group and split name the same column 'fold'; remove one of them"):
        DataSection(source="d.csv", group="fold", split="fold")


# ---------------------------------------------------------------- the column of an order as a feature


def dated(folder, rows: int = 100):
    """Write rows of consecutive days in another order; return their days as whole numbers, by value."""
    days = pd.Timestamp("2023-12-20") + pd.to_timedelta(np.arange(rows), "D")
    frame = pd.DataFrame(
        {"day": days.strftime("%Y-%m-%d"), "hour": np.arange(rows) * 2, "value": np.arange(rows) + 0.5}
    )
    frame["y"] = np.random.default_rng(0).choice(["no", "yes"], rows)
    frame.sample(frac=1, random_state=3).to_csv(folder / "d.csv", index=False)
    return days


def test_dates_of_the_order_are_features_if_they_are_named_so(tmp_path):
    days = dated(tmp_path)
    plain = load(tmp_path, "d.csv", target="y", order="day")
    loaded = load(tmp_path, "d.csv", target="y", order="day", columns={"date": ("day",)}, scale="none")
    assert plain.info.input_shape == (2,)
    assert loaded.encoding.features == ("hour", "value", "day: days", "day: month", "day: day", "day: weekday")
    for split, index in (("train", range(80)), ("validation", range(80, 90))):
        rows = getattr(loaded, f"x_{split}")
        assert sorted(rows[:, 1]) == [row + 0.5 for row in index]
        for row in rows:
            day = days[int(row[1])]
            # Days since the first training row.
            assert row[2:].tolist() == [int(row[1]), day.month, day.day, day.weekday()]
    assert list(loaded.y_validation.ravel()) == list(plain.y_validation.ravel())
    assert loaded.raw.x_validation["day"][0] == str(days[int(loaded.x_validation[0, 1])].date())
    assert not any("identifier" in warning for warning in loaded.warnings)


def test_numbers_of_the_order_are_features_if_they_are_named_so(tmp_path):
    dated(tmp_path)
    loaded = load(tmp_path, "d.csv", target="y", order="hour", columns={"number": ("hour",), "drop": ("day",)})
    assert sorted(loaded.x_train[:, 0]) == [2 * row for row in range(80)]
    assert loaded.encoding is None


def test_order_of_a_table_of_pandas_is_a_feature_if_it_is_named_so(tmp_path):
    dated(tmp_path)
    body = (
        f"frame = pd.read_csv({str(tmp_path / 'd.csv')!r}); frame['day'] = pd.to_datetime(frame['day']); return frame"
    )
    columns = {"date": ("day",)}
    wanted = load(tmp_path, "d.csv", target="y", order="day", columns=columns)
    loaded = load(tmp_path, write_function(tmp_path, body), target="y", order="day", columns=columns)
    assert loaded.fingerprint == wanted.fingerprint


def test_group_is_a_feature_where_all_groups_are_cut_at_one_time(tmp_path):
    days = [str(day.date()) for day in pd.date_range("2024-01-01", periods=40)]
    rows = [(store, day, number) for store in ("a", "b") for number, day in enumerate(days)]
    frame = pd.DataFrame(rows, columns=["store", "day", "sales"])
    frame["sales"] += 0.5
    frame.to_csv(tmp_path / "d.csv", index=False)
    given = {"target": "sales", "group": "store", "window": 3, "scale": "none"}
    columns = {"category": ("store",), "date": ("day",)}
    loaded = load(tmp_path, "d.csv", order="day", columns=columns, **given)
    assert loaded.encoding.features[-2:] == ("store = a", "store = b")
    x = loaded.x_validation
    assert (x[:, :, -2:] == x[:, :1, -2:]).all()
    assert x[:, 0, -1].tolist() == [0] * (len(x) // 2) + [1] * (len(x) // 2)
    assert x[0, :, 1].tolist() == [32, 33, 34]
    refused(tmp_path, "d.csv", "columns.category and group both name 'store'", "other groups", columns=columns, **given)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"category": ("day",)},
            "columns.category and order both name 'day', and an order is a feature only as a date",
        ),
        ({"drop": ("day",)}, "columns.drop and order both name 'day'"),
        ({"date": ("hour",)}, "a date is a text such as 2024-03-01"),
    ],
)
def test_order_is_no_other_feature(tmp_path, columns, words):
    dated(tmp_path)
    refused(tmp_path, "d.csv", words, target="y", order="day", columns=columns)
