"""From samples to ``results.json``: metrics with intervals, baselines, differences; and its files, written.

There the figures of the baselines stand under ``floors``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

from medqa_cli.config.schema import EvalConfig
from medqa_cli.evaluation.arms import ARMS, BM25_PASSAGE, FIRST_PASSAGE, OPEN_BOOK
from medqa_cli.evaluation.baselines import REFERENCE, TRIVIAL, length_baselines
from medqa_cli.evaluation.bootstrap import ClusterBootstrap, Resampled, as_json, difference_as_json
from medqa_cli.evaluation.metrics import confusion_parts, in_group, metric, text_metrics
from medqa_cli.evaluation.overlap import overlap_settings
from medqa_cli.evaluation.page import make_page
from medqa_cli.evaluation.samples import GREEDY, Sample, digest_of_answer, read_samples, topic_keys, write_samples
from medqa_cli.files import MODEL_NAMES, RunFolder, atomic_file, read_json, write_json

SAMPLES_NAME = "samples.jsonl"
FLOORS_NAME = "floors.jsonl"
REPORT_NAME = "report.html"
Samples = Mapping[str, Sequence[Sample]]  # by model or baseline

MAJORITY = "majority"  # the baseline of a multiple-choice set: the commonest choice
# Metrics of the references themselves; in the others they would be compared with themselves.
_OF_REFERENCES = ("seq_rep_4", "loop_rate", "topic_coverage")
# People wrote the answers of the trivial answerers, so they read well: only their content is compared.
_OF_CONTENT = tuple(name for group in ("likelihood", "overlap", "stripped", "topic") for name in in_group(group))


@dataclass(frozen=True)
class ChoiceResults:
    """A multiple-choice set: names of the choices, right answers and predictions by model, as indices of choices.

    ``seen``: ids of the items that are in the training data; empty: none.
    """

    choices: tuple[str, ...]
    gold: tuple[int, ...]
    predicted: Mapping[str, Sequence[int]]
    ids: tuple[str, ...]
    seen: frozenset[str] = frozenset()


def make_results(
    samples: Mapping[str, Sequence[Sample]],
    baselines: Mapping[str, Sequence[Sample]],
    choices: Mapping[str, ChoiceResults],
    config: EvalConfig,
    seed: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Compute every metric; return the content of ``results.json``.

    Args:
        samples: by model, at least one, all with the same questions in the same order.
        baselines: by name, with the same questions; those that are made of a model's answers are added here.
        choices: by multiple-choice set.
        config: split, metrics and number of draws.
        seed: seed of the draws.
        settings: further settings to record.
    """
    first = next(iter(samples.values()))
    topics = topic_keys(first)
    bootstrap = ClusterBootstrap(topics, config.bootstrap_draws, seed)
    names = [name for name in config.metric_names if metric(name).group == "likelihood"]
    names += text_metrics(config.metric_names)
    models = _resampled(samples, names, bootstrap)
    floors = _resampled({**baselines, **length_baselines(first)}, names, bootstrap)
    if REFERENCE in floors:
        floors[REFERENCE] = {name: figures for name, figures in floors[REFERENCE].items() if name in _OF_REFERENCES}
    return {
        "split": config.split,
        "questions": len(first),
        "topics": len({topic for topic, sample in zip(topics, first, strict=True) if sample.topic}) or None,
        "models": {name: _as_json(figures) for name, figures in models.items()},
        "floors": {name: _as_json(figures) for name, figures in floors.items() if figures},
        "differences": _differences(models),
        "floors_not_beaten": _not_beaten(models, floors),
        **_against_copies(models, floors),
        "multiple_choice": {name: _choice_results(part, config, seed) for name, part in choices.items()},
        "settings": {
            **settings,
            "answer_tokens": sum(sample.answer_tokens or 0 for sample in first),
            "num_truncated_answers": sum(sample.truncated for sample in first),
            "num_with_several_references": sum(len(sample.references) > 1 for sample in first),
            "num_without_swap_reference": sum(sample.swap_reference is None for sample in first),
            "clusters": bootstrap.num_clusters,
            "bootstrap_draws": config.bootstrap_draws,
            "seed": seed,
            **overlap_settings(names, {len(sample.references) for sample in first}),
        },
    }


def _resampled(
    samples: Mapping[str, Sequence[Sample]], names: Sequence[str], bootstrap: ClusterBootstrap
) -> dict[str, dict[str, Resampled]]:
    return {
        model: {
            name: bootstrap.figure(parts, metric(name).reduce)
            for name in names
            if (parts := metric(name).parts(of_model)) is not None
        }
        for model, of_model in samples.items()
    }


def pairs_of(models: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Return the pairs that are compared: two models (base is the second), a model and its plain greedy answers, a
    model with sources and without.
    """
    names = list(models)
    whole = [name for name in names if not name.endswith((GREEDY, *ARMS))]
    # Stable: other names, of samples from elsewhere, keep their order and come first.
    yield from combinations(sorted(whole, key=lambda name: MODEL_NAMES.index(name) if name in MODEL_NAMES else -1), 2)
    yield from ((name, name + GREEDY) for name in whole if name + GREEDY in names)
    yield from ((name + arm, name) for name in whole for arm in ARMS if name + arm in names)


def _differences(models: Mapping[str, Mapping[str, Resampled]]) -> dict[str, Any]:
    """Compare each pair of models on the same draws."""
    return {
        f"{first}-{second}": {
            name: _difference(name, models[first][name] - models[second][name])
            for name in models[first]
            if name in models[second]
        }
        for first, second in pairs_of(models)
    }


def _not_beaten(
    models: Mapping[str, Mapping[str, Resampled]], floors: Mapping[str, Mapping[str, Resampled]]
) -> dict[str, dict[str, dict[str, bool | None]]]:
    """Return for each model and trivial answerer the metrics in which it is not shown to be better, on the same draws.

    False: the model is worse; None: no difference is shown.
    """
    of_models: dict[str, dict[str, dict[str, bool | None]]] = {}
    for model, measured in models.items():
        if model.endswith(GREEDY):
            continue
        not_beaten = of_models.setdefault(model, {})
        for floor in TRIVIAL:
            figures = floors.get(floor, {})
            for name in (name for name in _OF_CONTENT if name in measured and name in figures):
                better = _difference(name, measured[name] - figures[name])["better"]
                if better is not True:
                    not_beaten.setdefault(floor, {})[name] = better
    return of_models


def _against_copies(
    models: Mapping[str, Mapping[str, Resampled]], floors: Mapping[str, Mapping[str, Resampled]]
) -> dict[str, Any]:
    """Compare each model with an open book to the copies of a passage, on the same draws."""
    return {
        key: {
            model: {
                name: _difference(name, measured[name] - floors[copy][name])
                for name in _OF_CONTENT
                if name in measured and name in floors[copy]
            }
            for model, measured in models.items()
            if model.endswith(OPEN_BOOK)
        }
        for key, copy in (("against_copy", FIRST_PASSAGE), ("against_bm25", BM25_PASSAGE))
        if floors.get(copy) and any(model.endswith(OPEN_BOOK) for model in models)
    }


def _difference(name: str, difference: Resampled) -> dict[str, Any]:
    return difference_as_json(difference, lower_is_better=metric(name).lower_is_better)


def _as_json(figures: Mapping[str, Resampled]) -> dict[str, Any]:
    return {name: as_json(figure.estimate()) for name, figure in figures.items()}


def _choice_results(choices: ChoiceResults, config: EvalConfig, seed: int) -> dict[str, Any]:
    """Return the metrics of a set; if some of its items are in the training data, also those of both parts."""
    everything = range(len(choices.gold))
    results = _choice_figures(choices, everything, config.bootstrap_draws, seed)
    if choices.seen:
        results["contaminated"] = {"ids": [name for name in choices.ids if name in choices.seen]}
        for name, is_seen in (("seen", True), ("unseen", False)):
            if part := [index for index in everything if (choices.ids[index] in choices.seen) == is_seen]:
                results["contaminated"][name] = _choice_figures(choices, part, config.bootstrap_draws, seed)
    return results


def _choice_figures(results: ChoiceResults, part: Sequence[int], draws: int, seed: int) -> dict[str, Any]:
    """Return the metrics of the items with these indices."""
    gold = [results.gold[index] for index in part]
    # The items of a benchmark are independent: each is a cluster of its own.
    bootstrap = ClusterBootstrap([str(number) for number in range(len(part))], draws, seed)
    counts = [gold.count(choice) for choice in range(len(results.choices))]
    majority = counts.index(max(counts))

    def figures(predicted: Sequence[int]) -> dict[str, Resampled]:
        parts = confusion_parts(gold, predicted, len(results.choices))
        return {name: bootstrap.figure(parts, metric(name).reduce) for name in in_group("choice")}

    models = {name: figures([predicted[index] for index in part]) for name, predicted in results.predicted.items()}
    floor = {**_as_json(figures([majority] * len(part))), "choice": results.choices[majority]}
    return {
        "items": len(part),
        "choices": list(results.choices),
        "models": {name: _as_json(figures) for name, figures in models.items()},
        "floors": {MAJORITY: floor},
        "differences": _differences(models),
    }


def write_all(run: RunFolder, samples: Samples, baselines: Samples, results: dict[str, Any]) -> None:
    """Write the samples of models and baselines, the page and, last, ``results.json``."""
    write_samples(run.eval_dir / SAMPLES_NAME, chain.from_iterable(samples.values()))
    write_samples(run.eval_dir / FLOORS_NAME, chain.from_iterable(baselines.values()))
    write_figures(run, samples, results)


def write_figures(run: RunFolder, samples: Samples, results: dict[str, Any]) -> None:
    """Write the page and, last, ``results.json``."""
    write_page(run, samples, results)
    write_json(run.results_path, results)


def write_page(run: RunFolder, samples: Samples, results: Mapping[str, Any]) -> None:
    """Write ``report.html``, with what the clinicians said where they did."""
    with atomic_file(run.eval_dir / REPORT_NAME) as file:
        file.write(make_page(results, samples, review_of(run, samples)))


def review_of(run: RunFolder, samples: Samples | None = None) -> dict[str, Any] | None:
    """Return the results of the run's review, with whether they are of these answers (``current``); None: none.

    Args:
        run: the run folder.
        samples: the answers, by model; None: those of the last evaluation.
    """
    path = run.review_results_path
    review = read_json(path) if path.is_file() else None
    if not isinstance(review, dict) or not isinstance(review.get("answers"), dict):
        return None
    samples = read_samples(run.eval_dir / SAMPLES_NAME) if samples is None else samples
    now = {name: {sample.id: sample.answer for sample in of_model} for name, of_model in samples.items()}
    same = [
        (answer := now[name].get(question)) is not None and digest_of_answer(answer) == digest
        for name, judged in review["answers"].items()
        if name in now
        for question, digest in judged.items()
    ]
    return {**review, "current": all(same)}
