"""A model that is evaluated again is its trial's, as far as rounding explains a difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.sessions.agreement import Evaluation
from search.trials.events import Member
from search.trials.trial import Training


def warning(stored, values, *, objective="val_loss", rows=100, classes=2, is_half=False, before=()) -> str:
    """Compare values with those of a trial's best epoch, its last one."""
    curve = [*before, stored]
    training = Training(Member(7), 0, curve)
    return Evaluation(values, rows, classes, is_half).warning(training, stored, objective, Path("best.keras"))


@pytest.mark.parametrize(
    ("stored", "values", "how"),
    [
        # The sample: a factor in a data file that the builder reads was another one.
        ({"val_loss": 0.42545}, {"val_loss": 0.38608}, {}),
        ({"val_loss": 0.42545}, {"val_loss": 0.43}, {}),
        ({"val_loss": 0.42545}, {"val_loss": float("nan")}, {}),
        ({"val_loss": 0.42545}, {"val_loss": 0.44}, {"is_half": True}),
        # By chance the accuracy is the same.
        (
            {"val_accuracy": 0.9, "val_loss": 0.3},
            {"val_accuracy": 0.9, "val_loss": 0.31},
            {"objective": "val_accuracy"},
        ),
        ({"val_accuracy": 0.9}, {"val_accuracy": 0.8}, {"objective": "val_accuracy"}),
        ({"val_true_positives": 57.0}, {"val_true_positives": 52.0}, {"objective": "val_true_positives"}),
        # Targets of any size: 1e-9 and 2e-9 are far from each other.
        ({"val_loss": 1e-9}, {"val_loss": 2e-9}, {"classes": 0}),
        ({"val_mae": 1e6}, {"val_mae": 1.01e6}, {"classes": 0, "objective": "val_mae"}),
        # Of the training only the loss of the validation rows can be compared.
        ({"loss": 0.2, "val_loss": 0.3}, {"val_loss": 0.4}, {"objective": "loss"}),
    ],
)
def test_difference_that_rounding_does_not_explain_is_told_with_both_values_and_what_to_do(stored, values, how):
    text = warning(stored, values, **how)
    assert "the model in best.keras is not the trial's any more" in text
    assert "change it back and export again" in text
    assert "draws random numbers" in text
    assert "\n" not in text


def test_warning_has_both_values():
    text = warning({"val_loss": 0.42545}, {"val_loss": 0.38608})
    assert text.startswith("val_loss of trial 7's model is 0.38608 now and was 0.42545 in the study")


@pytest.mark.parametrize(
    ("stored", "values", "how"),
    [
        ({"val_loss": 0.42545}, {"val_loss": 0.42545}, {}),
        # Another device: TF32 has 10 bits.
        ({"val_loss": 0.42545}, {"val_loss": 0.42580}, {}),
        ({"val_loss": 0.42545}, {"val_loss": 0.42900}, {"is_half": True}),
        # Near 0 a loss is a difference of large numbers.
        ({"val_loss": 1e-7}, {"val_loss": 3e-7}, {"before": [{"val_loss": 1.0}]}),
        # A row or two on the other side of a threshold.
        ({"val_accuracy": 0.9}, {"val_accuracy": 0.88}, {"objective": "val_accuracy"}),
        ({"val_precision": 0.9}, {"val_precision": 0.95}, {"objective": "val_precision"}),
        ({"val_true_positives": 57.0}, {"val_true_positives": 56.0}, {"objective": "val_true_positives"}),
        # A metric of a callback is not evaluated again.
        ({"val_own": 0.9}, {"val_loss": 0.1}, {"objective": "val_own"}),
        ({"learning_rate": 0.1, "val_loss": None}, {"val_loss": 0.1}, {"objective": "learning_rate"}),
    ],
)
def test_difference_by_rounding_is_not_told(stored, values, how):
    assert warning(stored, values, **how) == ""
