"""From judgments to figures: who wins, what each model's answers are like, what raters agree on, how each judged.

Every figure is a mean over questions with an interval for other topics and raters (``intervals``). Figures of two
models are paired: they come from the same raters and questions.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from medqa_cli.evaluation.bootstrap import score_interval
from medqa_cli.evaluation.samples import topic_keys
from medqa_cli.files import MODEL_NAMES
from medqa_cli.review.agreement import Level, Unit, agreement
from medqa_cli.review.intervals import Cell, Mean, mean_over_questions, t_quantile
from medqa_cli.review.judgments import REFERENCE, Judgment

WIN_RATE = "win_rate"
TIE = 0.5
# Of raters without a preference for a side, one in a hundred is named.
_SIDE_P = 0.01
# Nobody reads a question and two answers in less.
_TOO_FAST_SECONDS = 5.0
_ORDER = (REFERENCE, "other models", *MODEL_NAMES)
# By rater, question and what was judged: the values that were given.
_Values = Mapping[tuple[str, str], list[float]]


def models_of(judgments: Iterable[Judgment]) -> list[str]:
    """Return the models whose answers were judged, in the order of their first appearance."""
    return list(dict.fromkeys(name for judgment in judgments for name in (judgment.pair.x, judgment.pair.y)))


def preference(judgment: Judgment, first: str) -> float | None:
    """Return 1 where the answer of ``first`` was judged better, 0.5 for equal, 0 for worse; None: not judged."""
    if judgment.better is None:
        return None
    if judgment.better == "equal":
        return TIE
    return float((judgment.pair.x if judgment.better == "x" else judgment.pair.y) == first)


def judged_pairs(judgments: Sequence[Judgment]) -> dict[tuple[str, str], list[Judgment]]:
    """Return the judgments of each pair of models; the model that is expected to be better is the first of a pair."""
    by_pair: dict[tuple[str, str], list[Judgment]] = {}
    for judgment in judgments:
        first, second = sorted((judgment.pair.x, judgment.pair.y), key=_place)
        by_pair.setdefault((first, second), []).append(judgment)
    return dict(sorted(by_pair.items(), key=lambda item: [_place(name) for name in item[0]]))


def _place(model: str) -> tuple[int, str]:
    return _ORDER.index(model) if model in _ORDER else 1, model


class Review:
    """Judgments with the topics of their questions; figures are computed from them."""

    def __init__(self, judgments: Sequence[Judgment], criteria: Mapping[str, bool]) -> None:
        """Find out which questions are of one topic; ``judgments``: one a pair; ``criteria``: by id, if yes is good."""
        self.judgments = judgments
        self.criteria = criteria
        pairs = [judgment.pair for judgment in judgments]
        self._topics = {pair.question_id: key for pair, key in zip(pairs, topic_keys(pairs), strict=True)}

    @property
    def num_topics(self) -> int:
        """How many topics the questions are about."""
        return len(set(self._topics.values()))

    def topic_of(self, question_id: str) -> str:
        """Return the topic that a question is drawn with."""
        return self._topics[question_id]

    def mean(self, values: _Values, low: float = 0.0, high: float = 1.0) -> Mean | None:
        """Return the mean of what raters gave, by (rater, question); several values there count as their mean."""
        cells = [
            Cell(self._topics[question], question, rater, _mean(given))
            for (rater, question), given in values.items()
            if given
        ]
        return mean_over_questions(cells, low, high)

    def model_figures(self) -> dict[str, dict[str, Any]]:
        """Return for each model the share of its answers that meets each criterion."""
        figures: dict[str, dict[str, Any]] = {}
        for model in models_of(self.judgments):
            means = {name: self.mean(self._said_of(model, name)) for name in self.criteria}
            figures[model] = {name: as_json(mean) for name, mean in means.items() if mean is not None}
        return figures

    def differences(self) -> dict[str, dict[str, Any]]:
        """Return for each pair of models the win rate of the first, and the difference in each criterion."""
        figures: dict[str, dict[str, Any]] = {}
        for (first, second), of_pair in judged_pairs(self.judgments).items():
            found = figures[f"{first}-{second}"] = {}
            if (rate := self._win_rate(first, of_pair)) is not None:
                found[WIN_RATE] = rate
            for name, is_good in self.criteria.items():
                one, other = self._said_of(first, name), self._said_of(second, name)
                both = {key: [_mean(one[key]) - _mean(other[key])] for key in one if key in other}
                if (mean := self.mean(both, -1.0, 1.0)) is not None:
                    found[name] = against_tie(mean, 0.0, higher_is_better=is_good)
        return figures

    def control(self) -> dict[str, Any] | None:
        """Return how often reference answers, mixed in unseen, are preferred to those of models; None: none were."""
        return self._win_rate(
            REFERENCE,
            [judgment for judgment in self.judgments if REFERENCE in (judgment.pair.x, judgment.pair.y)],
        )

    def _win_rate(self, first: str, judgments: Sequence[Judgment]) -> dict[str, Any] | None:
        given: dict[tuple[str, str], list[float]] = {}
        for judgment in judgments:
            value = preference(judgment, first)
            if value is not None:
                given.setdefault((judgment.pair.rater, judgment.pair.question_id), []).append(value)
        mean = self.mean(given)
        if mean is None:
            return None
        said = [value for values in given.values() for value in values]
        counts = {"won": said.count(1.0), "equal": said.count(TIE), "lost": said.count(0.0)}
        return {**against_tie(mean, TIE, higher_is_better=True), **counts}

    def _said_of(self, model: str, criterion: str) -> dict[tuple[str, str], list[float]]:
        """Return what raters said of a model's answers, by rater and question."""
        given: dict[tuple[str, str], list[float]] = {}
        for judgment in self.judgments:
            for name, said in ((judgment.pair.x, judgment.x), (judgment.pair.y, judgment.y)):
                value = said.get(criterion)
                if name == model and value is not None:
                    given.setdefault((judgment.pair.rater, judgment.pair.question_id), []).append(float(value))
        return given

    def agreements(self, seed: int) -> dict[str, Any]:
        """Return how far raters agree who judged the same: on the better answer (``win_rate``), and by criterion."""
        verdicts: dict[Any, dict[str, float]] = defaultdict(dict)
        for judgment in self.judgments:
            # Sides are shuffled by rater: what is compared is which model won.
            first, second = sorted((judgment.pair.x, judgment.pair.y))
            value = preference(judgment, first)
            if value is not None:
                verdicts[judgment.pair.question_id, first, second][judgment.pair.rater] = value
        found = {WIN_RATE: self._agreement(verdicts, "interval", seed)}
        for name in self.criteria:
            answers: dict[Any, dict[str, float]] = defaultdict(dict)
            for model in models_of(self.judgments):
                for (rater, question), values in self._said_of(model, name).items():
                    # A rater who saw the answer in two pairs gave it twice; the first is what the others compare with.
                    answers[question, model][rater] = values[0]
            found[name] = self._agreement(answers, "nominal", seed)
        return {name: one for name, one in found.items() if one is not None}

    def _agreement(self, said: Mapping[Any, Mapping[str, float]], level: Level, seed: int) -> dict[str, Any] | None:
        units = [Unit(self._topics[key[0]], tuple(by_rater.values())) for key, by_rater in said.items()]
        return agreement(units, level, seed)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def as_json(mean: Mean) -> dict[str, Any]:
    """Return the form that ``results.json`` uses."""
    return {
        "value": mean.value,
        "ci95": [mean.low, mean.high],
        "questions": mean.num_questions,
        "topics": mean.num_topics,
        "raters": mean.num_raters,
    }


def against_tie(mean: Mean, tie: float, *, higher_is_better: bool) -> dict[str, Any]:
    """Return a figure that is compared with a tie: ``better`` is None where the interval holds the tie.

    ``more_questions``: how many more would show a difference as large as the one seen, in 80 of 100 cases; None where
    it is shown already, or where no number of them would.
    """
    shown = mean.num_topics > 1 and not mean.low <= tie <= mean.high
    needed = None if shown else mean.questions_to_settle(tie)
    return {
        **as_json(mean),
        "better": (mean.value > tie) == higher_is_better if shown else None,
        "detectable": mean.detectable(),
        "more_questions": None if needed is None else max(1, needed - mean.num_questions),
    }


def describe_raters(judgments: Sequence[Judgment]) -> dict[str, Any]:
    """Return by rater: counts, the share of X among the decided pairs, whether it is more than chance, the pace."""
    described = {}
    for rater in dict.fromkeys(judgment.pair.rater for judgment in judgments):
        own = [judgment for judgment in judgments if judgment.pair.rater == rater]
        verdicts = [judgment.better for judgment in own]
        decided, x = sum(verdict in ("x", "y") for verdict in verdicts), verdicts.count("x")
        seconds = [judgment.seconds for judgment in own if judgment.seconds is not None]
        side: dict[str, Any] | None = None
        if decided:
            low, high = score_interval(x / decided, decided, t_quantile(math.inf))
            p_value = two_sided_p(x, decided)
            side = {"value": x / decided, "ci95": [low, high], "p": p_value, "biased": p_value < _SIDE_P}
        described[rater] = {
            "judged": sum(verdict is not None for verdict in verdicts),
            "equal": verdicts.count("equal"),
            "cannot_judge": verdicts.count(None),
            "remarks": sum(bool(judgment.remark.strip()) for judgment in own),
            "x_share": side,
            "median_seconds": round(median(seconds), 1) if seconds else None,
            "faster_than_reading": sum(value < _TOO_FAST_SECONDS for value in seconds),
        }
    return described


def two_sided_p(successes: int, trials: int) -> float:
    """Return how likely a fair coin is at least as far from half (exact binomial test)."""
    distance = abs(2 * successes - trials)
    far = sum(math.comb(trials, k) for k in range(trials + 1) if abs(2 * k - trials) >= distance)
    return float(far / 2**trials)
