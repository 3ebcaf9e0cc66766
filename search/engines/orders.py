"""Does what a worker is ordered to do with models when it trains nothing: save, evaluate or describe one."""

from __future__ import annotations

from search.engines import describing, ensembling, evaluating, exporting, failures
from search.engines.protocol import DescribeModel, EvaluateModel, Order, SaveEnsemble
from search.engines.training import Trainer
from search.errors import UsageError
from search.trials.events import Failed, Noted


def answer(trainer: Trainer, order: Order) -> Noted | Failed:
    """Do an order; return its report, or Failed with the error."""
    try:
        if isinstance(order, EvaluateModel):
            return evaluating.evaluate(trainer, order)
        if isinstance(order, DescribeModel):
            return describing.describe(trainer.of_fold(order.member.replica), order)
        if isinstance(order, SaveEnsemble):
            return ensembling.save(trainer, order)
        return exporting.save(trainer.of_fold(order.member.replica), order)
    except UsageError as error:
        return Failed(order.member, str(error))
    except BaseException as error:  # noqa: BLE001 (the user's layers may raise anything)
        return Failed(order.member, failures.one_line(error), failures.trace(error))
