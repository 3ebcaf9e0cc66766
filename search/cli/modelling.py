"""The commands for the models that a study ends with: evaluate, predict, retrain, ensemble, plot-model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from search.cli.printing import Json, echo, stdout
from search.cli.study_argument import Name, Target, stored_study
from search.errors import UsageError
from search.sessions.output import MODEL, check_model
from search.views.printable import printable

if TYPE_CHECKING:
    from search.storage.studies import Stored
    from search.trials.trial import Trial

_PICTURES = (".png", ".svg", ".pdf")
ModelOrStudy = Annotated[
    Path, typer.Argument(metavar="MODEL|STUDY", help="A .keras file that manyfit wrote, a study file, or a database.")
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras file that manyfit wrote.")]
Code = Annotated[list[Path] | None, typer.Option("--code", metavar="FILE.py", help="A file with layers of your own.")]
OfTrial = Annotated[int | None, typer.Option("--trial", min=0, help="With a study: this trial instead of the best.")]


def evaluate(
    target: ModelOrStudy,
    name: Name = "",
    split: Annotated[
        Literal["test", "validation", "train"], typer.Option("--split", help="The rows to evaluate on.")
    ] = "test",
    trial: OfTrial = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model on the study's test rows, which a search never uses; the study counts each evaluation.

    For a study, the command evaluates the best trial with the weights of its best epoch. Each metric has a 95 percent
    interval: Wilson's for an accuracy, else a bootstrap over rows.

    Example: [bold]manyfit evaluate studies/digits.toml[/], or [bold]manyfit evaluate best.keras --split validation[/]
    """
    from search.sessions import evaluating
    from search.storage import records
    from search.views import console, evaluation

    reporter = console.ConsoleReporter(console.stderr())
    if target.suffix == MODEL:
        if name or trial is not None:
            raise UsageError("--name and --trial choose a trial of a study; received a model, which is of one already")
        measured = evaluating.of_file(target, split, reporter)
    else:
        stored = records.load(*stored_study(target, name))
        measured = evaluating.of_study(stored, chosen(stored, trial), split, reporter)
    if as_json:
        print(json.dumps(evaluation.to_json(measured), indent=2, allow_nan=False))
    else:
        evaluation.show(measured, stdout())


def predict(
    model: Model,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Rows: a table, an .npz, a folder of images or texts, file.py:function ..."
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The .csv to write; default: stdout.")] = None,
    code: Code = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON about the file that -o names.")] = False,
) -> None:
    """Predict new rows with a model file; write a CSV with one line for each row, in order.

    Classes have their names, each with its probability; numbers are in the target's own units. The columns of a table may
    be in any order, and other columns are ignored; a missing column is refused, and so are cells that the model can't take.

    Example: [bold]manyfit predict best.keras new_customers.csv -o predictions.csv[/]
    """
    from search.sessions import using
    from search.views import console, predictions

    predictions.check_target(output, model, data, as_json=as_json)
    reporter = console.ConsoleReporter(console.stderr())
    if output is not None:
        predicted = using.predict(model, data, output, reporter, code or [])
        if as_json:
            print(json.dumps(predictions.to_json(predicted, model, data, output), indent=2, allow_nan=False))
            return
        for line in predictions.lines(predicted, output):
            echo(line)
        return
    with TemporaryDirectory(prefix="manyfit-") as folder:
        table = Path(folder) / "predictions.csv"
        predicted = using.predict(model, data, table, reporter, code or [])
        for line in predicted.lines:
            echo(line)
        text = table.read_text(encoding="utf-8")
        print(printable(text) if sys.stdout.isatty() else text, end="")


def ensemble(
    study: Target,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .keras file to write.")],
    name: Name = "",
    top: Annotated[int, typer.Option(min=2, help="How many of the best distinct configs.")] = 5,
    test: Annotated[
        bool, typer.Option("--test", help="Also evaluate it and the best trial on the test rows: counted twice.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Save one model that averages the best configs: the probabilities of classes, or the values of a regression.

    The command uses kept weights, trains a config without them again, and prints the scores beside those of the best trial.

    Example: [bold]manyfit ensemble studies/digits.toml --top 5 -o ensemble.keras[/]
    """
    from search.sessions import ensembling
    from search.storage import records
    from search.views import console, ensembled, export

    check_model("-o", output)
    stored = records.load(*stored_study(study, name))
    export.check_target(output, stored)
    made, tests = ensembling.ensemble(stored, top, output, console.ConsoleReporter(console.stderr()), test=test)
    if as_json:
        print(json.dumps(ensembled.to_json(made, output, tests), indent=2, allow_nan=False))
    else:
        ensembled.show(made, output, tests, stdout())


def plot_model(
    model: Model,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The picture: .png, .svg or .pdf; needs Graphviz.")
    ] = None,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Draw the layers of a model file with Graphviz; without Graphviz, or without -o, print Keras's summary.

    Example: [bold]manyfit plot-model best.keras -o best.png[/]
    """
    from search.sessions import using
    from search.views import console

    if output is not None and output.suffix not in _PICTURES:
        raise UsageError(f"-o: a picture is a {', '.join(_PICTURES)}; received {output}")
    detail = using.plot(model, output, console.ConsoleReporter(console.stderr()), code or [])
    drawn = output is not None and not detail["why"]
    if as_json:
        picture = {"picture": str(output) if drawn else None, "why": detail["why"]}
        layers = {"parameters": detail["parameters"], "layers": detail["layers"]}
        print(json.dumps({"model": str(model), **picture, **layers}, indent=2))
    elif not drawn:
        print(printable(detail["summary"]))
    if drawn:
        echo(f"written: {output}")
    elif output is not None:
        echo(f"no picture was drawn: {detail['why']}")


def retrain(
    target: Annotated[
        Path, typer.Argument(metavar="BEST.JSON|STUDY", help="A best.json, a study file, or a database.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .keras file to write.")],
    name: Name = "",
    rank: Annotated[int, typer.Option(min=1, help="The config's rank; 1 is the best.")] = 1,
    full: Annotated[
        bool, typer.Option("--full", help="Train on training and validation rows, up to the search's best epoch.")
    ] = False,
    long: Annotated[
        bool, typer.Option("--long", help="Train past the search's last epoch, until the objective stops improving.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="A seed other than the search's.")] = None,
    as_json: Json = False,
) -> None:
    """Train a config again and save the model, its learning curves and its card (MODEL.md).

    With the search's seed the value is that of the search. The command prints whether the value lies in the range that
    `manyfit confirm`, or the repeats of the search, predict.

    Example: [bold]manyfit retrain digits.best.json -o digits.keras[/], or [bold]--full[/], or [bold]--long[/]
    """
    from search.sessions import retraining
    from search.storage import records
    from search.views import console, export
    from search.views import retraining as views

    mode = retraining.mode_of(full=full, long=long)
    check_model("-o", output)
    if target.suffix == ".json":
        if name:
            raise UsageError("--name chooses a study of a database; received a best.json, which is of one already")
        recipe = retraining.Recipe.of_json(target, rank)
    else:
        recipe = retraining.Recipe.of_study(records.load(*stored_study(target, name)), rank)
    export.check_target(output, recipe.stored)
    reporter = console.ConsoleReporter(console.stderr())
    done = retraining.retrain(recipe, output, reporter, mode, seed)
    written, why = views.write(done, recipe.stored, output, recipe.looks)
    if why:
        reporter.note(f"the learning curves are a page, and no PNG: {why}")
    if as_json:
        print(json.dumps(views.to_json(done, written), indent=2, allow_nan=False))
        return
    for line in views.lines(done, written):
        echo(line)


def chosen(stored: Stored, number: int | None) -> Trial:
    """Return a trial by its number, or the best one; UsageError if there is none."""
    if number is None:
        if not stored.complete:
            raise UsageError("no trial is complete yet")
        return stored.complete[0]
    if number >= len(stored.trials):
        raise UsageError(f"--trial: the study has no trial {number}; it has {len(stored.trials)}, from 0")
    return stored.trials[number]
