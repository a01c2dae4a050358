"""The chat template of a merged model gives exactly the ids of the contract, for each template and tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers import AutoTokenizer

from helpers.models import chat_prompt_ids, make_bos_tokenizer, make_chatml_tokenizer
from medqa_cli.config.schema import PromptConfig
from medqa_cli.merging.model_folder import write_companions, write_config
from medqa_cli.prompt.chat_template import PROBES, install_chat_template
from medqa_cli.prompt.contract import PromptContract, make_contract
from medqa_cli.prompt.encoder import PromptEncoder

pytestmark = pytest.mark.usefixtures("unconfined")


def first_only(tokenizer: Any) -> Any:
    """Put a word boundary at the start of a text only, as Llama-2's tokenizer does in its newer form."""
    from tokenizers import normalizers, pre_tokenizers

    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "bos": make_bos_tokenizer,
    "chatml": make_chatml_tokenizer,
    "bos, boundary at the start only": lambda: first_only(make_bos_tokenizer()),
}
QUESTIONS = [*PROBES, "What is gout?", "<<SYS>> no \nAnswer: yes", "ß" * 40]


@pytest.mark.parametrize("system", ["Answer the Question", 'Say "no" to {{ braces }} and \\n', None])
@pytest.mark.parametrize("template", ["llama2", "alpaca", "plain", "chat", "file"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_ids_equal_the_contracts(tmp_path: Path, kind: str, template: str, system: str | None) -> None:
    if template == "file":
        (tmp_path / "own.jinja").write_text("<{{ system }}>\n## {{ question }}\n=> ")
        template = str(tmp_path / "own.jinja")
    tokenizer = TOKENIZERS[kind]()
    contract = make_contract(PromptConfig(template=template, system=system), tokenizer)
    own = tokenizer.chat_template
    assert install_chat_template(tokenizer, contract)
    tokenizer.save_pretrained(tmp_path / "saved")
    # As another tool gets it: from the folder, without anything of medqa.
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    encoder = PromptEncoder(contract, loaded)
    for question in QUESTIONS:
        expected = encoder.encode_prompt(question)
        assert chat_prompt_ids(loaded, [{"role": "user", "content": question}]) == expected, question
        if system:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
            assert chat_prompt_ids(loaded, messages) == expected
    assert expected.count(loaded.bos_token_id) >= (1 if contract.adds_bos else 0)
    if template == "chat" and kind == "chatml":
        assert loaded.chat_template.endswith(own)  # the model's own, with all that it can


def test_answers_and_other_system_lines() -> None:
    tokenizer = make_bos_tokenizer()
    contract = make_contract(PromptConfig(template="llama2", system="Answer."), tokenizer)
    assert install_chat_template(tokenizer, contract)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    turn = "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{} [/INST]"
    assert text == f"<s>{turn.format('Q1')} A1</s><s>{turn.format('Q2')}"


def test_a_model_without_system_line_refuses_one() -> None:
    tokenizer = make_bos_tokenizer()
    install_chat_template(tokenizer, make_contract(PromptConfig(template="plain", system=None), tokenizer))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q"}]
    with pytest.raises(jinja2.TemplateError, match="tuned without such a system message"):
        tokenizer.apply_chat_template(messages, tokenize=False)


def test_a_template_that_refuses_the_system_line_is_replaced() -> None:
    tokenizer = make_chatml_tokenizer()
    contract = make_contract(PromptConfig(template="chat", system="Answer."), tokenizer)
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    assert install_chat_template(tokenizer, contract)
    messages = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "What is gout?"}]
    assert chat_prompt_ids(tokenizer, messages) == PromptEncoder(contract, tokenizer).encode_prompt("What is gout?")


def test_generation_config_and_tied_parts_follow_the_contract(tmp_path: Path) -> None:
    tokenizer = make_bos_tokenizer()
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"tie_word_embeddings": true, "text_config": {"tie_word_embeddings": true}}')
    # As Llama-2's was first published: a temperature without sampling; and end tokens of another contract.
    (base / "generation_config.json").write_text('{"eos_token_id": 7, "temperature": 0.6, "max_length": 4096}')
    contract = make_contract(PromptConfig(template="llama2"), tokenizer)
    assert write_companions(tmp_path, base, contract, tokenizer)
    found = json.loads((tmp_path / "generation_config.json").read_text())
    kept = {"temperature": 0.6, "max_length": 4096}
    assert found == {**kept, "eos_token_id": [2], "bos_token_id": 1, "do_sample": True}
    write_config(tmp_path, base, untied=True)
    untied = {"tie_word_embeddings": False}
    assert json.loads((tmp_path / "config.json").read_text()) == {**untied, "text_config": untied}


def test_a_template_that_cannot_match_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_bos_tokenizer()
    contract = make_contract(PromptConfig(template="plain", system=None), tokenizer)
    real = PromptEncoder.encode_prompt
    monkeypatch.setattr(PromptEncoder, "encode_prompt", lambda self, question, given: [*real(self, question), 5])
    assert not install_chat_template(tokenizer, contract)
    assert isinstance(contract, PromptContract)
    assert "Question: " in tokenizer.chat_template
