"""Runs the checks of a study in a worker, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.checking import data_checks
from search.checking.report import Checked, NotApplicable
from search.engines import failures
from search.errors import UsageError
from search.spec.finding import Finding

if TYPE_CHECKING:
    from search.engines.training import Trainer
    from search.spec.settings import Settings

MODEL = "model"


def check(settings: Settings, base: Path, config: Mapping[str, Any]) -> Iterator[Finding | Checked]:
    """Yield findings as they come, and at last `Checked`; UsageError for a study that a `run` would refuse.

    Stops after the data's findings if one of them is "stop": the training would only repeat it.
    """
    from search import data
    from search.engines import training

    loaded = data.load(settings.data, base, settings.data.seed)
    left_out: dict[str, str] = {}
    has_stop = False
    for name, look in data_checks.checks().items():
        for finding in _run(name, lambda look=look: look(loaded), left_out):  # type: ignore[misc]
            has_stop |= finding.level == "stop"
            yield finding
    if has_stop:
        left_out["training"] = "the data have a fault"
    else:
        trainer = training.Trainer.load(settings, base, loaded)
        training.leave_tensorflow_out()
        yield from _of_training(trainer, config, left_out)
    yield Checked(left_out)


def _of_training(trainer: Trainer, config: Mapping[str, Any], left_out: dict[str, str]) -> Iterator[Finding]:
    from search.checking.short_training import ShortTraining
    from search.checking.training_checks import TrainingChecks
    from search.engines import model_memory

    try:
        model = trainer.model(config, seed=0)
    except UsageError:
        raise
    except BaseException as error:  # noqa: BLE001 (the user's builder may even exit)
        advice = "mend the builder, or name a config that it can build in search.start"
        yield Finding(MODEL, "stop", f"the builder fails: {failures.one_line(error)}", advice)
        left_out["training"] = "there is no model"
        return
    yield Finding(
        MODEL, "ok", f"{model_memory.size_of(model)}", numbers={"parameters": model_memory.parameters_of(model)}
    )
    if trainer.has_own_fit:
        left_out["training"] = "the hypermodel's own fit trains the models"
        return
    for name, look in TrainingChecks(ShortTraining(trainer, model), config).checks().items():
        yield from _run(name, look, left_out)


def _run(name: str, look: Callable[[], Iterator[Finding]], left_out: dict[str, str]) -> Iterator[Finding]:
    try:
        yield from look()
    except NotApplicable as why:
        left_out[name] = str(why)
    except Exception as error:  # noqa: BLE001 (the user's layers and loss may raise anything)
        yield Finding(
            name, "look", f"it fails: {failures.one_line(error)}", "see whether a trial of this config fails, too"
        )
