"""The work of ``medqa eval``, first form: answer likelihood on a held-out split, with intervals and a floor.

Does not show anything (``report``).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.config.sections import EvalConfig, ModelConfig
from medqa_cli.data.dataset import QaRow, read_split
from medqa_cli.data.dedup import fold
from medqa_cli.errors import InputError
from medqa_cli.evaluation.likelihood import MODEL_NAMES, Scorer, unigram_scores
from medqa_cli.evaluation.statistics import ClusterBootstrap, Estimate, as_json, better_of
from medqa_cli.model.scoring import AnswerScore
from medqa_cli.prompt import IGNORE_INDEX, Example, PromptEncoder
from medqa_cli.run_folder import TRAIN_SHA256, RunFolder, atomic_file, recorded_settings, sha256_of_file, write_json
from medqa_cli.training.examples import encode_rows, evenly_spaced

FLOOR = "unigram"


@dataclass(frozen=True)
class EvalJob:
    """What one evaluation needs."""

    run: RunFolder
    data_dir: Path
    model: ModelConfig
    settings: EvalConfig
    seed: int
    models: tuple[str, ...]
    limit: int | None


@dataclass(frozen=True)
class _Questions:
    rows: list[QaRow]
    examples: list[Example]
    answer_bytes: list[int]


def evaluate(job: EvalJob) -> dict[str, Any]:
    """Score the split under each model and write ``samples.jsonl`` and ``results.json``.

    Returns:
        The content of ``results.json``.

    Raises:
        InputError: an unknown model name, no data, or no adapter.
    """
    unknown = [name for name in job.models if name not in MODEL_NAMES]
    if unknown or not job.models:
        raise InputError(f"--model: unknown model {', '.join(unknown) or '(none)'}", f"known: {', '.join(MODEL_NAMES)}")
    rows = read_split(job.data_dir, job.settings.split)
    if not rows:
        raise InputError(
            f"the {job.settings.split} split of {job.data_dir} is empty", "set eval.split, or convert again"
        )
    trained_on = recorded_settings(job.run).get(TRAIN_SHA256)
    if trained_on not in (None, sha256_of_file(job.data_dir / "train.jsonl")):
        console.warn(
            f"{job.data_dir} was converted anew since {job.run.path} was trained: the {job.settings.split} split may "
            "hold questions that were trained on"
        )
    scorer = Scorer(job.run, job.model, job.settings.batch_size)
    encoder = scorer.load_encoder()
    questions = _encode(evenly_spaced(rows, job.limit), encoder, job.model.max_length)
    scores = scorer.score(job.models, questions.examples)
    train = encode_rows(read_split(job.data_dir, "train"), encoder, job.model.max_length)
    floor = unigram_scores(train.examples, questions.examples, encoder.vocabulary_size)
    results = _results(job, questions, scores, floor)
    _write_samples(job.run.eval_dir / "samples.jsonl", questions, scores)
    write_json(job.run.results_path, results)
    return results


def _encode(rows: list[QaRow], encoder: PromptEncoder, max_length: int) -> _Questions:
    examples = encoder.encode_examples([row.question for row in rows], [row.answer for row in rows], max_length)
    kept = [(row, example) for row, example in zip(rows, examples, strict=True) if example.num_answer_tokens]
    if not kept:
        raise InputError("no question leaves room for an answer", "raise model.max_length")
    if len(kept) < len(rows):
        console.warn(f"{len(rows) - len(kept)} questions fill model.max_length by themselves and are not scored")
    return _Questions(
        rows=[row for row, _ in kept],
        examples=[example for _, example in kept],
        answer_bytes=[_scored_bytes(row, example, encoder) for row, example in kept],
    )


def _scored_bytes(row: QaRow, example: Example, encoder: PromptEncoder) -> int:
    if not example.truncated:
        return len(row.answer.encode())
    return len(encoder.decode_answer([label for label in example.labels if label != IGNORE_INDEX]).encode())


def _results(
    job: EvalJob, questions: _Questions, scores: dict[str, list[AnswerScore]], floor: list[AnswerScore]
) -> dict[str, Any]:
    clusters = [row.topic or fold(row.question) for row in questions.rows]
    bootstrap = ClusterBootstrap(clusters, job.settings.bootstrap_draws, job.seed)
    bits = [size * math.log(2) for size in questions.answer_bytes]

    def parts(metric: str, own: list[AnswerScore]) -> tuple[list[float], list[float]]:
        tokens = [float(score.num_tokens) for score in own]
        return [score.nll_sum for score in own], tokens if metric == "nll" else bits

    def figures(own: list[AnswerScore]) -> dict[str, Any]:
        return {metric: as_json(bootstrap.ratio(*parts(metric, own))) for metric in job.settings.metrics}

    differences: dict[str, Any] = {}
    for name in job.models:
        if name != "base" and "base" in scores:
            differences[f"{name}-base"] = {}
            for metric in job.settings.metrics:
                found = bootstrap.ratio_difference(parts(metric, scores[name]), parts(metric, scores["base"]))
                verdict = _verdict(found, bootstrap.num_clusters)
                differences[f"{name}-base"][metric] = {**as_json(found), "better": verdict}
    return {
        "split": job.settings.split,
        "questions": len(questions.rows),
        "topics": len({row.topic for row in questions.rows if row.topic}) or None,
        "models": {name: figures(own) for name, own in scores.items()},
        "floors": {FLOOR: figures(floor)},
        "differences": differences,
        "settings": _settings(job, questions, bootstrap),
    }


def _verdict(found: Estimate, num_clusters: int) -> bool | None:
    # One cluster is the same in every draw: its interval has no width and shows nothing.
    return better_of(found, lower_is_better=True) if num_clusters > 1 else None


def _settings(job: EvalJob, questions: _Questions, bootstrap: ClusterBootstrap) -> dict[str, Any]:
    return {
        "limit": job.limit,
        "answer_tokens": sum(example.num_answer_tokens for example in questions.examples),
        "num_truncated_answers": sum(example.truncated for example in questions.examples),
        "clusters": bootstrap.num_clusters,
        "bootstrap_draws": job.settings.bootstrap_draws,
        "seed": job.seed,
        "max_length": job.model.max_length,
        "quantization": job.model.quantization,
        "double_quantization": job.model.double_quantization,
        "compute_dtype": job.model.compute_dtype,
    }


def _write_samples(path: Path, questions: _Questions, scores: dict[str, list[AnswerScore]]) -> None:
    with atomic_file(path) as file:
        for name, own in scores.items():
            for row, score in zip(questions.rows, own, strict=True):
                sample = {
                    "id": row.id,
                    "topic": row.topic,
                    "model": name,
                    "nll_sum": score.nll_sum,
                    "answer_tokens": score.num_tokens,
                }
                file.write(json.dumps(sample, ensure_ascii=False) + "\n")
