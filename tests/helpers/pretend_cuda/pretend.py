"""Runs medqa's training steps on fake CUDA tensors in a PyTorch without CUDA, and prints what was seen as JSON.

``python pretend.py LIBRARY CASES`` with the library made of guard.cpp and a JSON list of cases. Shapes, types, devices
and autograd are PyTorch's own; no number is computed. What the real kernels demand and their stand-ins do not look at,
``check_contract`` does.
"""

from __future__ import annotations

import ctypes
import json
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)  # before torch

import accelerate  # noqa: E402, F401 -- libraries choose their backends when they are imported: before CUDA is pretended
import bitsandbytes  # noqa: E402, F401
import peft  # noqa: E402, F401
import torch  # noqa: E402
import transformers  # noqa: E402
from torch._subclasses import fake_tensor  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from medqa_cli.config.schema import LoraConfig, ModelConfig, TrainConfig  # noqa: E402
from medqa_cli.model import memory_profile  # noqa: E402
from medqa_cli.model.kernels.fused_layers import casting_once  # noqa: E402
from medqa_cli.model.kernels.packing import answer_token_losses, pack  # noqa: E402
from medqa_cli.prompt.encoder import Example  # noqa: E402
from medqa_cli.training.arguments import make_training_arguments  # noqa: E402
from medqa_cli.training.trainer import MedqaTrainer  # noqa: E402

CUDA = torch.device("cuda", 0)
CARDS = {"H100": ((9, 0), 80 << 30), "T4": ((7, 5), 15 << 30)}
VIEWS = "alias as_strided detach empty expand select slice split t transpose unsqueeze view _unsafe_view"
NO_LAUNCH = {f"aten::{name}" for name in VIEWS.split()}
PRODUCTS = {"aten::mm", "aten::bmm", "aten::addmm", "aten::addmm_", "aten::baddbmm", "aten::linear"}
FLASH_TYPES = (torch.float16, torch.bfloat16)


def pretend(name: str) -> None:
    """Let ``torch.cuda`` say that there is one such card."""
    capability, memory = CARDS[name]
    properties = types.SimpleNamespace(
        name=name, major=capability[0], minor=capability[1], total_memory=memory, multi_processor_count=132
    )
    state = torch.zeros(16, dtype=torch.uint8)
    answers: dict[str, Any] = {
        "is_available": True, "device_count": 1, "get_device_capability": capability, "get_device_name": name,
        "get_device_properties": properties, "mem_get_info": (memory, memory), "memory_reserved": 0,
        "memory_allocated": 0, "max_memory_allocated": 0, "set_device": None, "current_device": 0, "empty_cache": None,
        "synchronize": None, "get_rng_state": state, "get_rng_state_all": [state], "set_rng_state": None,
        "manual_seed": None, "manual_seed_all": None, "_is_in_bad_fork": False, "_lazy_init": None,
        "is_initialized": True, "is_bf16_supported": capability >= (8, 0),
    }  # fmt: skip
    for function, answer in answers.items():
        for module in (torch.cuda, torch.cuda.random):
            if hasattr(module, function):
                setattr(module, function, lambda *_, answer=answer, **__: answer)
    fake_tensor.FakeTensorMode.avoid_device_init = property(lambda self: True)  # type: ignore[assignment]
    fake_tensor.init_gpu_context = lambda device: None  # type: ignore[assignment]
    torch.Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign]
    torch.nn.functional.rms_norm = norm_in_one_kernel  # type: ignore[assignment]
    torch.nn.functional.scaled_dot_product_attention = efficient_attention  # type: ignore[assignment]


def check_contract(name: str, args: Any, kwargs: Any) -> None:
    """Raise where a real kernel would: mha_varlen_fwd of flash_api.cpp, cuBLAS, bitsandbytes."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    said = [(tuple(t.shape), str(t.dtype), t.device.type) for t in tensors]
    if name in PRODUCTS and len({t.dtype for t in tensors}) > 1:
        raise AssertionError(f"{name} of different types: {said}")
    if name.startswith("bitsandbytes::") and {t.device.type for t in tensors} != {"cuda"}:
        raise AssertionError(f"{name} of tensors on different devices: {said}")
    if name == "torch_attn::_varlen_attn":
        q, k, v, starts = args[:4]
        right = (
            q.dtype == k.dtype == v.dtype and q.dtype in FLASH_TYPES and starts.dtype == torch.int32
            and {t.device.type for t in tensors} == {"cuda"} and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256
            and q.stride(-1) == k.stride(-1) == v.stride(-1) == 1 and starts.is_contiguous()
            and q.shape[0] == k.shape[0] and q.shape[1] % k.shape[1] == 0
        )  # fmt: skip
        if not right:
            raise AssertionError(f"the flash kernel would refuse {said}")


class Host(TorchDispatchMode):
    """Answers what asks for numbers, counts that, copies between host and GPU, launches and live bytes of the GPU."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.live = memory_profile._LiveBytes(model)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.name()
        if name == "aten::_local_scalar_dense":
            self.waits["item of the GPU" if args[0].device.type == "cuda" else "item"] += 1
            return True if args[0].dtype == torch.bool else (1.0 if args[0].dtype.is_floating_point else 1)
        if name in ("aten::nonzero", "aten::equal", "aten::is_nonzero"):
            self.waits[name] += 1
            return args[0].new_empty((1, args[0].ndim), dtype=torch.int64) if name == "aten::nonzero" else True
        check_contract(name, args, kwargs)
        result = func(*args, **kwargs)
        given, made = ([t for t in tree_leaves(x) if isinstance(t, torch.Tensor)] for x in ((args, kwargs), result))
        if given and made and given[0].device.type != made[0].device.type:
            self.waits[f"copy {given[0].device.type} to {made[0].device.type}"] += 1
        for tensor in made:
            if tensor.device.type == "cuda":
                self.live._count(tensor.untyped_storage())
        if any(t.device.type == "cuda" for t in made) and name.partition(".")[0] not in NO_LAUNCH:
            self.launches[name.partition(".")[0]] += 1
        return result


class NormInOneKernel(torch.autograd.Function):
    """What ``rms_norm`` keeps on CUDA; a build without CUDA makes it of its parts."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """As the kernel."""
        assert x.dtype == weight.dtype
        ctx.save_for_backward(x, weight, x.new_empty((*x.shape[:-1], 1), dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        """As the kernel."""
        return torch.empty_like(ctx.saved_tensors[0]), None


own_norm = torch.nn.functional.rms_norm


def norm_in_one_kernel(x: torch.Tensor, shape: Any, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The norm as CUDA computes it; on the CPU its own."""
    if x.device.type == "cpu":
        return own_norm(x, shape, weight, epsilon)
    result: torch.Tensor = NormInOneKernel.apply(x, weight)
    return result


own_attention = torch.nn.functional.scaled_dot_product_attention


def efficient_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, **more: Any) -> torch.Tensor:
    """What ``scaled_dot_product_attention`` takes on a T4; fake tensors would take the way that keeps all scores."""
    if query.device.type == "cpu":  # the plan
        return own_attention(query, key, value, attn_mask, **more)
    if attn_mask is not None:
        attn_mask = torch.zeros(attn_mask.shape, dtype=query.dtype, device=CUDA).expand(1, query.shape[1], -1, -1)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    found = kernel(query, key, value, attn_mask, True, more["dropout_p"], more["is_causal"], scale=more["scale"])
    return found[0]


def outliers(count: int) -> None:
    """Let bitsandbytes' fakes of int8 kernels find so many columns of outliers, which only real numbers tell."""
    from torch._library.fake_impl import FakeImplCtx

    FakeImplCtx.new_dynamic_size = lambda self, *, min=0, max=None: count  # type: ignore


def examples_of(lengths: list[list[int]]) -> list[Example]:
    """Examples of so many tokens of prompt and answer."""
    return [
        Example([5] * (prompt + answer), [-100] * prompt + [7] * answer, False)
        for i, (prompt, answer) in enumerate(lengths)
    ]


def config_of(case: dict[str, Any], layers: int) -> Any:
    """The Transformers config of a case."""
    kind, settings = case.get("architecture", "Llama"), {"vocab_size": 32_000, **case["shape"]}
    return getattr(transformers, f"{kind}Config")(**{**settings, "num_hidden_layers": layers})


def model_of(case: dict[str, Any], layers: int) -> memory_profile._OneDepth:
    """The model of a case, as fake CUDA tensors."""
    model, lora = ModelConfig(**case["model"]), LoraConfig(**{"r": 16, "lora_dropout": 0.0, **case["lora"]})
    memory_profile.quiet_libraries()
    with CUDA:
        return memory_profile._OneDepth(config_of(case, layers), model, lora, getattr(torch, case["dtype"]))


def run_step(case: dict[str, Any], layers: int) -> tuple[dict[str, int], Host]:
    """Run one forward and backward with so many layers."""
    dtype, examples = getattr(torch, case["dtype"]), examples_of(case["examples"])
    depth = model_of(case, layers)
    causal_lm = depth._model.get_base_model()
    memory_profile._switch_checkpointing(causal_lm, case["recomputed"])
    host = Host(depth._model)
    autocast = torch.autocast("cuda", dtype, enabled=dtype != torch.float32)
    with depth._mode, host, casting_once():
        with memory_profile._watched(causal_lm.base_model, host.live) as after_layers, autocast:
            losses = answer_token_losses(depth._model, pack(examples, CUDA))
        assert losses.dtype == torch.float32
        losses.sum().backward()
    trained = [p for p in depth._model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in trained)
    return {"activations": after_layers[0], "peak": host.live.peak}, host


def step(case: dict[str, Any]) -> dict[str, Any]:
    """Run a step; return bytes and waits, what the plan says of the bytes, and the launches that a layer adds."""
    found, host = run_step(case, 2)
    model, lora = ModelConfig(**case["model"]), LoraConfig(**{"r": 16, "lora_dropout": 0.0, **case["lora"]})
    shape = memory_profile.ShapeModel(config_of(case, 2), model, lora, getattr(torch, case["dtype"]))
    planned = shape.step_memory(
        examples_of(case["examples"]), device_type="cuda", recomputed=case["recomputed"], several_forwards=False,
        has_flash=case["card"] == "H100",
    )  # fmt: skip
    result = {
        **found,
        "planned_activations": planned.activation_bytes,
        "planned_peak": planned.step_bytes,
        "waits": dict(host.waits),
    }
    if case["count_launches"]:
        _, more = run_step(case, 3)
        result["launches_of_a_layer"] = dict(more.launches - host.launches)
    return result


def train(case: dict[str, Any]) -> dict[str, Any]:
    """Let the Trainer take steps; return the waits of each after the first."""
    dtype = getattr(torch, case["dtype"])
    depth = model_of(case, 2)
    quantizer = types.SimpleNamespace(is_trainable=True, quantization_config=None)
    depth._model.get_base_model().hf_quantizer = quantizer  # as loading leaves it
    host = Host(depth._model)
    seen: list[Counter[str]] = []

    class Seen(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            seen.append(Counter(host.waits))

    config = TrainConfig(max_steps=4, logging_steps=100, save_steps=100, optim=case["optim"])
    with depth._mode:
        arguments = make_training_arguments(
            config, seed=1, output_dir=Path(case["folder"]), device=CUDA, compute_dtype=dtype
        )
        trainer = MedqaTrainer(
            model=depth._model, args=arguments, examples=examples_of(case["examples"]), validation=[],
            max_tokens_per_forward=case["tokens"], compute_dtype=dtype, callbacks=[Seen()],
        )  # fmt: skip
        trainer.accelerator.device_placement = False  # it is there already, and fake tensors cannot be swapped
        trainer._save_checkpoint = lambda *_, **__: None  # type: ignore[method-assign]
        with host:
            trainer.train()
    return {"waits": dict(seen[2] - seen[1]), "steps": trainer.state.global_step}


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Run a case; an error is its result."""
    pretend(case["card"])
    outliers(case.get("outliers", 0))
    return train(case) if case.get("optim") else step(case)


if __name__ == "__main__":
    print(json.dumps({case["name"]: run(case) for case in json.loads(sys.argv[2])}))
