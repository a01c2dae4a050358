"""A loaded model for a moment made small enough to try it: few layers, short windows, adapters that have an effect.

Afterwards everything is as before, to the bit, the state of the random numbers included. For ``verify``.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from medqa_cli.model.changed import changed
from medqa_cli.model.quantization import dense_weight, eight_bit_layers, four_bit_layers
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example

# Tokens of the two examples: more than the windows and the convolutions that are tried.
LENGTHS = (11, 17)
_WINDOW = 5
_WINDOW_NAMES = re.compile(r"(sliding_window|window|attention_chunk|local_attention)(_size|_len)?$")
_LEAST_LAYERS = 2
# Rows of the embedding and of the output layer that are used.
_VOCABULARY = 4096


def short_examples(hf_config: Any, lengths: tuple[int, ...] = LENGTHS) -> list[Example]:
    """Return examples of ordinary tokens; all but the first token of each is an answer."""
    text = hf_config.get_text_config()
    special = _special_ids(hf_config) | _special_ids(text)
    ordinary = [i for i in range(min(int(text.vocab_size), _VOCABULARY)) if i not in special]
    generator = torch.Generator().manual_seed(0)
    examples = []
    for length in lengths:
        ids = [ordinary[i] for i in torch.randint(len(ordinary), (length,), generator=generator).tolist()]
        examples.append(Example(ids, [IGNORE_INDEX, *ids[1:]], False))
    return examples


def _special_ids(config: Any) -> set[int]:
    special: set[int] = set()
    for name, value in vars(config).items():
        if name.endswith(("token_id", "token_index")):
            special.update(value if isinstance(value, list) else [value] if isinstance(value, int) else [])
    return special


@contextmanager
def few_layers(causal_lm: Any) -> Iterator[None]:
    """Leave out the layers that only repeat what those before them do, down to two."""
    stack = _stack_of_layers(causal_lm)
    if stack is None:
        yield
        return
    parent, name, layers = stack
    count = len(layers)
    per_layer = [
        value
        for value in vars(causal_lm.config.get_text_config()).values()
        if isinstance(value, list | tuple) and len(value) == count
    ]
    # What tells a layer from others: classes, settings and shapes of all that it is made of, and its own of the config.
    kinds = []
    for index, layer in enumerate(layers):
        parts = []
        for path, module in layer.named_modules():
            settings = {
                key: value
                for key, value in vars(module).items()
                if isinstance(value, bool | float | str | None)
                or (isinstance(value, int) and not (value == index and ("layer" in key or "idx" in key)))
            }
            shapes = [tuple(parameter.shape) for parameter in module._parameters.values() if parameter is not None]
            parts.append((path, type(module).__name__, settings, shapes))
        kinds.append((parts, [repr(value[index]) for value in per_layer]))
    needed = max(_LEAST_LAYERS, 1 + max(kinds.index(kind) for kind in kinds))
    with changed((parent, name, layers[:needed] if needed < len(layers) else layers)):
        yield


def decoder_layers(causal_lm: Any) -> torch.nn.ModuleList | None:
    """Return the layers of a model that are stacked upon each other; None: it is not clear which those are."""
    stack = _stack_of_layers(causal_lm)
    return None if stack is None else stack[2]


def _stack_of_layers(causal_lm: Any) -> tuple[torch.nn.Module, str, torch.nn.ModuleList] | None:
    """Return the module that holds the layers, their name in it, and the layers."""
    count = getattr(causal_lm.config.get_text_config(), "num_hidden_layers", None)
    stacks = [
        (parent, name, child)
        for parent in causal_lm.modules()
        for name, child in parent.named_children()
        if isinstance(child, torch.nn.ModuleList) and len(child) == count
    ]
    return stacks[0] if len(stacks) == 1 else None


@contextmanager
def short_windows(causal_lm: Any) -> Iterator[bool]:
    """Shorten the windows that an architecture limits its attention to, in its config and its layers.

    Yields whether there were any that may matter: not longer than the longest text. A window of thousands of tokens,
    that the model's mask knows and a layer does not hand on, shows itself so in two short examples.
    """
    config = causal_lm.config
    longest = getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 62
    windows: list[tuple[dict[str, Any], str, int]] = []
    for owner in (config, config.get_text_config(), *causal_lm.modules()):
        for name, value in vars(owner).items():
            is_window = isinstance(value, int) and not isinstance(value, bool) and _WINDOW_NAMES.search(name)
            if is_window and _WINDOW < value < longest:
                windows.append((vars(owner), name, value))
    for settings, name, _ in windows:
        settings[name] = _WINDOW
    try:
        yield bool(windows)
    finally:
        for settings, name, value in windows:
            settings[name] = value


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Run without dropout; give adapters that are zero an effect. Afterwards modes, weights and seeds are as before."""
    zeros = [
        parameter
        for name, parameter in model.named_parameters()
        if ("lora_B" in name or "lora_embedding_B" in name) and not bool(parameter.detach().any())
    ]
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        generator = torch.Generator().manual_seed(0)
        effects = [(p, "data", (torch.randn(p.shape, generator=generator) * 0.05).to(p)) for p in zeros]
        with changed(*((module, "training", False) for module in model.modules()), *effects):
            yield


@contextmanager
def in_float32(causal_lm: Any) -> Iterator[None]:
    """Compute in float32 with the same weights: in 16 bits rounding hides what an architecture is computed wrongly.

    Quantized weights stay as they are and are multiplied in float32. Of the vocabulary only the first tokens are there,
    since all of it in float32 may take more memory than the training.
    """
    tables = [
        layer for layer in (causal_lm.get_input_embeddings(), causal_lm.get_output_embeddings()) if layer is not None
    ]
    can_be_cut = all(type(layer) is torch.nn.Linear or isinstance(layer, torch.nn.Embedding) for layer in tables)
    cut = {id(layer.weight) for layer in tables} if can_be_cut else set()
    biases = {id(layer.bias) for layer in tables if can_be_cut and getattr(layer, "bias", None) is not None}
    parameters = [p for p in causal_lm.parameters() if p.is_floating_point() and not hasattr(p, "quant_state")]
    changes: list[tuple[Any, str, Any]] = [
        (p, "data", (p.data[:_VOCABULARY] if id(p) in cut | biases else p.data).float()) for p in parameters
    ]
    # A padding that may be cut off.
    changes += [(layer, "padding_idx", None) for layer in tables if isinstance(layer, torch.nn.Embedding)]
    for layer in four_bit_layers(causal_lm):
        # The second is the type that 4-bit weights are rounded to when they are dequantized.
        changes += [(layer, "compute_dtype", torch.float32), (layer.weight.quant_state, "dtype", torch.float32)]
    changes += [(layer, "forward", partial(_float_forward, layer)) for layer in eight_bit_layers(causal_lm)]
    with changed(*changes):
        yield


def _float_forward(layer: Any, x: Tensor) -> Tensor:
    """Multiply with 8-bit weights without rounding ``x`` to 8 bits, which depends on all that stands beside it."""
    weight = dense_weight(layer)
    assert weight is not None
    return torch.nn.functional.linear(x, weight, layer.bias)
