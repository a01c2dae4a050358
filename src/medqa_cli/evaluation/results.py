"""From samples to ``results.json``: metrics with intervals, baselines, paired differences; what they show in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from medqa_cli.data.normalize import normalize
from medqa_cli.evaluation.baselines import REFERENCE, TRIVIAL, length_baselines
from medqa_cli.evaluation.bootstrap import ClusterBootstrap, Resampled, as_json, better_of
from medqa_cli.evaluation.metrics import METRICS, STRIPPED, confusion_parts, in_group, metric, text_metrics
from medqa_cli.evaluation.overlap import CORPUS_METRICS, ROUGE_SETTINGS, signature
from medqa_cli.evaluation.samples import Sample

_ORDER = ("merged", "adapter", "base")
# What the references themselves are measured by: their other metrics would only repeat the others'.
_OF_REFERENCES = ("seq_rep_4", "loop_rate", "topic_coverage")
# A trivial answerer writes well, since people wrote its answers: only what it says is compared.
_OF_CONTENT = tuple(name for group in ("likelihood", "overlap", "stripped", "topic") for name in in_group(group))


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
        the content of ``results.json``.
    """
    first = next(iter(measured.samples.values()))
    bootstrap = ClusterBootstrap(
        [sample.topic or normalize(sample.question) for sample in first], statistics.draws, statistics.seed
    )
    names = [name for name in metrics if metric(name).group == "likelihood"] + text_metrics(metrics)
    models = _resampled(measured.samples, names, bootstrap)
    floors = _resampled({**measured.floors, **length_baselines(first)}, names, bootstrap)
    if REFERENCE in floors:
        floors[REFERENCE] = {name: own for name, own in floors[REFERENCE].items() if name in _OF_REFERENCES}
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


def _resampled(
    samples: Mapping[str, Sequence[Sample]], names: Sequence[str], bootstrap: ClusterBootstrap
) -> dict[str, dict[str, Resampled]]:
    found: dict[str, dict[str, Resampled]] = {}
    for model, own in samples.items():
        found[model] = {}
        for name in names:
            parts = metric(name).parts(own)
            if parts is not None:
                found[model][name] = bootstrap.figure(parts, metric(name).reduce)
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
    for floor in TRIVIAL:
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
        return {name: bootstrap.figure(parts, METRICS[name].reduce) for name in in_group("choice")}

    models = {name: figures(predicted) for name, predicted in own.predicted.items()}
    return {
        "items": len(own.gold),
        "choices": list(own.choices),
        "models": {name: _as_json(found) for name, found in models.items()},
        "floors": {"majority": {**_as_json(figures([majority] * len(own.gold))), "choice": own.choices[majority]}},
        "differences": _differences(models, bootstrap.num_clusters),
    }


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


def verdict(name: str, figure: Mapping[str, Any]) -> str:
    """Return what the difference of a figure shows: better, worse, a difference that is neither, or nothing."""
    if figure["better"] is not None:
        return "better" if figure["better"] else "worse"
    low, high = figure["ci95"]
    # One topic is the same in every draw of the bootstrap: an interval without width shows nothing.
    is_seen = low < high and not low <= 0 <= high
    return "different" if is_seen and metric(name).lower_is_better is None else "no difference shown"


def baseline_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say for each model in which figures it is not shown to be better than a trivial answerer."""
    sentences = []
    for model, baselines in results.get("floors_not_beaten", {}).items():
        for baseline, figures in baselines.items():
            names = [
                f"{metric(name).title}{'' if better is None else ' (worse)'}"
                for name, better in figures.items()
                if not name.endswith(STRIPPED)
            ]
            if names:
                sentences.append(
                    f"{model} is not shown to be better than the baseline {baseline} in {', '.join(names)}"
                )
    return sentences


def power_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say for each pair of models which differences a sample of this size cannot show."""
    sentences = []
    for pair, figures in results["differences"].items():
        wanted = ("nll", "rougeL", "topic_coverage")
        shown = [name for name in wanted if name in figures and figures[name]["detectable"] > 1e-9]
        if shown:
            least = ", ".join(f"{figures[name]['detectable']:.2g} in {name}" for name in shown)
            sentences.append(
                f"{pair.replace('-', ' - ')}: with {results['questions']} questions, smaller differences than "
                f"{least} cannot be relied on to show"
            )
    return sentences
