"""How often the intervals of ``medqa review score`` hold the truth, by simulated raters whose preferences are known.

    python benchmarks/review_intervals.py [--draws 1000] [--alternatives] [--json FILE]

A question's better answer is drawn with its topic's probability, which varies around ``preference``; a rater says it
with an error rate of their own, or cannot tell two answers apart (one question in ten). Some questions go to all
raters, the others to one. The truth is what infinitely many raters would say of infinitely many topics. Beside the win
rate: the share of harmful answers of one model, and the difference of two. ``--alternatives`` adds what was not taken:
a bootstrap over topics alone, and one over topics and raters.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import write_figures

from medqa_cli.review.intervals import Cell, Mean, mean_over_questions
from medqa_cli.review.judgments import Judgment, Pair

# Of the variance of a question's better answer, the share that its topic explains.
TOPICS_SHARE = 0.2
TIES = 0.1
QUESTIONS_PER_TOPIC = 1.5
ERRORS = (0.0, 0.3)  # where each rater has an error rate of their own
RESAMPLES = 400


@dataclass(frozen=True)
class Scenario:
    """What is simulated; ``error``: None where each rater has one of their own; ``harm``: of both models."""

    preference: float = 0.5
    error: float | None = 0.15
    raters: int = 3
    questions: int = 40
    doubles: int = 10
    harm: tuple[float, float] = (0.05, 0.1)

    @property
    def mean_error(self) -> float:
        """The error rate of raters on average."""
        return sum(ERRORS) / 2 if self.error is None else self.error

    def seen(self, rate: float) -> float:
        """Return how often raters say what is so at this rate."""
        return rate * (1 - self.mean_error) + (1 - rate) * self.mean_error

    def truths(self) -> dict[str, float]:
        """Return what the figures estimate."""
        first, second = map(self.seen, self.harm)
        return {
            "win_rate": (1 - TIES) * self.seen(self.preference) + TIES / 2,
            "harm": first,
            "harm_less": first - second,
        }


@dataclass(frozen=True)
class Rating:
    """What one rater says of one question: 1, 0.5 or 0 for the first model, whether either answer could harm."""

    topic: str
    question: str
    rater: str
    won: float
    harm: tuple[bool, bool]


def simulate(scenario: Scenario, generator: np.random.Generator) -> list[Rating]:
    """Draw topics, questions, raters and what they say."""
    count = scenario.questions
    num_topics = max(2, round(count / QUESTIONS_PER_TOPIC))
    topics = np.concatenate([np.arange(num_topics), generator.integers(0, num_topics, count - num_topics)])

    def by_topic(rate: float) -> Any:
        """Return for each question whether something of this rate is so, alike within topics."""
        size = 1 / TOPICS_SHARE - 1
        rates = (
            generator.beta(rate * size, (1 - rate) * size, num_topics) if 0 < rate < 1 else np.full(num_topics, rate)
        )
        return generator.random(count) < rates[topics]

    first_is_better, is_tie = by_topic(scenario.preference), generator.random(count) < TIES
    harmful = [by_topic(rate) for rate in scenario.harm]
    errors = (
        generator.uniform(*ERRORS, scenario.raters) if scenario.error is None else [scenario.error] * scenario.raters
    )
    ratings = []
    for number, question in enumerate(generator.permutation(count)):
        single = [(number - scenario.doubles) % scenario.raters]
        for rater in range(scenario.raters) if number < scenario.doubles else single:
            wrong = generator.random(3) < errors[rater]
            won = 0.5 if is_tie[question] else float(first_is_better[question] ^ wrong[0])
            harm = (bool(harmful[0][question] ^ wrong[1]), bool(harmful[1][question] ^ wrong[2]))
            ratings.append(Rating(f"topic {topics[question]}", f"q{question}", f"rater {rater}", won, harm))
    return ratings


def judgments_of(ratings: Sequence[Rating], doubled: set[str], generator: np.random.Generator) -> list[Judgment]:
    """Return ratings as the pages give them back, sides shuffled: adapter is the first model, base the second."""
    judgments = []
    for number, rating in enumerate(ratings):
        models = ("adapter", "base")
        harm = [{"could_harm": said} for said in rating.harm]
        better = {0.5: "equal", 1.0: "x", 0.0: "y"}[rating.won]
        if generator.random() < 0.5:
            models, harm = models[::-1], harm[::-1]
            better = {"x": "y", "y": "x"}.get(better, better)
        pair = Pair(
            f"{number}", rating.rater, rating.question, f"What is {rating.question}?", rating.topic, *models,
            rating.question in doubled,
        )  # fmt: skip
        judgments.append(Judgment(pair, harm[0], harm[1], better, "", None))  # type: ignore[arg-type]
    return judgments


def values_of(ratings: Sequence[Rating]) -> dict[str, tuple[list[Cell], float, float]]:
    """Return the cells of each figure, and the lowest and highest value of one."""

    def cells(value_of: Callable[[Rating], float]) -> list[Cell]:
        return [Cell(one.topic, one.question, one.rater, value_of(one)) for one in ratings]

    return {
        "win_rate": (cells(lambda one: one.won), 0.0, 1.0),
        "harm": (cells(lambda one: one.harm[0]), 0.0, 1.0),
        "harm_less": (cells(lambda one: float(one.harm[0]) - one.harm[1]), -1.0, 1.0),
    }


def resampled(cells: Sequence[Cell], generator: np.random.Generator, *, raters: bool) -> tuple[float, float]:
    """Return a percentile interval over topics, or over topics and raters: drawn one by the other (Owen 2007)."""
    weights = np.ones((RESAMPLES, len(cells)))
    for key in ("topic", "rater") if raters else ("topic",):
        names = [getattr(cell, key) for cell in cells]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        drawn = generator.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), RESAMPLES)
        weights *= drawn[:, [numbers[name] for name in names]]
    counts = {cell.question: 0 for cell in cells}
    for cell in cells:
        counts[cell.question] += 1
    weights /= [counts[cell.question] for cell in cells]
    kept = weights[weights.sum(axis=1) > 0]
    low, high = np.quantile(kept @ [cell.value for cell in cells] / kept.sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def coverage(scenario: Scenario, draws: int, seed: int, *, alternatives: bool = False) -> dict[str, Any]:
    """Return for each figure how often its interval holds the truth, and how wide it is.

    ``called_different``: how often the interval of the win rate leaves out the tie.
    """
    generator = np.random.default_rng(seed)
    truths = scenario.truths()
    held: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    different = 0
    for _ in range(draws):
        of_figures = values_of(simulate(scenario, generator))
        intervals = {}
        for name, (cells, low, high) in of_figures.items():
            mean: Mean | None = mean_over_questions(cells, low, high)
            assert mean is not None
            intervals[name] = (mean.low, mean.high)
        different += not intervals["win_rate"][0] <= 0.5 <= intervals["win_rate"][1]
        if alternatives:
            cells = of_figures["win_rate"][0]
            intervals["win_rate, topics drawn"] = resampled(cells, generator, raters=False)
            intervals["win_rate, topics and raters drawn"] = resampled(cells, generator, raters=True)
        for name, (start, end) in intervals.items():
            held.setdefault(name, []).append(start <= truths[name.partition(",")[0]] <= end)
            widths.setdefault(name, []).append(end - start)
    return {
        **{
            name: {"coverage": float(np.mean(of_name)), "width": float(np.mean(widths[name]))}
            for name, of_name in held.items()
        },
        "called_different": different / draws,
    }


def scenarios() -> Iterator[Scenario]:
    """Yield what docs/experiments.md shows."""
    for preference, error, raters in itertools.product((0.5, 0.6, 0.7, 0.8), (0.0, 0.15, 0.3, None), (2, 3, 5)):
        yield Scenario(preference, error, raters)
    for preference, raters in itertools.product((0.5, 0.8), (2, 3, 5)):
        yield Scenario(preference, None, raters, 100, 20)


def mixed(draws: int, seed: int) -> Iterator[Scenario]:
    """Yield scenarios drawn from the whole range."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        error = None if generator.random() < 0.5 else float(generator.uniform(*ERRORS))
        yield Scenario(float(generator.uniform(0.5, 0.8)), error, int(generator.integers(2, 6)))


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--alternatives", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = []
    for number, scenario in enumerate(scenarios()):
        figures = coverage(scenario, arguments.draws, number, alternatives=arguments.alternatives)
        found.append({"scenario": vars(scenario), **figures})
        shown = "  ".join(
            f"{name} {100 * one['coverage']:.1f}" for name, one in figures.items() if name != "called_different"
        )
        about = (
            f"{scenario.preference} error {scenario.error}, {scenario.raters} raters, {scenario.questions} questions"
        )
        print(f"{about}: {shown}  called different {100 * figures['called_different']:.1f}", flush=True)
    one_each = [coverage(scenario, 1, number) for number, scenario in enumerate(mixed(arguments.draws, 1))]
    over_all = {name: float(np.mean([one[name]["coverage"] for one in one_each])) for name in Scenario().truths()}
    print(f"{arguments.draws} scenarios from the whole range: {over_all}")
    write_figures(arguments.json, {"draws": arguments.draws, "scenarios": found, "whole_range": over_all})


if __name__ == "__main__":
    main()
