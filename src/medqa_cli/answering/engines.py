"""The engine that answers: Transformers, or llama.cpp; the one place that tells them apart.

torch is imported only where Transformers answers.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from medqa_cli import console
from medqa_cli.answering.llamacpp_decode import Rows
from medqa_cli.answering.stopping import RowState
from medqa_cli.config.schema import Config, GenerateConfig
from medqa_cli.model.gguf_model import OF_RUN, LlamaModel, llama_file, llama_model

if TYPE_CHECKING:
    from medqa_cli.model.load import LoadedModel

    Answerer = LoadedModel | LlamaModel

MOST_ROWS_OF_LLAMA = 32  # more gain little on a CPU: docs/experiments.md
# Where products are fast in bfloat16, Transformers answers this many and more sooner: docs/experiments.md, 2026-12-01.
FEW_QUESTIONS = 16


def load_answerer(config: Config, choice: str, *, batches: bool = False, num_questions: int = 1) -> Answerer:
    """Load the model that ``--model`` names into the engine of ``generate.engine``.

    Args:
        config: the run, its model, and the engine.
        choice: as ``load_model`` takes it, or ``gguf``: the run's GGUF file, through llama.cpp.
        batches: for many answers at once.
        num_questions: how many will be asked; ``auto`` takes the engine that answers so many sooner.

    Raises:
        InputError: it is not there, or not for that engine.
    """
    with console.status("loading ..."):
        batches_are_faster = (
            choice != OF_RUN and config.generate.engine == "auto" and _is_faster_in_batches(config, num_questions)
        )
        found = None if batches_are_faster else llama_model(config, choice)
        if found is None:
            from medqa_cli.model.load import load_model

            return load_model(choice, config.run, config.model, config.prompt, batches=batches)
    if choice in ("adapter", OF_RUN):
        difference = ""
        if found.cost:
            worse = found.cost["answer_nll"] - found.cost["adapter_nll"]
            difference = (
                f", which takes the adapter's token in {found.cost['top1_agreement']:.2%} of cases (mean KL "
                f"{found.cost['mean_kl']:.1e} nats, held-out answers {worse:+.4f} nats a token)"
            )
        elif found.agreement is not None:
            difference = (
                f"; before it was written in that type it took the adapter's token in {found.agreement:.2%} of cases, "
                "what the type costs was not measured"
            )
        otherwise = "; the adapter itself: --set generate.engine=transformers" if choice == "adapter" else ""
        console.note(
            f"llama.cpp answers from {found.file.name}: the merged model in {found.quantization}{difference}{otherwise}"
        )
    return found


def llama_answers_many(config: Config, choices: Sequence[str], num_questions: int) -> bool:
    """Tell whether llama.cpp answers many questions, for all of these models.

    Only then: answers of two engines do not compare.
    """
    if config.generate.engine != "auto":
        return config.generate.engine == "llamacpp"
    if any(llama_file(config, choice) is None for choice in choices):
        return False
    return not _is_faster_in_batches(config, num_questions)


def _is_faster_in_batches(config: Config, num_questions: int) -> bool:
    """Tell whether Transformers, in the type of the config, answers so many questions faster than llama.cpp here."""
    if num_questions < FEW_QUESTIONS:
        return False
    import torch

    from medqa_cli.model.devices import pick_compute_dtype

    kinds = {pick_compute_dtype(name, torch.device("cpu")) for name in ("auto", config.model.compute_dtype)}
    return kinds == {torch.bfloat16}


def llama_files(config: Config, choices: Sequence[str]) -> dict[str, Any]:
    """Return name, size and time of the GGUF files from which llama.cpp would answer, by model."""
    files = {choice: llama_file(config, choice) for choice in choices}
    return {
        choice: [path.name, path.stat().st_size, path.stat().st_mtime_ns]
        for choice, path in files.items()
        if path is not None
    }


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
    by = describe_engine(answerer)
    return {
        "name": answerer.name,
        "base": answerer.source.name,
        "template": answerer.encoder.contract.text.template,
        "engine": by["engine"],
        "quantization": by["quantization"],
    }


def describe_engine(answerer: Answerer) -> dict[str, Any]:
    """Return what computes the answers: ``engine``, ``quantization``, and the ``file`` of llama.cpp, else None."""
    if isinstance(answerer, LlamaModel):
        return {"engine": "llamacpp", "quantization": answerer.quantization, "file": answerer.file.name}
    return {"engine": "transformers", "quantization": answerer.quantization, "file": None}


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
    states: Sequence[RowState],
    config: GenerateConfig,
    on_token: Callable[[int], None] = lambda row: None,
    at_once: int | None = None,
) -> None:
    """Let the model continue all prompts until each state has a finish reason, as ``decode_batch`` does.

    Args:
        answerer: the model.
        prompts: ids of each prompt.
        states: one for each prompt; one that has ids goes on from them.
        config: how tokens are chosen.
        on_token: called with the number of a row after it took a token.
        at_once: how many go on together; None: all.

    Raises:
        MedqaError: the logits are not finite, or there is no room.
    """
    at_once = min(at_once or len(prompts), len(prompts))
    if not prompts:
        return
    if not isinstance(answerer, LlamaModel):
        from medqa_cli.answering.decode import decode_batch

        for start in range(0, len(prompts), at_once):
            batch = slice(start, start + at_once)
            follow = functools.partial(lambda first, row: on_token(first + row), start)
            decode_batch(answerer.model, answerer.device, prompts[batch], states[batch], config, follow)
        return
    tokens_each = max(len(prompt) for prompt in prompts) + config.max_new_tokens
    context = answerer.weights.open(at_once, min(tokens_each, answerer.weights.context_length))
    waiting = deque(enumerate(zip(prompts, states, strict=True)))
    try:
        rows = Rows(context)
        while waiting or len(rows):
            # A row that ends makes room for the next one.
            while waiting and rows.has_room:
                number, (prompt, state) = waiting.popleft()
                rows.add(prompt, state, config, functools.partial(on_token, number))
            rows.step()
    finally:
        context.close()
