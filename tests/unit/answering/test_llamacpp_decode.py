"""The loop over llama.cpp gives the tokens of the loop over Transformers, whoever joins, leaves and goes back."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

from helpers.models import looping_model
from medqa_cli.answering.decode import decode_batch
from medqa_cli.answering.llamacpp_decode import Rows, choose
from medqa_cli.answering.stopping import StoppingState
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import MedqaError

GREEDY = GenerateConfig()


class TorchContext:
    """A context of a model of Transformers, which reads each sequence anew; ``parts_read``: of each call."""

    def __init__(self, model: Any, num_sequences: int, tokens_at_once: int = 512, forgets: bool = True) -> None:
        self._model, self._forgets = model, forgets
        self.num_sequences, self.tokens_at_once = num_sequences, tokens_at_once
        self.read_of: dict[int, list[int]] = {number: [] for number in range(num_sequences)}
        self.parts_read: list[list[int]] = []

    def read(self, parts: Sequence[tuple[int, int, Sequence[int], bool]]) -> dict[int, Any]:
        self.parts_read.append([len(ids) for _, _, ids, _ in parts])
        # In any other order llama.cpp computes each sequence by itself.
        assert [part[0] for part in parts] == sorted(part[0] for part in parts)
        assert sum(self.parts_read[-1]) <= self.tokens_at_once
        found = {}
        for sequence, position, ids, is_wanted in parts:
            assert position == len(self.read_of[sequence])
            assert len(ids) > 0
            self.read_of[sequence] += ids
            if is_wanted:
                with torch.inference_mode():
                    found[sequence] = self._model(torch.tensor([self.read_of[sequence]])).logits[0, -1].numpy()
        return found

    def forget(self, sequence: int, position: int) -> bool:
        if position and not self._forgets:
            return False
        del self.read_of[sequence][position:]
        return True


@pytest.fixture(scope="module")
def looping(tiny_model_dir: Path) -> Any:
    return looping_model(tiny_model_dir)


def make_states(limits: Sequence[int], retries: int = 4) -> list[StoppingState]:
    # Some ids end an answer, so that rows leave at different steps.
    return [StoppingState(lambda ids: " ".join(map(str, ids)), {5, 17, 33, 61}, limit, retries) for limit in limits]


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(70, 380, size=rng.integers(3, 30)).tolist() for _ in range(count)]


@pytest.mark.parametrize(
    "config",
    [GREEDY, GenerateConfig(repetition_penalty=1.3), GenerateConfig(no_repeat_ngram_size=3)],
    ids=["greedy", "penalty", "ngrams"],
)
@pytest.mark.parametrize(("at_once", "room", "forgets"), [(3, 512, True), (2, 7, True), (4, 512, False)])
def test_rows_get_the_tokens_that_transformers_gives_them(
    looping: Any, config: GenerateConfig, at_once: int, room: int, forgets: bool
) -> None:
    asked, limits = prompts(6), [150, 12, 150, 25, 150, 1]
    expected = make_states(limits)
    decode_batch(looping, torch.device("cpu"), asked, expected, config)
    context, states = TorchContext(looping, at_once, room, forgets), make_states(limits)
    rows, waiting = Rows(context), list(range(6))
    told: list[int] = []
    while waiting or len(rows):
        while waiting and rows.has_room:
            number = waiting.pop(0)
            rows.add(asked[number], states[number], config, functools.partial(told.append, number))
        rows.step()
    assert [state.ids for state in states] == [state.ids for state in expected]
    assert [state.finish_reason for state in states] == [state.finish_reason for state in expected]
    assert [state.num_retries for state in states] == [state.num_retries for state in expected]
    assert set(told) == set(range(6))
    assert context.parts_read[0] == ([len(ids) for ids in asked[:at_once]] if room > 100 else [6, 1])
    if config == GREEDY:
        assert sum(state.num_retries for state in states) > 3  # rows did go back


def test_a_state_with_ids_goes_on_from_them(looping: Any) -> None:
    (whole,), (begun,) = make_states([30]), make_states([30])
    decode_batch(looping, torch.device("cpu"), prompts(1), [whole], GREEDY)
    for token_id in whole.ids[:7]:
        begun.add(token_id)
    rows = Rows(TorchContext(looping, 1))
    rows.add(prompts(1)[0], begun, GREEDY, lambda: None)
    while len(rows):
        rows.step()
    assert begun.ids == whole.ids


def test_after_a_failure_there_is_room_again_and_later_rows_are_whole(looping: Any) -> None:
    context = TorchContext(looping, 2)
    rows, states = Rows(context), make_states([10, 10, 10])
    rows.add(prompts(1)[0], states[0], GREEDY, lambda: None)

    def fail() -> None:
        raise MedqaError("no", "")

    rows.add(prompts(1)[0], states[1], GREEDY, fail)
    with pytest.raises(MedqaError):
        rows.step()
    assert (len(rows), rows.has_room) == (0, True)
    rows.add(prompts(1)[0], states[2], GREEDY, lambda: None)
    rows.step()
    assert [number for number, ids in context.read_of.items() if ids] == [0]  # the lowest that is free
    while len(rows):
        rows.step()
    assert states[2].finish_reason is not None


class Going:
    """A state that has not gone back."""

    went_back = False
    num_retries = 0
    finish_reason = None

    def __init__(self) -> None:
        self.ids: list[int] = []

    def biases(self, best: int) -> dict[int, float]:
        return {}

    def add(self, token_id: int) -> None:
        pass


@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_a_token_is_chosen_as_transformers_processors_do(size: int) -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        scores = rng.normal(size=50).astype(np.float32) * 2
        history = rng.integers(0, 6, size=rng.integers(1, 30)).tolist()
        penalty = float(rng.choice([0.8, 1.2, 3.0]))
        processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty)])
        if size:
            processors.append(NoRepeatNGramLogitsProcessor(size))
        expected = processors(torch.tensor([history]), torch.from_numpy(scores.copy())[None])[0].argmax()
        config = GenerateConfig(repetition_penalty=penalty, no_repeat_ngram_size=size)
        assert choose(scores.copy(), history, Going(), config, rng) == int(expected)


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.5, 0.001])
def test_a_temperature_draws_from_transformers_probabilities(top_p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(4).normal(size=30).astype(np.float32) * 3
    warped = TemperatureLogitsWarper(0.7)(torch.zeros(1, 1), torch.from_numpy(scores)[None].double())
    if top_p < 1:
        warped = TopPLogitsWarper(top_p)(torch.zeros(1, 1), warped)
    expected = warped.softmax(-1)[0].numpy()
    given: list[Any] = []

    class Draws:
        def choice(self, size: int, p: Any) -> int:
            given.append(p)
            return size - 1

    config = GenerateConfig(temperature=0.7, top_p=top_p)
    assert choose(scores.copy(), [1], Going(), config, Draws()) == 29  # type: ignore[arg-type]
    assert np.abs(given[0] - expected).max() < 1e-9


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error(broken: float) -> None:
    scores = np.zeros(5, np.float32)
    scores[2] = broken
    with pytest.raises(MedqaError, match="no numbers"):
        choose(scores, [1], Going(), GREEDY, np.random.default_rng(0))
