"""What ``medqa eval`` does once its options are read: measure or score again, show, and hold the gate.

Does not parse the command line: ``cli`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medqa_cli import console, distributed
from medqa_cli.config.schema import EvalConfig, GenerateConfig, ModelConfig, PromptConfig
from medqa_cli.evaluation.gate import Condition, check_gate, require_measured
from medqa_cli.files import RunFolder

DEFAULT_MODELS = ("adapter", "base")
REPORT_NAME = "report.html"


@dataclass(frozen=True)
class EvalOptions:
    """The options of the command; ``models``: None where none were named."""

    models: tuple[str, ...] | None
    limit: int | None
    conditions: Sequence[Condition]
    rescore: bool


def model_names(text: str | None) -> tuple[str, ...] | None:
    """Split ``--model``; None where it was not given."""
    return None if text is None else tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def needs_adapter(models: tuple[str, ...] | None) -> bool:
    """Tell whether any of the models is loaded here, which takes the run's adapter for its prompt."""
    return models is None or not models or any(not name.startswith("openai:") for name in models)


def run_eval(
    run: RunFolder,
    data_dir: Path,
    model: ModelConfig,
    settings: EvalConfig,
    generate: GenerateConfig,
    prompt: PromptConfig,
    seed: int,
    options: EvalOptions,
) -> None:
    """Measure or score again, show the figures, then fail if a condition of the gate holds.

    Raises:
        InputError: see ``run.evaluate`` and ``output.rescore``; or a condition names what was not measured.
        MedqaError: a condition of the gate holds.
    """
    from medqa_cli.evaluation import report

    if options.rescore:
        from medqa_cli.evaluation.output import rescore

        # By one rank, as no other file is written by several.
        results = distributed.from_main(lambda: rescore(run, settings, seed, options.models))
    else:
        from medqa_cli.evaluation.run import EvalJob, evaluate

        require_measured(options.conditions, settings.metric_names, [own.name for own in settings.multiple_choice])
        models = DEFAULT_MODELS if options.models is None else options.models
        results = evaluate(
            EvalJob(run, data_dir, model, settings, seed, models, options.limit, generate, prompt.system)
        )
    console.result(results, lambda: report.show(results, run.results_path, run.eval_dir / REPORT_NAME))
    check_gate(options.conditions, results)
