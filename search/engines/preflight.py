"""Checks a study's model before the first trial: for faults that would fail every trial, and for names that nothing reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from search.data.stored_images import StoredImages
from search.engines import failures, heads, logs, model_limits, model_memory, named_callbacks
from search.engines.heads import Head, first_rows
from search.engines.hypermodels.adapter import Missing
from search.engines.hypermodels.own_fit import takes
from search.engines.losses import pairing
from search.engines.losses.keras_names import name_of
from search.engines.losses.outputs import NOT_FINITE, outputs_with_a_loss, width_of
from search.engines.losses.rules import Target
from search.engines.reads import ReadRecorder, branches
from search.engines.training import Trainer, can_evaluate, has_call
from search.errors import DataError, UsageError
from search.spec import keras_callbacks
from search.spec.ready import Ready
from search.spec.vocabulary import closest, direction_of
from spaces import Choice, Space

# Up to here, a real dtype holds every whole number.
_WHOLE = {"float64": 2**53, "float32": 2**24, "float16": 2**11, "bfloat16": 2**8}


def inspect(trainer: Trainer, fixed: Mapping[str, Any], on_model: Callable[[keras.Model], None] | None = None) -> Ready:
    """Build the model in the middle of the space and of each of its branches, and describe it.

    `on_model` gets the first model that could be built, and may look at it.

    Raises UsageError for faults in the study: an unknown metric or loss, or an objective that training does not report.
    A builder that raises is not an error here: it may fail for some configs only, and then only those trials fail.
    """
    _check_backend_holds(trainer)
    _check_own_fit(trainer)
    space = trainer.space
    recorder = ReadRecorder(trainer, fixed)
    described: dict[str, Any] = {}
    model_warnings: list[str] = []
    for params in branches(space):
        try:
            model = recorder.build(params)
        except UsageError:
            raise
        except Missing as error:
            raise UsageError(f"model.build: {error}") from None
        except BaseException as error:  # noqa: BLE001 (the user's builder may even exit; it does so again in the trial)
            described = described or {"error": failures.one_line(error)}
            continue
        trainer.arrays()
        _check_whole_inputs(model, trainer)
        if "parameters" not in described:
            described = _describe(model)
            model_warnings = [
                *_row_mixing_warnings(model, trainer),
                *_other_warnings(model, trainer, came_compiled=recorder.came_compiled[-1]),
            ]
            named_callbacks.check(trainer.settings.train.callbacks, model)
            model_limits.check_possible(trainer.settings.limits, model)
            model_warnings += model_limits.warnings(trainer.settings.limits, model)
            if not trainer.has_own_fit:  # only training shows what that reports
                _check_objective(model, trainer)
            if on_model is not None:
                on_model(model)
        del model
    recorder.try_more_configs()
    trainer.pins.set()
    keras.backend.clear_session()
    return Ready(
        data=asdict(trainer.data.info),
        fingerprint=trainer.data.fingerprint,
        targets=trainer.data.targets,
        source=trainer.source,
        warnings=(*trainer.data.warnings, *model_warnings),
        model=described,
        # A hypermodel's own `fit` reads parameters, too, and only training shows which.
        read=tuple(sorted({*recorder.read, *(space if trainer.has_own_fit else ())})),
        undrawn=tuple(name for name in space if name not in recorder.drawn),
        compiles_itself=bool(recorder.came_compiled) and all(recorder.came_compiled),
        steps=_steps(trainer, fixed, space),
        own_splits=trainer.data.own_splits,
        columns=trainer.data.columns,
        kinds=trainer.data.kinds,
    )


def _steps(trainer: Trainer, fixed: Mapping[str, Any], space: Space) -> int:
    """Return the steps of the shortest training in the space."""

    def bound(name: str, pick: Callable[[Any], Any]) -> Any:
        parameter = space.get(name)
        if parameter is None:
            return fixed[name]
        if isinstance(parameter, Choice):
            return pick(parameter.choices)
        return parameter.low if pick is min else parameter.high

    return trainer.steps({"batch_size": bound("batch_size", max), "epochs": bound("epochs", min)})


def _describe(model: keras.Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "layers": len(model.layers),
        "parameters": model_memory.parameters_of(model),
        "optimizer": type(model.optimizer).__name__,
        "loss": _loss_text(model.loss),
    }


def _loss_text(loss: Any) -> str:
    if isinstance(loss, Mapping):
        return ", ".join(f"{name}: {_loss_text(inner)}" for name, inner in loss.items())
    if isinstance(loss, list | tuple):
        return ", ".join(map(_loss_text, loss))
    return name_of(loss)


def _check_backend_holds(trainer: Trainer) -> None:
    """Refuse 64-bit features on JAX, which would silently cut them to 32 bits."""
    for x in keras.tree.flatten(trainer.data.x_train):
        if x.dtype != np.int64 or keras.backend.backend() != "jax":
            continue
        raise DataError(
            f"{trainer.settings.data.source}: features reach from {x.min()} to {x.max()}, and JAX's integers have 32 bits; "
            'set backend = "tensorflow" and engine = "fit" in [run], or number ids 0, 1, 2, ...'
        )


def _check_whole_inputs(model: keras.Model, trainer: Trainer) -> None:
    """Refuse a model whose input dtype would round or overflow features that are whole numbers."""
    for name, x, dtype in heads.inputs_of(model, trainer.data):
        if x.dtype.kind == "i":
            _check_whole_input(trainer, name, x, dtype)


def _check_whole_input(trainer: Trainer, name: str, x: Any, dtype: str) -> None:
    low, high = int(x.min()), int(x.max())
    if "int" in dtype:
        is_held = np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max
    else:
        is_held = max(-low, high) <= _WHOLE.get(dtype, 0)
    if not is_held:
        raise DataError(
            f"{trainer.settings.data.source}: {f'{name}: ' if name else ''}features are whole numbers from {low} to {high} "
            f"and the model's input is {dtype}, which would change them; for ids begin the model with keras.Input("
            f'{"..." if name else "data.input_shape"}, dtype="{x.dtype}"), for quantities '
            + ("give reals" if name else 'use scale = "standard" in [data]')
        )


def _check_objective(model: keras.Model, trainer: Trainer) -> None:
    data, objective = trainer.data, trainer.settings.study.objective
    x, y = first_rows(data.x_validation, 4), first_rows(data.y_validation, 4)
    if (
        not has_call(model)
        or type(model).train_step is not keras.Model.train_step
        or type(model).test_step is not keras.Model.test_step
    ):
        _check_own_steps(model, x, y, objective)
        return
    predicted = outputs_with_a_loss(model, x, y)
    if predicted is None:
        return  # wrong shapes, a custom step: the first trial's error is clearer
    try:
        results = {name: np.shape(value) for name, value in model.compute_metrics(x, y, predicted).items()}
        names = {part for name, shape in results.items() for part in logs.names(name, shape)} | {"loss"}
    except BaseException as error:  # noqa: BLE001 (a metric for other labels or outputs)
        raise UsageError(
            f"train.metrics: they can't be computed from this model's outputs {_shapes(predicted)} and labels "
            f"{_shapes(y)} of 4 rows: {failures.one_line(error)}"
        ) from None
    _check_names(model)
    if clashing := sorted(names & {f"val_{name}" for name in names}):
        raise UsageError(
            f"train.metrics: {clashing[0]!r} of training is named like a metric on the validation rows, so that one of them "
            "would be lost; give the output or metric another name"
        )
    _check_direction(trainer)
    callbacks = trainer.settings.train.callbacks
    reported = sorted(names) + sorted(f"val_{name}" for name in names)
    if objective not in reported and objective != "learning_rate":
        raise UsageError(
            f"study.objective: training reports no {objective!r}{closest(objective, reported)}; "
            f"it reports {', '.join(reported)}; mend it, or name the metric in train.metrics"
        )
    if not any(map(keras_callbacks.is_user_code, callbacks)):  # those may add metrics
        named_callbacks.check_monitors(callbacks, reported)
    outputs = [np.asarray(output) for output in keras.tree.flatten(predicted)]
    if not all(np.all(np.isfinite(output)) for output in outputs):
        raise UsageError(NOT_FINITE)


def _check_own_fit(trainer: Trainer) -> None:
    """Refuse rows that a HyperModel's own `fit` can't take."""
    model, source = trainer.hypermodel, trainer.settings.data.source
    if model is None or model.own_fit is None:
        return
    if trainer.data.stream is not None:
        raise DataError(
            f"{source}: comes in batches, and the hypermodel's own fit gets arrays: return arrays, or leave its fit out"
        )
    if isinstance(trainer.data.x_train, StoredImages):
        raise DataError(
            f"{source}: its images are read as they are needed, and the hypermodel's own fit gets arrays: remove lazy, or "
            "leave its fit out"
        )
    if len(trainer.arrays()) == 3 and not takes(model.own_fit, "sample_weight"):
        raise UsageError(
            "model.build: the hypermodel's own fit takes no sample_weight, and there are weights of rows or class_weight: "
            "let it take **kwargs and give them to model.fit, or remove the weights"
        )


def _check_direction(trainer: Trainer) -> None:
    """Refuse an objective whose direction was read from the name of an output: "acc" of account, say."""
    study = trainer.settings.study
    for output in trainer.data.info.targets:
        name = study.objective.removeprefix(f"val_{output}_")
        if study.direction is None and name != study.objective and direction_of(name) != direction_of(study.objective):
            raise UsageError(
                f"study.objective: whether {study.objective!r} is to rise or to fall can't be told from its name; add "
                'direction = "maximize" or "minimize" to [study]'
            )


def _shapes(tree: Any) -> str:
    return " and ".join(str(tuple(np.shape(array))) for array in keras.tree.flatten(tree))


def _check_own_steps(model: keras.Model, x: Any, y: Any, objective: str) -> None:
    """Refuse an objective that a model's own `test_step` does not report; only training shows what `train_step` reports."""
    name = objective.removeprefix("val_")
    if name == objective:
        return
    try:
        results = model.evaluate(x, y, verbose=0, return_dict=True) if can_evaluate(model) else {}
    except Exception:  # noqa: BLE001 (the user's own step: the first trial's error is clearer)
        return
    if name not in results:
        reported = ", ".join(f"val_{known}" for known in sorted(results)) or "nothing of the validation rows"
        raise UsageError(
            f"study.objective: the model's own test_step reports no {name!r}; evaluation reports {reported}; "
            "name one of these, or a metric that its train_step reports"
        )


def _check_names(model: keras.Model) -> None:
    """Refuse metrics with a name that Keras uses for another value: only one of the two would be reported."""
    compiled = getattr(model, "_compile_metrics", None)
    names = [metric.name for metric in getattr(compiled, "metrics", ())]
    for name in names:
        if name == "loss" or (name.removeprefix("val_") in (*names, "loss") and name.startswith("val_")):
            other = name.removeprefix("val_")
            whose = (
                f"{'the loss' if other == 'loss' else repr(other)}{'' if name == other else ' on the validation rows'}"
            )
            raise UsageError(
                f"train.metrics: a metric is named {name!r}, as Keras names {whose}, so that one of them would be lost; "
                "give it another name"
            )


def _other_warnings(model: keras.Model, trainer: Trainer, *, came_compiled: bool) -> Iterator[str]:
    """Yield warnings about averages that nothing uses, and about labels that code of the user's gets under other numbers."""
    optimizer, train = model.optimizer, trainer.settings.train
    is_unused = getattr(optimizer, "use_ema", False) and optimizer.ema_overwrite_frequency is None
    is_unused = is_unused and not keras_callbacks.swap_averages(train.callbacks)
    if is_unused and "use_ema" not in trainer.space and "use_ema" not in train.numbers:
        yield (
            "the model's optimizer has use_ema and no ema_overwrite_frequency: its averages change no epoch; "
            "add ema_overwrite_frequency = 100, say"
        )
    for head in heads.heads_of(model, trainer.data):
        yield from _renumbered(model, trainer, head, came_compiled=came_compiled)


def _renumbered(model: keras.Model, trainer: Trainer, head: Head, *, came_compiled: bool) -> Iterator[str]:
    names = head.data.info.class_names
    if not names or not all(map(_is_whole, names)) or [int(name) for name in names] == list(range(len(names))):
        return
    if came_compiled:
        own = [f"the builder's {name}" for name in pairing.names_of_user_code(model, head)]
    else:
        own = [f"{key} {entry}" for key, entry in trainer.entries(head.name) if trainer.is_user_code(entry)]
    if own:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        of_output = f" of {head.name!r}" if head.name else ""
        yield f"the labels {shown}{of_output} are numbered 0 to {len(names) - 1}, also for {', '.join(dict.fromkeys(own))}"


def _is_whole(name: str) -> bool:
    return name.lstrip("-").isdecimal()


def _row_mixing_warnings(model: keras.Model, trainer: Trainer) -> list[str]:
    """Return warnings about losses and metrics of a builder's own that compare every row with every other."""
    if not has_call(model):
        return []
    warnings: list[str] = []
    for head in heads.heads_of(model, trainer.data):
        target = Target.of(head.data)
        if target.shape in ("flat", "column") and (width := width_of(model, head.data, head.index)):
            warnings += pairing.warnings_of(model, target.rows(width), head)
    return warnings
