"""Runs the checks of a study in a worker, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.checking import data_checks
from search.checking.exhibit import Exhibit
from search.checking.report import Checked, NotApplicable
from search.engines import failures
from search.errors import UsageError
from search.spec.finding import Finding

if TYPE_CHECKING:
    import keras

    from search.data import Data
    from search.engines.training import Trainer
    from search.spec.settings import Settings

_FLAT = {"schedule": "constant", "warmup": 0.0}


def check(
    settings: Settings, base: Path, config: Mapping[str, Any], *, has_data: bool = True, may_move: bool = False
) -> Iterator[Finding | Exhibit | Checked]:
    """Yield findings and exhibits as they come, and at last `Checked`; UsageError for a study that a `run` would refuse.

    Stops after the data's findings if one of them is "stop": the training would only repeat it. `may_move`: the training may
    be left to another backend.
    """
    from search import data
    from search.engines import training

    loaded = data.load(settings.data, base, settings.data.seed)
    left_out: dict[str, str] = {}
    has_stop = False
    for name, look in data_checks.checks(_test_rows(settings, base, loaded)).items() if has_data else ():
        for finding in _run(name, lambda look=look: look(loaded), left_out):  # type: ignore[misc]
            has_stop |= isinstance(finding, Finding) and finding.level == "stop"
            yield finding
    if has_stop:
        left_out["training"] = "the data have a fault"
        yield Checked(left_out)
        return
    trainer = training.Trainer.load(settings, base, loaded)
    training.leave_tensorflow_out()
    model = _model(trainer, config)
    if may_move and (isinstance(model, Finding) or _is_slow(model)):
        yield Checked(left_out, moves=True)
        return
    if isinstance(model, Finding):
        left_out["training"] = "there is no model"
        yield model
    else:
        yield from _of_training(trainer, model, config, left_out)
    yield Checked(left_out)


def _test_rows(settings: Settings, base: Path, loaded: Data) -> Data | None:
    """Return the data with the test rows as validation rows: they are compared with others, and no model sees them."""
    from search import data

    if not loaded.info.test_rows or loaded.stream is not None:
        return None
    test = data.load(settings.data, base, settings.data.seed, "test")
    # A data function without a seed gives other rows each time.
    return test if test.fingerprint == loaded.fingerprint else None


def _model(trainer: Trainer, config: Mapping[str, Any]) -> keras.Model | Finding:
    """Return the model of a config, or that its builder fails."""
    try:
        # Short trainings would end within a warm-up.
        flat = {key: value for key, value in _FLAT.items() if key in config}
        return trainer.model({**config, **flat}, seed=0)
    except UsageError:
        raise
    except BaseException as error:  # noqa: BLE001 (the user's builder may even exit)
        advice = "mend the builder, or name a config that it can build in search.start"
        return Finding("model", "stop", f"the builder fails: {failures.one_line(error)}", advice)


def _is_slow(model: keras.Model) -> bool:
    """Whether JAX trains a model slowly here, so that "auto" leaves it to the other backend."""
    import jax
    import keras

    from search.engines.lanes import sizing

    return keras.backend.backend() == "jax" and jax.default_backend() == "cpu" and bool(sizing.convolution_of(model))


def _of_training(
    trainer: Trainer, model: keras.Model, config: Mapping[str, Any], left_out: dict[str, str]
) -> Iterator[Finding | Exhibit]:
    from search.checking.learning import LearningChecks
    from search.checking.short_training import ShortTraining
    from search.checking.training_checks import TrainingChecks
    from search.engines import model_memory

    yield Finding(
        "model", "ok", f"{model_memory.size_of(model)}", numbers={"parameters": model_memory.parameters_of(model)}
    )
    if trainer.has_own_fit:
        left_out["training"] = "the hypermodel's own fit trains the models"
        return
    short = ShortTraining(trainer, model)
    for name, look in {**TrainingChecks(short, config).checks(), **LearningChecks(short, config).checks()}.items():
        yield from _run(name, look, left_out)


def _run(
    name: str, look: Callable[[], Iterator[Finding | Exhibit]], left_out: dict[str, str]
) -> Iterator[Finding | Exhibit]:
    try:
        yield from look()
    except NotApplicable as why:
        left_out[name] = str(why)
    except Exception as error:  # noqa: BLE001 (the user's layers and loss may raise anything)
        yield Finding(
            name, "look", f"it fails: {failures.one_line(error)}", "see whether a trial of this config fails, too"
        )
