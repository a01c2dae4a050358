"""The work of ``medqa eval``: measures models on a held-out split and writes samples, figures and the report.

Does not load models (``models``), compute figures (``results``) or show anything (``report``, ``html_report``).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medqa_cli import console, distributed, hub
from medqa_cli.config.schema import EvalConfig, GenerateConfig, ModelConfig
from medqa_cli.data.dataset import QaRow, encode_rows, evenly_spaced, iterate_split, read_split
from medqa_cli.environment import TRAIN_SHA256, recorded_settings
from medqa_cli.errors import InputError, Interrupted
from medqa_cli.evaluation.baselines import UNIGRAM, baseline_answers, baseline_sample, unigram_scores
from medqa_cli.evaluation.generation import GeneratedAnswer, generate_answers, score_likelihood
from medqa_cli.evaluation.metrics import in_group, text_metrics
from medqa_cli.evaluation.models import MODEL_NAMES, ModelSet
from medqa_cli.evaluation.multiple_choice import ChoiceItem, contaminated, predictions, read_choice_file, score_choices
from medqa_cli.evaluation.openai_client import PREFIX, SERVED, ServedModel, connect, served_answers
from medqa_cli.evaluation.output import write_all
from medqa_cli.evaluation.questions import Questions, make_questions
from medqa_cli.evaluation.results import ChoiceResults, Measured, Statistics, make_results
from medqa_cli.evaluation.samples import Sample
from medqa_cli.files import RunFolder, sha256_of_file
from medqa_cli.journal import SharedJournal
from medqa_cli.model.load import base_of_adapter, load_config, load_tokenizer, num_embeddings
from medqa_cli.model.scoring import AnswerScore
from medqa_cli.prompt.encoder import PromptContract, PromptEncoder

# On a CPU a small model writes some ten tokens a second in each answer of a batch.
_MANY_ANSWERS = 50


@dataclass(frozen=True)
class EvalJob:
    """What one evaluation needs. ``system``: the system line for a server; the others have it in their contract."""

    run: RunFolder
    data_dir: Path
    model: ModelConfig
    settings: EvalConfig
    seed: int
    models: tuple[str, ...]
    limit: int | None
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    system: str | None = None


def evaluate(job: EvalJob) -> dict[str, Any]:
    """Measure the models and write ``samples.jsonl``, ``results.json`` and the other files of the evaluation.

    A run that was interrupted goes on where it was.

    Returns:
        The content of ``results.json``.

    Raises:
        InputError: an unknown model name, no data, or no adapter.
    """
    hub.name_repository(job.model.name_or_path)
    local, addresses = _local_and_served(job.models)
    rows = _rows(job)
    items = _choice_items(job.settings)
    models = ModelSet(job.run, job.model)
    models.require(local)
    if addresses and not text_metrics(job.settings.metric_names):
        raise InputError("of a served model only answers can be measured", "set eval.metrics to all, or leave it out")
    served = connect(addresses[0], job.system) if addresses else None
    encoder = _encoder(job) if local else None
    questions = make_questions(rows, evenly_spaced(rows, job.limit), encoder, job.model.max_length)
    job = replace(job, models=(*local, *([SERVED] if served else [])))
    with SharedJournal(job.run.eval_dir, _fingerprint(job, served, questions, items)) as journal:
        if journal.num_done:
            console.note(f"going on with an interrupted evaluation: {journal.num_done} pieces of work are done")
        try:
            likelihoods, choices = _likelihoods(job, local, models, questions, items, journal)
            answers = {} if encoder is None else _answers(job, local, models, encoder, questions, journal)
            if served is not None:
                answers[SERVED] = _by_row(questions, served_answers(served, questions.texts, job.generate, journal))
        except KeyboardInterrupt:
            kept = f"interrupted; {journal.num_done} finished pieces of work are kept"
            raise Interrupted(kept, "go on by giving the same command again") from None
        results = distributed.from_main(lambda: _write(job, encoder, questions, likelihoods, choices, answers))
        journal.finish()
    return results


def _local_and_served(names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Tell models that are loaded here from addresses of servers."""
    addresses = [name for name in names if name.startswith(PREFIX)]
    local = tuple(name for name in names if name not in addresses)
    unknown = [name for name in local if name not in MODEL_NAMES]
    if unknown or not names:
        known = f"known: {', '.join(MODEL_NAMES)}, or {PREFIX}URL of a server"
        raise InputError(f"--model: unknown model {', '.join(unknown) or '(none)'}", known)
    if len(addresses) > 1:
        raise InputError("--model names two servers", "measure one after the other, each with a run_dir of its own")
    return local, addresses


def _encoder(job: EvalJob) -> PromptEncoder:
    base = base_of_adapter(job.run.adapter_dir)
    contract, tokenizer = PromptContract.load(job.run.adapter_dir), load_tokenizer(str(job.run.adapter_dir))
    return PromptEncoder(contract, tokenizer, num_embeddings(load_config(base.location, base.revision)))


def _write(
    job: EvalJob,
    encoder: PromptEncoder | None,
    questions: Questions,
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


def _likelihoods(
    job: EvalJob,
    local: tuple[str, ...],
    models: ModelSet,
    questions: Questions,
    items: dict[str, list[ChoiceItem]],
    journal: SharedJournal,
) -> tuple[dict[str, list[AnswerScore]], dict[str, ChoiceResults]]:
    wants_scores = bool(set(job.settings.metric_names) & set(in_group("likelihood")))
    scores: dict[str, list[AnswerScore]] = {}
    predicted: dict[str, dict[str, list[int]]] = {name: {} for name in items}
    if SERVED in job.models and (wants_scores or items):
        console.note("likelihood and multiple choice need the weights: not measured for the served model")
    if local and (wants_scores or items):
        tokenizer = load_tokenizer(str(job.run.adapter_dir))
        for loaded in models.each(local, packed=True):
            if wants_scores:
                scores[loaded.name] = score_likelihood(loaded, questions.examples, job.settings.batch_size, journal)
            for name, own in items.items():
                predicted[name][loaded.name] = predictions(score_choices(loaded, tokenizer, name, own, journal))
    if not local:
        return scores, {}
    return scores, {name: _choice_results(job, own, predicted[name]) for name, own in items.items()}


def _choice_results(job: EvalJob, items: Sequence[ChoiceItem], predicted: dict[str, list[int]]) -> ChoiceResults:
    seen = contaminated([item.question for item in items], iterate_split(job.data_dir, "train"))
    return ChoiceResults(
        items[0].choices,
        tuple(item.gold for item in items),
        {model: predicted[model] for model in job.models if model in predicted},
        tuple(item.id for item in items),
        frozenset(item.id for item, is_seen in zip(items, seen, strict=True) if is_seen),
    )


def _answers(
    job: EvalJob,
    local: tuple[str, ...],
    models: ModelSet,
    encoder: PromptEncoder,
    questions: Questions,
    journal: SharedJournal,
) -> dict[str, list[GeneratedAnswer]]:
    if not text_metrics(job.settings.metric_names):
        return {}
    asked = questions.texts
    if len(asked) * len(local) > _MANY_ANSWERS:
        console.note(
            f"{len(asked)} questions x {len(local)} models, up to {job.generate.max_new_tokens} tokens an answer; "
            "an interrupted run goes on. Faster: --limit N, or --set 'eval.metrics=[nll, bits_per_byte]'"
        )
    return {
        loaded.name: _by_row(questions, generate_answers(loaded, encoder, asked, job.generate, journal))
        for loaded in models.each(local, packed=False)
    }


def _by_row(questions: Questions, answers: Sequence[GeneratedAnswer]) -> list[GeneratedAnswer]:
    by_question = dict(zip(questions.texts, answers, strict=True))
    return [by_question[row.question] for row in questions.rows]


def _samples(
    name: str,
    questions: Questions,
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
                truncated=bool(score) and questions.examples[place].truncated,
                answer=answer.text if answer else None,
                finish_reason=answer.finish_reason if answer else None,
                generated_tokens=answer.num_tokens if answer else None,
            )
        )
    return samples


def _floors(job: EvalJob, encoder: PromptEncoder | None, questions: Questions) -> dict[str, list[Sample]]:
    train = read_split(job.data_dir, "train")
    floors: dict[str, list[Sample]] = {}
    if encoder is not None and set(job.settings.metric_names) & set(in_group("likelihood")):
        encoded = encode_rows(train, encoder, job.model.max_length)
        scores = unigram_scores(encoded.examples, questions.examples, encoder.vocabulary_size)
        floors[UNIGRAM] = _samples(UNIGRAM, questions, scores, None)
    if text_metrics(job.settings.metric_names) and train:
        plain = _samples("", questions, None, None)
        for name, answers in baseline_answers(train, questions.rows, job.seed).items():
            floors[name] = [baseline_sample(sample, name, text) for sample, text in zip(plain, answers, strict=True)]
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


def _fingerprint(
    job: EvalJob, served: ServedModel | None, questions: Questions, items: dict[str, list[ChoiceItem]]
) -> dict[str, Any]:
    """Return all that pieces of work depend on; another value of any makes an interrupted run start anew."""
    folders = [job.run.adapter_dir, job.run.merged_dir] if "merged" in job.models else [job.run.adapter_dir]
    weights = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]
    return {
        "settings": _settings(job) | {"limit": None, "metrics": None},
        "batch_size": job.settings.batch_size,
        "model": asdict(job.model),
        "questions": questions.texts,
        "examples": [example.input_ids for example in questions.examples],
        "served": None if served is None else asdict(served),
        "multiple_choice": {name: [asdict(item) for item in own] for name, own in items.items()},
        "weights": {str(path): _identity(path) for path in weights},
        "packages": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }


def _identity(path: Path) -> list[int]:
    # Merged weights may be many gigabytes: size and time stand for their content.
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
