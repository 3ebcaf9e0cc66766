"""Windows over a series: set against loops over rows in numpy, and against Keras's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from data_kit import load, refused, write_function
from pydantic import ValidationError
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from support import in_keras

from search.spec.settings import DataSection


def series(folder, rows: int = 100, **columns):
    """Write a table of a series in order: two columns of numbers, of which `load` is to be foretold."""
    random = np.random.default_rng(2)
    frame = pd.DataFrame({"heat": random.normal(size=rows), "load": np.arange(rows) + 1000.5, **columns})
    frame.to_csv(folder / "d.csv", index=False)
    return frame


def by_hand(x, y, window: int, horizon: int, stride: int):
    """Return windows and targets of one run of rows, row by row."""
    starts = range(0, len(x) - window - horizon + 1, stride)
    return (
        np.array([[x[start + step] for step in range(window)] for start in starts], np.float32),
        np.array([y[start + window - 1 + horizon] for start in starts], np.float32),
    )


@pytest.mark.parametrize(
    ("window", "horizon", "stride"), [(1, 1, 1), (5, 1, 1), (5, 3, 1), (7, 1, 4), (4, 2, 9), (9, 1, 9), (3, 7, 2)]
)
def test_windows_are_those_of_a_loop_within_each_split(tmp_path, window, horizon, stride):
    frame = series(tmp_path)
    loaded = load(
        tmp_path, "d.csv", target="load", window=window, horizon=horizon, stride=stride, validation=0.2, test=0.15
    )
    x, y = frame[["heat", "load"]].to_numpy(), frame.load.to_numpy()
    for split, rows in (("train", slice(0, 65)), ("validation", slice(65, 85))):
        wanted_x, wanted_y = by_hand(x[rows], y[rows], window, horizon, stride)
        np.testing.assert_array_equal(getattr(loaded, f"x_{split}"), wanted_x)
        np.testing.assert_array_equal(getattr(loaded, f"y_{split}").ravel(), wanted_y)
        assert getattr(loaded.info, f"{split}_rows") == len(wanted_x)
    assert loaded.info.test_rows == len(by_hand(x[85:], y[85:], window, horizon, stride)[0])
    assert (loaded.info.input_shape, loaded.info.task) == ((window, 2), "regression")


def of_keras(x, y, window, horizon, stride):
    import keras

    batches = keras.utils.timeseries_dataset_from_array(
        np.array(x)[:-horizon], np.array(y)[window - 1 + horizon :], window, sequence_stride=stride, batch_size=1000
    )
    (rows, targets), *rest = list(batches)
    assert not rest
    return np.asarray(rows).tolist(), np.asarray(targets).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("window", "horizon", "stride"), [(24, 1, 1), (10, 6, 1), (8, 3, 5)])
def test_windows_are_those_of_keras(tmp_path, window, horizon, stride):
    frame = series(tmp_path, 300)
    loaded = load(
        tmp_path, "d.csv", target="load", window=window, horizon=horizon, stride=stride, test=0, validation=0.3
    )
    rows = frame[["heat", "load"]].to_numpy()[:210]
    x, y = in_keras(of_keras, rows.tolist(), frame.load[:210].tolist(), window, horizon, stride, backend="tensorflow")
    np.testing.assert_array_equal(loaded.x_train, np.array(x, np.float32))
    np.testing.assert_array_equal(loaded.y_train.ravel(), np.array(y, np.float32))


def test_rows_are_sorted_by_a_column_of_dates(tmp_path):
    frame = series(tmp_path)
    wanted = load(tmp_path, "d.csv", target="load", window=6)
    days = pd.Timestamp("2024-01-30") + pd.to_timedelta(np.arange(100), "D")
    shuffled = frame.assign(day=days.strftime("%Y-%m-%d")).sample(frac=1, random_state=0)
    shuffled.to_csv(tmp_path / "d.csv", index=False)
    loaded = load(tmp_path, "d.csv", target="load", window=6, order="day")
    assert (loaded.fingerprint, loaded.warnings) == (wanted.fingerprint, ())


def test_nanoseconds_as_whole_numbers_keep_their_order(tmp_path):
    x = np.arange(100.0).reshape(-1, 1)
    np.savez(tmp_path / "d.npz", x=x[::-1], y=x[::-1, 0] / 7, at=1_700_000_000_000_000_000 + np.arange(100)[::-1])
    loaded = load(tmp_path, "d.npz", window=3, order="at")
    assert loaded.x_train[:2, :, 0].tolist() == [[0, 1, 2], [1, 2, 3]]
    assert loaded.warnings == ()


def test_each_group_without_an_order_is_a_series_of_its_own_and_lies_in_one_split(tmp_path):
    machine = np.tile(np.arange(10), 30)
    series(tmp_path, 300, machine=machine)
    loaded = load(tmp_path, "d.csv", target="load", group="machine", window=4, horizon=2)
    seen = {}
    for split in ("train", "validation"):
        x, y = getattr(loaded, f"x_{split}"), getattr(loaded, f"y_{split}").ravel()
        rows = (x[:, :, 1] - 1000.5).astype(int)
        assert (machine[rows] == machine[rows[:, :1]]).all()
        assert (np.diff(rows, axis=1) == 10).all()
        assert (y - 1000.5 == rows[:, -1] + 20).all()
        seen[split] = set(machine[rows[:, 0]])
        assert len(x) == 25 * len(seen[split])
    assert (len(seen["train"]), len(seen["validation"])) == (8, 1)
    assert not seen["train"] & seen["validation"]


MIXED_ROWS = 120


def mixed(folder):
    """Write a series with categories, dates, truths and blanks; return it with what its rows become, by arithmetic."""
    random = np.random.default_rng(5)
    days = pd.Timestamp("2024-02-20") + pd.to_timedelta(np.arange(MIXED_ROWS), "D")
    frame = pd.DataFrame(
        {
            "day": days.strftime("%Y-%m-%d"),
            "heat": random.normal(20, 5, MIXED_ROWS).round(2),
            "sky": random.choice(["sun", "rain"], MIXED_ROWS),
            "holiday": random.choice([True, False], MIXED_ROWS),
            "load": random.normal(1000, 50, MIXED_ROWS).round(1),
        }
    )
    frame.loc[::7, "heat"] = np.nan
    frame.loc[::9, "sky"] = None
    frame.loc[MIXED_ROWS - 10, "sky"] = "hail"
    frame.to_csv(folder / "d.csv", index=False)
    quantities = frame[["heat", "holiday", "load"]].astype(float)
    return frame, quantities


def by_arithmetic(frame, quantities, train):
    """Return each row's features: quantities standardised by the training rows, then flags and categories."""
    filled = quantities.fillna(quantities[train].median())
    scaled = (filled - filled[train].mean()) / filled[train].std(ddof=0)
    flags = [quantities.heat.isna()] + [frame.sky == sky for sky in ("rain", "sun")] + [frame.sky.isna()]
    return np.column_stack([scaled, *(flag.astype(float) for flag in flags)])


@pytest.mark.parametrize("order", [None, "day"])
def test_windows_of_a_table_with_categories_and_blanks_are_encoded_by_its_training_rows(tmp_path, order):
    frame, quantities = mixed(tmp_path)
    columns = None if order else {"drop": ("day",)}
    loaded = load(tmp_path, "d.csv", target="load", window=5, horizon=2, order=order, columns=columns)
    for split, part in (("train", slice(0, 96)), ("validation", slice(96, 108))):
        rows = by_arithmetic(frame, quantities, np.arange(MIXED_ROWS) < 96)
        wanted, targets = by_hand(rows[part], frame.load.to_numpy()[part], 5, 2, 1)
        np.testing.assert_allclose(getattr(loaded, f"x_{split}"), wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(getattr(loaded, f"y_{split}").ravel(), targets)
    assert loaded.info.input_shape == (5, 7)
    raw = loaded.raw.x_validation
    assert set(raw) == {"heat", "sky", "holiday", "load"}
    assert raw["sky"].shape == (6, 5)
    assert raw["sky"][0].tolist() == frame.sky[96:101].fillna("").tolist()
    assert loaded.kinds == {"heat": "number", "sky": "category", "holiday": "boolean", "load": "number"}


def test_dates_are_features_of_windows(tmp_path):
    frame, _ = mixed(tmp_path)
    loaded = load(tmp_path, "d.csv", target="load", window=4, scale="none")
    first = loaded.encoding.features.index("day: days")
    days = loaded.x_train[:, :, first : first + 4]
    assert days[0].tolist() == [[0, 2, 20, 1], [1, 2, 21, 2], [2, 2, 22, 3], [3, 2, 23, 4]]
    assert days[-1, -1, 0] == 96 - 2
    assert len(frame) == MIXED_ROWS


def panel(folder, stores=("a", "b", "c"), days: int = 40, **more):
    """Write series of several stores over the same days, one store after the other; sales tell store and day."""
    rows = [(store, day) for store in stores for day in range(days)]
    frame = pd.DataFrame(rows, columns=["store", "day"])
    frame["sales"] = (
        frame.store.map({store: 1000.0 * (1 + number) for number, store in enumerate(stores)}) + frame.day + 0.5
    )
    frame["kind"] = np.where(frame.day % 5 < 4, "week", "end")
    frame = frame.assign(**more).sample(frac=1, random_state=1)
    frame["day"] = (pd.Timestamp("2024-01-01") + pd.to_timedelta(frame.day, "D")).dt.strftime("%Y-%m-%d")
    frame.to_csv(folder / "d.csv", index=False)
    return frame


def test_table_that_a_function_returns_is_the_series_of_a_file(tmp_path):
    mixed(tmp_path)
    panel_file = tmp_path / "d.csv"
    body = f"return pd.read_csv({str(panel_file)!r}, keep_default_na=False, na_values=[''])"
    given = {"target": "load", "order": "day", "window": 4}
    wanted = load(tmp_path, "d.csv", **given)
    assert load(tmp_path, write_function(tmp_path, body), **given).fingerprint == wanted.fingerprint
    body = body.replace("na_values=[''])", "na_values=['']).drop(columns=['sky', 'heat'])")
    plain = load(tmp_path, write_function(tmp_path, body, name="plain"), **given)
    assert plain.info.input_shape == (4, 2)


@pytest.mark.parametrize("columns", [None, {"drop": ("kind",)}])
@pytest.mark.parametrize(("window", "horizon"), [(3, 1), (2, 4)])
def test_groups_with_an_order_are_all_cut_at_one_time(tmp_path, window, horizon, columns):
    panel(tmp_path)
    loaded = load(
        tmp_path, "d.csv", target="sales", group="store", order="day", window=window, horizon=horizon,
        validation=0.25, test=0.2, scale="none", columns=columns,
    )  # fmt: skip
    sales = loaded.encoding.features.index("sales") if loaded.encoding else 0
    # Of 40 days 8 are test (20%), 10 validation (25%).
    for split, days in (("train", range(22)), ("validation", range(22, 32))):
        x = getattr(loaded, f"x_{split}")[:, :, sales].astype(float) - 0.5
        y = getattr(loaded, f"y_{split}").ravel() - 0.5
        store, day = np.divmod(x, 1000)
        assert (store == store[:, :1]).all()
        assert (np.diff(day, axis=1) == 1).all()
        assert (np.divmod(y, 1000)[0] == store[:, 0]).all()
        assert (np.divmod(y, 1000)[1] == day[:, -1] + horizon).all()
        assert day.min() == days[0]
        assert np.divmod(y, 1000)[1].max() == days[-1]
        assert len(x) == 3 * (len(days) - window - horizon + 1)
    assert loaded.warnings == ()


def test_groups_that_begin_or_end_early_are_told(tmp_path):
    frame = panel(tmp_path, stores=("a", "b", "c", "d"), days=50)
    is_late = (frame.store == "c") & (frame.day < "2024-02-12")
    is_early = (frame.store == "d") & (frame.day > "2024-02-11")
    frame[~is_late & ~is_early].to_csv(tmp_path / "d.csv", index=False)
    loaded = load(tmp_path, "d.csv", target="sales", group="store", order="day", window=3, validation=0.2, test=0)
    said = [warning.removeprefix(f"{tmp_path}/d.csv: ") for warning in loaded.warnings]
    assert said == [
        "1 of 4 groups have no window in validation, 'd' for one: fewer than 4 rows in a row",
        "1 of 4 groups of validation have no training row, 'c' for one",
    ]


def test_groups_with_splits_of_their_own_may_lie_in_all_of_them(tmp_path):
    frame = panel(tmp_path)
    fold = np.where(frame.day < "2024-01-21", "train", np.where(frame.day < "2024-01-31", "val", "test"))
    panel_columns = frame.assign(fold=fold)
    panel_columns.to_csv(tmp_path / "d.csv", index=False)
    loaded = load(tmp_path, "d.csv", target="sales", group="store", order="day", split="fold", window=3)
    assert (loaded.info.train_rows, loaded.info.validation_rows, loaded.info.test_rows) == (3 * 17, 3 * 7, 3 * 7)
    assert loaded.warnings == ()
    refused(tmp_path, "d.csv", "has rows in train", target="sales", group="store", split="fold", window=3)


def test_texts_have_no_windows(tmp_path):
    series(tmp_path, note=[f"it was a day like day {row}" for row in range(100)])
    refused(tmp_path, "d.csv", "a window has no words", "column 'note' holds texts", 'category = ["note"]',
            target="load", window=4)  # fmt: skip
    loaded = load(tmp_path, "d.csv", target="load", window=4, columns={"category": ("note",)})
    assert loaded.info.input_shape[0] == 4


def test_no_window_reaches_over_rows_of_another_split(tmp_path):
    fold = np.array(["train"] * 30 + ["val"] * 20 + ["train"] * 10 + ["test"] * 10 + ["train"] * 30)
    frame = series(tmp_path, fold=fold)
    loaded = load(tmp_path, "d.csv", target="load", split="fold", window=5)
    x, y = frame[["heat", "load"]].to_numpy(), frame.load.to_numpy()
    runs = [by_hand(x[rows], y[rows], 5, 1, 1) for rows in (slice(0, 30), slice(50, 60), slice(70, 100))]
    np.testing.assert_array_equal(loaded.x_train, np.concatenate([run[0] for run in runs]))
    np.testing.assert_array_equal(loaded.y_train.ravel(), np.concatenate([run[1] for run in runs]))
    np.testing.assert_array_equal(loaded.x_validation, by_hand(x[30:50], y[30:50], 5, 1, 1)[0])
    assert loaded.info.test_rows == 5


@pytest.mark.parametrize(("scale", "scaler"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())])
def test_scaling_is_fitted_on_the_training_rows_of_the_series(tmp_path, scale, scaler):
    frame = series(tmp_path)
    loaded = load(tmp_path, "d.csv", target="load", window=5, scale=scale)
    x = frame[["heat", "load"]].to_numpy()
    scaled = scaler.fit(x[:80]).transform(x)
    np.testing.assert_allclose(loaded.x_train, by_hand(scaled[:80], scaled[:80], 5, 1, 1)[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        loaded.x_validation, by_hand(scaled[80:90], scaled[80:90], 5, 1, 1)[0], rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(loaded.raw.x_validation, by_hand(x[80:90], x[80:90], 5, 1, 1)[0], rtol=1e-6)
    np.testing.assert_array_equal(loaded.y_train.ravel(), frame.load[5:80].to_numpy(np.float32))


def test_arrays_are_windowed_as_they_are(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (80, 3, 4), np.uint8)
    label = np.arange(80) % 3
    np.savez(tmp_path / "d.npz", x=frames, y=label)
    loaded = load(tmp_path, "d.npz", window=4, horizon=2)
    assert (loaded.info.input_shape, loaded.info.task) == ((4, 3, 4), "classification")
    wanted, targets = by_hand(frames / np.float32(255), label, 4, 2, 1)
    np.testing.assert_allclose(loaded.x_train, wanted[: len(loaded.x_train)], rtol=1e-6)
    np.testing.assert_array_equal(loaded.y_train, targets[: len(loaded.y_train)])
    # Bytes of a table are numbers, no pixels.
    np.savez(tmp_path / "d.npz", x=frames[:, :, 0], y=label)
    assert load(tmp_path, "d.npz", window=4).x_train.max() > 1
    assert load(tmp_path, "d.npz", window=4).scaling.divisor == 1


def test_texts_are_foretold_from_the_other_columns(tmp_path):
    series(tmp_path, weather=np.where(np.arange(100) % 4, "dry", "wet"))
    loaded = load(tmp_path, "d.csv", target="weather", window=8)
    assert (loaded.info.input_shape, loaded.info.class_names) == ((8, 2), ("dry", "wet"))
    assert loaded.y_train.ravel().tolist() == [int(row % 4 == 0) for row in range(8, 80)]


def test_series_of_one_column_is_foretold_from_its_own_past(tmp_path):
    (tmp_path / "d.csv").write_text("load\n" + "".join(f"{row / 4}\n" for row in range(60)))
    loaded = load(tmp_path, "d.csv", target="load", window=3)
    np.testing.assert_array_equal(loaded.x_train[0], [[0.0], [0.25], [0.5]])
    assert loaded.y_train[0] == 0.75


def test_limit_keeps_whole_windows(tmp_path):
    series(tmp_path, 400)
    whole = load(tmp_path, "d.csv", target="load", window=6)
    loaded = load(tmp_path, "d.csv", target="load", window=6, limit=50)
    assert (loaded.info.train_rows + loaded.info.validation_rows, loaded.info.test_rows) == (50, whole.info.test_rows)
    kept = {row.tobytes() for row in whole.x_train}
    assert all(row.tobytes() in kept for row in loaded.x_train)


def test_gaps_in_time_are_told(tmp_path):
    days = pd.Timestamp("2024-01-30") + pd.to_timedelta([*range(50), *range(57, 107)], "D")
    series(tmp_path, day=days.strftime("%Y-%m-%d"))
    (warning,) = load(tmp_path, "d.csv", target="load", order="day", window=5).warnings
    assert warning == (
        f"{tmp_path}/d.csv: 1 of 99 steps in order are longer than the usual one, the first before {tmp_path}/d.csv, line 52 "
        "(2024-03-27); windows count rows, not time"
    )
    months = pd.date_range("2015-01-01", periods=100, freq="MS")
    series(tmp_path, day=months.strftime("%Y-%m-%d"))
    assert load(tmp_path, "d.csv", target="load", order="day", window=5).warnings == ()


@pytest.mark.parametrize(
    ("rows", "columns", "section", "message"),
    [
        (40, {}, {"window": 5}, "d.csv: the 4 test rows hold no 5 rows in a row with a target 1 after them; use a shorter window"),
        (40, {}, {"window": 50, "test": 0}, "d.csv: the 36 train rows hold no 50 rows in a row with a target 1 after them"),
        (40, {}, {"window": 2, "horizon": 3, "test": 0}, "hold no 2 rows in a row with a target 3 after them"),
        (40, {"hour": np.arange(40) // 2}, {"window": 5, "order": "hour"},
         "d.csv, line 3: two rows of one series are equal in order (0); remove one, or name the column"),
        (60, {"hour": np.tile(np.arange(20), 3)}, {"window": 5, "order": "hour"}, "two rows of one series are equal in order (0)"),
        (60, {"hour": np.arange(60) % 20, "machine": np.arange(60) // 30}, {"window": 5, "order": "hour", "group": "machine"},
         "d.csv, line 22: two rows of one series are equal in order (0)"),
        (60, {"machine": np.arange(60) // 30}, {"window": 5, "group": "machine"}, "2 groups are too few for 3 splits"),
        (60, {"fold": np.where(np.arange(60) % 2, "val", "train")}, {"window": 2, "split": "fold", "test": 0},
         "d.csv: the 30 train rows hold no 2 rows in a row"),
        (60, {}, {"window": 3, "scale": "none", "task": "classification"}, "1000.5 is out of range"),
    ],
)  # fmt: skip
def test_series_that_have_no_windows_are_refused(tmp_path, rows, columns, section, message):
    series(tmp_path, rows, **columns)
    said = refused(tmp_path, "d.csv", **{"target": "load", **section}).replace(f"{tmp_path}/", "")
    assert message in said


def test_windows_that_need_too_much_memory_are_refused(tmp_path):
    body = "return np.zeros((40_000, 60)), np.arange(40_000) / 7"
    refused(
        tmp_path, write_function(tmp_path, body),
        "37000 windows of the shape (1000, 60) need 25 GiB; use a larger stride, a shorter window or a limit",
        window=1000, validation=0.1, test=0.1,
    )  # fmt: skip


@pytest.mark.parametrize("source", ["sklearn:digits", "photos"])
def test_sources_without_time_have_no_windows(tmp_path, source):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    refused(
        tmp_path,
        source,
        f"window is for rows that follow each other in time; {source!r} has none: remove window",
        window=4,
    )


def test_steps_without_a_window_are_refused():
    for key in ("horizon", "stride"):
        with pytest.raises(
            ValidationError, match=f"{key} is for windows over a series; add window = 24, say, or remove {key}"
        ):
            DataSection(source="d.csv", target="load", **{key: 2})
