"""Which questions a review asks, who is asked which, about which two models, and which of them stands on the left.

Everything is drawn with the seed of the config: the same options on the same answers give the same review.
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from medqa_cli import console
from medqa_cli.config.schema import Config
from medqa_cli.data.normalize import normalize
from medqa_cli.errors import InputError
from medqa_cli.evaluation.arms import OPEN_BOOK
from medqa_cli.evaluation.results import SAMPLES_NAME
from medqa_cli.evaluation.samples import Sample, read_samples, topic_keys
from medqa_cli.files import MODEL_NAMES
from medqa_cli.review.judgments import REFERENCE
from medqa_cli.spelling import did_you_mean, listed

# Of the pairs, where references are among the models. Each of them says whether raters see what is good, and none says
# which model is the better one.
CONTROL_SHARE = 0.2

T = TypeVar("T")
Contest = tuple[str, str]


@dataclass(frozen=True)
class Question:
    """A question to judge; ``id``: of the held-out row; ``answers``: by model."""

    id: str
    text: str
    topic: str
    answers: Mapping[str, str]


def default_models(config: Config) -> tuple[str, ...]:
    """Return whose answers are judged by default: those with sources where a model has them, as its readers do.

    Raises:
        InputError: the samples of the run cannot be read.
    """
    path = config.run.eval_dir / SAMPLES_NAME
    samples = read_samples(path) if path.exists() else {}
    has_answers = {name for name, of_model in samples.items() if any(sample.answer is not None for sample in of_model)}
    opened = {name: name + OPEN_BOOK for name in ("adapter", "base")}
    return (*(other if other in has_answers else name for name, other in opened.items()), REFERENCE)


def questions_with_answers(config: Config, models: Sequence[str], count: int) -> list[Question]:
    """Draw questions spread over topics, each with the answers of the models.

    Args:
        config: the run, and the seed of the draw.
        models: names in ``samples.jsonl``, or ``reference``.
        count: how many; fewer where there are fewer.

    Raises:
        InputError: there are no samples, or none with answers of a model.
    """
    written = [name for name in models if name != REFERENCE]
    samples = _read_answers(config.run.eval_dir / SAMPLES_NAME, written, count)
    first = next(iter(samples.values()))
    following = sum(bool(sample.earlier or sample.context) for sample in first)
    if following:
        console.warn(
            f"{following} of {len(first)} questions follow on earlier turns or have a context, which a review does not "
            "show: they are left out"
        )
    if following == len(first):
        raise InputError("no question stands alone", "a review needs questions without earlier turns and context")
    rows: dict[str, int] = {}
    for number, sample in enumerate(first):
        if sample.earlier or sample.context:
            continue
        if all(samples[name][number].answer is not None for name in written):
            # Rows that ask the same have the same answers.
            rows.setdefault(normalize(sample.question), number)
    numbers = list(rows.values())
    topics = topic_keys([first[number] for number in numbers])
    drawn = []
    for number in spread(numbers, topics, count, config.seed):
        row = first[number]
        answers = {m: row.references[0] if m == REFERENCE else samples[m][number].answer or "" for m in models}
        drawn.append(Question(row.id, row.question, row.topic, answers))
    return drawn


def _read_answers(path: Path, written: Sequence[str], count: int) -> dict[str, list[Sample]]:
    """Read the samples of an evaluation, and refuse them where a model that is named has written no answers."""
    if not path.exists():
        raise InputError(f"no answers in {path}", f"generate them: {_command(written)} --limit {2 * count}")
    samples = read_samples(path)
    for name in written:
        if name not in samples:
            known = [*samples, REFERENCE]
            raise InputError(
                f"{path} holds no answers of '{name}', but of {listed(known)}{did_you_mean(name, known)}",
                f"measure it: {_command(written)}; or leave it out: --models {','.join(known[:3])}",
            )
        if all(sample.answer is None for sample in samples[name]):
            raise InputError(
                f"{path} holds no answers of '{name}': only likelihoods were measured",
                f"generate them: {_command(written)} --limit {2 * count}",
            )
    return samples


def _command(models: Sequence[str]) -> str:
    plain = dict.fromkeys(name.removesuffix(OPEN_BOOK) for name in models)
    local = [name for name in plain if name in MODEL_NAMES]
    return f"medqa eval --model {','.join(local or ('adapter', 'base'))} --set eval.metrics=all"


def spread(items: Sequence[T], topics: Sequence[Hashable], count: int, seed: int) -> list[T]:
    """Draw items from as many topics as there are, in an order whose every beginning is spread as well.

    Args:
        items: what to draw from.
        topics: that of each item.
        count: how many; fewer where there are fewer items.
        seed: of the draw.
    """
    rng = random.Random(f"{seed} questions")
    of_topic: dict[Hashable, list[T]] = defaultdict(list)
    for item, topic in zip(items, topics, strict=True):
        of_topic[topic].append(item)
    lists = list(of_topic.values())
    rng.shuffle(lists)
    for of_one_topic in lists:
        rng.shuffle(of_one_topic)
    rounds = max(map(len, lists), default=0)
    return [of_one_topic[number] for number in range(rounds) for of_one_topic in lists if number < len(of_one_topic)][
        :count
    ]


def deal(questions: Sequence[T], raters: Sequence[str], num_shared: int) -> tuple[list[T], dict[str, list[T]]]:
    """Return the questions that all raters are asked, and those of each rater alone."""
    shared, rest = list(questions[:num_shared]), questions[num_shared:]
    return shared, {rater: list(rest[number :: len(raters)]) for number, rater in enumerate(raters)}


def contests(models: Sequence[str], count: int, seed: int, name: str) -> list[Contest]:
    """Return which two models are shown for each of ``count`` questions, in an order that tells nothing.

    Two models are compared in each way equally often; a fifth of the questions are controls, which show the reference
    beside one of the models. With a single model all of them are.

    Args:
        models: at least two, the reference may be one.
        count: of questions.
        seed: of the draw.
        name: for whom; other names get other orders.
    """
    compared = [model for model in models if model != REFERENCE]
    between: list[Contest] = list(combinations(compared, 2))
    controls: list[Contest] = [(model, REFERENCE) for model in compared] if REFERENCE in models else []
    rng = random.Random(f"{seed} contests {name}")
    num_controls = count if not between else round(count * CONTROL_SHARE) if controls else 0
    drawn = [*_equally(controls, num_controls, rng), *_equally(between, count - num_controls, rng)]
    rng.shuffle(drawn)
    return drawn


def _equally(kinds: Sequence[Contest], count: int, rng: random.Random) -> list[Contest]:
    """Return each kind equally often; which ones get one more is drawn."""
    if not kinds:
        return []
    order = rng.sample(kinds, len(kinds))
    return [order[number % len(order)] for number in range(count)]


def sides(drawn: Sequence[Contest], seed: int, rater: str) -> list[Contest]:
    """Return each contest with its models in the order X, Y for one rater: each stands on the left equally often."""
    rng = random.Random(f"{seed} sides {rater}")
    indices: dict[Contest, list[int]] = defaultdict(list)
    for index, contest in enumerate(drawn):
        indices[contest].append(index)
    turned = [False] * len(drawn)
    for of_contest in indices.values():
        first = rng.randrange(2)
        turns = [(number + first) % 2 == 1 for number in range(len(of_contest))]
        rng.shuffle(turns)
        for index, turn in zip(of_contest, turns, strict=True):
            turned[index] = turn
    return [contest[::-1] if turn else contest for contest, turn in zip(drawn, turned, strict=True)]


def order(count: int, seed: int, rater: str) -> list[int]:
    """Return in which order one rater is asked that many questions."""
    numbers = list(range(count))
    random.Random(f"{seed} order {rater}").shuffle(numbers)
    return numbers
