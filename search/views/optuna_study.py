"""A study as one of Optuna in memory, for what Optuna computes and draws of studies."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from search.storage.studies import Stored
from search.trials.distributions import distribution_with
from search.trials.trial import Trial


def study_of(stored: Stored, trials: Sequence[Trial]) -> optuna.Study:
    """Return a study with these trials, which must have a value, as complete ones."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=optuna.study.StudyDirection[stored.file.direction.upper()])
    distributions = {
        name: distribution_with(parameter, [trial.params[name] for trial in trials if name in trial.params])
        for name, parameter in stored.file.space.items()
    }
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.params,
                distributions={name: distributions[name] for name in trial.params},
                value=trial.value,
            )
        )
    return study
