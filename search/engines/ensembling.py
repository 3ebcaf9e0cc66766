"""Makes one model of several: it averages their probabilities, or their values. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from search import arrayfile
from search.data import DataInfo
from search.engines import exporting, noting
from search.engines.heads import Head, heads_of
from search.engines.protocol import EnsembleMember, SaveEnsemble, SaveModel
from search.engines.training import Trainer
from search.errors import UsageError
from search.trials.events import Noted


def save(trainer: Trainer, order: SaveEnsemble) -> Noted:
    """Save an ensemble as `exporting.save` saves a trial's model; the detail of Noted is the same.

    Raises UsageError if it is not known whether a member gives probabilities or logits. Errors of the user's layers pass
    through.
    """

    penalized: set[int] = set()

    def build(config: Mapping[str, Any], info: DataInfo) -> keras.Model:  # noqa: ARG001 (the signature of a builder)
        return averaged(trainer, order.members, penalized)

    best = order.members[0]
    averaging = replace(trainer, build=build, hypermodel=None)
    made = exporting.save(averaging, SaveModel(order.member, best.config, best.seed, "", order.path, order.origin))
    if not penalized:
        return made
    line = "its loss has no penalties of weights, which are for training; the losses of its members have them"
    return replace(made, detail={**made.detail, "lines": [*made.detail["lines"], line]})


def averaged(trainer: Trainer, members: tuple[EnsembleMember, ...], penalized: set[int]) -> keras.Model:
    """Return a model of features that averages its members, with their weights; it is not compiled.

    Adds the trials to `penalized` whose losses have penalties of weights.
    """
    models, givens = [], []
    for number, member in enumerate(members):
        compiled = trainer.model(member.config, member.seed)
        heads = heads_of(compiled, trainer.data)
        model = exporting.bare_model(trainer, member.config, member.seed)
        own = bool(model.compiled)
        givens.append([noting.given_by(compiled, trainer, head, member.config, own=own) for head in heads])
        weights, _ = arrayfile.read(Path(member.weights))
        exporting.assign(model, weights)
        if model.losses:
            penalized.add(member.trial)
        # The penalties of all members would add up. Only weights that can be trained have some.
        model.trainable = False
        # Layers of one model have different names.
        model.name = f"member_{number}"
        models.append(model)
    inputs = _inputs(trainer)
    flat = [keras.tree.flatten(model(inputs)) for model in models]
    made = {}
    for position, head in enumerate(heads):
        index = head.index or 0
        outputs = [
            _squashed(each[index], given[position], givens[0][position], head, member)
            for each, given, member in zip(flat, givens, members, strict=True)
        ]
        made[head.name] = keras.layers.Average(dtype="float32", name=head.name or "average")(outputs)
    return keras.Model(inputs, _packed(made, trainer.data.y_train), name="ensemble")


def _inputs(trainer: Trainer) -> Any:
    """Return the inputs of a model of the study's features, in the form of its rows."""
    data = trainer.data
    if not data.info.inputs:
        return keras.Input(data.info.input_shape, dtype=str(data.x_train.dtype), name="features")
    made = {name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in data.info.inputs.items()}
    return made if isinstance(data.x_train, dict) else tuple(made.values())


def _squashed(output: Any, given: noting.Given, best: noting.Given, head: Head, member: EnsembleMember) -> Any:
    """Return what is averaged of an output: probabilities of classes, values, or scores like those of the best member."""
    of_output = f" of {head.name!r}" if head.name else ""
    if "scores" in (given.gives, best.gives) and given != best:
        raise UsageError(
            f"the outputs{of_output} of trial {member.trial} and of the best trial can't be averaged: their losses, or their "
            "last layers, make numbers of different kinds"
        )
    if given.gives == "scores" and given.threshold is None:
        raise UsageError(
            f"the outputs{of_output} of trial {member.trial} are not known to be probabilities or logits, so that they "
            "can't be averaged; end the model with a softmax or a sigmoid, or set from_logits of the loss"
        )
    if given.gives == "logits":
        return keras.layers.Activation(given.squash, dtype="float32")(output)
    return output


def _packed(made: Mapping[str, Any], like: Any) -> Any:
    """Return outputs by name in the structure of the study's targets."""
    if "" in made:
        return made[""]
    return dict(made) if isinstance(like, dict) else [made[str(number)] for number in range(len(made))]
