"""The engine that answers: Transformers, or llama.cpp; the one place that tells them apart.

torch is imported only where Transformers answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_cli import console
from medqa_cli.answering.llama_rows import Rows
from medqa_cli.answering.stopping import StoppingState
from medqa_cli.config.schema import Config, GenerateConfig
from medqa_cli.files import RunFolder
from medqa_cli.model.llama_model import LlamaModel, llama_model

if TYPE_CHECKING:
    from medqa_cli.model.load import LoadedModel

    Answerer = LoadedModel | LlamaModel

MOST_ROWS_OF_LLAMA = 32  # more gain little on a CPU: docs/experiments.md


def load_answerer(config: Config, choice: str, *, batches: bool = False) -> Answerer:
    """Load the model that ``--model`` names into the engine of ``generate.engine``.

    Args:
        config: the run, its model, and the engine.
        choice: as ``load_model`` takes it.
        batches: for many answers at once.

    Raises:
        InputError: it is not there, or not for that engine.
    """
    with console.status("loading ..."):
        found = llama_model(config, choice)
    if found is None:
        from medqa_cli.model.load import load_model

        return load_model(choice, RunFolder(Path(config.run_dir)), config.model, config.prompt, batches=batches)
    if choice == "adapter":
        agrees = (
            "" if found.agreement is None else f", which takes the adapter's token in {found.agreement:.2%} of cases"
        )
        console.note(
            f"llama.cpp answers from {found.file.name}: the merged model{agrees}, in {found.quantization}; "
            "the adapter itself: --set generate.engine=transformers"
        )
    return found


def release(answerer: Answerer) -> None:
    """Give the memory of a model back; it must not be used any more."""
    if isinstance(answerer, LlamaModel):
        answerer.weights.close()
        return
    from medqa_cli.model.devices import free_unused_memory

    device = answerer.device
    answerer.model = None
    free_unused_memory(device)


def describe(answerer: Answerer) -> dict[str, Any]:
    """Return what ``ask --json`` says of a model."""
    return {
        "name": answerer.name,
        "base": answerer.source.name,
        "template": answerer.encoder.contract.text.template,
        "engine": "llamacpp" if isinstance(answerer, LlamaModel) else "transformers",
        "quantization": answerer.quantization,
    }


def identity(answerer: Answerer) -> dict[str, Any]:
    """Return what tells a model and its arithmetic from others; its weight files are not among it."""
    if isinstance(answerer, LlamaModel):
        return {"gguf": [answerer.file.name, answerer.file.stat().st_size, answerer.file.stat().st_mtime_ns]}
    return {"base": answerer.source.name, "dtype": str(answerer.dtype)}


def context_length(answerer: Answerer) -> int | None:
    """Return how many tokens prompt and answer may have; None: no limit is known."""
    if isinstance(answerer, LlamaModel):
        return answerer.weights.context_length
    length = getattr(answerer.model.config, "max_position_embeddings", None)
    return length if length is None else int(length)


def rows_at_once(answerer: Answerer, config: GenerateConfig, longest_prompt: int) -> int:
    """Return how many questions are answered at once; ``longest_prompt``: in tokens."""
    if not isinstance(answerer, LlamaModel):
        from medqa_cli.answering.decode import pick_batch_size

        return pick_batch_size(answerer.model, answerer.device, answerer.dtype, config, longest_prompt)
    wanted = MOST_ROWS_OF_LLAMA if config.batch_size == "auto" else config.batch_size
    return answerer.weights.pick_sequences(wanted, longest_prompt + config.max_new_tokens)


def decode(
    answerer: Answerer,
    prompts: Sequence[Sequence[int]],
    states: Sequence[StoppingState],
    config: GenerateConfig,
    on_token: Callable[[int], None],
) -> None:
    """Let the model continue all prompts until each state has a finish reason, as ``decode_batch`` does.

    Raises:
        MedqaError: the logits are not finite, or there is no room.
    """
    if not isinstance(answerer, LlamaModel):
        from medqa_cli.answering.decode import decode_batch

        decode_batch(answerer.model, answerer.device, prompts, states, config, on_token)
        return
    tokens_each = max(len(prompt) for prompt in prompts) + config.max_new_tokens
    context = answerer.weights.open(len(prompts), min(tokens_each, answerer.weights.context_length))
    try:
        rows = Rows(context)
        for number, (prompt, state) in enumerate(zip(prompts, states, strict=True)):
            rows.add(prompt, state, config, lambda number=number: on_token(number))  # type: ignore[misc]
        while len(rows):
            rows.step()
    finally:
        context.close()
