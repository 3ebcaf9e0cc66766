"""Run the ready studies in full, confirm and evaluate the best of each, and write the table of docs/gallery.md.

python studies/measure.py --data ../data lab/7-cifar10 tables/diabetes
Without names all of them: a night on two cores. What is finished is not trained again, so it may be stopped at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
ROWS = HERE / "measured.json"
BEGIN, END = "<!-- measured: studies/measure.py -->\n", "<!-- end -->\n"
# What is taken from --data where it is there; otherwise Keras downloads the data, or the study says where to get them.
DATA = {"lab/7-": "cifar10", "lab/": "mnist", "dropout/": "mnist", "cifar10/": "cifar10"}
BESIDE = {"transfer/": "fashion_mnist.npz", "cats-and-dogs/": "cats_vs_dogs"}
BACKBONE = HERE / "transfer" / "backbone.keras"


def main() -> None:
    """Measure the studies that are named, and write the table of all rows."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Example: python studies/measure.py --data ../data lab/7-cifar10 tables/diabetes",
    )
    parser.add_argument(
        "studies", nargs="*", metavar="STUDY", help="files in studies/, without .toml; all if not given"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="where mnist.npz, cifar10.npz, fashion_mnist.npz and cats_vs_dogs/ are",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="trainings of the best config with fresh seeds; 3 if not given"
    )
    parser.add_argument("--table", action="store_true", help="only write the table again")
    args = parser.parse_args()
    names = args.studies or [path.relative_to(HERE).with_suffix("").as_posix() for path in sorted(HERE.rglob("*.toml"))]
    failed = []
    # The backbone comes before what is transferred.
    for name in [] if args.table else sorted(names, key=lambda name: name != "transfer/pretrain"):
        try:
            measure(name, args.data, args.repeats)
        except subprocess.CalledProcessError:  # the command has said why
            failed.append(name)
    write_table()
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}; see what their commands say above")


def measure(name: str, folder: Path | None, repeats: int) -> None:
    """Run, confirm and evaluate one study, each unless it is done; store its row and its picture."""
    file = str(HERE / f"{name}.toml")
    print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
    manyfit("run", file, *given(name, folder))
    if name == "transfer/pretrain" and not BACKBONE.exists():
        manyfit("export", file, "--model", str(BACKBONE))
    manyfit("confirm", file, "--top", "1", "--repeats", str(repeats))
    rows, now = stored(), row(json.loads(manyfit("show", file, "--json")))
    before = rows.get(name, {})
    # Test rows are looked at once, unless another trial is the best one now.
    is_known = "test" in before and before.get("value") == now["value"]
    test = before["test"] if is_known else json.loads(manyfit("evaluate", file, "--json"))["metrics"]
    rows[name] = {**now, "test": test, "hardware": hardware()}
    ROWS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    picture(name, file)


def given(name: str, folder: Path | None) -> list[str]:
    """Return the options that give a study the data of `folder`; puts beside it what it reads there."""
    if folder is None:
        return []
    for start, beside in BESIDE.items():
        link = HERE / start / beside
        if name.startswith(start) and (folder / beside).exists() and not link.exists():
            link.symlink_to((folder / beside).resolve())
    kind = next((kind for start, kind in DATA.items() if name.startswith(start)), None)
    found = sorted(folder.glob(f"{kind}*.npz")) if kind else []
    return ["--set", f"data.source={found[0].resolve()}"] if found else []


def manyfit(*command: str) -> str:
    """Run a command of manyfit, and return what it prints; its progress goes to stderr."""
    line = [sys.executable, "-m", "manyfit", *command]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, cwd=HERE.parent).stdout


def row(shown: dict[str, Any]) -> dict[str, Any]:
    """Return what the table says of a study, of the JSON of `manyfit show`."""
    again = (shown.get("confirmation") or {"configs": [{}]})["configs"][0]
    source = Path(str(shown["identity"]["data"]["source"])).name
    return {
        "objective": shown["objective"],
        "value": shown["configs"][0]["value"],
        "again": {key: again.get(key) for key in ("mean", "low", "high", "values")},
        "trials": sum(shown["trials"].values()),
        "epochs": shown["settings"]["study"]["epochs"],
        "seconds": round(shown["seconds"]),
        "engine": f"{shown['resolved']['engine']}, {shown['resolved']['backend']}",
        "data": source,
        "versions": shown["versions"],
    }


def hardware() -> str:
    """Return the number of cores and the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores, {model}"


def stored() -> dict[str, Any]:
    """Return the rows by study."""
    rows: dict[str, Any] = json.loads(ROWS.read_text()) if ROWS.exists() else {}
    return rows


def picture(name: str, file: str) -> None:
    """Store the learning curves of the report, small."""
    page = HERE / f"{name}.report"
    manyfit("report", file, "--no-model", "-o", f"{page}.html", "--png", str(page))
    with Image.open(page / "curves.png") as curves:
        small = curves.convert("RGB").resize((800, round(800 * curves.height / curves.width)), Image.Resampling.LANCZOS)
    small.quantize(64).save(DOCS / "pictures" / picture_name(name), optimize=True)


def picture_name(name: str) -> str:
    """Return the file of a study's picture, in docs/pictures."""
    return f"ready-{name.replace('/', '-')}.png"


def write_table() -> None:
    """Write the rows between the marks in docs/gallery.md."""
    rows = stored()
    page = DOCS / "gallery.md"
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    head = ["study", "best value", "trained again", "on the test rows", "trials", "time", "engine", "data"]
    lines = [
        f"| {' | '.join(head)} |",
        f"| {' | '.join('---' for _ in head)} |",
        *(line(name, rows[name]) for name in sorted(rows)),
    ]
    machines = sorted({found["hardware"] for found in rows.values()})
    page.write_text(f"{before}{BEGIN}Hardware: {'; '.join(machines)}.\n\n" + "\n".join(lines) + f"\n{END}{after}")


def line(name: str, found: dict[str, Any]) -> str:
    """Return one line of the table."""
    metric = found["objective"].removeprefix("val_")
    metric = metric if metric in found["test"] else next(iter(found["test"]))
    test, again = found["test"][metric], found["again"]
    cells = [
        f"[`{name}`](pictures/{picture_name(name)})",
        f"{found['objective']} {found['value']:.4g}",
        ""
        if again["mean"] is None
        else f"{again['mean']:.4g} ({len(again['values'])} times, {min(again['values']):.4g} to {max(again['values']):.4g})",
        f"{metric} {test['value']:.4g} [{test['low']:.4g}, {test['high']:.4g}]",
        f"{found['trials']} x {found['epochs']} epochs",
        f"{found['seconds'] / 60:.1f} min",
        found["engine"],
        found["data"],
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
