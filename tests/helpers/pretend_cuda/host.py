"""What the host sees while a GPU works: waits, copies, launches, live bytes; and what the real kernels demand.

Shapes, types, devices and autograd are PyTorch's own; no number is computed.
"""

import sys
from collections import Counter
from types import FrameType
from typing import Any

import torch
from torch._subclasses import fake_tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medqa_cli.model import memory_profile

VIEWS = (
    "alias as_strided detach empty empty_like expand new_empty permute select slice split squeeze t transpose unbind"
)
NO_LAUNCH = {f"aten::{name}" for name in (*VIEWS.split(), "unsqueeze", "view", "_unsafe_view", "split_with_sizes")}
PRODUCTS = {"aten::mm", "aten::bmm", "aten::addmm", "aten::addmm_", "aten::baddbmm", "aten::linear"}
FLASH_TYPES = (torch.float16, torch.bfloat16)
BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def check_contract(name: str, args: Any, kwargs: Any) -> None:
    """Raise where a real kernel would, or would read something else than it was given.

    cuBLAS; mha_varlen_fwd of flash_api.cpp; bitsandbytes 0.50 (backends/cuda/ops.py), whose kernels get addresses.
    """
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    said = [(tuple(t.shape), str(t.dtype), t.device.type) for t in tensors]
    if name in PRODUCTS and len({t.dtype for t in tensors}) > 1:
        raise AssertionError(f"{name} of different types: {said}")
    if name.startswith("bitsandbytes::"):
        if {t.device.type for t in tensors} != {"cuda"}:
            raise AssertionError(f"{name} of tensors on different devices: {said}")
        if not _bitsandbytes_takes(name.removeprefix("bitsandbytes::").partition(".")[0], args):
            raise AssertionError(f"{name} would refuse or misread {said}")
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


def _bitsandbytes_takes(name: str, args: Any) -> bool:
    if name == "dequantize_4bit":
        packed, absmax, blocksize, kind, shape, dtype = args[:6]
        count = torch.Size(shape).numel()
        return (
            packed.dtype == torch.uint8 and absmax.dtype == torch.float32 and blocksize in BLOCK_SIZES
            and kind in ("nf4", "fp4") and dtype in FLOATS and packed.numel() == (count + 1) // 2
            and absmax.numel() == -(-count // blocksize) and absmax.is_contiguous()
        )  # fmt: skip
    if name == "dequantize_blockwise":
        values, absmax, code, blocksize, dtype = args[:5]
        return (
            values.dtype == torch.uint8 and absmax.dtype == code.dtype == torch.float32 and dtype in FLOATS
            and code.numel() == 256 and absmax.numel() == -(-values.numel() // blocksize)
        )  # fmt: skip
    if name in ("int8_vectorwise_quant", "int8_double_quant"):
        return bool(args[0].dtype == torch.float16)
    if name == "int8_linear_matmul":
        return bool(args[0].dtype == args[1].dtype == torch.int8 and args[0].shape[-1] == args[1].shape[-1])
    if name == "int8_mm_dequant":
        return bool(args[0].dtype == torch.int32 and args[1].dtype == args[2].dtype == torch.float32)
    return True


class Host(TorchDispatchMode):
    """Answers what asks for numbers; counts that, copies between host and GPU, launches and live bytes of the GPU.

    A wait is an ``item``, a ``list`` or a copy that blocks; ``flash``: what the flash kernel was asked for besides
    tensors (longest example, causal, scale, window, grouped).
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.flash: set[tuple[Any, ...]] = set()
        self.live = memory_profile._LiveBytes(model)
        host = self

        def tolist(tensor: torch.Tensor) -> Any:
            host.waits[f"list of the {_place(tensor)}"] += 1
            value = 1.0 if tensor.dtype.is_floating_point else 1
            return [value] * len(tensor) if tensor.dim() == 1 else [[value] * tensor.shape[1]] * len(tensor)

        fake_tensor.FakeTensor.tolist = tolist  # type: ignore[method-assign, assignment]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.name()
        if (answer := self._number(name, args)) is not None:
            return answer
        check_contract(name, args, kwargs)
        if name == "torch_attn::_varlen_attn":
            self.flash.add((args[5], *(str(arg) for arg in args[7:11])))
        result = func(*args, **kwargs)
        given, made = ([t for t in tree_leaves(x) if isinstance(t, torch.Tensor)] for x in ((args, kwargs), result))
        self._count_copy(name, given, made, args, kwargs)
        for tensor in made:
            if tensor.device.type == "cuda":
                self.live._count(tensor.untyped_storage())
        if any(t.device.type == "cuda" for t in made) and name.partition(".")[0] not in NO_LAUNCH:
            self.launches[name.partition(".")[0]] += 1
        return result

    def _number(self, name: str, args: Any) -> Any:
        """Answer what needs numbers; None: it needs none."""
        if name == "aten::_local_scalar_dense":
            self.waits[f"item of the {_place(args[0])}"] += 1
            if args[0].dtype == torch.bool:
                return not _asked_by("masking_utils")  # finite numbers; but rows with padding
            return 1.0 if args[0].dtype.is_floating_point else 1
        if name in ("aten::nonzero", "aten::equal", "aten::is_nonzero"):
            self.waits[f"{name} of the {_place(args[0])}"] += 1
            return args[0].new_empty((1, args[0].ndim), dtype=torch.int64) if name == "aten::nonzero" else True
        if name == "aten::index.Tensor" and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self.waits[f"mask as an index on the {_place(args[0])}"] += 1
            return args[0].new_empty((1, *args[0].shape[args[1][0].ndim :]))
        return None

    def _count_copy(self, name: str, given: Any, made: Any, args: Any, kwargs: Any) -> None:
        places = {t.device.type for t in given} | {t.device.type for t in made}
        if places != {"cpu", "cuda"} or not made:
            return
        source = given[-1] if name == "aten::copy_" else given[0] if given else None
        if source is None or source.device.type == made[0].device.type or not source.numel():
            return
        blocks = not (kwargs.get("non_blocking") or (name == "aten::copy_" and len(args) > 2 and args[2]))
        self.waits[f"{'blocking ' if blocks else ''}copy to the {_place(made[0])}"] += 1


def _place(tensor: torch.Tensor) -> str:
    return "GPU" if tensor.device.type == "cuda" else "CPU"


def _asked_by(module: str) -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").endswith(module):
            return True
        frame = frame.f_back
    return False
