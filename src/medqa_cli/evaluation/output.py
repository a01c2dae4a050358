"""The files of an evaluation: written together, and read again for ``--rescore``. Does not compute figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medqa_cli.config.sections import EvalConfig
from medqa_cli.errors import InputError
from medqa_cli.evaluation.page import make_page
from medqa_cli.evaluation.results import Measured, Statistics, make_results
from medqa_cli.evaluation.samples import read_samples, write_samples
from medqa_cli.run_folder import RunFolder, atomic_file, read_json, write_json

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


def rescore(run: RunFolder, settings: EvalConfig, seed: int, models: Sequence[str] | None) -> dict[str, Any]:
    """Compute all figures anew from the saved samples; neither models nor data are needed.

    Multiple-choice figures are kept as they are: predictions are not among the samples.

    Args:
        run: whose evaluation.
        settings: metrics and draws; metrics that the samples do not carry are left out.
        seed: of the bootstrap.
        models: those to report; None: all that were measured.

    Raises:
        InputError: nothing was measured yet, or a model was not.
    """
    before = read_json(run.results_path) if run.results_path.is_file() else {}
    if not isinstance(before, dict):
        raise InputError(f"{run.results_path} is damaged: not an object", "measure again: medqa eval")
    found = read_samples(run.eval_dir / SAMPLES_NAME)
    missing = [name for name in models or () if name not in found]
    if missing:
        raise InputError(
            f"--rescore: {run.eval_dir / SAMPLES_NAME} holds no samples of {', '.join(missing)}",
            f"it holds those of {', '.join(found)}; measure the others: medqa eval",
        )
    floors_path = run.eval_dir / FLOORS_NAME
    floors = read_samples(floors_path) if floors_path.is_file() and floors_path.stat().st_size else {}
    measured = Measured({name: found[name] for name in models or found}, floors, {})
    kept = {**before.get("settings", {}), "metrics": list(settings.metric_names)}
    results = make_results(
        measured,
        settings.metric_names,
        Statistics(settings.bootstrap_draws, seed),
        before.get("split", settings.split),
        kept,
    )
    results["multiple_choice"] = before.get("multiple_choice", {})
    with atomic_file(run.eval_dir / REPORT_NAME) as file:
        file.write(make_page(results, measured.samples))
    write_json(run.results_path, results)
    return results
