"""Checks of what a step is made of: 4-bit weights there and back, attention in one kernel, the optimizer."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from medqa_cli.config.schema import Config, Quantization
from medqa_cli.doctor.finding import Measured, NotChecked
from medqa_cli.doctor.reference import relative
from medqa_cli.doctor.steps import BOUNDS
from medqa_cli.doctor.subject import Subject
from medqa_cli.model import load, quantization, resolve, weights
from medqa_cli.model.kernels import attention
from medqa_cli.training.arguments import make_optimizer, make_training_arguments, optimizer_on

# QLoRA (arXiv 2305.14314), appendix E: the values of NF4.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
# Half the widest step between values of a type, as a share of the largest weight that shares a constant: the most that
# rounding takes from a weight.
_HALF_A_STEP: dict[Quantization, float] = {"fp4": 1 / 6, "int8": 0.5 / 127}
_CONSTANTS = 0.01  # 8 bits for the constants themselves, with double quantization
_VALUES, _PRODUCTS = 1e-5, 1e-4
# Tokens of three examples: one below, two beyond the blocks of 64 and 128 that kernels work in.
_LENGTHS = (3, 130, 200)
_WINDOW = 70
_PAGED_FROM = (320, 384)  # more elements than the 100,000 from which bitsandbytes pages an optimizer's state


def weights_come_back(subject: Subject, kind: Quantization = "nf4", *, double: bool = False) -> Measured:
    """Compare quantized weights, as loading makes them, with NF4 computed here; their products with plain ones."""
    config = replace(subject.config.model, quantization=kind, double_quantization=double)
    source = resolve.find_base(config.name_or_path)
    base = load.load_base(source, config, subject.device, torch.float32, packed=True)
    files = weights.WeightFiles.open(subject.base_dir)
    stored = {name: files.whole(name).float() for name in files.tensors}
    files.close()
    # What the quantized layers make of one and of many rows: their inputs and outputs, on the CPU.
    products, generator = {}, torch.Generator().manual_seed(5)
    for name, layer in base.named_modules():
        if "bitsandbytes" not in type(layer).__module__ or not hasattr(layer, "in_features"):
            continue
        x = torch.randn((18, layer.in_features), generator=generator)
        with torch.no_grad():
            on_device = x.to(subject.device)
            one, many = layer(on_device[None, :1]), layer(on_device[None, 1:])
        products[name] = x, torch.cat([one[0], many[0]]).float().cpu()
    worst = 0.0
    if kind != "int8":
        quantization.dequantize_layers(base, torch.float32)
    compared = 0
    for name, layer in base.named_modules():
        if name not in products:
            continue
        whole = quantization.dense_weight(layer)
        dense = (layer.weight.detach().float() if whole is None else whole).cpu()
        worst = max(worst, _distance(dense, stored[f"{name}.weight"], kind, double))
        x, outputs = products[name]
        plain = F.linear(x, dense, None if layer.bias is None else layer.bias.detach().float().cpu())
        worst = max(worst, relative(plain, outputs) / _PRODUCTS * _VALUES if kind != "int8" else 0.0)
        compared += 1
    if not compared:
        raise NotChecked(f"loading made no {kind} layer")
    return Measured(worst, _VALUES, f"of a block's largest weight apart, in {compared} layers and their products")


def _distance(dense: torch.Tensor, stored: torch.Tensor, kind: Quantization, double: bool) -> float:
    """Return by how much quantized weights are off beyond what the type explains, in shares of the largest of a block.

    NF4's are compared with the nearest value of its table; where two are as near, either is right.
    """
    size = stored.shape[1] if kind == "int8" else quantization.WEIGHTS_PER_BLOCK
    count = -(-stored.numel() // size) * size
    rows, blocks = (F.pad(t.flatten(), (0, count - t.numel())).view(-1, size) for t in (dense, stored))
    largest = blocks.abs().amax(1, keepdim=True).clamp(min=1e-20)
    shares, scaled = rows / largest, blocks / largest
    if kind == "nf4":
        table = torch.tensor(NF4)
        to_values = (shares[..., None] - table).abs()  # whatever value was taken must be one of the table,
        off_table = to_values.amin(-1)
        taken = table[to_values.argmin(-1)]
        nearest = (scaled[..., None] - table).abs().amin(-1)
        off = torch.maximum(off_table, (scaled - taken).abs() - nearest)  # and the nearest one
    else:
        off = (shares - scaled).abs() - _HALF_A_STEP[kind]
    return max(0.0, float(off.max()) - (_CONSTANTS if double else 0.0))


def attention_is_plain(subject: Subject) -> Measured:
    """Compare the attention of packed examples, forward and backward, with softmax written out in float64.

    Raises:
        NotChecked: the architecture has no attention.
    """
    text = subject.inputs.hf_config.get_text_config()
    if not getattr(text, "num_attention_heads", None):
        raise NotChecked(f"the config of {text.model_type} names no attention heads")
    heads, groups, head_dim = load.heads_of(text)
    generator = torch.Generator().manual_seed(6)
    shapes = [(1, count, sum(_LENGTHS), head_dim) for count in (heads, groups, groups, heads)]
    *inputs, direction = (torch.randn(shape, generator=generator).to(subject.device, subject.dtype) for shape in shapes)
    worst = 0.0
    for window in (None, _WINDOW):
        tensors = q, k, v = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        out, _ = attention.packed_attention(
            torch.nn.Identity(), q, k, v, None, scaling=head_dim**-0.5, example_lengths=_LENGTHS, sliding_window=window
        )
        fast = [out, *torch.autograd.grad(out, tensors, direction.transpose(1, 2).to(out.dtype))]
        exact = query, key, value = [tensor.detach().double().cpu().requires_grad_() for tensor in inputs]
        plain = _plain_attention(query, key, value, window)
        right = [plain, *torch.autograd.grad(plain, exact, direction.double().cpu().transpose(1, 2))]
        worst = max(worst, *(relative(r, f.detach().double().cpu()) for r, f in zip(right, fast, strict=True)))
    what = f"apart, heads of {head_dim}, {sum(_LENGTHS)} tokens, with and without a window"
    problems = "; ".join(attention.kernel_problems())
    return Measured(
        worst, BOUNDS[subject.dtype], what, problems, "takes one example at a time, which is slower" if problems else ""
    )


def _plain_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int | None) -> torch.Tensor:
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    parts = []
    for q, k, v in zip(*(torch.split(tensor, list(_LENGTHS), 2) for tensor in (query, key, value)), strict=True):
        distance = torch.arange(q.shape[2])[:, None] - torch.arange(q.shape[2])[None, :]
        seen = (distance >= 0) & (distance < (window or 1 << 30))
        scores = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5
        parts.append(scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v)
    return torch.cat(parts, 2).transpose(1, 2)


def optimizer_is_adamw(config: Config, device: torch.device) -> Measured:
    """Compare three steps of the config's optimizer, its state paged where it pages, with AdamW written out.

    Raises:
        NotChecked: it is none of those in 32 bits that compute AdamW.
    """
    name = optimizer_on(config.train.optim, device)
    if name not in ("adamw_torch", "adamw_torch_fused", "paged_adamw_32bit"):
        raise NotChecked(f"{name} computes other steps than AdamW in 32 bits, which alone is written out here")
    generator = torch.Generator().manual_seed(8)
    start, *gradients = torch.randn((4, *_PAGED_FROM), generator=generator)
    module = torch.nn.Linear(_PAGED_FROM[1], _PAGED_FROM[0], bias=False, device=device)
    module.weight.data.copy_(start)
    train = replace(config.train, weight_decay=0.1, learning_rate=1e-2, report_to="none")
    with tempfile.TemporaryDirectory(prefix="medqa-doctor-", ignore_cleanup_errors=True) as folder:
        args = make_training_arguments(
            train, seed=config.seed, output_dir=Path(folder), device=device, compute_dtype=torch.float32
        )
    optimizer = make_optimizer(args, module)
    for gradient in gradients:
        module.weight.grad = gradient.to(device)
        optimizer.step()
    # AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2), with PyTorch's betas and epsilon.
    expected = start.double()
    first, second = torch.zeros_like(expected), torch.zeros_like(expected)
    for number, gradient in enumerate(gradients, start=1):
        g = gradient.double()
        first = 0.9 * first + (1 - 0.9) * g
        second = 0.999 * second + (1 - 0.999) * g * g
        step = (first / (1 - 0.9**number)) / ((second / (1 - 0.999**number)).sqrt() + 1e-8)
        expected = expected * (1 - train.learning_rate * train.weight_decay) - train.learning_rate * step
    off = float((module.weight.detach().double().cpu() - expected).abs().max()) / train.learning_rate
    paged = ", state paged" if "paged" in name else ""
    return Measured(off, 1e-3, f"of a step apart after three, {name}{paged}")


def paged_is_adamw(subject: Subject, config: Config) -> Measured:
    """Check the paged optimizer, which needs a GPU; elsewhere ``optimizer_is_adamw`` has what stands for it.

    Raises:
        NotChecked: there is no GPU.
    """
    if subject.device.type == "cpu":
        raise NotChecked("there is no GPU; what computes the same steps here is checked as the optimizer")
    paged = replace(config, train=replace(config.train, optim="paged_adamw_32bit"))
    return optimizer_is_adamw(paged, subject.device)


def flash_is_plain(subject: Subject) -> Measured:
    """Check the GPU's flash kernel for all examples at once, in bfloat16, whatever the config computes in.

    Raises:
        NotChecked: there is none.
    """
    if subject.device.type == "cpu":
        raise NotChecked("there is no GPU; the attention of this CPU is checked below")
    if not attention.has_flash_attention(subject.device):
        raise NotChecked("this GPU, or this PyTorch, has no flash attention for several examples at once")
    return attention_is_plain(replace(subject, dtype=torch.bfloat16))
