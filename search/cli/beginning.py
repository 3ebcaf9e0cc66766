"""The command that begins a study from data: init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.printing import echo, stdout
from search.errors import UsageError

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
Name = Annotated[str, typer.Option("--name", "-n", help="The study's name, and its file's; else from the data's.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="data.KEY=VALUE", help="Any key of \\[data].")]


def init(
    data: Source = "",
    target: Target = "",
    model: Model = "",
    name: Name = "",
    set_: Sets = None,
    force: Force = False,
) -> None:
    """Look at data, and write a study file and a builder that run at once: NAME.toml and my_model.py, in this folder.

    Data that a study file can't describe, such as a .csv without a header, get a function in my_data.py, too. The command
    prints what it guessed, with the option that says otherwise, and the value that a search has to beat. It replaces no file.

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
