"""The commands that write a study file: init from data, refine from an earlier study."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli import study_argument
from search.cli.printing import Json, echo, stdout
from search.errors import UsageError

if TYPE_CHECKING:
    from search.storage.studies import Stored

Source = Annotated[
    str,
    typer.Option(
        "--data", metavar="SOURCE", help="A table, an .npz, a folder of images, sklearn:NAME, file.py:function ..."
    ),
]
Target = Annotated[
    str, typer.Option("--target", metavar="COLUMN", help="The column of a table to learn; else guessed.")
]
Model = Annotated[str, typer.Option("--model", help="dense, image, sequence or ids; else guessed from the rows.")]
Name = Annotated[
    str, typer.Option("--name", "-n", help="The name of the study and of its file; else that of the data.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="data.KEY=VALUE", help="Set any key of \\[data].")]


def init(
    data: Source = "",
    target: Target = "",
    model: Model = "",
    name: Name = "",
    set_: Sets = None,
    force: Force = False,
) -> None:
    """Look at data, and write a study file and a builder that run as they are: NAME.toml and my_model.py, in this folder.

    For data that a study file can't describe, such as a .csv without a header, it also writes a function in my_data.py. It
    prints each guess with the option that changes it, and the value that a search has to beat. It replaces files only with
    --force.

    Example: [bold]manyfit init --data customers.csv --target churn[/]
    """
    if not data:
        raise UsageError("--data is missing; write manyfit init --data customers.csv, say")
    from search.drafting import writing
    from search.drafting.draft import draft
    from search.drafting.request import Request
    from search.reading import studyfile
    from search.views import drafted

    request = Request(data, Path(), target, model, name, tuple(set_ or ()))
    done = draft(request, force=force)
    writing.write(done.files)
    file = studyfile.read(request.study_file)
    stdout().print(drafted.table(done))
    if file.storage.exists():
        echo(
            f"warning: {file.storage.name} has a study already; if it is another one, manyfit run refuses to go on with it: "
            "give this one a --name, or delete that one by manyfit delete"
        )
    echo(f"next: {drafted.next_command(done)}")


def refine(
    study: study_argument.Target,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The study file; by default NAME-finer.toml beside the study's."
        ),
    ] = None,
    name: study_argument.Name = "",
    as_json: Json = False,
) -> None:
    """Write the next study's file, from coarse to fine.

    Its ranges close in on the best trials, or widen if these lie at an end. Parameters without an effect are fixed;
    comments in the file say why. The new study begins with the best configs, and its sampler learns from the trials so far.
    The study itself does not change.

    Example: [bold]manyfit refine studies/digits.toml -o studies/digits-finer.toml[/], then
    [bold]manyfit run studies/digits-finer.toml[/]
    """
    from search.reading import studyfile
    from search.storage import records
    from search.views import export, finer, learned
    from search.views.insights import importance, refining

    stored = records.load(*study_argument.stored_study(study, name))
    path = _finer_path(stored, study, output)
    known = importance.matters(stored, learned.outlook(stored))
    changes = refining.refine(stored, known, may_fix=not studyfile.may_be_hypermodel(stored.file))
    text = finer.study_file(stored, changes, path)
    studyfile.check_text(path, text)
    export.write(path, text)
    if as_json:
        print(json.dumps({"written": str(path), "changes": finer.as_json(changes, stored)}, indent=2))
    else:
        stdout().print(finer.table(changes, stored))
    storage, own_name = studyfile.locate(path)
    if records.exists(storage, own_name):
        echo(f"warning: {storage} has a study {own_name!r} already; give this one another: manyfit run ... --name NEW")
    echo(f"written: {path}; next: manyfit run {shlex.quote(str(path))}")


def _finer_path(stored: Stored, study: Path, output: Path | None) -> Path:
    """Return where the new study file is to be; UsageError if it can't be there."""
    from search.spec import given

    base = study.parent if study.suffix == ".toml" else stored.file.base
    path = base / f"{stored.name}-finer.toml" if output is None else output
    if stored.file.settings.study.confirms:
        raise UsageError(f"{stored.name} confirms another study; name that one")
    if any(given.object_names(stored.file.settings)):
        raise UsageError(
            f"study {stored.name!r} was made by a Python program, whose functions and data no study file can name; "
            f"`manyfit show {study_argument.words_for(stored, study)}` shows what its trials say about the space"
        )
    if path.suffix != ".toml":
        raise UsageError(f"a study file ends in .toml; received {path}")
    if path.resolve().parent != base.resolve():
        raise UsageError(
            f"the paths of a study are relative to its folder {base.resolve()}; received {path}; write the file there"
        )
    if path.exists():
        raise UsageError(
            f"{path} is there already; `manyfit run {shlex.quote(str(path))}` runs it, or name another file"
        )
    return path
