"""The prompt contract as a chat template, for tools that render messages by themselves (Transformers, llama.cpp, vLLM).

The model's own template is kept where it renders one question as the contract does, because it also knows how a
conversation goes on; otherwise one is made from the contract. Compares texts, not token ids: tools differ in who adds
the BOS, and llama.cpp drops one that the template writes.
"""

from __future__ import annotations

from typing import Any

import jinja2

from medqa_cli.prompt.encoder import PromptContract

# Quotes, lines, braces: what a template may change. No space at the ends: many templates trim, and so does medqa.
_PROBES = ("How to treat glaucoma?", 'Is "5 mg" of it enough?\n\nMy father\'s dose in 1990 was {{ 10 }} mg.')


def contract_template(contract: PromptContract, tokenizer: Any) -> str:
    """Return a Jinja chat template that renders one question, with or without the system line, as the contract does.

    Args:
        contract: what the model was tuned with.
        tokenizer: the model's tokenizer; its own chat template is the first choice.
    """
    own = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None
    candidates = [own, _with_default_system(contract, own)] if own else []
    for template in candidates:
        if template and renders_contract(template, contract, tokenizer):
            return template
    return _made_from(contract)


def renders_contract(template: str, contract: PromptContract, tokenizer: Any) -> bool:
    """Tell whether a chat template renders one question, with and without the system line, as the contract does."""
    system = [{"role": "system", "content": contract.text.system}] if contract.text.system else []
    # Markers of turns in a question: the contract breaks them up.
    probes = [*_PROBES, "What is " + " ".join(contract.text.markers) + "?"]
    for question in probes:
        asked = [{"role": "user", "content": question}]
        for messages in (asked, system + asked):
            try:
                rendered = tokenizer.apply_chat_template(
                    messages, chat_template=template, tokenize=False, add_generation_prompt=True
                )
            except jinja2.TemplateError:
                return False
            if _without_bos(rendered, contract, tokenizer) != prompt_text(contract, question):
                return False
    return True


def prompt_text(contract: PromptContract, question: str) -> str:
    """Return the text of the prompt for one question, without BOS."""
    text = contract.text
    return text.before_question + text.defuse(question) + text.after_question


def split_at_system(contract: PromptContract) -> tuple[str, str] | None:
    """Return what stands before and after the system line in front of the question; None where it cannot be told."""
    system, before = contract.text.system, contract.text.before_question
    if not system or before.count(system) != 1:
        return None
    head, _, tail = before.partition(system)
    return head, tail


def _without_bos(rendered: str, contract: PromptContract, tokenizer: Any) -> str:
    return rendered.removeprefix(tokenizer.bos_token) if contract.adds_bos and tokenizer.bos_token else rendered


def _with_default_system(contract: PromptContract, template: str) -> str | None:
    """Put the contract's system line in front of conversations without one: many templates have a default of theirs."""
    if contract.text.template != "chat" or not contract.text.system:
        return None
    first = f"[{{'role': 'system', 'content': {_literal(contract.text.system)}}}]"
    return (
        f"{{%- if messages[0]['role'] != 'system' -%}}{{%- set messages = {first} + messages -%}}{{%- endif -%}}"
        + template
    )


def _made_from(contract: PromptContract) -> str:
    """Write a template by the contract alone. Each question of a conversation gets the whole prompt again."""
    text = contract.text
    parts = split_at_system(contract)
    before = f"{_literal(parts[0])} + system + {_literal(parts[1])}" if parts else _literal(text.before_question)
    question = "message['content']" + "".join(
        f" | replace({_literal(marker)}, {_literal(text.defuse(marker))})" for marker in text.markers
    )
    bos = "{{- bos_token -}}" if contract.adds_bos else ""
    refusal = "" if parts else _refusal_of_system(text.system)
    return (
        f"{{%- set system = {_literal(text.system or '')} -%}}"
        "{%- if messages[0]['role'] == 'system' -%}"
        f"{refusal}"
        "{%- set system = messages[0]['content'] -%}"
        "{%- endif -%}"
        f"{bos}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'user' -%}"
        f"{{{{- {before} + ({question}) + {_literal(text.after_question)} -}}}}"
        "{%- elif message['role'] == 'assistant' -%}"
        f"{{{{- {_literal(text.answer_prefix)} + message['content'] + {_literal(contract.end_token)} -}}}}"
        "{%- endif -%}"
        "{%- endfor -%}"
    )


def _refusal_of_system(system: str | None) -> str:
    """Refuse a system line that has no place in the contract, rather than drop it in silence."""
    return (
        f"{{%- if messages[0]['content'] and messages[0]['content'] != {_literal(system or '')} -%}}"
        "{{- raise_exception('this model was tuned with a fixed prompt that has no place for a system message') -}}"
        "{%- endif -%}"
    )


def _literal(text: str) -> str:
    """Write a Jinja string with the few escapes that llama.cpp's own engine knows as well."""
    escapes = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "'" + "".join(escapes.get(character, character) for character in text) + "'"
