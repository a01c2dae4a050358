"""The floor under all likelihoods: token frequencies alone, by Witten-Bell smoothing."""

import math

import pytest

from medqa_cli.evaluation.baselines import unigram_scores
from medqa_cli.model.kernels.packing import AnswerScore
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example

END = 9


def example(prompt: list[int], answer: list[int]) -> Example:
    return Example(prompt + answer, [IGNORE_INDEX] * len(prompt) + answer, False)


# Six answer tokens of three types: 4 twice, 5 twice, the end token twice. The prompts do not count.
TRAIN = [example([1, 2, 7, 7, 7], [4, 5, END]), example([7], [4, 5, END])]


def nats(probability: float) -> float:
    return -math.log(probability)


def test_unigram_scores_equal_figures_by_hand() -> None:
    # 6 tokens + 3 types = 9; a vocabulary of 10 shares the 3/9 that smoothing leaves: 1/30 each.
    seen, unseen = 2 / 9 + 1 / 30, 1 / 30
    scores = unigram_scores(TRAIN, [example([1], [4, END]), example([], [7, 7, 5]), example([1, 4], [])], 10)
    assert [score.num_tokens for score in scores] == [2, 3, 0]
    assert scores[0].nll_sum == pytest.approx(2 * nats(seen))
    assert scores[1].nll_sum == pytest.approx(2 * nats(unseen) + nats(seen))
    assert scores[2] == AnswerScore(0.0, 0)


def test_the_probabilities_of_all_tokens_sum_to_one() -> None:
    scores = unigram_scores(TRAIN, [example([1], [token]) for token in range(10)], 10)
    assert sum(math.exp(-score.nll_sum) for score in scores) == pytest.approx(1.0)
    assert len({round(score.nll_sum, 9) for score in scores}) == 2


def test_frequent_tokens_are_cheap_and_every_token_is_possible() -> None:
    train = [example([], [4] * 98 + [5, END])]
    often, once, never = unigram_scores(train, [example([], [token]) for token in (4, 5, 8)], 50_000)
    assert often.nll_sum < 0.1 < once.nll_sum < never.nll_sum < 20
