"""What an evaluation depends on: the settings that ``results.json`` names, and all that finished work rests on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from medqa_cli.answering import engines
from medqa_cli.config.schema import Config
from medqa_cli.evaluation.arms import Arm
from medqa_cli.evaluation.memorization.measure import Search
from medqa_cli.evaluation.metrics import text_metrics
from medqa_cli.evaluation.multiple_choice import ChoiceItem
from medqa_cli.evaluation.openai_client import ServedModel
from medqa_cli.evaluation.samples import Questions
from medqa_cli.prompt.encoder import PromptEncoder

_FILES_OF_A_MODEL = (".safetensors", ".bin", ".gguf", ".json")


def named_settings(
    config: Config, limit: int | None, encoder: PromptEncoder | None, arms: Mapping[str, Arm]
) -> dict[str, Any]:
    """Return the settings that ``results.json`` names; ``arms``: of models that got sources."""
    settings: dict[str, Any] = {
        "limit": limit,
        "metrics": list(config.eval.metric_names),
        "memorization_rows": config.eval.memorization_rows,
        "max_length": config.model.max_length,
        "quantization": config.model.quantization,
        "double_quantization": config.model.double_quantization,
        "compute_dtype": config.model.compute_dtype,
        "max_new_tokens": config.generate.max_new_tokens,
        "decoding": "greedy",
        "loop_retries": config.generate.loop_retries,
        "repetition_penalty": config.generate.repetition_penalty,
        "no_repeat_ngram_size": config.generate.no_repeat_ngram_size,
    }
    if encoder is not None and arms:
        text = encoder.contract.text
        settings |= {"open_book": True, "sources": text.sources, "source_tokens": text.source_tokens}
        settings["declined_by_titles"] = {name: fmean(arm.nothing_answers) for name, arm in arms.items()}
    return settings


def fingerprint_of(
    config: Config,
    local: Sequence[str],
    folders: Sequence[Path],
    served: ServedModel | None,
    questions: Questions,
    arms: Mapping[str, Arm],
    items: Mapping[str, Sequence[ChoiceItem]],
    search: Search | None,
) -> dict[str, Any]:
    """Return everything that pieces of work depend on; if any of it changes, an interrupted run starts again.

    ``local``: the models that are loaded here, ``folders`` theirs; a base from the hub has none, its revision stands
    for it.
    """
    weights = [path for folder in folders for path in sorted(folder.glob("*")) if path.suffix in _FILES_OF_A_MODEL]
    fingerprint = {
        "settings": named_settings(config, None, None, {}) | {"metrics": None},
        "batch_size": config.eval.batch_size,
        "model": asdict(config.model),
        "questions": [given.before(question) for question, given in questions.asked],
        "examples": [example.input_ids for example in questions.examples],
        "arms": {name: [[asdict(p) for p in shown] for shown in arm.passages] for name, arm in arms.items()},
        "served": None if served is None else asdict(served),
        "multiple_choice": {name: [asdict(item) for item in of_set] for name, of_set in items.items()},
        "memorization": None if search is None else search.fingerprint(),
        # Weights may be many gigabytes: size and time stand for their content.
        "weights": {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in weights},
        "packages": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }
    if local and text_metrics(config.eval.metric_names):
        fingerprint["answered_by"] = [config.generate.engine, engines.llama_files(config, local)]
    return fingerprint
