"""Trains a config of a finished search again, by itself, and saves the model. The study is only read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from search.data.uses import Use
from search.engines.protocol import SaveModel
from search.errors import UsageError
from search.sessions.one_training import Training, worker
from search.sessions.output import whole
from search.sessions.reporter import Reporter
from search.signals import Interruptions, signals
from search.spec.study import StudyFile
from search.storage.studies import Stored
from search.trials.events import Assignment, Failed, Member
from search.trials.objective import Objective
from search.trials.retrained import Mode, Promise, Retrained
from search.trials.trial import Metrics
from search.views import export
from search.views.export import Best, Config

# With --long, training goes on for at most this many times the epochs of the search.
LONGEST = 10


@dataclass(frozen=True)
class Recipe:
    """A config to train again, and the study that it is from, as far as its best.json or its database has it.

    Attributes:
        looks: how often the study's test rows were evaluated.
    """

    stored: Stored
    config: Config
    looks: int

    @classmethod
    def of_study(cls, stored: Stored, rank: int) -> Recipe:
        """Return the config of a rank of a study; UsageError if it has none."""
        return cls(stored, _ranked(export.best(stored, rank), rank), stored.test_evaluations)

    @classmethod
    def of_json(cls, path: Path, rank: int) -> Recipe:
        """Return a config of a best.json, whose folder is that of the study; UsageError for another file."""
        try:
            best = Best.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UsageError(f"{path}: can't be read: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:
            what = (
                f"{len(error.errors())} of its values are wrong" if isinstance(error, ValidationError) else str(error)
            )
            raise UsageError(f"{path}: no best.json of manyfit: {what}; give one that `manyfit export` wrote") from None
        database = path.absolute().with_name(f"{best.study}.db")
        file = StudyFile.stored(database.with_suffix(".toml"), best.settings)
        stored = Stored(
            path=database,
            name=best.study,
            file=file,
            resolved=best.resolved,
            identity=best.identity,
            seconds=0.0,
            ended="",
        )
        return cls(stored, _ranked(best, rank), best.test_evaluations)


def _ranked(best: Best, rank: int) -> Config:
    if len(best.configs) < rank:
        raise UsageError(
            f"--rank: {best.study} has {len(best.configs)} configs that were trained fully here; received {rank}"
        )
    return best.configs[rank - 1]


def mode_of(*, full: bool, long: bool) -> Mode:
    """Return the mode that two options name; UsageError if both are given."""
    if full and long:
        raise UsageError("--full and --long: --full leaves no rows that could end the training; leave one of them out")
    return "full" if full else "long" if long else "again"


def retrain(
    recipe: Recipe,
    output: Path,
    reporter: Reporter,
    mode: Mode = "again",
    seed: int | None = None,
    *,
    interruptions: Interruptions = signals,
) -> Retrained:
    """Train a config again and save its model, whole or not at all.

    "again" trains as many epochs as the search did and keeps the best one's weights. "long" goes on until the objective has
    not improved for as many epochs as the study's early stopping has patience. "full" trains on the training and the
    validation rows for the epochs that the best epoch took, and keeps the last weights.

    Raises UsageError for a study with folds unless "full", if the training fails or diverges, or if Keras can't save the
    model; IdentityError if data or code have changed since the search; Interrupted for a signal.
    """
    config, stored = recipe.config, recipe.stored
    if (folds := stored.file.settings.study.folds) > 1 and mode != "full":
        raise UsageError(
            f"{stored.name} judges by {folds} folds, so a training on one of them is no better than those of the search; use "
            "--full, which trains on the rows of all folds, or `manyfit export --model` for the best fold's model"
        )
    epochs = max(len(values) for values in config.curve.values())
    wanted = config.epoch if mode == "full" else epochs * LONGEST if mode == "long" else epochs
    seed = config.seed if seed is None else seed
    member = Member(config.trial)
    assignment = Assignment(member, config.config, wanted, seed)
    use: Use = "full" if mode == "full" else "study"
    with worker(stored, use, reporter, interruptions) as (pool, files, interruption):
        training = Training(stored, assignment, mode, epochs, reporter)
        curve = training.run(pool, interruption)
        epoch = len(curve) if mode == "full" else training.best_epoch
        metrics = curve[epoch - 1]
        rate = None if "val_learning_rate" in metrics else metrics.get("learning_rate")
        origin = _origin(recipe, metrics, epoch, mode)
        weights = str(files.weights(member))
        with whole(output) as partial:
            answer = pool.answer(SaveModel(member, config.config, seed, weights, str(partial), origin, rate))
            if isinstance(answer, Failed):
                raise UsageError(f"{output} could not be made: {answer.reason}")
    return _retrained(recipe, curve, epoch, epochs, mode, seed, tuple(answer.detail["lines"]))


def _origin(recipe: Recipe, metrics: Metrics, epoch: int, mode: Mode) -> dict[str, object]:
    stored, config = recipe.stored, recipe.config
    objective = stored.file.settings.study.objective
    return {
        "kind": "retrained",
        "study": stored.name,
        "database": str(stored.path),
        "trials": [config.trial],
        "config": config.config,
        "objective": objective,
        # With the validation rows among the training rows, its value says nothing.
        "value": None if mode == "full" else metrics.get(objective),
        "epoch": epoch,
        "is_full": mode == "full",
    }


def _retrained(
    recipe: Recipe, curve: list[Metrics], epoch: int, epochs: int, mode: Mode, seed: int, lines: tuple[str, ...]
) -> Retrained:
    config, objective = recipe.config, Objective.of(recipe.stored.file)
    repeats = config.repeats or []
    known = {config.seed: config.value} if not repeats else {one.seed: one.value for one in repeats}
    # In a study with repeats each value of a confirmation is a mean, from which single trainings differ more.
    fresh = config.confirmed.values if config.confirmed and not repeats else [one.value for one in repeats]
    is_full = mode == "full"
    # The repeats of the search are compared at one epoch, not each at its own best one, which would look better.
    at = min(config.epoch, len(curve)) if repeats and not is_full else None
    return Retrained(
        study=recipe.stored.name,
        objective=objective.name,
        trial=config.trial,
        rank=config.rank,
        seed=seed,
        mode=mode,
        search=config.value,
        same_seed=known.get(seed),
        value=None if is_full else curve[epoch - 1].get(objective.name),
        within=None
        if is_full
        else objective.best_of(curve[:epochs])[0]
        if at is None
        else curve[at - 1].get(objective.name),
        epoch=epoch,
        epochs=epochs,
        curve=curve,
        promise=Promise.of(fresh),
        at=at,
        lines=lines,
    )
