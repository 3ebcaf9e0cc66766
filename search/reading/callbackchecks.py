"""Checks of the callbacks that a study file names. Nothing here imports keras, and nothing here runs the user's code."""

from __future__ import annotations

from collections import Counter

from search.errors import OptionError
from search.reading.studytext import StudyText
from search.spec import keras_callbacks
from search.spec.keras_callbacks import FILES, OPTIONS, name_of
from search.spec.study import StudyFile


def check(study: StudyFile, text: StudyText) -> None:
    """Refuse callbacks that Keras lacks, options that they lack, and combinations that can't work."""
    seen: Counter[str] = Counter()
    for index, entry in enumerate(study.settings.train.callbacks):
        key, name = f"train.callbacks.{index}", name_of(entry)
        try:
            keras_callbacks.check(entry)
            if name in OPTIONS:
                keras_callbacks.with_mode(entry, study.settings.study.objective, study.direction)
        except OptionError as error:
            raise text.error(f"{key}.{error.option}".rstrip("."), str(error)) from None
        seen[name] += 1
        if name in FILES and seen[name] > 1:
            raise text.error(key, f"{name} stands twice, and both would write the same files; remove one")
        if name == "ReduceLROnPlateau":
            _check_rate_is_constant(study, text, key)
        if name == "SwapEMAWeights":
            _check_averages(study, text, key)


def _check_rate_is_constant(study: StudyFile, text: StudyText, key: str) -> None:
    numbers = study.settings.train.numbers
    is_fixed = {"schedule": numbers.get("schedule", "constant") != "constant", "warmup": bool(numbers.get("warmup", 0))}
    for setting, is_set in is_fixed.items():
        if is_set or setting in study.space:
            where = "space" if setting in study.space else "train"
            raise text.error(
                key,
                f"ReduceLROnPlateau needs a learning rate without a schedule; remove it, or {setting} under [{where}]",
            )


def _check_averages(study: StudyFile, text: StudyText, key: str) -> None:
    if "use_ema" in study.space:
        raise text.error(
            key,
            "SwapEMAWeights needs the averages in every trial, and use_ema is searched; set use_ema = true under [train]",
        )
    if study.builder is None and study.settings.train.numbers.get("use_ema") is not True:
        raise text.error(key, "SwapEMAWeights needs averages of the weights; add use_ema = true under [train]")
