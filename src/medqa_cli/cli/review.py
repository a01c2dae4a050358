"""``medqa review``: answers are judged by people, blind; what they say is scored, and exported for training."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medqa_cli import console
from medqa_cli.cli import app
from medqa_cli.errors import InputError

FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="What the raters saved: .json, or .xlsx.",
        callback=lambda paths: [app.at_home(path) or path for path in paths],
    ),
]


@app.command(
    "medqa review make --raters anna,ben  a page for each of two raters",
    "medqa review make --questions 60 --double 15  15 of the 60 go to all raters",
    "medqa review make --raters anna --xlsx  also as a spreadsheet",
    name="make",
    group=app.review_app,
)
def make(
    questions: Annotated[int, typer.Option("--questions", min=1, help="Questions to judge, spread over topics.")] = 40,
    raters: Annotated[
        str, typer.Option("--raters", help="Names of the raters, comma-separated; each gets a page.")
    ] = "rater-1,rater-2",
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            help="Whose answers: names in samples.jsonl; reference: the answers of the data. Default: "
            "adapter,base,reference; of a model with sources adapter_open_book,base_open_book,reference.",
        ),
    ] = None,
    double: Annotated[
        int | None,
        typer.Option(
            "--double", min=0, help="Questions that all raters judge; the others are shared out. Default: 10."
        ),
    ] = None,
    xlsx: Annotated[bool, typer.Option("--xlsx", help="Also write spreadsheets, for who may not open HTML.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Move another review in the folder aside.")] = False,
    config: app.RunConfigOption = None,
    overrides: app.SetOption = None,
    as_json: app.JsonOption = False,
) -> None:
    """Write a page for each rater, who judges blind.

    It shows questions, each with two answers whose writers are hidden, and needs no network. key.json says whose answer
    is whose: it stays with you.
    """
    console.use_json(as_json)
    settings = app.load_for_run(config, overrides).config
    console.doing("loading the libraries ...")
    from medqa_cli.review import make as worker
    from medqa_cli.review.draw import default_models

    names = default_models(settings) if models is None else _names(models)
    request = worker.Request(questions, _names(raters), names, double, xlsx, force)
    made = worker.make_review(settings, request)
    console.result(made, lambda: _show_made(made))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _show_made(made: dict[str, Any]) -> None:
    if made["moved"]:
        console.line(f"the earlier review is now in {made['moved']}")
    for rater, own in made["raters"].items():
        for file in own["files"]:
            console.line(f"wrote {file}: {own['questions']} questions for {rater}")
    from medqa_cli.evaluation.arms import OPEN_BOOK

    shared = f", {made['shared']} of them for all raters" if made["shared"] else ""
    opened = any(name.endswith(OPEN_BOOK) for name in made["models"])
    how = f" ({OPEN_BOOK}: with sources, the held-out answers among them)" if opened else ""
    console.line(f"{made['questions']} questions{shared}; answers of {', '.join(made['models'])}{how}")
    console.line(f"{made['key']} says whose answer is whose: keep it, and give it to no rater")
    console.line("the pages hold questions and answers: give them to their raters only, by a safe way")
    folder = Path(made["folder"])
    console.line(f"when their files are back: medqa review score {folder / 'review-*.json'}")


@app.command(
    "medqa review score review-*.json  figures with intervals",
    "medqa review score a.json b.json --fail-on 'adapter.could_harm > 0.05'",
    "medqa review score wrong.json  what readers reported at medqa serve",
    name="score",
    group=app.review_app,
)
def score(
    files: FilesArgument,
    fail_on: Annotated[list[str] | None, app.fail_on_option("adapter-base.win_rate < 0.5")] = None,
    config: app.RunConfigOption = None,
    overrides: app.SetOption = None,
    as_json: app.JsonOption = False,
) -> None:
    """Say which answers were preferred, and how sure that is.

    The figures go to review/results.json in the run's folder, and into report.html.
    """
    console.use_json(as_json)
    settings = app.load_for_run(config, overrides).config
    console.doing("loading the libraries ...")
    from medqa_cli.evaluation import gate
    from medqa_cli.review import report
    from medqa_cli.review import score as worker

    conditions = gate.parse_conditions(fail_on, worker.figure_names(settings, files)) if fail_on else []
    results = worker.score_review(settings, files)
    path = worker.results_path(settings, files)
    if "reports" in results:
        console.result(results, lambda: report.show_reports(results, files[0], path))
        return
    console.result(results, lambda: report.show(results, path))
    gate.check_gate(conditions, results)


@app.command(
    "medqa review export --format dpo review-*.json  pairs to train on",
    "medqa review export a.json b.json --out pairs.jsonl  to another file",
    name="export",
    group=app.review_app,
)
def export(
    files: FilesArgument,
    form: Annotated[
        str, typer.Option("--format", metavar="dpo", help="Preference pairs, as TRL and others read them.")
    ] = "dpo",
    out: Annotated[Path | None, app.path_option("--out", "FILE", "File to write; default: review/dpo.jsonl.")] = None,
    config: app.RunConfigOption = None,
    overrides: app.SetOption = None,
    as_json: app.JsonOption = False,
) -> None:
    """Write preferred answers beside the others, to train on.

    Ties and pairs of which raters prefer different answers are left out.
    """
    console.use_json(as_json)
    if form != "dpo":
        raise InputError(f"--format {form}: unknown", "--format dpo writes preference pairs")
    settings = app.load_for_run(config, overrides).config
    console.doing("loading the libraries ...")
    from medqa_cli.review import preferences as worker

    exported = worker.export_pairs(settings, files, out)
    console.result(exported, lambda: worker.show(exported, settings.run))
