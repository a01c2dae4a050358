"""The work of ``medqa eval``: measures models on a held-out split and writes samples, figures and the report.

Does not load models (``models``), compute figures (``results``) or show anything (``report``, ``page``).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medqa_cli import console, ranks
from medqa_cli.config.sections import EvalConfig, GenerateConfig, ModelConfig
from medqa_cli.data.dataset import QaRow, iterate_split, read_split
from medqa_cli.data.dedup import fold
from medqa_cli.errors import InputError, Interrupted
from medqa_cli.evaluation.choice_figures import predictions
from medqa_cli.evaluation.choice_scoring import score_choices
from medqa_cli.evaluation.contamination import contaminated
from medqa_cli.evaluation.floors import floor_answers, swapped_references
from medqa_cli.evaluation.generation import BATCHES_PER_FORWARD, GeneratedAnswer, generate_answers
from medqa_cli.evaluation.likelihood import score_likelihood, unigram_scores
from medqa_cli.evaluation.metrics import LIKELIHOOD, text_metrics
from medqa_cli.evaluation.models import MODEL_NAMES, ModelSet
from medqa_cli.evaluation.multiple_choice import ChoiceItem, read_choice_file
from medqa_cli.evaluation.output import write_all
from medqa_cli.evaluation.progress import Progress
from medqa_cli.evaluation.results import ChoiceResults, Measured, Statistics, floor_sample, make_results
from medqa_cli.evaluation.samples import Sample
from medqa_cli.model.adapter import base_of_adapter
from medqa_cli.model.base import load_tokenizer
from medqa_cli.model.scoring import AnswerScore
from medqa_cli.prompt import IGNORE_INDEX, Example, PromptContract, PromptEncoder
from medqa_cli.run_folder import TRAIN_SHA256, RunFolder, recorded_settings, sha256_of_file
from medqa_cli.training.examples import encode_rows, evenly_spaced

UNIGRAM = "unigram"
# On a CPU a small model writes some ten tokens a second in each answer of a batch.
_MANY_ANSWERS = 50


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
    generate: GenerateConfig = field(default_factory=GenerateConfig)


@dataclass(frozen=True)
class _Questions:
    """What is asked; ``references`` and ``swapped`` in the order of the rows."""

    rows: list[QaRow]
    examples: list[Example]
    answer_bytes: list[int]
    references: list[tuple[str, ...]]
    swapped: list[str | None]


def evaluate(job: EvalJob) -> dict[str, Any]:
    """Measure the models and write ``samples.jsonl``, ``results.json`` and the other files of the evaluation.

    A run that was interrupted goes on where it was.

    Returns:
        The content of ``results.json``.

    Raises:
        InputError: an unknown model name, no data, or no adapter.
    """
    unknown = [name for name in job.models if name not in MODEL_NAMES]
    if unknown or not job.models:
        raise InputError(f"--model: unknown model {', '.join(unknown) or '(none)'}", f"known: {', '.join(MODEL_NAMES)}")
    rows = _rows(job)
    items = _choice_items(job.settings)
    models = ModelSet(job.run, job.model)
    models.require(job.models)
    base_of_adapter(job.run.adapter_dir)
    encoder = PromptEncoder(PromptContract.load(job.run.adapter_dir), load_tokenizer(str(job.run.adapter_dir)))
    questions = _encode(rows, evenly_spaced(rows, job.limit), encoder, job.model.max_length)
    with Progress(job.run.eval_dir, _fingerprint(job, questions, items)) as progress:
        if progress.num_done:
            console.note(f"going on with an interrupted evaluation: {progress.num_done} pieces of work are done")
        try:
            likelihoods, choices = _likelihoods(job, models, questions, items, progress)
            answers = _answers(job, models, encoder, questions, progress)
        except KeyboardInterrupt:
            kept = f"interrupted; {progress.num_done} finished pieces of work are kept"
            raise Interrupted(kept, "go on by giving the same command again") from None
        results = ranks.from_main(lambda: _write(job, encoder, questions, likelihoods, choices, answers))
        progress.finish()
    return results


def _write(
    job: EvalJob,
    encoder: PromptEncoder,
    questions: _Questions,
    likelihoods: dict[str, list[AnswerScore]],
    choices: dict[str, ChoiceResults],
    answers: dict[str, list[GeneratedAnswer]],
) -> dict[str, Any]:
    """Compute the figures and write all files; returns the content of ``results.json``."""
    samples = {name: _samples(name, questions, likelihoods.get(name), answers.get(name)) for name in job.models}
    measured = Measured(samples, _floors(job, encoder, questions), choices)
    statistics = Statistics(job.settings.bootstrap_draws, job.seed)
    results = make_results(measured, job.settings.metric_names, statistics, job.settings.split, _settings(job))
    write_all(job.run, measured, results)
    return results


def _choice_items(settings: EvalConfig) -> dict[str, list[ChoiceItem]]:
    items: dict[str, list[ChoiceItem]] = {}
    for own in settings.multiple_choice:
        if own.name in items:
            raise InputError(f"eval.multiple_choice names two files {own.name}", "give each its own name")
        items[own.name] = read_choice_file(Path(own.path))
    return items


def _rows(job: EvalJob) -> list[QaRow]:
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
    return rows


def _encode(split: list[QaRow], rows: list[QaRow], encoder: PromptEncoder, max_length: int) -> _Questions:
    examples = encoder.encode_examples([row.question for row in rows], [row.answer for row in rows], max_length)
    kept = [(row, example) for row, example in zip(rows, examples, strict=True) if example.num_answer_tokens]
    if not kept:
        raise InputError("no question leaves room for an answer", "raise model.max_length")
    if len(kept) < len(rows):
        console.warn(f"{len(rows) - len(kept)} questions fill model.max_length by themselves and are not scored")
    # References and swapped references come from the whole split, however few of its questions are asked.
    answers: dict[str, list[str]] = {}
    for row in split:
        answers.setdefault(fold(row.question), []).append(row.answer)
    swapped = dict(zip((row.id for row in split), swapped_references(split), strict=True))
    return _Questions(
        rows=[row for row, _ in kept],
        examples=[example for _, example in kept],
        answer_bytes=[_scored_bytes(row, example, encoder) for row, example in kept],
        references=[tuple(dict.fromkeys([row.answer, *answers[fold(row.question)]])) for row, _ in kept],
        swapped=[swapped[row.id] for row, _ in kept],
    )


def _scored_bytes(row: QaRow, example: Example, encoder: PromptEncoder) -> int:
    if not example.truncated:
        return len(row.answer.encode())
    return len(encoder.decode_answer([label for label in example.labels if label != IGNORE_INDEX]).encode())


def _likelihoods(
    job: EvalJob,
    models: ModelSet,
    questions: _Questions,
    items: dict[str, list[ChoiceItem]],
    progress: Progress,
) -> tuple[dict[str, list[AnswerScore]], dict[str, ChoiceResults]]:
    wants_scores = bool(set(job.settings.metric_names) & set(LIKELIHOOD))
    scores: dict[str, list[AnswerScore]] = {}
    predicted: dict[str, dict[str, list[int]]] = {name: {} for name in items}
    if wants_scores or items:
        tokenizer = load_tokenizer(str(job.run.adapter_dir))
        for loaded in models.each(job.models, packed=True):
            if wants_scores:
                scores[loaded.name] = score_likelihood(loaded, questions.examples, job.settings.batch_size, progress)
            for name, own in items.items():
                predicted[name][loaded.name] = predictions(score_choices(loaded, tokenizer, name, own, progress))
    return scores, {name: _choice_results(job, own, predicted[name]) for name, own in items.items()}


def _choice_results(job: EvalJob, items: Sequence[ChoiceItem], predicted: dict[str, list[int]]) -> ChoiceResults:
    seen = contaminated([item.question for item in items], iterate_split(job.data_dir, "train"))
    return ChoiceResults(
        items[0].choices,
        tuple(item.gold for item in items),
        {model: predicted[model] for model in job.models},
        tuple(item.id for item in items),
        frozenset(item.id for item, is_seen in zip(items, seen, strict=True) if is_seen),
    )


def _answers(
    job: EvalJob, models: ModelSet, encoder: PromptEncoder, questions: _Questions, progress: Progress
) -> dict[str, list[GeneratedAnswer]]:
    if not text_metrics(job.settings.metric_names):
        return {}
    # Rows with the same question get the same answer.
    asked = list(dict.fromkeys(row.question for row in questions.rows))
    if len(asked) * len(job.models) > _MANY_ANSWERS:
        console.note(
            f"{len(asked)} questions x {len(job.models)} models, up to {job.generate.max_new_tokens} tokens an answer; "
            "an interrupted run goes on. Faster: --limit N, or --set 'eval.metrics=[nll, bits_per_byte]'"
        )
    batch_size = job.settings.batch_size * BATCHES_PER_FORWARD
    answers = {}
    for loaded in models.each(job.models, packed=False):
        own = generate_answers(loaded, encoder, asked, job.generate, batch_size, progress)
        by_question = dict(zip(asked, own, strict=True))
        answers[loaded.name] = [by_question[row.question] for row in questions.rows]
    return answers


def _samples(
    name: str,
    questions: _Questions,
    scores: Sequence[AnswerScore] | None,
    answers: Sequence[GeneratedAnswer] | None,
) -> list[Sample]:
    samples = []
    for place, row in enumerate(questions.rows):
        score = scores[place] if scores is not None else None
        answer = answers[place] if answers is not None else None
        samples.append(
            Sample(
                id=row.id,
                topic=row.topic,
                model=name,
                question=row.question,
                references=questions.references[place],
                swap_reference=questions.swapped[place],
                nll_sum=score.nll_sum if score else None,
                answer_tokens=score.num_tokens if score else None,
                answer_bytes=questions.answer_bytes[place] if score else None,
                truncated=questions.examples[place].truncated,
                answer=answer.text if answer else None,
                finish_reason=answer.finish_reason if answer else None,
                generated_tokens=answer.num_tokens if answer else None,
            )
        )
    return samples


def _floors(job: EvalJob, encoder: PromptEncoder, questions: _Questions) -> dict[str, list[Sample]]:
    train = read_split(job.data_dir, "train")
    floors: dict[str, list[Sample]] = {}
    if set(job.settings.metric_names) & set(LIKELIHOOD):
        encoded = encode_rows(train, encoder, job.model.max_length)
        scores = unigram_scores(encoded.examples, questions.examples, encoder.vocabulary_size)
        floors[UNIGRAM] = _samples(UNIGRAM, questions, scores, None)
    if text_metrics(job.settings.metric_names) and train:
        plain = _samples("", questions, None, None)
        for name, answers in floor_answers(train, questions.rows, job.seed).items():
            floors[name] = [floor_sample(sample, name, text) for sample, text in zip(plain, answers, strict=True)]
    return floors


def _settings(job: EvalJob) -> dict[str, Any]:
    return {
        "limit": job.limit,
        "metrics": list(job.settings.metric_names),
        "max_length": job.model.max_length,
        "quantization": job.model.quantization,
        "double_quantization": job.model.double_quantization,
        "compute_dtype": job.model.compute_dtype,
        "max_new_tokens": job.generate.max_new_tokens,
        "decoding": "greedy",
        "repetition_penalty": job.generate.repetition_penalty,
        "no_repeat_ngram_size": job.generate.no_repeat_ngram_size,
    }


def _fingerprint(job: EvalJob, questions: _Questions, items: dict[str, list[ChoiceItem]]) -> dict[str, Any]:
    """Return all that pieces of work depend on; another value of any makes an interrupted run start anew."""
    folders = [job.run.adapter_dir, job.run.merged_dir] if "merged" in job.models else [job.run.adapter_dir]
    weights = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]
    return {
        "settings": _settings(job) | {"limit": None, "metrics": None},
        "batch_size": job.settings.batch_size,
        "model": asdict(job.model),
        "examples": [example.input_ids for example in questions.examples],
        "multiple_choice": {name: [asdict(item) for item in own] for name, own in items.items()},
        "weights": {str(path): _identity(path) for path in weights},
        "packages": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }


def _identity(path: Path) -> list[int]:
    # Merged weights may be many gigabytes: size and time stand for their content.
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
