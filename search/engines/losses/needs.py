"""Which labels and outputs every loss and metric of Keras needs. No other module knows this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outputs = Literal["probabilities", "margins", "values", "scores", "classes", "embeddings", "sequences"]


@dataclass(frozen=True)
class Needs:
    """The labels and outputs that a loss or metric needs.

    Attributes:
        outputs: "probabilities"; "margins" around 0; "values" that approximate the targets; "scores", of which only the order
            matters; numbers of "classes"; "embeddings" of any length; "sequences".
        is_sparse: labels are class numbers; if False, they have the shape of the outputs: columns, one-hot rows, targets.
        is_categorical: a row has one output per class, and exactly one class is right.
        is_flat: labels must be (rows,).
        is_of_bits: labels must be 0 or 1.
    """

    outputs: Outputs
    is_sparse: bool = False
    is_categorical: bool = False
    is_flat: bool = False
    is_of_bits: bool = False


CATEGORICAL = Needs("probabilities", is_categorical=True)
PROBABILITIES, MARGINS, VALUES = Needs("probabilities"), Needs("margins"), Needs("values")

# `tests/engines/test_objectives.py` compares these tables with the classes of the installed Keras.
LOSSES: dict[str, Needs] = {
    "BinaryCrossentropy": PROBABILITIES,
    "BinaryFocalCrossentropy": PROBABILITIES,
    "CategoricalCrossentropy": CATEGORICAL,
    "CategoricalFocalCrossentropy": CATEGORICAL,
    "SparseCategoricalCrossentropy": Needs("probabilities", is_sparse=True, is_categorical=True),
    "CategoricalGeneralizedCrossEntropy": Needs("probabilities", is_sparse=True, is_categorical=True, is_flat=True),
    "KLDivergence": PROBABILITIES,
    "Dice": PROBABILITIES,
    "Tversky": PROBABILITIES,
    "Hinge": MARGINS,
    "SquaredHinge": MARGINS,
    "CategoricalHinge": Needs("margins", is_categorical=True),
    **dict.fromkeys(
        ("CosineSimilarity", "Huber", "LogCosh", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
         "MeanSquaredLogarithmicError", "Poisson"),
        VALUES,
    ),
    "Circle": Needs("embeddings", is_sparse=True),
    "CTC": Needs("sequences"),
}  # fmt: skip

# Losses that are lowest where outputs in 0..1 are the probabilities of the classes. Those of hinge and focal losses, Dice and
# others order rows in the same way, but are not probabilities.
PROPER = ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy", "MeanSquaredError")
# With one output a row, this one ignores the rows of the class 0.
PROPER_OF_SEVERAL = (*PROPER, "KLDivergence")

METRICS: dict[str, Needs] = {
    **dict.fromkeys(
        ("AUC", "BinaryAccuracy", "BinaryIoU", "F1Score", "FBetaScore", "FalseNegatives",
         "FalsePositives", "Precision", "PrecisionAtRecall", "Recall", "RecallAtPrecision", "SensitivityAtSpecificity",
         "SpecificityAtSensitivity", "TrueNegatives", "TruePositives"),
        Needs("probabilities", is_of_bits=True),
    ),
    "BinaryCrossentropy": PROBABILITIES,
    "KLDivergence": PROBABILITIES,
    "CategoricalCrossentropy": CATEGORICAL,
    "SparseCategoricalCrossentropy": Needs("probabilities", is_sparse=True, is_categorical=True),
    "CategoricalAccuracy": Needs("scores", is_categorical=True),
    "TopKCategoricalAccuracy": Needs("scores", is_categorical=True),
    "SparseCategoricalAccuracy": Needs("scores", is_sparse=True, is_categorical=True),
    "SparseTopKCategoricalAccuracy": Needs("scores", is_sparse=True, is_categorical=True),
    "IoU": Needs("classes", is_sparse=True),
    "MeanIoU": Needs("classes", is_sparse=True),
    "OneHotIoU": Needs("classes", is_sparse=True, is_categorical=True),
    "OneHotMeanIoU": Needs("classes", is_sparse=True, is_categorical=True),
    "Hinge": MARGINS,
    "SquaredHinge": MARGINS,
    "CategoricalHinge": Needs("margins", is_categorical=True),
    **dict.fromkeys(
        ("ConcordanceCorrelation", "CosineSimilarity", "LogCoshError", "MeanAbsoluteError", "MeanAbsolutePercentageError",
         "MeanSquaredError", "MeanSquaredLogarithmicError", "PearsonCorrelation", "Poisson", "R2Score",
         "RootMeanSquaredError"),
        VALUES,
    ),
}  # fmt: skip
