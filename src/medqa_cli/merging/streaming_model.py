"""A model that reads its weights while it computes: each layer a few rows at a time, in float32.

A small machine can compare a large merged model this way, from the written files. It suits a few large batches, not
single questions: every forward pass reads all weights.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from medqa_cli.errors import MedqaError
from medqa_cli.merging.architecture import stored_names, ties
from medqa_cli.merging.weights import MergedWeights
from medqa_cli.model import experts, load
from medqa_cli.model.kernels import attention, chunked_cross_entropy
from medqa_cli.model.weights import WeightFiles

# Where weights come from: files, or base and adapter.
WeightSource = WeightFiles | MergedWeights


class NotStreamable(MedqaError):
    """The model cannot be read layer by layer: some parameters are not tensors of its files."""


def streamed_model(config_dir: Path, source: WeightSource, device: torch.device, *, untied: bool) -> Any:
    """Build a causal language model whose weights are read when they are needed.

    Args:
        config_dir: folder with the model's ``config.json``.
        source: the weights.
        device: where it computes.
        untied: output layer and embedding do not share weights, whatever the config says.

    Returns:
        The model in eval mode, for padding-free forward passes in float32 where its architecture takes them
        (``verify``).

    Raises:
        NotStreamable: a parameter is not a tensor of the files.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    config = load.load_config(str(config_dir))
    if untied:
        config.tie_word_embeddings = False
    # Buffers are made for real: they are computed, not stored.
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention.own_attention(config), dtype=torch.float32, trust_remote_code=False
        )
    experts.separate_experts(model, source.tensors)
    _connect(model, source, device)
    chunked_cross_entropy.install_answer_losses(model)
    attention.use_packed_attention(model)

    def note_largest(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        for values in (args[0], output):
            if values.numel():
                low, high = values.aminmax()
                module.largest_value = max(module.largest_value, -float(low), float(high))

    for module in model.modules():
        if isinstance(module, (_StreamedLinear, Conv1D)):
            module.largest_value = 0.0
            module.register_forward_hook(note_largest)
    return model.requires_grad_(False).to(device).eval()


def largest_activation(model: Any) -> float:
    """Return the largest absolute value that went into or came out of a linear layer of a streamed model so far."""
    return max(getattr(module, "largest_value", 0.0) for module in model.modules())


def _connect(model: Any, source: WeightSource, device: torch.device) -> None:
    names = stored_names(model, source.tensors).of_parameter
    for parameter, other in ties(model):
        if other in names:
            names.setdefault(parameter, names[other])
    missing = [name for name in model.state_dict() if name not in names]
    if missing:
        raise NotStreamable(f"the files hold no separate tensor for {missing[0]}")
    for path, module in list(model.named_modules()):
        if type(module) is torch.nn.Linear:
            bias = _whole(source, names[f"{path}.bias"]) if module.bias is not None else None
            model.set_submodule(path, _StreamedLinear(source, names[f"{path}.weight"], bias, device))
            continue
        if type(module) is torch.nn.Embedding:
            model.set_submodule(path, _StreamedEmbedding(source, names[f"{path}.weight"], device))
            continue
        # Any other module, usually a norm, gets its own parameters and buffers now.
        prefix = f"{path}." if path else ""
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                values = _whole(source, names[prefix + name]).float()
                module._parameters[name] = torch.nn.Parameter(values, requires_grad=False)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and prefix + name in names:
                module._buffers[name] = _whole(source, names[prefix + name]).to(buffer.dtype)


def _whole(source: WeightSource, name: str) -> torch.Tensor:
    return torch.cat(list(source.pieces(name))).float()


def _rows(source: WeightSource, name: str, device: torch.device) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield first number, end and values, in float32 on the device, of each group of rows."""
    start = 0
    for rows in source.pieces(name):
        yield start, start + len(rows), rows.to(device, torch.float32)
        start += len(rows)


class _StreamedLinear(torch.nn.Module):
    def __init__(self, source: WeightSource, name: str, bias: torch.Tensor | None, device: torch.device) -> None:
        super().__init__()
        self._rows = partial(_rows, source, name, device)
        self.out_features, self.in_features = source.tensors[name].shape
        self._bias = bias.to(device) if bias is not None else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x @ weight.T + bias``: ``(..., in)`` -> ``(..., out)`` float32."""
        x = x.float()
        result = x.new_empty((*x.shape[:-1], self.out_features))
        for start, stop, rows in self._rows():
            result[..., start:stop] = F.linear(x, rows)
        return result if self._bias is None else result + self._bias


class _StreamedEmbedding(torch.nn.Module):
    def __init__(self, source: WeightSource, name: str, device: torch.device) -> None:
        super().__init__()
        self._rows = partial(_rows, source, name, device)
        self.num_embeddings, self.embedding_dim = source.tensors[name].shape

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of ``input_ids``: ``(...)`` int64 -> ``(..., hidden)`` float32."""
        result = torch.empty((*input_ids.shape, self.embedding_dim), device=input_ids.device)
        for start, stop, rows in self._rows():
            wanted = (input_ids >= start) & (input_ids < stop)
            if wanted.any():
                result[wanted] = F.embedding(input_ids[wanted] - start, rows)
        return result
