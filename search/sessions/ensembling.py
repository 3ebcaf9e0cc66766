"""Saves one model that averages the best configs of a study. Configs without kept weights are trained again."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from search.engines.protocol import EnsembleMember, SaveEnsemble
from search.errors import UsageError
from search.sessions import evaluating, saving
from search.sessions.one_training import Training, worker
from search.sessions.output import whole
from search.sessions.reporter import Reporter
from search.signals import Interruptions, signals
from search.storage.studies import Stored
from search.trials.confirmation import best_configs
from search.trials.ensembled import Ensembled
from search.trials.events import Assignment, Failed, Member
from search.trials.measured import Measured
from search.trials.objective import Objective
from search.trials.trial import Trial

Tests: TypeAlias = tuple[Measured, Measured]
"""An ensemble on the test rows, and the best trial on them."""


def ensemble(
    stored: Stored,
    top: int,
    output: Path,
    reporter: Reporter,
    *,
    test: bool = False,
    interruptions: Interruptions = signals,
) -> tuple[Ensembled, Tests | None]:
    """Average the best `top` distinct configs of a study, and save the model, whole or not at all.

    With `test`, the file and the best trial are evaluated on the test rows: the study counts two evaluations.

    Raises UsageError for a study with folds or fewer configs, or if its models can't be averaged; IdentityError if data or
    code have changed since the search; Interrupted for a signal.
    """
    if (folds := stored.file.settings.study.folds) > 1:
        raise UsageError(
            f"{stored.name} judges by {folds} folds, whose models are scaled by different rows and judged by rows that "
            "others were trained on; search without folds for an ensemble, or use `manyfit retrain --full`"
        )
    trials = best_configs(stored, top)
    if len(trials) < top:
        raise UsageError(
            f"--top: {stored.name} has {len(trials)} different configs that were trained fully; received {top}; an ensemble "
            "has at least 2"
        )
    if test:
        saving.kept_training(stored, trials[0])
    missing = [trial.number for trial in trials if saving.best_kept(stored, trial) is None]
    objective = Objective.of(stored.file)
    with worker(stored, "study", reporter, interruptions) as (pool, files, interruption):
        members = []
        for trial in trials:
            kept = saving.best_kept(stored, trial)
            training = kept or trial.trainings[0]
            weights = stored.files.weights(training.member)
            if kept is None:
                reporter.line(f"trial {trial.number} is trained again: its weights were not kept")
                member, epochs = Member(trial.number), len(trial.trainings[0].curve)
                assignment = Assignment(member, trial.config, epochs, training.seed)
                Training(stored, assignment, "again", epochs, reporter).run(pool, interruption)
                weights = files.weights(member)
            members.append(EnsembleMember(trial.number, trial.config, training.seed, str(weights)))
        reporter.line(f"averaging {len(members)} models")
        with whole(output) as partial:
            order = SaveEnsemble(Member(trials[0].number), tuple(members), str(partial), _origin(stored, trials))
            answer = pool.answer(order)
            if isinstance(answer, Failed):
                raise UsageError(f"{output} could not be made: {answer.reason}")
    # The training whose weights are used: of a trial with repeats, the trial's curve is their mean.
    alone = saving.best_kept(stored, trials[0]) or trials[0].trainings[0]
    best = alone.curve[(objective.best_of(alone.curve)[1] or 1) - 1]
    made = Ensembled(
        study=stored.name,
        objective=objective.name,
        trials=tuple(trial.number for trial in trials),
        retrained=tuple(missing),
        values=answer.detail["values"],
        best={name: value for name, value in best.items() if name.startswith("val_")},
        lines=tuple(answer.detail["lines"]),
    )
    if not test:
        return made, None
    of_ensemble = evaluating.of_file(output, "test", reporter, stored)
    return made, (of_ensemble, evaluating.of_study(stored, trials[0], "test", reporter))


def _origin(stored: Stored, trials: list[Trial]) -> dict[str, object]:
    return {
        "kind": "ensemble",
        "study": stored.name,
        "database": str(stored.path),
        "trials": [trial.number for trial in trials],
        "config": trials[0].config,
        "objective": stored.file.settings.study.objective,
        # The file itself is evaluated once it is written.
        "value": None,
        "epoch": None,
    }
