"""The Ollama ``Modelfile`` beside GGUF files: the prompt contract as a Go template, system line, stops, decoding."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from medqa_cli.config.schema import GenerateConfig
from medqa_cli.prompt.encoder import PromptContract

# A larger window only costs memory: the tuned answers are short.
_LARGEST_CONTEXT = 4096
_ROOM_FOR_A_QUESTION = 1024


def modelfile(
    contract: PromptContract, model_file: str, stops: Sequence[str], generate: GenerateConfig, context_length: int
) -> str:
    """Return the text of a ``Modelfile``.

    Ollama adds the BOS itself where the GGUF file says so.

    Args:
        contract: what the model was tuned with.
        model_file: name of the GGUF file in the same folder.
        stops: texts of the tokens that end an answer.
        generate: decoding, as ``medqa ask`` does it.
        context_length: the model's largest context, in tokens.
    """
    template, system = _template(contract)
    lines = [f"FROM ./{model_file}", f'TEMPLATE """{template}"""']
    if system is not None:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f"PARAMETER {name} {value}" for name, value in _parameters(stops, generate, context_length)]
    return "\n".join(lines) + "\n"


def _template(contract: PromptContract) -> tuple[str, str | None]:
    """Return the Go template, and the system line where it can stand in a place of its own."""
    text = contract.text
    parts = text.split_at_system()
    # A Modelfile has no escape for quotes in SYSTEM: such a line stays inside the template.
    if parts is None or text.system is None or '"' in text.system:
        before, system = _plain(text.before_question), None
    else:
        before, system = _plain(parts[0]) + "{{ .System }}" + _plain(parts[1]), text.system
    prompt = before + "{{ .Prompt }}" + _plain(text.after_question)
    return prompt + "{{ .Response }}" + _plain(contract.end_token), system


def _plain(text: str) -> str:
    """Write text so that Go's template engine and the Modelfile's triple quotes leave it as it is."""
    return re.sub(r'[{"]+', lambda found: "{{ " + json.dumps(found[0]) + " }}", text)


def _quoted(text: str) -> str:
    return f'"""{text}"""' if '"' in text else f'"{text}"'


def _parameters(
    stops: Sequence[str], generate: GenerateConfig, context_length: int
) -> list[tuple[str, str | int | float]]:
    """Return Ollama's parameters; those whose defaults differ from Transformers' are always written."""
    context = min(context_length, max(_LARGEST_CONTEXT, generate.max_new_tokens + _ROOM_FOR_A_QUESTION))
    chosen: list[tuple[str, str | int | float]] = [("stop", _quoted(stop)) for stop in stops]
    chosen += [("temperature", generate.temperature), ("num_predict", generate.max_new_tokens), ("num_ctx", context)]
    # Ollama's own defaults (top_k 40, top_p 0.9, repeat_penalty 1.1) would decode otherwise than medqa ask.
    chosen += [("top_p", generate.top_p), ("top_k", 0), ("repeat_penalty", generate.repetition_penalty)]
    if generate.repetition_penalty != 1:
        chosen.append(("repeat_last_n", -1))
    return chosen
