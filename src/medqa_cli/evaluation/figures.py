"""From samples to figures: what each question adds to each metric, and how the sums become the figure.

Does not draw intervals (``statistics``) and does not decide what is compared with what (``results``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from medqa_cli.answering.repetition import seq_rep_4
from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.evaluation.metrics import STRIPPED
from medqa_cli.evaluation.overlap import CORPUS_METRICS, ROUGE, corpus_counts, corpus_score, rouge, rouge_l
from medqa_cli.evaluation.repetition import HIGH_SEQ_REP_4, echoes_question, loops
from medqa_cli.evaluation.samples import Sample
from medqa_cli.evaluation.statistics import FloatArray, Reduce, ratio_of_sums
from medqa_cli.evaluation.words import stemmed_words, topic_words


def parts_of(metric: str, samples: Sequence[Sample]) -> FloatArray | None:
    """Return what each sample adds to the sums of a metric.

    Args:
        metric: a name of ``metrics``.
        samples: of one model, at least one.

    Returns:
        float64, ``(samples, parts)``; a sample for which the metric is undefined has a row of zeros. None where it is
        undefined for all: the samples carry no answers, or no likelihoods.
    """
    name = metric.removesuffix(STRIPPED)
    if name != metric:
        samples = [_stripped(sample) for sample in samples]
    if name in CORPUS_METRICS:
        return _corpus_parts(name, samples)
    ratio = _ratio_of(name)
    found = np.array([ratio(sample) or (0.0, 0.0) for sample in samples], dtype=np.float64)
    return found if found[:, 1].any() else None


def reduce_of(metric: str) -> Reduce:
    """Return how sums of ``parts_of`` become the figure."""
    name = metric.removesuffix(STRIPPED)
    if name not in CORPUS_METRICS:
        return ratio_of_sums

    def reduce(sums: FloatArray) -> FloatArray:
        return np.array([corpus_score(name, row) for row in sums])

    return reduce


def _corpus_parts(name: str, samples: Sequence[Sample]) -> FloatArray | None:
    answers = [sample.answer for sample in samples if sample.answer is not None]
    if len(answers) < len(samples):
        return None
    return corpus_counts(name, answers, [sample.references for sample in samples])


# What one sample adds to (numerator, denominator); None where the metric is undefined for it.
_Ratio = Callable[[Sample], tuple[float, float] | None]


def _ratio_of(name: str) -> _Ratio:
    if name in ROUGE:
        return functools.partial(_rouge, name)
    return _RATIOS[name]


def _nll(sample: Sample) -> tuple[float, float] | None:
    if sample.nll_sum is None or sample.answer_tokens is None:
        return None
    return sample.nll_sum, sample.answer_tokens


def _bits_per_byte(sample: Sample) -> tuple[float, float] | None:
    if sample.nll_sum is None or sample.answer_bytes is None:
        return None
    return sample.nll_sum, sample.answer_bytes * math.log(2)


def _rouge(name: str, sample: Sample) -> tuple[float, float] | None:
    return None if sample.answer is None else (rouge(sample.answer, sample.references)[name], 1.0)


def _topic_coverage(sample: Sample) -> tuple[float, float] | None:
    if sample.answer is None or not (asked := topic_words(sample.topic)):
        return None
    return len(asked & set(stemmed_words(sample.answer))) / len(asked), 1.0


def _reference_swap_margin(sample: Sample) -> tuple[float, float] | None:
    if sample.answer is None or sample.swap_reference is None:
        return None
    # One reference against one: the best of several would favour the own side.
    return rouge_l(sample.answer, sample.references[0]) - rouge_l(sample.answer, sample.swap_reference), 1.0


def _finished(sample: Sample) -> tuple[float, float] | None:
    return None if sample.finish_reason is None else (float(sample.finish_reason == "stop"), 1.0)


def _length_ratio(sample: Sample) -> tuple[float, float] | None:
    return None if sample.answer is None else (len(sample.answer.split()), len(sample.references[0].split()))


def _of_answer(figure: Callable[[str], float]) -> _Ratio:
    return lambda sample: None if sample.answer is None else (float(figure(sample.answer)), 1.0)


_RATIOS: dict[str, _Ratio] = {
    "nll": _nll,
    "bits_per_byte": _bits_per_byte,
    "topic_coverage": _topic_coverage,
    "reference_swap_margin": _reference_swap_margin,
    "seq_rep_4": _of_answer(seq_rep_4),
    "loop_rate": _of_answer(loops),
    "finished_rate": _finished,
    "length_ratio": _length_ratio,
    "prompt_echo_rate": lambda sample: (
        None if sample.answer is None else (float(echoes_question(sample.question, sample.answer)), 1.0)
    ),
}


def repeats(text: str) -> bool:
    """Tell whether an answer is to be flagged as repetitive: it loops, or says much of itself again."""
    return loops(text) or seq_rep_4(text) > HIGH_SEQ_REP_4


def strip_boilerplate(question: str, answer: str) -> str:
    """Return an answer as ``medqa convert`` would clean it, with all of its default rules."""
    return clean(question, answer, enabled_rules({})).answer


@functools.lru_cache(maxsize=1 << 14)
def _stripped(sample: Sample) -> Sample:
    if sample.answer is None:
        return sample
    return Sample(
        id=sample.id,
        topic=sample.topic,
        model=sample.model,
        question=sample.question,
        references=tuple(strip_boilerplate(sample.question, reference) for reference in sample.references),
        answer=strip_boilerplate(sample.question, sample.answer),
    )
