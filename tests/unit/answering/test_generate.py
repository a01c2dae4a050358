"""One question, one answer: streamed whole, ended for the reason that is given, bounded by the context."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from helpers.answerers import make_answerer
from helpers.models import make_chatml_tokenizer
from medqa_cli.answering import generate, open_book
from medqa_cli.answering.generate import NOTICE, Answer, answer_question, as_json
from medqa_cli.answering.open_book import Lookup
from medqa_cli.config.schema import GenerateConfig, PromptConfig
from medqa_cli.data.retrieval import Passage
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.model.load import LoadedModel
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder

QUESTION = "What is glaucoma?"
# Two, three and four bytes a character, at the end of an answer too; the tiny tokenizers know none of them.
MULTI_BYTE = "Ménière: 5 µm, 日本語 😀 naïve…"


def ids_of(answerer: LoadedModel, text: str) -> list[int]:
    """The ids that training would have the model say for ``text``, end token included."""
    example = answerer.encoder.encode_examples([QUESTION], [text], 500)[0]
    return [label for label in example.labels if label >= 0]


def scripted(tokenizer: Any, text: str, template: str = "chat") -> LoadedModel:
    answerer = make_answerer(tokenizer, template=template)
    answerer.model.script = ids_of(answerer, text)
    return answerer


def ask(answerer: LoadedModel, question: str = QUESTION, **settings: Any) -> tuple[Answer, list[str]]:
    pieces: list[str] = []
    config = GenerateConfig(**{"max_new_tokens": 200, **settings})
    return answer_question(answerer, question, config, write=pieces.append), pieces


@pytest.fixture(params=["bos", "chatml"])
def tokenizer(request: pytest.FixtureRequest, bos_tokenizer: Any, chatml_tokenizer: Any) -> Any:
    return bos_tokenizer if request.param == "bos" else chatml_tokenizer


@pytest.mark.parametrize("template", ["chat", "plain"])
@pytest.mark.parametrize("text", ["A disease of the optic nerve.", MULTI_BYTE, "One.\n\n- two\n- three", "é"])
def test_the_pieces_make_the_answer(tokenizer: Any, template: str, text: str) -> None:
    answerer = scripted(tokenizer, text, template)
    answer, pieces = ask(answerer)
    assert answer.text == text
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)  # no character was shown before it was whole
    assert (answer.finish_reason, answer.complete) == ("stop", True)
    assert answer.answer_tokens == len(answerer.model.script) - 1


def test_the_fixture_splits_characters_over_tokens(tokenizer: Any) -> None:
    answerer = make_answerer(tokenizer)
    parts = [answerer.encoder.decode_answer([i]) for i in ids_of(answerer, MULTI_BYTE)]
    assert sum("\ufffd" in part for part in parts) > 10


def test_an_answer_is_written_while_it_is_made(chatml_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = scripted(chatml_tokenizer, "A disease of the optic nerve.")
    steps_at_write: list[int] = []
    answer_question(
        answerer, QUESTION, GenerateConfig(), write=lambda piece: steps_at_write.append(answerer.model._next)
    )
    assert steps_at_write[:4] == [1, 2, 3, 4]


def test_without_a_writer_the_answer_is_the_same(tokenizer: Any) -> None:
    answerer = scripted(tokenizer, MULTI_BYTE)
    silent = answer_question(answerer, QUESTION, GenerateConfig())
    assert replace(silent, seconds=0.0) == replace(ask(answerer)[0], seconds=0.0)
    assert silent.seconds > 0


def test_an_answer_that_is_cut(tokenizer: Any) -> None:
    answerer = scripted(tokenizer, "A disease of the optic nerve.")
    whole = answerer.model.script
    answer, pieces = ask(answerer, max_new_tokens=3)
    assert (answer.finish_reason, answer.complete, answer.answer_tokens) == ("length", False, 3)
    assert answer.text == "".join(pieces) == answerer.encoder.decode_answer(whole[:3])
    # The end token may still come as the last token allowed.
    assert ask(answerer, max_new_tokens=len(whole))[0].finish_reason == "stop"
    assert ask(answerer, max_new_tokens=len(whole) - 1)[0].finish_reason == "length"


def test_an_answer_cut_inside_a_character_is_shown_once(chatml_tokenizer: Any) -> None:
    answerer = scripted(chatml_tokenizer, "ab 😀")
    answer, pieces = ask(answerer, max_new_tokens=len(answerer.model.script) - 2)
    assert answer.text == "".join(pieces) == "ab \ufffd"


def test_an_empty_answer(tokenizer: Any) -> None:
    answerer = make_answerer(tokenizer)
    answerer.model.script = [answerer.encoder.contract.end_token_id]
    answer, pieces = ask(answerer)
    assert (answer.text, "".join(pieces), answer.answer_tokens, answer.finish_reason) == ("", "", 0, "stop")


def test_every_stop_id_of_the_contract_ends_the_answer(chatml_tokenizer: Any) -> None:
    tokenizer = make_chatml_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"  # the turn ends with another token than a document does
    answerer = make_answerer(tokenizer)
    end, document_end = answerer.encoder.contract.stop_token_ids
    assert tokenizer.convert_ids_to_tokens([end, document_end]) == ["<|im_end|>", "<|endoftext|>"]
    words = ids_of(answerer, "Of the nerve")[:-1]
    for stop in (end, document_end):
        answerer.model.script = [*words, stop, *words]
        answer, pieces = ask(answerer)
        assert answer.text == "".join(pieces) == "Of the nerve"
        assert (answer.finish_reason, answer.answer_tokens) == ("stop", len(words))


def test_the_models_own_settings_do_not_decide(chatml_tokenizer: Any) -> None:
    """Chat models come with temperatures, penalties and end tokens of their own."""
    answerer = scripted(chatml_tokenizer, "A disease of the optic nerve.")
    own = answerer.model.generation_config
    own.do_sample, own.temperature, own.repetition_penalty, own.no_repeat_ngram_size = True, 50.0, 30.0, 1
    own.eos_token_id, own.max_length = answerer.model.script[1], 4
    answers = {ask(answerer)[0].text for _ in range(3)}
    assert answers == {"A disease of the optic nerve."}


def test_sampling_follows_the_config(chatml_tokenizer: Any) -> None:
    answerer = scripted(chatml_tokenizer, "A disease of the optic nerve.")
    torch.manual_seed(0)
    hot = {ask(answerer, temperature=50.0, max_new_tokens=20)[0].text for _ in range(3)}
    assert len(hot) == 3
    certain = {ask(answerer, temperature=50.0, top_p=1e-6)[0].text for _ in range(3)}
    assert certain == {"A disease of the optic nerve."}


def test_the_prompt_is_that_of_the_contract(tokenizer: Any) -> None:
    answerer = scripted(tokenizer, "Yes.")
    answer, _ = ask(answerer, "  What is\n\tglaucoma? ")
    assert answer.question == QUESTION
    assert answerer.model.prompts == [answerer.encoder.encode_prompt(QUESTION)]
    assert answer.prompt_tokens == len(answerer.model.prompts[0])


@pytest.mark.parametrize("question", ["", " \n\t"])
def test_an_empty_question_is_refused(chatml_tokenizer: Any, question: str) -> None:
    answerer = make_answerer(chatml_tokenizer)
    with pytest.raises(InputError, match="the question is empty"):
        ask(answerer, question)
    assert answerer.model.prompts == []


def test_prompt_and_answer_share_the_context(chatml_tokenizer: Any) -> None:
    answerer = make_answerer(chatml_tokenizer)
    answerer.model.script = ids_of(answerer, "disease")[:1]  # never ends
    size = len(answerer.encoder.encode_prompt(QUESTION))
    answerer.model.config.max_position_embeddings = size + 5
    answer, _ = ask(answerer)
    assert (answer.finish_reason, answer.answer_tokens) == ("length", 5)
    assert ask(answerer, max_new_tokens=4)[0].answer_tokens == 4
    answerer.model.config.max_position_embeddings = size
    with pytest.raises(InputError, match=rf"a prompt of {size} tokens, but the model's context is {size} tokens"):
        ask(answerer)


def test_a_model_without_a_stated_context(chatml_tokenizer: Any) -> None:
    answerer = scripted(chatml_tokenizer, "Yes.")
    del answerer.model.config.__dict__["max_position_embeddings"]
    assert ask(answerer)[0].text == "Yes."


def test_the_json_of_an_answer(chatml_tokenizer: Any) -> None:
    answerer = make_answerer(chatml_tokenizer)
    answer = Answer(QUESTION, "A disease.", "length", 20, 3, 2, 1.23456)
    assert as_json(answer, answerer) == {
        "question": QUESTION,
        "answer": "A disease.",
        "finish_reason": "length",
        "complete": False,
        "prompt_tokens": 20,
        "answer_tokens": 3,
        "loop_retries": 2,
        "seconds": 1.235,
        "model": {
            "name": "adapter",
            "base": "tiny",
            "template": "chat",
            "engine": "transformers",
            "quantization": "none",
        },
        "notices": [NOTICE],
        "sources": [],
        "reviewed": None,
        "nothing_near": False,
        "nothing_answers": False,
        "cited": [],
        "unsupported_sentences": [],
        "unsupported_citations": [],
    }
    assert "not medical advice" in generate.NOTICE


PASSAGE = Passage("r1", "row", "What is gout?", "Gout is a disease of the joints.", "gout", "qa.csv")


@pytest.mark.parametrize(
    ("text", "unsupported"),
    [
        ("Gout is a disease of the joints. [1]", []),
        ("Gout is a disease of the joints. [1] Purple zebras cure it.", ["Purple zebras cure it."]),
        # What declines rests on no passage, whether it cites one or goes on.
        ("Nothing in these sources answers the question.", []),
        ("Nothing in these sources answers the question. [1]", []),
        ("Nothing in these sources answers the question. Zebras cure it.", ["Zebras cure it."]),
    ],
)
def test_sentences_that_no_source_supports(chatml_tokenizer: Any, text: str, unsupported: list[str]) -> None:
    config = PromptConfig(template="chat", sources=1)
    encoder = PromptEncoder(make_contract(config, chatml_tokenizer), chatml_tokenizer)
    answerer, answer = make_answerer(chatml_tokenizer), Answer(QUESTION, text, "stop", 20, 9, 0, 1.0)
    answerer = replace(answerer, encoder=encoder)
    in_prompt = as_json(answer, answerer, Lookup(passages=(PASSAGE,)))
    beside = as_json(answer, answerer, None, [PASSAGE])
    assert in_prompt["unsupported_sentences"] == beside["unsupported_sentences"] == unsupported
    assert as_json(answer, answerer)["unsupported_sentences"] == []
    assert in_prompt["unsupported_citations"] == []


def test_citations_are_judged_by_the_passages_in_the_prompt_for_a_model_that_learned_to_cite(
    chatml_tokenizer: Any,
) -> None:
    config = PromptConfig(template="chat", sources=3)
    encoder = PromptEncoder(make_contract(config, chatml_tokenizer), chatml_tokenizer)
    plain = make_answerer(chatml_tokenizer)
    answer = Answer(QUESTION, "Purple zebras cure blindness. [1] [3]", "stop", 20, 9, 0, 1.0)
    data = as_json(answer, replace(plain, encoder=encoder), Lookup(passages=(PASSAGE,)))
    assert data["unsupported_citations"] == [1, 3]
    assert as_json(answer, replace(plain, encoder=encoder))["unsupported_citations"] == [1, 3]
    assert as_json(answer, plain, None, [PASSAGE])["unsupported_citations"] == []
    assert open_book.citation_lines(data["unsupported_citations"], 1) == [
        "[1] shares next to nothing with what it stands behind: it may be the wrong source",
        "[3] names no source: nothing supports what it stands behind",
    ]


def test_more_sources_than_a_model_was_trained_with_can_be_cited(chatml_tokenizer: Any) -> None:
    config = PromptConfig(template="chat", sources=2)
    encoder = PromptEncoder(make_contract(config, chatml_tokenizer), chatml_tokenizer)
    answerer = replace(make_answerer(chatml_tokenizer), encoder=encoder)
    for count, expected in ((1, 2), (3, 3)):
        (prompted,) = generate.prompt_questions(answerer, [QUESTION], GenerateConfig(), [[PASSAGE] * count])
        assert prompted.state.num_sources == expected


def test_an_object_has_the_same_keys_whoever_answers(chatml_tokenizer: Any) -> None:
    answer = Answer(QUESTION, "A disease.", "stop", 20, 3, 0, 1.0)
    by_model = as_json(answer, make_answerer(chatml_tokenizer), Lookup(passages=(PASSAGE,)))
    lookups = (Lookup(PASSAGE), Lookup(nothing_near=True), Lookup(nothing_answers=True))
    settled = [open_book.as_json(QUESTION, found) for found in lookups]
    assert [list(found) for found in (by_model, *settled)] == [list(generate.KEYS)] * 4
    assert [found["finish_reason"] for found in settled] == ["reviewed", "nothing_near", "nothing_answers"]


def test_sources_that_do_not_fit_the_context_are_named(chatml_tokenizer: Any) -> None:
    answerer = make_answerer(chatml_tokenizer)
    long = replace(PASSAGE, text="gout " * 600)
    with pytest.raises(InputError, match=r"the question and 2 sources make a prompt of \d+ tokens") as caught:
        answer_question(answerer, QUESTION, GenerateConfig(), passages=[long, PASSAGE])
    assert caught.value.hint == "ask with fewer sources: --sources 1"


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_gives_no_numbers_is_an_error_and_no_answer(
    chatml_tokenizer: Any, temperature: float, value: float
) -> None:
    answerer = make_answerer(chatml_tokenizer, [5])
    answerer.model.lm_head.weight.data.fill_(value)
    with pytest.raises(MedqaError, match="the model gives no numbers") as caught:
        answer_question(
            replace(answerer, model=as_plain(answerer.model)), QUESTION, GenerateConfig(temperature=temperature)
        )
    assert caught.value.exit_code == 1


def as_plain(model: Any) -> Any:
    plain = LlamaForCausalLM(model.config).eval()
    plain.load_state_dict(model.state_dict())
    return plain
