"""From samples to ``results.json``: figures with intervals, floors, paired differences, power; no model is needed.

Does not write files and does not show anything (``report``, ``page``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from medqa_cli.data.normalize import normalize
from medqa_cli.evaluation.choice_figures import accuracy_of_sums, confusion_parts, macro_f1_of_sums
from medqa_cli.evaluation.figures import parts_of, reduce_of
from medqa_cli.evaluation.floors import cut_words
from medqa_cli.evaluation.metrics import LIKELIHOOD, OVERLAP, STRIPPED, TOPIC, metric, text_metrics
from medqa_cli.evaluation.overlap import CORPUS_METRICS, ROUGE_SETTINGS, signature
from medqa_cli.evaluation.samples import CUT_REFERENCE, REFERENCE, Sample
from medqa_cli.evaluation.statistics import ClusterBootstrap, Reduce, Resampled, as_json, better_of

# What a floor of one kind of answerer has: its own figures would only repeat the others'.
_ORDER = ("merged", "adapter", "base")
_OF_REFERENCES = ("seq_rep_4", "loop_rate", "topic_coverage")
# A trivial answerer writes well, since people wrote its answers: only what it says is compared.
_TRIVIAL = ("unigram", "random_answer", "nearest_question", "wrong_topic")
_OF_CONTENT = (*LIKELIHOOD, *OVERLAP, *(name + STRIPPED for name in OVERLAP), *TOPIC)


@dataclass(frozen=True)
class Measured:
    """What an evaluation found, before any figure is computed. Everything is in the same order of questions.

    ``samples``: by model; ``floors``: by trivial answerer, those that need no model's answers; ``choices``: by
    multiple-choice set.
    """

    samples: Mapping[str, Sequence[Sample]]
    floors: Mapping[str, Sequence[Sample]]
    choices: Mapping[str, ChoiceResults]


@dataclass(frozen=True)
class ChoiceResults:
    """A multiple-choice set: names of the choices, right answers, and predictions by model, as places of choices.

    ``seen``: ids of the items that stand in the training data; empty: none.
    """

    choices: tuple[str, ...]
    gold: tuple[int, ...]
    predicted: Mapping[str, Sequence[int]]
    ids: tuple[str, ...]
    seen: frozenset[str] = frozenset()

    def only(self, seen: bool) -> ChoiceResults:
        """Return the part of the set that stands in the training data, or the part that does not."""
        places = [place for place, name in enumerate(self.ids) if (name in self.seen) == seen]
        return ChoiceResults(
            self.choices,
            tuple(self.gold[place] for place in places),
            {model: [own[place] for place in places] for model, own in self.predicted.items()},
            tuple(self.ids[place] for place in places),
        )


@dataclass(frozen=True)
class Statistics:
    """How intervals are drawn."""

    draws: int
    seed: int


def make_results(
    measured: Measured, metrics: Sequence[str], statistics: Statistics, split: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute every figure.

    Args:
        measured: the samples; at least one model.
        metrics: names from the config.
        statistics: draws and seed.
        split: name of the split.
        settings: further settings to record.

    Returns:
        the content of ``results.json`` (design, section 5).
    """
    first = next(iter(measured.samples.values()))
    bootstrap = ClusterBootstrap(
        [sample.topic or normalize(sample.question) for sample in first], statistics.draws, statistics.seed
    )
    names = [name for name in metrics if name in LIKELIHOOD] + text_metrics(metrics)
    models = _resampled(measured.samples, names, bootstrap)
    floors = _resampled(with_length_floors(measured), names, bootstrap)
    floors = {name: _only(name, figures) for name, figures in floors.items()}
    differences = _differences(models, bootstrap.num_clusters)
    return {
        "split": split,
        "questions": len(first),
        "topics": len({sample.topic for sample in first if sample.topic}) or None,
        "models": {name: _as_json(figures) for name, figures in models.items()},
        "floors": {name: _as_json(figures) for name, figures in floors.items() if figures},
        "differences": differences,
        "floors_not_beaten": {name: _not_beaten(own, floors, bootstrap.num_clusters) for name, own in models.items()},
        "multiple_choice": {name: _choice_results(own, statistics) for name, own in measured.choices.items()},
        "settings": {**settings, **_settings(first, names, bootstrap, statistics)},
    }


def with_length_floors(measured: Measured) -> dict[str, Sequence[Sample]]:
    """Return the floors with two more: the references as they are, and cut at the first model's mean length."""
    floors = dict(measured.floors)
    first = next(iter(measured.samples.values()))
    if any(sample.answer is None for sample in first):
        return floors
    mean = round(sum(len((sample.answer or "").split()) for sample in first) / len(first))
    floors[CUT_REFERENCE] = [
        floor_sample(sample, CUT_REFERENCE, cut_words(sample.references[0], mean)) for sample in first
    ]
    floors[REFERENCE] = [floor_sample(sample, REFERENCE, sample.references[0]) for sample in first]
    return floors


def floor_sample(sample: Sample, name: str, answer: str) -> Sample:
    """Return what a trivial answerer says to the question of a sample."""
    return replace(
        sample,
        model=name,
        answer=answer,
        finish_reason=None,
        generated_tokens=None,
        nll_sum=None,
        answer_tokens=None,
        answer_bytes=None,
        truncated=False,
    )


def _only(floor: str, figures: dict[str, Resampled]) -> dict[str, Resampled]:
    if floor != REFERENCE:
        return figures
    return {name: found for name, found in figures.items() if name in _OF_REFERENCES}


def _resampled(
    samples: Mapping[str, Sequence[Sample]], names: Sequence[str], bootstrap: ClusterBootstrap
) -> dict[str, dict[str, Resampled]]:
    found: dict[str, dict[str, Resampled]] = {}
    for model, own in samples.items():
        found[model] = {}
        for name in names:
            parts = parts_of(name, own)
            if parts is not None:
                found[model][name] = bootstrap.figure(parts, reduce_of(name))
    return found


def _differences(models: Mapping[str, Mapping[str, Resampled]], num_clusters: int) -> dict[str, Any]:
    """Compare each pair of models on the same draws; base is always the second of its pair."""
    # Stable: other names, of a file of samples from elsewhere, stay in their order and come first.
    order = sorted(models, key=lambda name: _ORDER.index(name) if name in _ORDER else -1)
    return {
        f"{one}-{other}": {
            name: _difference(name, models[one][name] - models[other][name], num_clusters)
            for name in models[one]
            if name in models[other]
        }
        for one, other in combinations(order, 2)
    }


def _not_beaten(
    model: Mapping[str, Resampled], floors: Mapping[str, Mapping[str, Resampled]], num_clusters: int
) -> dict[str, dict[str, bool | None]]:
    """Return for each trivial answerer the figures in which the model is not shown to be better, on the same draws.

    False: the model is worse; None: no difference is shown.
    """
    found: dict[str, dict[str, bool | None]] = {}
    for floor in _TRIVIAL:
        own = floors.get(floor, {})
        for name in _OF_CONTENT:
            if name in model and name in own:
                better = _difference(name, model[name] - own[name], num_clusters)["better"]
                if better is not True:
                    found.setdefault(floor, {})[name] = better
    return found


def _difference(name: str, found: Resampled, num_clusters: int) -> dict[str, Any]:
    lower_is_better = metric(name).lower_is_better
    # One cluster is the same in every draw: its interval has no width and shows nothing.
    decided = num_clusters > 1 and lower_is_better is not None
    verdict = better_of(found.estimate(), lower_is_better=bool(lower_is_better)) if decided else None
    return {**as_json(found.estimate()), "better": verdict, "detectable": found.detectable()}


def _as_json(figures: Mapping[str, Resampled]) -> dict[str, Any]:
    return {name: as_json(found.estimate()) for name, found in figures.items()}


def _choice_results(own: ChoiceResults, statistics: Statistics) -> dict[str, Any]:
    """Return the figures of a set, and where items stand in the training data those of both parts apart."""
    results = _choice_figures(own, statistics)
    if own.seen:
        results["contaminated"] = {
            "ids": [name for name in own.ids if name in own.seen],
            **{
                "seen" if seen else "unseen": _choice_figures(part, statistics)
                for seen in (True, False)
                if (part := own.only(seen)).gold
            },
        }
    return results


def _choice_figures(own: ChoiceResults, statistics: Statistics) -> dict[str, Any]:
    # Items of a benchmark stand for themselves: each is a cluster of its own.
    bootstrap = ClusterBootstrap([str(place) for place in range(len(own.gold))], statistics.draws, statistics.seed)
    counts = [own.gold.count(choice) for choice in range(len(own.choices))]
    majority = counts.index(max(counts))

    def figures(predicted: Sequence[int]) -> dict[str, Resampled]:
        parts = confusion_parts(own.gold, predicted, len(own.choices))
        return {name: bootstrap.figure(parts, reduce) for name, reduce in _CHOICE_REDUCES.items()}

    models = {name: figures(predicted) for name, predicted in own.predicted.items()}
    return {
        "items": len(own.gold),
        "choices": list(own.choices),
        "models": {name: _as_json(found) for name, found in models.items()},
        "floors": {"majority": {**_as_json(figures([majority] * len(own.gold))), "choice": own.choices[majority]}},
        "differences": _differences(models, bootstrap.num_clusters),
    }


_CHOICE_REDUCES: dict[str, Reduce] = {"accuracy": accuracy_of_sums, "macro_f1": macro_f1_of_sums}


def _settings(
    first: Sequence[Sample], names: Sequence[str], bootstrap: ClusterBootstrap, statistics: Statistics
) -> dict[str, Any]:
    sizes = {len(sample.references) for sample in first}
    num_references = sizes.pop() if len(sizes) == 1 else -1
    shared: dict[str, Any] = {
        "answer_tokens": sum(sample.answer_tokens or 0 for sample in first),
        "num_truncated_answers": sum(sample.truncated for sample in first),
        "num_with_several_references": sum(len(sample.references) > 1 for sample in first),
        "num_without_swap_reference": sum(sample.swap_reference is None for sample in first),
        "clusters": bootstrap.num_clusters,
        "bootstrap_draws": statistics.draws,
        "seed": statistics.seed,
    }
    overlap = [name for name in names if name in CORPUS_METRICS]
    if any(name.startswith("rouge") for name in names):
        shared["rouge"] = ROUGE_SETTINGS
    return shared | {name: signature(name, num_references) for name in overlap}
