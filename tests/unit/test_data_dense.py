"""Targets of many numbers a row: what an autoencoder learns is scaled as what it is given."""

from __future__ import annotations

import numpy as np
import pytest
from data_kit import load, refused, write_function

ROWS = 40
RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (ROWS, 4, 4), np.uint8)
COLOURS = RNG.integers(0, 256, (ROWS, 4, 4, 3), np.uint8)
REALS = RNG.normal(size=(ROWS, 6))


def save(path, x, y, **more) -> str:
    np.savez(path / "d.npz", x=x, y=y, **more)
    return "d.npz"


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (PIXELS, PIXELS),
        (PIXELS, PIXELS.reshape(ROWS, 16)),
        (PIXELS, PIXELS[..., None]),
        (PIXELS[..., None], PIXELS),
        (COLOURS, COLOURS),
        (COLOURS, COLOURS.reshape(ROWS, -1).astype(float)),
        (COLOURS, COLOURS.astype(np.int64)),
    ],
)
def test_bytes_that_are_the_features_are_scaled_as_these(tmp_path, x, y):
    loaded = load(tmp_path, save(tmp_path, x, y))
    assert loaded.info.task == "regression"
    assert loaded.info.outputs == y.shape[-1]
    for features, targets in ((loaded.x_train, loaded.y_train), (loaded.x_validation, loaded.y_validation)):
        assert targets.shape[1:] == y.shape[1:]
        assert targets.dtype == np.float32
        assert np.array_equal(targets.reshape(features.shape), features)
        assert 0.5 < targets.max() <= 1


@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_reals_that_are_the_features_are_scaled_as_these(tmp_path, scale):
    loaded = load(tmp_path, save(tmp_path, REALS, REALS), scale=scale)
    assert np.array_equal(loaded.y_train, loaded.x_train)
    assert abs(loaded.x_train.mean() - REALS.mean()) > 1e-3


@pytest.mark.parametrize(
    ("x", "y"), [(REALS, REALS), (REALS.reshape(ROWS, 3, 2), REALS.reshape(ROWS, 3, 2)), (PIXELS / 255, PIXELS / 255)]
)
def test_reals_are_taken_as_they_are(tmp_path, x, y):
    loaded = load(tmp_path, save(tmp_path, x, y))
    assert np.array_equal(loaded.y_train, loaded.x_train)
    assert {round(float(v), 5) for v in loaded.y_train.ravel()} <= {round(float(v), 5) for v in np.float32(y).ravel()}


def test_targets_that_differ_from_the_features_are_not_scaled(tmp_path):
    noisy = REALS + RNG.normal(size=REALS.shape)
    loaded = load(tmp_path, save(tmp_path, noisy, REALS), scale="standard")
    assert set(loaded.y_train.ravel().tolist()) <= set(np.float32(REALS).ravel().tolist())


def test_tables_of_bytes_are_scaled_neither_as_features_nor_as_targets(tmp_path):
    flat = PIXELS.reshape(ROWS, 16)
    loaded = load(tmp_path, save(tmp_path, flat, PIXELS))
    assert loaded.x_train.max() > 200
    assert np.array_equal(loaded.y_train.reshape(-1, 16), loaded.x_train)


@pytest.mark.parametrize(
    "y",
    [
        255 - PIXELS,
        (PIXELS > 100).astype(np.uint8),
        (PIXELS % 5)[..., None],
        COLOURS,
        (255 - PIXELS).reshape(ROWS, 16),
        np.where(np.arange(ROWS)[:, None, None] == ROWS - 1, 0, PIXELS).astype(np.uint8),
    ],
)
def test_other_bytes_for_images_in_bytes_are_asked_about(tmp_path, y):
    refused(tmp_path, save(tmp_path, PIXELS, y), "targets are bytes", "y / 255", "classes of pixels", task="regression")


@pytest.mark.parametrize("y", [(255 - PIXELS) / 255, (PIXELS % 5).astype(np.float32), REALS.reshape(ROWS, 3, 2)])
def test_dense_reals_are_a_regression(tmp_path, y):
    loaded = load(tmp_path, save(tmp_path, PIXELS, y), test=0)
    assert (loaded.info.task, loaded.info.outputs) == ("regression", y.shape[-1])
    both = np.concatenate([loaded.y_train, loaded.y_validation])
    assert sorted(both.ravel().tolist()) == sorted(np.float32(y).ravel().tolist())


@pytest.mark.parametrize(
    "y", [PIXELS % 5 + np.int64(0), np.eye(3)[PIXELS % 3], PIXELS > 100, PIXELS[:, :, :, None] / 1 > 9]
)
def test_classes_of_pixels_are_refused_unless_they_are_numbers(tmp_path, y):
    source = save(tmp_path, REALS, y)
    refused(tmp_path, source, str(y.shape), "classes of pixels", 'task = "regression"')
    refused(tmp_path, source, str(y.shape), "classes of pixels", task="classification")
    assert load(tmp_path, source, task="regression").y_train.shape[1:] == y.shape[1:]


def test_small_numbers_for_images_are_targets_as_they_are(tmp_path):
    boxes = RNG.integers(0, 256, (ROWS, 4)).astype(np.uint8)
    loaded = load(tmp_path, save(tmp_path, PIXELS, boxes))
    assert set(loaded.y_train.ravel().tolist()) <= set(boxes.ravel().tolist())


def test_one_hot_bytes_for_images_are_classes(tmp_path):
    y = np.eye(16, dtype=np.uint8)[np.arange(160) % 16]
    loaded = load(tmp_path, save(tmp_path, np.resize(PIXELS, (160, 4, 4)), y))
    assert loaded.info.classes == 16


def test_dense_targets_of_different_shapes_are_refused(tmp_path):
    source = save(tmp_path, REALS, REALS.reshape(ROWS, 3, 2), x_val=REALS, y_val=REALS.reshape(ROWS, 2, 3))
    refused(tmp_path, source, "(3, 2) a row in training and (2, 3) in validation")


def test_an_autoencoder_may_have_splits_of_its_own(tmp_path):
    source = write_function(
        tmp_path,
        """
        x = np.arange(40 * 16).reshape(40, 4, 4).astype("uint8")
        return (x, x.reshape(40, 16)), (x[:9], x[:9].reshape(9, 16))
        """,
    )
    loaded = load(tmp_path, source)
    assert loaded.info.test_rows == 9
    assert np.array_equal(loaded.y_validation, loaded.x_validation.reshape(-1, 16))
