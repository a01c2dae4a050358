"""``medqa quickstart``: every step from a spreadsheet to a merged model, on a sample that the package ships."""

import contextlib
import shlex
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from medqa_cli import console
from medqa_cli.cli import app
from medqa_cli.config.load import DEFAULT_NAME, load
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.files import RunFolder, atomic_path

SAMPLE = Path(str(files("medqa_cli.resources") / "quickstart"))
QUESTION, ASKED_BY_A_ROW = "How to treat glaucoma?", "How do you treat asthma?"


class Step(NamedTuple):
    """A command behind ``medqa``, and what it does."""

    words: tuple[str, ...]
    purpose: str


STEPS = (
    Step(("convert",), "clean the rows, split them by topic, index rows and leaflets"),
    Step(("train", "--restart"), "train the adapter"),
    Step(("eval",), "measure adapter and base on the held-out questions"),
    Step(("ask", "--model", "base", "--sources", "0", QUESTION), "the base model"),
    Step(("ask", "--sources", "0", QUESTION), "the tuned model, from memory"),
    Step(("ask", QUESTION), "the tuned model, with sources from the data and its leaflets"),
    Step(("ask", ASKED_BY_A_ROW), "the answer of a row that asks the same, without a model"),
    Step(("merge",), "merge adapter and base into one model that other tools load"),
)


@app.command(
    "medqa quickstart  in the folder quickstart",
    "medqa quickstart --out try  in another folder",
    "medqa quickstart --set train.max_steps=5  a short training",
)
def quickstart(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the sample and all results.", callback=app.at_home)
    ] = Path("quickstart"),
    overrides: app.SetOption = None,
) -> None:
    """Try every step on sample data: about six minutes on two cores.

    Writes a small spreadsheet, three leaflets and a medqa.yaml into a folder, then converts, trains, evaluates, asks
    and merges there, and shows each command before it runs.
    """
    started = time.monotonic()
    changes = app.config_options(None, overrides)
    config = load(SAMPLE / DEFAULT_NAME, overrides or ()).config
    from medqa_cli.config.dump import preset_for

    small = preset_for(None)
    if config.model.name_or_path == small.model and not small.is_ready:
        raise InputError(f"the quickstart's model is not installed: the Python package {small.package}", small.needs)
    _write_sample(out)
    console.line(f"the sample is in {out}: {', '.join(path.name for path in sorted(SAMPLE.iterdir()))}")
    for number, step in enumerate(STEPS, 1):
        words = [*step.words, *changes]
        console.line(f"\n[{number}/{len(STEPS)}] {step.purpose}\n$ {shlex.join(['medqa', *words])}")
        if code := run(words, out):
            # The command has said why it failed, unless a signal has killed it.
            if code > 0:
                raise typer.Exit(code)
            raise MedqaError(
                f"medqa {words[0]} was ended by signal {-code} ({signal.Signals(-code).name})",
                "if nobody sent it, memory ran out: close what else uses it, then run medqa quickstart again",
            )
    run_folder = RunFolder(out / config.run_dir)
    console.line(f"\ndone in {console.clock(time.monotonic() - started)}; the results:")
    for what, path in (
        ("data", out / config.data.dir),
        ("adapter", run_folder.adapter_dir),
        ("loss curve", run_folder.loss_plot_path),
        ("evaluation", run_folder.eval_dir / "report.html"),
        ("merged model", run_folder.merged_dir),
    ):
        console.line(f"  {what:12}  {path}")
    console.line(f"\ngo on there: cd {shlex.quote(str(out))}, then: medqa ask   or, as a page: medqa serve")


def run(words: list[str], folder: Path) -> int:
    """Run ``medqa WORDS`` in a folder, in a process of its own; return its exit code, -N if signal N ended it.

    The peak of its memory is its own then, as its reports say.
    """
    process = subprocess.Popen([sys.executable, "-m", "medqa_cli", *words], cwd=folder)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            # The terminal's Ctrl-C reaches the command as well, which saves what it has and ends by itself.
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_sample(folder: Path) -> None:
    """Write the sample's files that are not there.

    Raises:
        InputError: a file that is there is another one.
    """
    sample = [path.relative_to(SAMPLE) for path in sorted(SAMPLE.rglob("*")) if path.is_file()]
    for name in sample:
        there = folder / name
        if there.exists() and there.read_bytes() != (SAMPLE / name).read_bytes():
            raise InputError(
                f"{there} is not the sample's {name}: the quickstart would train on it, and delete that run first",
                f"name another folder: --out DIR; to go on with your own file: cd {shlex.quote(str(folder))}, then "
                "medqa convert and the others",
            )
    for name in sample:
        if not (folder / name).exists():
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes((SAMPLE / name).read_bytes())
