"""What an evaluation measures, what finished work of it rests on, and the measuring itself."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from medqa_cli import console
from medqa_cli.answering import engines
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import iterate_split
from medqa_cli.evaluation.arms import Arm, arm_samples, without_marks_of
from medqa_cli.evaluation.generation import each_answerer, each_model, generate_answers, score_likelihood
from medqa_cli.evaluation.memorization.measure import Search
from medqa_cli.evaluation.metrics import in_group, text_metrics
from medqa_cli.evaluation.multiple_choice import ChoiceItem, contaminated, predictions, score_choices
from medqa_cli.evaluation.openai_client import SERVED, ServedModel, served_answers
from medqa_cli.evaluation.results import ChoiceResults
from medqa_cli.evaluation.samples import GREEDY, GeneratedAnswer, Questions, Sample, samples_of
from medqa_cli.journal import SharedJournal
from medqa_cli.model.gguf_model import OF_RUN
from medqa_cli.model.kernels.packing import AnswerScore
from medqa_cli.model.load import load_tokenizer
from medqa_cli.prompt.encoder import PromptEncoder

_FILES_OF_A_MODEL = (".safetensors", ".bin", ".gguf", ".json")
# On a CPU a small model writes some ten tokens a second in each answer of a batch.
_MANY_ANSWERS = 50


@dataclass(frozen=True)
class Work:
    """What is measured of which models.

    Attributes:
        config: the run, and what is measured how.
        local: the models that are loaded here.
        folders: those that hold their weights; a base from the hub has none, its revision stands for it.
        served: the model behind a server; None: none.
        encoder: of the run's adapter; None: no model is loaded here.
        questions: what is asked.
        arms: the ways to ask with sources, by name.
        items: multiple-choice items, by set.
        search: for what was memorized; None: it is not searched for.
    """

    config: Config
    local: Sequence[str]
    folders: Sequence[Path]
    served: ServedModel | None
    encoder: PromptEncoder | None
    questions: Questions
    arms: Mapping[str, Arm]
    items: Mapping[str, Sequence[ChoiceItem]]
    search: Search | None

    @property
    def wants_likelihood(self) -> bool:
        """Whether a metric of likelihood is named."""
        return any(name in in_group("likelihood") for name in self.config.eval.metric_names)

    @property
    def wants_answers(self) -> bool:
        """Whether a metric of generated text is named."""
        return bool(text_metrics(self.config.eval.metric_names))

    def settings(self, limit: int | None) -> dict[str, Any]:
        """Return the settings that ``results.json`` names."""
        settings = _settings_of_config(self.config, limit)
        if self.encoder is not None and (text := self.encoder.contract.text).sources:
            settings |= {"sources": text.sources, "source_tokens": text.source_tokens}
        if self.arms:
            settings["open_book"] = True
            settings["declined_by_titles"] = {name: fmean(arm.nothing_answers) for name, arm in self.arms.items()}
        return settings

    def fingerprint(self) -> dict[str, Any]:
        """Return all that pieces of work depend on; if any of it changes, an interrupted run starts again."""
        config, served, search = self.config, self.served, self.search
        weights = [
            path for folder in self.folders for path in sorted(folder.glob("*")) if path.suffix in _FILES_OF_A_MODEL
        ]
        fingerprint = {
            "settings": _settings_of_config(config, None) | {"metrics": None},
            "batch_size": config.eval.batch_size,
            "model": asdict(config.model),
            "questions": [given.before(question) for question, given in self.questions.asked],
            "examples": [example.input_ids for example in self.questions.examples],
            "arms": {name: [[asdict(p) for p in shown] for shown in arm.passages] for name, arm in self.arms.items()},
            "served": None if served is None else asdict(served),
            "multiple_choice": {name: [asdict(item) for item in of_set] for name, of_set in self.items.items()},
            "memorization": None if search is None else search.fingerprint(),
            # Weights may be many gigabytes: size and time stand for their content.
            "weights": {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in weights},
            "packages": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        }
        if self.local and self.wants_answers:
            fingerprint["answered_by"] = [config.generate.engine, engines.llama_files(config, self.local)]
        return fingerprint


def _settings_of_config(config: Config, limit: int | None) -> dict[str, Any]:
    return {
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


def measure(
    work: Work, journal: SharedJournal
) -> tuple[dict[str, list[Sample]], dict[str, ChoiceResults], dict[str, dict[str, Any]]]:
    """Return the samples by model, the multiple-choice predictions by set, and what wrote each model's answers."""
    questions, local, encoder, served = work.questions, work.local, work.encoder, work.served
    if served is not None and (work.wants_likelihood or work.items):
        console.note("likelihood and multiple choice need the weights: not measured for the served model")
    scores, choices = _scored(work, journal)
    answers: dict[str, list[GeneratedAnswer]] = {}
    answered_by: dict[str, dict[str, Any]] = {}

    def score_file(loaded: engines.Answerer) -> None:
        if loaded.name == OF_RUN and work.wants_likelihood:
            scores[OF_RUN] = score_likelihood(loaded, questions.examples, work.config.eval.batch_size, journal)

    if encoder is not None and work.wants_answers:
        answers, answered_by = _answers(work, encoder, journal, score_file)
    elif OF_RUN in local and work.wants_likelihood:
        for loaded in each_answerer([OF_RUN], work.config, 0):
            score_file(loaded)
    if served is not None:
        texts, given = zip(*questions.asked, strict=True)
        answers[SERVED] = served_answers(served, texts, work.config.generate, journal, given)
    names = [name for model in local for name in (model, model + GREEDY) if name == model or name in answers]
    names += [SERVED] if served else []
    samples = {name: samples_of(name, questions, scores.get(name), answers.get(name)) for name in names}
    if encoder is not None and work.wants_answers:
        decline = encoder.contract.text.decline
        for name, arm in ((model + name, arm) for model in local for name, arm in work.arms.items()):
            samples[name] = arm_samples(name, questions, arm, answers[name], decline)
    return samples, choices, answered_by


def _scored(work: Work, journal: SharedJournal) -> tuple[dict[str, list[AnswerScore]], dict[str, ChoiceResults]]:
    """Return the likelihoods of the references by model, the predictions by set; look for what was memorized.

    The GGUF file is not among the models: it is scored while it is loaded to answer.
    """
    config, items, search = work.config, work.items, work.search
    if OF_RUN in work.local and (items or search is not None):
        console.note("multiple choice and memorization are of the weights as trained: not measured for the GGUF file")
    scores: dict[str, list[AnswerScore]] = {}
    predicted: dict[str, dict[str, list[int]]] = {name: {} for name in items}
    if work.local and (work.wants_likelihood or items or search is not None):
        tokenizer = load_tokenizer(str(config.run.adapter_dir))
        for loaded in each_model(work.local, config, packed=True):
            if work.wants_likelihood:
                scores[loaded.name] = score_likelihood(loaded, work.questions.examples, config.eval.batch_size, journal)
            for name in items:
                likelihoods = score_choices(loaded, tokenizer, name, items[name], journal)
                predicted[name][loaded.name] = predictions(likelihoods)
            if search is not None:
                search.in_packed(loaded, journal)
    if search is not None and any(search.cases.values()):
        for loaded in each_model(work.local, config, packed=False):
            search.in_batches(loaded, journal)
    return scores, {
        name: _choice_results(config, of_set, predicted[name]) for name, of_set in items.items() if predicted[name]
    }


def _choice_results(
    config: Config, items: Sequence[ChoiceItem], predicted: Mapping[str, Sequence[int]]
) -> ChoiceResults:
    """Return the results of a multiple-choice set; ``predicted``: the choice for each item, by model."""
    seen = contaminated([item.question for item in items], iterate_split(Path(config.data.dir), "train"))
    return ChoiceResults(
        items[0].choices,
        tuple(item.gold for item in items),
        predicted,
        tuple(item.id for item in items),
        frozenset(item.id for item, is_seen in zip(items, seen, strict=True) if is_seen),
    )


def _answers(
    work: Work, encoder: PromptEncoder, journal: SharedJournal, on_loaded: Callable[[engines.Answerer], None]
) -> tuple[dict[str, list[GeneratedAnswer]], dict[str, dict[str, Any]]]:
    """Return each model's answers, its plain greedy ones where those are others, and those of each row in each arm.

    Beside them: which engine wrote each model's answers, from which quantization and file. ``on_loaded`` is called with
    each model before it answers.
    """
    asked, arms, generate = work.questions.asked, work.arms, work.config.generate
    ways = 1 + len(arms)
    texts, given = zip(*asked, strict=True)
    if len(asked) * len(work.local) * ways > _MANY_ANSWERS:
        console.note(
            f"{len(asked)} questions x {len(work.local)} models{f' x {ways} arms' if arms else ''}, up to "
            f"{generate.max_new_tokens} tokens an answer; an interrupted run can be resumed. "
            "Faster: --limit N, or --set 'eval.metrics=[nll, bits_per_byte]'"
        )
    answers: dict[str, list[GeneratedAnswer]] = {}
    answered_by: dict[str, dict[str, Any]] = {}
    for loaded in each_answerer(work.local, work.config, len(asked) * ways):
        on_loaded(loaded)
        name = loaded.name
        answered_by[name] = engines.describe_engine(loaded)
        closed, plain = generate_answers(loaded, encoder, texts, generate, journal, given=given)
        # Marks count no more here than in the arms.
        answers[name] = without_marks_of(closed) if arms else closed
        if generate.loop_retries:
            answers[name + GREEDY] = without_marks_of(plain) if arms else plain
        for arm_name, arm in arms.items():
            prompts = arm.prompts(work.questions, encoder)
            made, _ = generate_answers(
                loaded, encoder, prompts, generate, journal, arm=arm_name, must_answer=arm.must_answer
            )
            answers[name + arm_name] = arm.with_declined(made, encoder.contract.text.decline)
    return answers, answered_by
