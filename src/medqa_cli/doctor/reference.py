"""The same computed by Transformers and PEFT alone, on the CPU in float32, one example at a time: what is right."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from medqa_cli.doctor.finding import NotChecked
from medqa_cli.doctor.subject import Subject
from medqa_cli.model.checks.model_files import CONFIG_NAME
from medqa_cli.model.kernels.packing import plain_losses
from medqa_cli.model.lora import add_lora
from medqa_cli.model.quantization import dense_weight
from medqa_cli.model.weights import WeightFiles
from medqa_cli.prompt.encoder import Example


@dataclass(frozen=True)
class Numbers:
    """``losses``: of the answer tokens, ``(N,)``; ``gradients``: of their mean, all in one row; float32, on the CPU."""

    losses: torch.Tensor
    gradients: torch.Tensor

    def apart(self, other: Numbers) -> float:
        """Return how far the other's numbers are from these, relative to their size: the larger of the two figures."""
        return max(relative(self.losses, other.losses), relative(self.gradients, other.gradients))


def relative(right: torch.Tensor, other: torch.Tensor) -> float:
    """Return the distance of two tensors of one shape relative to the norm of the first; infinite where it is zero."""
    right, other = right.detach(), other.detach()
    size = float(right.norm())
    return float((right - other).norm()) / size if size else float("inf")


def trained(model: Any) -> list[tuple[str, torch.Tensor]]:
    """Return the parameters that are trained, in the order of their names."""
    return sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)


def in_a_row(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return all values in one row: float32, on the CPU."""
    return torch.cat([tensor.detach().float().cpu().flatten() for tensor in tensors])


def numbers_of(model: Any, losses_of: Callable[[], Iterator[torch.Tensor]]) -> Numbers:
    """Compute the numbers from the losses of one forward pass after another."""
    parameters = [parameter for _, parameter in trained(model)]
    sums = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
    seen = []
    for losses in losses_of():
        seen.append(losses.detach())
        gradients = torch.autograd.grad(losses.float().sum(), parameters, allow_unused=True)
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total += gradient
    losses = in_a_row(seen)
    return Numbers(losses, in_a_row(sums) / len(losses))


def plain_numbers(model: Any, examples: Sequence[Example]) -> Numbers:
    """Return the numbers of examples one by one, by the model's own forward pass."""
    return numbers_of(model, lambda: (plain_losses(model, example) for example in examples))


def plain_model(subject: Subject, like: Any) -> Any:
    """Return the model as Transformers loads it whole, on the CPU in float32, with the adapter of PEFT.

    Args:
        subject: whose base.
        like: the model that medqa loaded, whose adapter and quantized weights it gets.
    """
    base = plain_base(subject, like.get_base_model())
    model = add_lora(base.requires_grad_(False), subject.config.lora, "", None)
    values = dict(trained(like))
    for name, parameter in trained(model):
        parameter.data.copy_(values[name].detach())
    return model.eval()


def plain_base(subject: Subject, like: Any) -> Any:
    """Return the base as Transformers loads it, on the CPU in float32, with the weights that quantization left.

    They are written to a folder of their own under the names of the base's files, so that Transformers makes of them
    what it makes of those, such as the joined experts of a mixture.

    Raises:
        NotChecked: the files hold no weight under the name of the model's, or several that begin and end alike.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):
        shape = AutoConfig.from_pretrained(subject.base_dir, local_files_only=True, trust_remote_code=False)
        empty = AutoModelForCausalLM.from_config(shape, trust_remote_code=False)
    stored_transposed = {path for path, module in empty.named_modules() if isinstance(module, Conv1D)}
    files = WeightFiles.open(subject.base_dir)
    weights = {name: files.whole(name) for name in files.tensors}
    files.close()
    for path, layer in like.named_modules():
        layer = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
        if (dense := dense_weight(layer)) is None:
            continue
        path = path.removesuffix(".base_layer")
        name = f"{path}.weight"
        if name not in weights:
            # In the files it may have another name in the middle, as Mixtral's weights have.
            parts = name.split(".")
            alike = [one for one in weights if one.split(".")[:3] == parts[:3] and one.split(".")[-4:] == parts[-4:]]
            if len(alike) != 1:
                raise NotChecked(f"the files hold no {name}, so that there is no plain model to compare with")
            name = alike[0]
        weights[name] = (dense.T if path in stored_transposed else dense).cpu().contiguous()
    with tempfile.TemporaryDirectory(prefix="medqa-doctor-", ignore_cleanup_errors=True) as folder:
        shutil.copy(subject.base_dir / CONFIG_NAME, folder)
        save_file(weights, Path(folder, "model.safetensors"), metadata={"format": "pt"})
        base = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    return base.eval()
