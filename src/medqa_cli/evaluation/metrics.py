"""The registry of eval's metrics: title, which way is better, group, and how each is computed from samples.

A metric is a function of sums over samples, so that the bootstrap computes it again from the sums of each draw.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medqa_cli.answering.repetition import is_repetitive, seq_rep_4
from medqa_cli.data.cleaning.questions import question_echo
from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.data.normalize import normalize
from medqa_cli.evaluation.bootstrap import FloatArray, Reduce, ratio_of_sums
from medqa_cli.evaluation.overlap import corpus_counts, corpus_score, rouge, rouge_l, stemmed_words
from medqa_cli.evaluation.samples import Sample

STRIPPED = "_stripped"
# Of MedQuAD's reference answers 1.8 % repeat more than this share of their runs of four words.
HIGH_SEQ_REP_4 = 0.2
# Words that carry no topic ("disease of the nerve"): without them a short name is not covered by any answer at all.
_FUNCTION_WORDS = (
    "a an and are as at be by can do does for from have how in into is it its of on or that the their they this to "
    "was what when where which who why with you your"
)

# What each sample adds to the sums, float64, ``(samples, parts)``; None: undefined for all samples.
Parts = Callable[[Sequence[Sample]], FloatArray | None]
# What one sample adds to (numerator, denominator); None where the metric is undefined for it.
Ratio = Callable[[Sample], tuple[float, float] | None]


@dataclass(frozen=True)
class Metric:
    """What a metric is and how it is computed.

    ``lower_is_better``: None where neither direction is good by itself; ``parts``: what samples add to the sums;
    ``reduce``: from sums to values; ``digits``: shown in tables.
    """

    title: str
    lower_is_better: bool | None
    group: str
    parts: Parts
    reduce: Reduce = ratio_of_sums
    digits: int = 3


def _ratio(of_sample: Ratio) -> Parts:
    """Return the parts of a ratio; a sample for which it is undefined has a row of zeros."""

    def parts(samples: Sequence[Sample]) -> FloatArray | None:
        rows = np.array([of_sample(sample) or (0.0, 0.0) for sample in samples], dtype=np.float64)
        return rows if rows[:, 1].any() else None

    return parts


def _mean(of_answer: Callable[[str], float]) -> Parts:
    return _ratio(lambda sample: None if sample.answer is None else (float(of_answer(sample.answer)), 1.0))


def _nll(sample: Sample) -> tuple[float, float] | None:
    if sample.nll_sum is None or sample.answer_tokens is None:
        return None
    return sample.nll_sum, sample.answer_tokens


def _bits_per_byte(sample: Sample) -> tuple[float, float] | None:
    if sample.nll_sum is None or sample.answer_bytes is None:
        return None
    return sample.nll_sum, sample.answer_bytes * math.log(2)


def _topic_coverage(sample: Sample) -> tuple[float, float] | None:
    if sample.answer is None or not (asked := topic_words(sample.topic)):
        return None
    return len(asked & set(stemmed_words(sample.answer))) / len(asked), 1.0


def topic_words(topic: str) -> frozenset[str]:
    """Return the stemmed words of a topic without articles and prepositions; all of them if there are no others."""
    words = frozenset(stemmed_words(topic))
    return words - frozenset(stemmed_words(_FUNCTION_WORDS)) or words


def _reference_swap_margin(sample: Sample) -> tuple[float, float] | None:
    if sample.answer is None or sample.swap_reference is None:
        return None
    # One reference against one: the best of several would favor the sample's own side.
    return rouge_l(sample.answer, sample.references[0]) - rouge_l(sample.answer, sample.swap_reference), 1.0


def _finished(sample: Sample) -> tuple[float, float] | None:
    return None if sample.finish_reason is None else (float(sample.finish_reason == "stop"), 1.0)


def _length_ratio(sample: Sample) -> tuple[float, float] | None:
    return None if sample.answer is None else (len(sample.answer.split()), len(sample.references[0].split()))


def _prompt_echo(sample: Sample) -> tuple[float, float] | None:
    return None if sample.answer is None else (float(echoes_question(sample.question, sample.answer)), 1.0)


def echoes_question(question: str, answer: str) -> bool:
    """Tell whether an answer begins by repeating its question."""
    if question_echo(question, answer) != answer:
        return True
    asked = normalize(question)
    return bool(asked) and f"{normalize(answer)} ".startswith(f"{asked} ")


def repeats(text: str) -> bool:
    """Tell whether an answer is to be flagged as repetitive: it loops, or says much of itself again."""
    return is_repetitive(text) or seq_rep_4(text) > HIGH_SEQ_REP_4


def _rouge(name: str, title: str) -> Metric:
    def of_sample(sample: Sample) -> tuple[float, float] | None:
        return None if sample.answer is None else (rouge(sample.answer, sample.references)[name], 1.0)

    return Metric(title, False, "overlap", _ratio(of_sample))


def _corpus(name: str, title: str) -> Metric:
    """Return a metric of a whole corpus: an answer has counts, not a score."""

    def parts(samples: Sequence[Sample]) -> FloatArray | None:
        answers = [sample.answer for sample in samples if sample.answer is not None]
        if len(answers) < len(samples):
            return None
        return corpus_counts(name, answers, [sample.references for sample in samples])

    # They go to 100: three decimals of them say nothing.
    return Metric(
        title, False, "overlap", parts, lambda sums: np.array([corpus_score(name, row) for row in sums]), digits=1
    )


def confusion_parts(gold: Sequence[int], predicted: Sequence[int], num_choices: int) -> FloatArray:
    """Return what each item adds to (right, gold, predicted) of each choice: float64, ``(items, 3 * choices)``."""
    parts = np.zeros((len(gold), 3, num_choices))
    for item, (right, choice) in enumerate(zip(gold, predicted, strict=True)):
        parts[item, 0, right] = right == choice
        parts[item, 1, right] = parts[item, 2, choice] = 1
    return parts.reshape(len(gold), -1)


def accuracy_of_sums(sums: FloatArray) -> FloatArray:
    """Reduce summed ``confusion_parts``, ``(n, 3 * choices)``, to the share of right answers."""
    right, gold, _ = np.split(sums, 3, axis=1)
    shares: FloatArray = right.sum(axis=1) / gold.sum(axis=1)
    return shares


def macro_f1_of_sums(sums: FloatArray) -> FloatArray:
    """Reduce summed ``confusion_parts`` to the mean F1 over the choices that are right or predicted at least once.

    As scikit-learn's ``f1_score(average="macro")``, which PubMedQA's own evaluation uses.
    """
    right, gold, predicted = np.split(sums, 3, axis=1)
    present = gold + predicted > 0
    f1 = np.divide(2 * right, gold + predicted, out=np.zeros_like(right), where=present)
    means: FloatArray = f1.sum(axis=1) / present.sum(axis=1)
    return means


METRICS: dict[str, Metric] = {
    "nll": Metric("nats per reference token", True, "likelihood", _ratio(_nll)),
    "bits_per_byte": Metric("bits per byte of reference", True, "likelihood", _ratio(_bits_per_byte)),
    "rouge1": _rouge("rouge1", "ROUGE-1"),
    "rouge2": _rouge("rouge2", "ROUGE-2"),
    "rougeL": _rouge("rougeL", "ROUGE-L"),
    "chrf": _corpus("chrf", "chrF"),
    "bleu": _corpus("bleu", "BLEU"),
    "topic_coverage": Metric("topic words covered", False, "topic", _ratio(_topic_coverage)),
    "reference_swap_margin": Metric("ROUGE-L own - swapped", False, "topic", _ratio(_reference_swap_margin)),
    "seq_rep_4": Metric("repeated 4-grams", True, "behavior", _mean(seq_rep_4)),
    "loop_rate": Metric("share that loop", True, "behavior", _mean(is_repetitive)),
    "finished_rate": Metric("share finished", False, "behavior", _ratio(_finished)),
    "length_ratio": Metric("words / reference's", None, "behavior", _ratio(_length_ratio)),
    "prompt_echo_rate": Metric("share echoing question", True, "behavior", _ratio(_prompt_echo)),
    # Of multiple-choice items, which are no samples: ``confusion_parts``.
    "accuracy": Metric("accuracy", False, "choice", lambda samples: None, accuracy_of_sums),
    "macro_f1": Metric("macro-F1", False, "choice", lambda samples: None, macro_f1_of_sums),
}


@functools.lru_cache(maxsize=1 << 14)
def _stripped_sample(sample: Sample) -> Sample:
    if sample.answer is None:
        return sample
    return Sample(
        id=sample.id,
        topic=sample.topic,
        model=sample.model,
        question=sample.question,
        references=tuple(_without_boilerplate(sample.question, reference) for reference in sample.references),
        answer=_without_boilerplate(sample.question, sample.answer),
    )


def _without_boilerplate(question: str, answer: str) -> str:
    """Return an answer as ``medqa convert`` would clean it, with all of its default rules."""
    return clean(question, answer, enabled_rules({})).answer


def _stripped(metric: Metric) -> Metric:
    return replace(
        metric,
        title=f"{metric.title} stripped",
        group="stripped",
        parts=lambda samples: metric.parts([_stripped_sample(sample) for sample in samples]),
    )


_ALL = METRICS | {name + STRIPPED: _stripped(own) for name, own in METRICS.items() if own.group == "overlap"}


def metric(name: str) -> Metric:
    """Return a metric, a stripped one too.

    Raises:
        KeyError: there is no such metric.
    """
    return _ALL[name]


def in_group(group: str) -> tuple[str, ...]:
    """Return the names of a group: likelihood, overlap, stripped, topic, behavior or choice."""
    return tuple(name for name, own in _ALL.items() if own.group == group)


def text_metrics(chosen: Iterable[str]) -> list[str]:
    """Return the names of the metrics of generated answers among those chosen, stripped variants added."""
    names: list[str] = []
    for name in chosen:
        if METRICS[name].group != "likelihood":
            names += [name, name + STRIPPED] if name + STRIPPED in _ALL else [name]
    return names


def all_names() -> Sequence[str]:
    """Return every name that a result file may hold."""
    return list(_ALL)
