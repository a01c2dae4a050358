"""Decoder layers through ``torch.compile``: one graph for all layers of a kind and for rows of any length, on a CPU.

The compiler fuses what stands between the matrix products: norms, rotary positions, gates, residuals. LoRA's products
and the attention stay what they are without it (``operators``). Only passes that keep something for a backward pass are
compiled: a graph more would have to pay for itself in a few evaluations.
"""

import os
import shutil
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from medqa_cli.model.kernels import fused_layers, operators, reduced_model
from medqa_cli.model.resolve import cache_dir


def has_cpp_compiler() -> bool:
    """Tell whether this machine has the C++ compiler that PyTorch would call; Windows has another one."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return sys.platform != "win32" and shutil.which(name) is not None


def why_not(causal_lm: Any) -> str:
    """Return why the layers of this model, with its adapter and fused layers, are not compiled; empty: they can be."""
    from peft.tuners.lora import LoraLayer

    layers = reduced_model.decoder_layers(causal_lm)
    if layers is None:
        return "its layers are not found"
    adapted = [module for layer in layers for module in layer.modules() if isinstance(module, LoraLayer)]
    if any(fused_layers.fused_adapter(module) is None for module in adapted):
        return "an adapter with dropout, or in another form than plain LoRA, is not compiled"
    return ""


def compile_layers(causal_lm: Any) -> None:
    """Let the decoder layers compute compiled where a gradient is wanted; the first pass through them compiles."""
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor
    from peft.tuners.lora import LoraLayer
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # PyTorch's own folder lies below /tmp, under a name that anyone can guess, and is put into the environment.
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_dir() / "compiled")
    # In this process: processes of its own would each import PyTorch, and outlive Ctrl-C.
    inductor.compile_threads = 1
    # What the norms and the gate make is made again in the backward pass, where the products want it, and not kept.
    functorch.ban_recompute_materialized_backward = False
    torch.compiler.reset()  # graphs of another model with layers of the same class
    compiled: dict[type, Any] = {}
    for layer in reduced_model.decoder_layers(causal_lm) or ():
        for module in layer.modules():
            if isinstance(module, LoraLayer):
                module.compiled_number = operators.number_of(module)
                module.compiled_adapter = fused_layers.fused_adapter(module)
        kind = type(layer)
        if kind not in compiled:
            compiled[kind] = torch.compile(kind.forward, dynamic=True)
        layer.forward = types.MethodType(_forward_through(kind.forward, compiled[kind]), layer)


def uncompile_layers(causal_lm: Any) -> None:
    """Let the decoder layers compute as they did before ``compile_layers``."""
    for layer in reduced_model.decoder_layers(causal_lm) or ():
        vars(layer).pop("forward", None)  # the class's own appears again


def _forward_through(own: Any, compiled: Any) -> Any:
    def forward(self: Any, *args: Any, example_lengths: tuple[int, ...] | None = None, **kwargs: Any) -> Any:
        if example_lengths is None:
            return own(self, *args, **kwargs)
        if not torch.is_grad_enabled():
            return own(self, *args, example_lengths=example_lengths, **kwargs)
        return compiled(self, *args, example_lengths=_lengths_tensor(example_lengths), **kwargs)

    return forward


# All layers of a forward pass, and their recomputations, ask for the same one.
_lengths_tensor = lru_cache(maxsize=2)(operators.lengths_tensor)


@contextmanager
def counted_graphs() -> Iterator[dict[str, int]]:
    """Yield a dictionary that holds, afterwards, how many ``graphs`` were compiled, and how often one was cut."""
    from torch._dynamo.utils import counters

    def now() -> dict[str, int]:
        return {"graphs": counters["stats"]["unique_graphs"], "cuts": sum(counters["graph_break"].values())}

    before, counted = now(), dict[str, int]()
    yield counted
    counted |= {name: count - before[name] for name, count in now().items()}
