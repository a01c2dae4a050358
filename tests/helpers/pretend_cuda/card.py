"""A card that is not there: what ``torch.cuda`` says of it, and stand-ins for kernels that only a CUDA build has."""

import types
from typing import Any

import torch
from torch._subclasses import fake_tensor

CUDA = torch.device("cuda", 0)
CARDS = {"H100": ((9, 0), 80 << 30), "T4": ((7, 5), 15 << 30)}


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
    torch.ops.aten.silu_backward = silu_backward  # type: ignore[attr-defined]
    # Fake tensors and those of the inference mode do not mix.
    torch.inference_mode = inference_mode  # type: ignore[assignment, misc]


def inference_mode(mode: bool = True) -> Any:
    """Stand for the inference mode: no gradients."""
    return torch.set_grad_enabled(not mode)


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


class SiluBackward:
    """One kernel on CUDA; a build without CUDA makes it of its parts."""

    own = torch.ops.aten.silu_backward

    def __call__(self, grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """As the kernel; on the CPU its own."""
        result: torch.Tensor = self.own(grad, x) if grad.device.type == "cpu" else torch.mul(grad, x)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


silu_backward = SiluBackward()
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
    assert query.dtype == key.dtype == value.dtype
    if more.get("enable_gqa"):  # flash on newer cards: nothing but the shapes matters in generation
        key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], 1) for tensor in (key, value))
    if attn_mask is not None:
        assert attn_mask.device == query.device
        shape = (query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        attn_mask = torch.zeros(attn_mask.shape, dtype=query.dtype, device=CUDA).expand(shape)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    found = kernel(
        query, key, value, attn_mask, torch.is_grad_enabled(), more.get("dropout_p", 0.0),
        more.get("is_causal", False), scale=more.get("scale"),
    )  # fmt: skip
    return found[0]


def outliers(count: int) -> None:
    """Let bitsandbytes' fakes of int8 kernels find so many columns of outliers, which only real numbers tell."""
    from torch._library.fake_impl import FakeImplCtx

    FakeImplCtx.new_dynamic_size = lambda self, *, min=0, max=None: count  # type: ignore
