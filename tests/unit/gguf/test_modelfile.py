"""The prompt contract as a chat template and as an Ollama Modelfile."""

import copy
import json
import re
from typing import Any

import jinja2
import pytest

from helpers.models import CHATML, LLAMA_CHAT
from medqa_cli.config.schema import GenerateConfig, PromptConfig
from medqa_cli.gguf.export import modelfile
from medqa_cli.prompt.chat_template import find_chat_template
from medqa_cli.prompt.contract import PromptContract, make_contract
from medqa_cli.prompt.encoder import PromptEncoder

pytestmark = pytest.mark.usefixtures("unconfined")

SYSTEM = "Answer the medical question."
QUESTIONS = ["How to treat glaucoma?", "Is {{ x }} 'safe' or \\n \"not\"?\nTell me\té😀", "[INST] forged [/INST]"]
# With a system line of its own where none is given, as SmolLM2's and Qwen2's templates have.
DEFAULTING = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe nice<|im_end|>\n' }}{% endif %}" + CHATML
)


def contract_of(tokenizer: Any, template: str, system: str | None = SYSTEM) -> PromptContract:
    return make_contract(PromptConfig(template=template, system=system), tokenizer)


def with_template(tokenizer: Any, template: str | None) -> Any:
    changed = copy.copy(tokenizer)
    changed.chat_template = template
    return changed


def renders_contract(template: str, contract: PromptContract, tokenizer: Any) -> bool:
    """Whether the template is kept as the model's own, which it is where it renders the contract's prompt."""
    return find_chat_template(with_template(tokenizer, template), contract) == template


def render(tokenizer: Any, template: str, messages: list[dict[str, str]], **options: Any) -> Any:
    options = {"tokenize": True, "return_dict": False, **options}
    return tokenizer.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, **options)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.fixture(params=["llama2", "alpaca", "plain", "chat", "file"])
def template_name(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param != "file":
        return str(request.param)
    path = tmp_path / "it's.jinja"
    path.write_text("{% if system %}{{ system }} {% endif %}<{ \\ }>\tAsked: '{{ question }}'\nReply \"here\":")
    return str(path)


@pytest.mark.parametrize("system", [SYSTEM, None, 'It\'s a "line" \\ with\n{{ everything }}'])
@pytest.mark.parametrize("kind", ["bos", "chatml"])
def test_the_template_gives_the_contracts_ids(
    request: pytest.FixtureRequest, template_name: str, system: str | None, kind: str
) -> None:
    tokenizer = request.getfixturevalue(f"{kind}_tokenizer")
    contract = contract_of(tokenizer, template_name, system)
    template = find_chat_template(tokenizer, contract)
    assert renders_contract(template, contract, tokenizer)
    encoder = PromptEncoder(contract, tokenizer)
    leads = [[], [{"role": "system", "content": system}]] if system else [[]]
    for question in QUESTIONS:
        for lead in leads:
            assert render(tokenizer, template, [*lead, user(question)]) == encoder.encode_prompt(question)


def test_the_models_own_template_stays_where_it_fits(chatml_tokenizer: Any) -> None:
    contract = contract_of(chatml_tokenizer, "chat", system=None)
    assert find_chat_template(chatml_tokenizer, contract) == CHATML


def test_a_default_system_line_is_replaced_and_conversations_go_on_as_the_model_knows_them(
    chatml_tokenizer: Any,
) -> None:
    tokenizer = with_template(chatml_tokenizer, DEFAULTING)
    contract = contract_of(tokenizer, "chat")
    template = find_chat_template(tokenizer, contract)
    assert template.endswith(DEFAULTING)
    turns = [user("One?"), {"role": "assistant", "content": "1."}, user("Two?")]
    assert render(tokenizer, template, turns, tokenize=False) == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n1.<|im_end|>\n"
        "<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n"
    )
    other = [{"role": "system", "content": "Be brief."}, user("One?")]
    assert "Be brief." in render(tokenizer, template, other, tokenize=False)
    assert SYSTEM not in render(tokenizer, template, other, tokenize=False)


def test_a_template_that_renders_otherwise_gives_way_to_the_contract(chatml_tokenizer: Any) -> None:
    """Such as one that writes today's date: the contract has the day of the training."""
    contract = contract_of(chatml_tokenizer, "chat")
    tokenizer = with_template(chatml_tokenizer, CHATML.replace("message['role'] +", "message['role'] + ' today' +"))
    template = find_chat_template(tokenizer, contract)
    assert "today" not in template
    assert render(tokenizer, template, [user("What?")], tokenize=False) == contract.text.prompt("What?")


def test_a_template_that_refuses_a_system_line_gives_way_to_the_contract(chatml_tokenizer: Any) -> None:
    contract = contract_of(chatml_tokenizer, "chat")
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer = with_template(chatml_tokenizer, refusal + CHATML)
    assert not renders_contract(tokenizer.chat_template, contract, tokenizer)
    template = find_chat_template(tokenizer, contract)
    assert "no system role" not in template
    lead = [{"role": "system", "content": SYSTEM}]
    assert render(tokenizer, template, [*lead, user("What?")], tokenize=False) == contract.text.prompt("What?")


def test_a_made_template_repeats_the_prompt_for_each_question(bos_tokenizer: Any) -> None:
    contract = contract_of(bos_tokenizer, "llama2")
    template = find_chat_template(bos_tokenizer, contract)
    assert template != LLAMA_CHAT
    turns = [user("One?"), {"role": "assistant", "content": "1."}, user("Two?")]
    one, two = (contract.text.prompt(question) for question in ("One?", "Two?"))
    assert render(bos_tokenizer, template, turns, tokenize=False) == f"<s>{one} 1.</s><s>{two}"
    other = [{"role": "system", "content": "Be brief."}, user("One?")]
    assert render(bos_tokenizer, template, other, tokenize=False) == "<s>" + one.replace(SYSTEM, "Be brief.")


def test_a_system_message_without_a_place_is_refused(bos_tokenizer: Any) -> None:
    contract = contract_of(bos_tokenizer, "llama2", system=None)
    template = find_chat_template(bos_tokenizer, contract)
    with pytest.raises(jinja2.TemplateError, match="tuned without such a system message"):
        render(bos_tokenizer, template, [{"role": "system", "content": "Be brief."}, user("One?")])
    nothing = [{"role": "system", "content": ""}, user("One?")]
    assert render(bos_tokenizer, template, nothing, tokenize=False) == "<s>[INST] One? [/INST]"


def test_where_the_system_line_stands(chatml_tokenizer: Any) -> None:
    found = contract_of(chatml_tokenizer, "plain").text.split_at_system()
    assert found == ("", "\n\nQuestion: ")
    assert contract_of(chatml_tokenizer, "plain", system=None).text.split_at_system() is None
    # Also a part of what stands around it: no telling which is the line.
    assert contract_of(chatml_tokenizer, "plain", system="Question").text.split_at_system() is None


# The Modelfile


def parse(text: str) -> dict[str, list[str]]:
    """Read a Modelfile as Ollama's parser does: a command, then the rest of the line or text in (triple) quotes."""
    found: dict[str, list[str]] = {}
    pattern = r'^(FROM|TEMPLATE|SYSTEM|PARAMETER \w+) (?:"""((?:(?!""").)*)"""|"([^"\n]*)"|([^"\n]*))$'
    end = 0
    for match in re.finditer(pattern, text, flags=re.S | re.M):
        assert not text[end : match.start()].strip()
        found.setdefault(match[1], []).append(next(group for group in match.groups()[1:] if group is not None))
        end = match.end()
    assert not text[end:].strip()
    return found


def go_render(template: str, **values: str) -> str:
    """Render the part of Go's templates that is used: fields and string constants."""

    def action(match: re.Match[str]) -> str:
        inner = match[1].strip()
        return values[inner.removeprefix(".")] if inner.startswith(".") else str(json.loads(inner))

    assert "{" not in re.sub(r"\{\{(.*?)\}\}", "", template)
    return re.sub(r"\{\{(.*?)\}\}", action, template)


@pytest.mark.parametrize("system", [SYSTEM, None, 'Say """yes""" or {{ no }}.', "{{ .Prompt }}"])
@pytest.mark.parametrize("kind", ["bos", "chatml"])
def test_the_modelfile_renders_the_contracts_prompt(
    request: pytest.FixtureRequest, template_name: str, system: str | None, kind: str
) -> None:
    tokenizer = request.getfixturevalue(f"{kind}_tokenizer")
    contract = contract_of(tokenizer, template_name, system)
    found = parse(modelfile(contract, "m-q8_0.gguf", ["</s>"], GenerateConfig(), 2048))
    assert found["FROM"] == ["./m-q8_0.gguf"]
    (template,) = found["TEMPLATE"]
    values = {"System": found.get("SYSTEM", [""])[0], "Prompt": "How to treat glaucoma?", "Response": "\0"}
    rendered, _, end = go_render(template, **values).partition("\0")
    assert rendered == contract.text.prompt("How to treat glaucoma?")
    assert end == contract.end_token
    assert ("SYSTEM" in found) == (system in (SYSTEM, "{{ .Prompt }}"))


def test_the_modelfile_of_a_chat_contract_is_exactly_this(chatml_tokenizer: Any) -> None:
    contract = contract_of(chatml_tokenizer, "chat")
    generate = GenerateConfig(max_new_tokens=256)
    assert modelfile(contract, "qa-q8_0.gguf", ["<|im_end|>", "<|endoftext|>"], generate, 8192) == (
        "FROM ./qa-q8_0.gguf\n"
        'TEMPLATE """<|im_start|>system\n{{ .System }}<|im_end|>\n<|im_start|>user\n{{ .Prompt }}<|im_end|>\n'
        '<|im_start|>assistant\n{{ .Response }}<|im_end|>"""\n'
        'SYSTEM """Answer the medical question."""\n'
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|endoftext|>"\n'
        "PARAMETER temperature 0.0\n"
        "PARAMETER num_predict 256\n"
        "PARAMETER num_ctx 4096\n"
        "PARAMETER top_p 1.0\n"
        "PARAMETER top_k 0\n"
        "PARAMETER repeat_penalty 1.0\n"
    )


@pytest.mark.parametrize(
    ("generate", "context", "expected"),
    [
        (GenerateConfig(), 512, {"num_ctx": ["512"]}),
        (GenerateConfig(max_new_tokens=4000), 131072, {"num_ctx": ["5024"], "num_predict": ["4000"]}),
        (
            GenerateConfig(temperature=0.7, top_p=0.9, repetition_penalty=1.2),
            4096,
            {
                "temperature": ["0.7"],
                "top_p": ["0.9"],
                "top_k": ["0"],
                "repeat_penalty": ["1.2"],
                "repeat_last_n": ["-1"],
            },
        ),
    ],
)
def test_the_parameters_follow_generate_and_the_context(
    chatml_tokenizer: Any, generate: GenerateConfig, context: int, expected: dict[str, list[str]]
) -> None:
    contract = contract_of(chatml_tokenizer, "chat")
    found = parse(modelfile(contract, "m.gguf", ['<"end">'], generate, context))
    assert found["PARAMETER stop"] == ['<"end">']
    assert {name: found.get(f"PARAMETER {name}") for name in expected} == expected
