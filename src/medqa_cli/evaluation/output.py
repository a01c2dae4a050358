"""The files of an evaluation: written together, and read again for ``--rescore``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError
from medqa_cli.evaluation.html_report import make_page
from medqa_cli.evaluation.results import Measured, Statistics, make_results
from medqa_cli.evaluation.samples import read_samples, write_samples
from medqa_cli.files import RunFolder, atomic_file, read_json, write_json

SAMPLES_NAME = "samples.jsonl"
FLOORS_NAME = "floors.jsonl"
REPORT_NAME = "report.html"


def write_all(run: RunFolder, measured: Measured, results: dict[str, Any]) -> None:
    """Write samples, floors, the page and, last, ``results.json``."""
    folder = run.eval_dir
    write_samples(folder / SAMPLES_NAME, (sample for own in measured.samples.values() for sample in own))
    write_samples(folder / FLOORS_NAME, (sample for own in measured.floors.values() for sample in own))
    with atomic_file(folder / REPORT_NAME) as file:
        file.write(make_page(results, measured.samples))
    write_json(run.results_path, results)


def rescore(config: Config, models: Sequence[str] | None) -> dict[str, Any]:
    """Compute all figures anew from the saved samples; neither models nor data are needed.

    Multiple-choice figures are kept as they are: predictions are not among the samples.

    Args:
        config: the run, metrics and draws; metrics that the samples do not carry are left out.
        models: those to report; None: all that were measured.

    Raises:
        InputError: nothing was measured yet, or a model was not.
    """
    run, settings = RunFolder(Path(config.run_dir)), config.eval
    before = _results_before(run.results_path)
    found = read_samples(run.eval_dir / SAMPLES_NAME)
    missing = [name for name in models or () if name not in found]
    if missing:
        raise InputError(
            f"--rescore: {run.eval_dir / SAMPLES_NAME} holds no samples of {', '.join(missing)}",
            f"it holds those of {', '.join(found)}; measure the others: medqa eval",
        )
    floors_path = run.eval_dir / FLOORS_NAME
    floors = read_samples(floors_path) if floors_path.is_file() and floors_path.stat().st_size else {}
    ids = [sample.id for sample in next(iter(found.values()))]
    if any([sample.id for sample in own] != ids for own in floors.values()):
        raise InputError(f"{floors_path} is about other questions than the samples", "measure again: medqa eval")
    measured = Measured({name: found[name] for name in models or found}, floors, {})
    kept = {**before.get("settings", {}), "metrics": list(settings.metric_names)}
    results = make_results(
        measured,
        settings.metric_names,
        Statistics(settings.bootstrap_draws, config.seed),
        before.get("split", settings.split),
        kept,
    )
    results["multiple_choice"] = before.get("multiple_choice", {})
    with atomic_file(run.eval_dir / REPORT_NAME) as file:
        file.write(make_page(results, measured.samples))
    write_json(run.results_path, results)
    return results


def _results_before(path: Path) -> dict[str, Any]:
    """Return what is kept of the results of before, or nothing where there are none."""
    before = read_json(path) if path.is_file() else {}
    choices = before.get("multiple_choice", {}) if isinstance(before, dict) else None
    if not (
        isinstance(choices, dict)
        and isinstance(before.get("settings", {}), dict)
        and isinstance(before.get("split", ""), str)
        and all(isinstance(own, dict) and _are_figures(own) for own in choices.values())
    ):
        raise InputError(f"{path} is damaged: not the results of an evaluation", "measure again: medqa eval")
    return before


def _are_figures(own: dict[str, Any]) -> bool:
    """Tell whether a multiple-choice set holds figures of models: each an object with a number."""
    kinds = [own.get(kind) for kind in ("models", "floors", "differences")]
    if not all(isinstance(kind, dict) for kind in kinds) or not isinstance(own.get("items"), int):
        return False
    figures = [figures for kind in kinds if kind for figures in kind.values()]
    return all(isinstance(each, dict) for each in figures) and all(
        name == "choice" or (isinstance(figure, dict) and isinstance(figure.get("value"), int | float))
        for each in figures
        for name, figure in each.items()
    )
