"""Answers that a model gives back: exact counts of texts that it would write itself, and of changed ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_cli.answering.decode import decode_batch
from medqa_cli.config.schema import GenerateConfig, ModelConfig, PromptConfig
from medqa_cli.data.dataset import QaRow
from medqa_cli.evaluation.generation import WholeAnswer
from medqa_cli.evaluation.memorization.verbatim import Recited, figures, pick_texts, recite
from medqa_cli.files import RunFolder
from medqa_cli.journal import SharedJournal
from medqa_cli.model.load import LoadedModel, load_model
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example, PromptEncoder

QUESTIONS = ["What is glaucoma?", "How to treat asthma?", "Answer the Question about diseases.", "Is it treated?"]


@pytest.fixture(scope="module")
def models(talking_model_dir: Path) -> dict[bool, LoadedModel]:
    """The same weights, packed and not."""
    run, config = RunFolder(talking_model_dir), ModelConfig(str(talking_model_dir), quantization="none")
    return {
        packed: load_model("base", run, replace(config, compute_dtype="float32"), PromptConfig("plain"), packed=packed)
        for packed in (True, False)
    }


def written_by(loaded: LoadedModel, prompt: list[int], count: int) -> list[int]:
    """What greedy decoding writes, by the token loop of ``ask``."""
    state = WholeAnswer(loaded.encoder.decode_answer, (), count)
    decode_batch(loaded.model, loaded.device, [prompt], [state], GenerateConfig())
    return state.ids


def example_of(prompt: list[int], answer: list[int]) -> Example:
    return Example(prompt + answer, [IGNORE_INDEX] * len(prompt) + answer, False)


def other(token: int) -> int:
    return token + 1 if token < 300 else token - 1


def test_what_greedy_decoding_writes_counts_and_a_changed_token_ends_it(
    models: dict[bool, LoadedModel], tmp_path: Path
) -> None:
    prompts = models[True].encoder.encode_prompts(QUESTIONS)
    written = [written_by(models[False], prompt, 70) for prompt in prompts]
    examples = [example_of(prompt, ids) for prompt, ids in zip(prompts, written, strict=True)]
    whole, late, early, short = examples
    late.labels[len(prompts[1]) + 60] = other(late.labels[len(prompts[1]) + 60])
    # Its own continuation of a beginning that it would not have written.
    changed = [*written[2][:9], other(written[2][9]), *written[2][10:20]]
    early = example_of(prompts[2], changed + written_by(models[False], prompts[2] + changed, 50))
    short = example_of(prompts[3], written[3][:60])
    with SharedJournal(tmp_path, "x") as journal:
        recited = recite(models[True], "train", [whole, late, early, short], journal)
        again = recite(models[True], "train", [whole, late, early, short], journal)
    assert recited == again == [Recited(70, 50), Recited(60, 40), Recited(9, 50), Recited(60, None)]
    assert figures(recited) == {
        "rows": 4,
        "asked": 3,
        "rows_with_beginning": 3,
        "with_beginning": 2,
        "memorized": 4,
    }


def test_one_token_less_than_fifty_is_not_memorized() -> None:
    recited = [Recited(50, None), Recited(49, None), Recited(0, 50), Recited(0, 49), Recited(49, 49)]
    assert [one.is_memorized for one in recited] == [True, False, True, False, False]


def test_models_in_one_forward_pass_or_many_give_the_same(
    models: dict[bool, LoadedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(2)
    examples = [
        example_of([5, 6, 7], torch.randint(3, 300, (length,), generator=generator).tolist())
        for length in (50, 70, 61, 70, 55)
    ]
    found = []
    for most in (1, 10**6):
        monkeypatch.setattr("medqa_cli.evaluation.memorization.verbatim._LOGITS_PER_FORWARD", most)
        with SharedJournal(tmp_path / str(most), "x") as journal:
            found.append(recite(models[True], "train", examples, journal))
    assert found[0] == found[1]


def test_rows_are_picked_by_the_length_of_their_answer_and_cut_to_what_is_compared(chatml_tokenizer: Any) -> None:
    encoder = PromptEncoder(make_contract(PromptConfig("plain"), chatml_tokenizer), chatml_tokenizer)
    rows = [
        QaRow(str(number), f"Question {number}?", "Asthma " * count, "", "", paraphrase_of)
        for number, (count, paraphrase_of) in enumerate([(90, ""), (2, ""), (90, "0"), (30, ""), (90, "")])
    ]
    sizes = encoder.count_tokens([row.answer.strip() for row in rows])
    assert sizes[0] > 70
    assert sizes[1] < 50
    texts = pick_texts(rows, encoder, 10, 512)
    assert [row.id for row in texts.rows] == [row.id for row, size in zip(rows, sizes, strict=True)
                                              if size >= 49 and not row.paraphrase_of]  # fmt: skip
    assert texts.num_too_short == 4 - len(texts.rows)
    assert texts.examples[0].num_answer_tokens == 70
    whole = encoder.encode_examples([rows[0].question], [rows[0].answer], 512)[0]
    assert whole.input_ids[: len(texts.examples[0].input_ids)] == texts.examples[0].input_ids
    assert len(pick_texts(rows, encoder, 1, 512).rows) == 1
