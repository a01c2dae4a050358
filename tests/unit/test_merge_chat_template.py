"""The chat template of a merged model gives exactly the ids of the contract, for each template and tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from conftest import make_bos_tokenizer, make_chatml_tokenizer
from transformers import AutoTokenizer

from medqa_cli.chat_template import PROBES, chat_prompt_ids, install_chat_template
from medqa_cli.config.sections import PromptConfig
from medqa_cli.prompt import PromptContract, PromptEncoder, make_contract


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


def test_a_template_that_cannot_match_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_bos_tokenizer()
    contract = make_contract(PromptConfig(template="plain", system=None), tokenizer)
    real = PromptEncoder.encode_prompt
    monkeypatch.setattr(PromptEncoder, "encode_prompt", lambda self, question: [*real(self, question), 5])
    assert not install_chat_template(tokenizer, contract)
    assert isinstance(contract, PromptContract)
    assert "Question: " in tokenizer.chat_template
