"""The results of the last evaluation, read again: computed anew, or shown with what clinicians said since."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError
from medqa_cli.evaluation.gate import Condition, with_gate
from medqa_cli.evaluation.memorization.section import is_sound, with_memorization
from medqa_cli.evaluation.results import FLOORS_NAME, SAMPLES_NAME, make_results, write_figures, write_page
from medqa_cli.evaluation.samples import read_samples
from medqa_cli.files import RunFolder, locked, read_json


def rescore(
    config: Config,
    models: Sequence[str] | None,
    conditions: Sequence[Condition] = (),
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Compute all metrics again from the saved samples; neither models nor data are needed.

    Multiple-choice results and what was memorized are kept: they are not of the samples.

    Args:
        config: the run, metrics and draws; metrics that the samples cannot give are left out.
        models: those to report; None: all that were measured.
        conditions: of ``--fail-on``.
        options: those of the command line that name the config, for results that do not say so themselves.

    Raises:
        InputError: nothing was measured yet, one of the models was not, or an evaluation of the run is running.
    """
    run = config.run
    with locked(run.eval_dir, "medqa eval", make=False):
        before = _results_before(run.results_path)
        samples = read_samples(run.eval_dir / SAMPLES_NAME)
        missing = [name for name in models or () if name not in samples]
        if missing:
            raise InputError(
                f"--rescore: {run.eval_dir / SAMPLES_NAME} holds no samples of {', '.join(missing)}",
                f"it holds those of {', '.join(samples)}; measure the others: medqa eval",
            )
        floors_path = run.eval_dir / FLOORS_NAME
        floors = read_samples(floors_path) if floors_path.is_file() and floors_path.stat().st_size else {}
        ids = [sample.id for sample in next(iter(samples.values()))]
        if any([sample.id for sample in floor] != ids for floor in floors.values()):
            raise InputError(f"{floors_path} is about other questions than the samples", "measure again: medqa eval")
        chosen = {name: samples[name] for name in models or samples}
        settings = {**before.get("settings", {}), "metrics": list(config.eval.metric_names)}
        kept = {"leakage": before.get("leakage"), "options": before.get("options", list(options))}
        results = make_results(chosen, floors, {}, config.eval, config.seed, settings)
        results["split"] = before.get("split", config.eval.split)
        results["multiple_choice"] = before.get("multiple_choice", {})
        results = with_memorization(results, before.get("memorization", {}), config.eval.metric_names)
        if not any(results["models"].values()) and not results["multiple_choice"]:
            raise InputError(
                f"--rescore: {run.eval_dir / SAMPLES_NAME} holds nothing that eval.metrics measure",
                f"measure them: medqa eval; they are {', '.join(config.eval.metric_names)}",
            )
        results = with_gate(results | kept, conditions)
        write_figures(run, chosen, results)
        return results


def show_review(run: RunFolder) -> None:
    """Write the page of the last evaluation again, with what the clinicians said (``review/results.json``).

    Raises:
        InputError: the samples or the results of the evaluation are damaged.
    """
    samples = read_samples(run.eval_dir / SAMPLES_NAME)
    if results := _results_before(run.results_path):
        measured = results.get("models", {})
        write_page(run, {name: of_model for name, of_model in samples.items() if name in measured} or samples, results)


def _results_before(path: Path) -> dict[str, Any]:
    """Return the results of the evaluation, of which some are kept; empty where there are none."""

    def are_figures(choices: Any) -> bool:
        kinds: list[Any] = (
            [choices.get(kind) for kind in ("models", "floors", "differences")] if isinstance(choices, dict) else []
        )
        if not kinds or not all(isinstance(kind, dict) for kind in kinds) or not isinstance(choices.get("items"), int):
            return False
        by_name = [figures for kind in kinds for figures in kind.values()]
        return all(isinstance(figures, dict) for figures in by_name) and all(
            name == "choice" or (isinstance(figure, dict) and isinstance(figure.get("value"), int | float))
            for figures in by_name
            for name, figure in figures.items()
        )

    def are_counts(leakage: Any) -> bool:
        return leakage is None or (
            isinstance(leakage, dict) and all(count is None or type(count) is int for count in leakage.values())
        )

    def are_options(options: Any) -> bool:
        return isinstance(options, list) and len(options) % 2 == 0 and all(isinstance(word, str) for word in options)

    before = read_json(path) if path.is_file() else {}
    choices = before.get("multiple_choice", {}) if isinstance(before, dict) else None
    if not (
        isinstance(choices, dict)
        and isinstance(before.get("settings", {}), dict)
        and isinstance(before.get("split", ""), str)
        and are_counts(before.get("leakage"))
        and are_options(before.get("options", []))
        and all(map(are_figures, choices.values()))
        and is_sound(before.get("memorization", {"figures": {}, "differences": {}, "sentences": {}}))
    ):
        raise InputError(f"{path} is damaged: not the results of an evaluation", "measure again: medqa eval")
    return before
