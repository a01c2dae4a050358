"""Estimates the memory of a training run before any weight is loaded, and how many tokens a forward pass may hold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil
import torch

from medqa_cli import console, distributed
from medqa_cli.allocators import is_kept, kept_kernel_bytes, release_idle_memory
from medqa_cli.config.schema import Config, LoraConfig, ModelConfig, TrainConfig
from medqa_cli.model.devices import free_memory_bytes, host_memory_bytes
from medqa_cli.model.kernels.attention import has_flash_attention
from medqa_cli.model.memory_profile import ShapeModel, StepMemory, UnknownMemoryError
from medqa_cli.prompt.encoder import Example
from medqa_cli.training.arguments import optimizer_on, unpaged, uses_checkpointing
from medqa_cli.training.data_order import largest_forward, num_tokens

# Bytes of optimizer state per trained parameter, by what the name of the optimizer holds; the first that fits counts.
# Those of 8 and 4 bits have codes, and a float32 for each block of 256 or 128, which is left out.
_STATE_BYTES = (
    ("sgd", 0.0),  # without momentum
    ("adafactor", 0.1),  # a mean per row and one per column
    ("lion_8bit", 1.0),
    ("rmsprop_bnb_8bit", 1.0),
    ("ademamix_8bit", 3.0),  # a fast, a slow and a second moment
    ("4bit", 1.0),
    ("8bit", 2.0),
    ("lion", 4.0),
    ("adagrad", 4.0),
    ("rmsprop", 4.0),
    ("ademamix", 12.0),
    ("grokadamw", 12.0),  # the filtered gradient beside the moments
    ("", 8.0),  # Adam and its kin: two float32 moments
)
# What libraries take on a CPU once they compute, beside the tensors: 75 to 115 MiB (docs/experiments.md, 2026-11-24,
# less the frozen weights that the prediction counted twice then).
_COMPUTING_BYTES = 100 << 20
# More tokens in one forward pass are not faster: matrix products are at full speed, dequantization is spread thin
# enough. Where products are fast (bfloat16 on a CPU with AMX), that takes more of them (docs/experiments.md,
# 2026-11-28).
ENOUGH_TOKENS = {("cpu", torch.float32): 768, ("cpu", torch.bfloat16): 2048, ("cuda", None): 16_384}
# The rest is for logits, gradients, other programs and what the estimate does not know.
SHARE_OF_FREE_MEMORY = 0.5
# What a process takes of a GPU beside PyTorch's tensors: the CUDA context and cuBLAS' workspaces; and the share that
# holes between blocks and workspaces of kernels take, which no count of tensors sees. Not measured.
CUDA_OVERHEAD_BYTES = 800 << 20
CUDA_UNSEEN_SHARE = 0.08
# Freed memory that is kept at most, beside what a step uses: float32 reached 1.3 times that, 16 bits 3.1 by the end of
# an epoch (docs/experiments.md, 2026-11-24 and 2026-11-28). ``IdleMemoryLimit`` gives back what is beyond.
MOST_IDLE_SHARE = {torch.float32: 1.3, torch.bfloat16: 2.5, torch.float16: 2.5}


@dataclass(frozen=True)
class Target:
    """The device that is planned for.

    ``device_type``: ``cpu`` or ``cuda``; ``total_bytes``: its memory; ``free_bytes``: what of it is free for the
    training, the program itself included; ``program_bytes``: what the program takes there before the model is loaded;
    ``num_shards``: how many devices share the weights (FSDP); ``has_flash``: a GPU with flash attention for 16 bits.
    """

    device_type: str
    total_bytes: int
    free_bytes: int
    program_bytes: int
    num_shards: int = 1
    has_flash: bool = True

    @property
    def available_bytes(self) -> int:
        """Return how much of the device's memory a training run may take, measured as its peak is."""
        if self.device_type != "cuda":
            return self.free_bytes
        return round(self.free_bytes * (1 - CUDA_UNSEEN_SHARE)) - CUDA_OVERHEAD_BYTES


def device_at_hand(device: torch.device) -> Target:
    """Return the device that this process would train on."""
    free = free_memory_bytes(device)
    num_shards = distributed.world_size() if distributed.is_sharded() else 1
    if device.type == "cuda":
        total = int(torch.cuda.get_device_properties(device).total_memory)
        return Target("cuda", total, free, 0, num_shards, has_flash_attention(device))
    release_idle_memory()  # what imports and encoding left behind is not part of the program
    resident = int(psutil.Process().memory_info().rss)
    return Target("cpu", host_memory_bytes(), free + resident, resident + _COMPUTING_BYTES, num_shards)


@dataclass(frozen=True)
class ForwardLimits:
    """How many tokens a forward pass may hold, and whether activations are recomputed."""

    max_tokens: int
    recomputed: bool


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory of a training run at its peak.

    ``paged_bytes``: part of the optimizer's state that may move to the host's memory. ``keeps_freed_memory``: there is
    room enough that freed blocks stay with the process, so that up to ``most_idle_bytes`` more are resident than are
    in use.
    """

    step: StepMemory
    limits: ForwardLimits
    largest_forward_tokens: int
    optimizer_bytes: int
    paged_bytes: int
    program_bytes: int
    keeps_freed_memory: bool
    most_idle_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Return the peak as it is measured: resident in the process on a CPU, allocated by PyTorch on a GPU."""
        optimizer = self.optimizer_bytes - self.paged_bytes
        return self.program_bytes + self.step.base_bytes + self.step.adapter_bytes + optimizer + self.step.step_bytes

    @property
    def idle_bytes(self) -> int:
        """Return how much freed memory is kept at most."""
        return self.most_idle_bytes if self.keeps_freed_memory else 0

    def parts(self) -> dict[str, int]:
        """Return the bytes of each part."""
        step = asdict(self.step)
        names = ("base", "adapter", "gradient", "activation", "logit", "working")
        parts = {"program": self.program_bytes} if self.program_bytes else {}
        parts |= {name: step[f"{name}_bytes"] for name in names}
        # Not all gradients live at the peak: those that do are shown, instead of less than no working space.
        missing = min(0, parts["working"])
        parts |= {"gradient": parts["gradient"] + missing, "working": parts["working"] - missing}
        return parts | {"optimizer": self.optimizer_bytes}


class MemoryEstimator:
    """Predicts for one base model and one training split, under changing config."""

    def __init__(self, hf_config: Any, examples: Sequence[Example], dtype: torch.dtype, target: Target) -> None:
        """Remember what all predictions share.

        Args:
            hf_config: the Transformers config of the base.
            examples: the encoded training split.
            dtype: type of the matrix products.
            target: the device.
        """
        self._hf_config, self._examples, self._dtype, self.target = hf_config, examples, dtype, target
        self._shapes: dict[tuple[ModelConfig, LoraConfig], ShapeModel] = {}

    def predict(self, config: Config) -> MemoryEstimate:
        """Return the memory that a training run with this config takes.

        Raises:
            InputError: a target module of the adapter does not exist.
        """
        # max_length changes nothing in the model.
        key = (replace(config.model, max_length=ModelConfig.max_length), config.lora)
        if key not in self._shapes:
            self._shapes = {key: ShapeModel(self._hf_config, config.model, config.lora, self._dtype)}
        shape = self._shapes[key]
        length = config.model.max_length
        examples = [replace(e, input_ids=e.input_ids[:length], labels=e.labels[:length]) for e in self._examples]
        limits = self._limits(config, shape, examples)
        largest, several = largest_forward(examples, config.train, limits.max_tokens, shape.examples_at_once)
        step = self._step(shape, largest, recomputed=limits.recomputed, several_forwards=several)
        name = optimizer_on(config.train.optim, torch.device(self.target.device_type))
        is_paged = "paged" in name and self.target.device_type == "cuda"
        estimate = MemoryEstimate(
            step=step,
            limits=limits,
            largest_forward_tokens=num_tokens(largest),
            optimizer_bytes=round(step.num_trainable * _state_bytes(name)),
            paged_bytes=round((step.num_trainable - step.num_in_small_tensors) * _state_bytes(name)) * is_paged,
            program_bytes=self._program_bytes(),
            keeps_freed_memory=False,
            most_idle_bytes=round(MOST_IDLE_SHARE[self._dtype] * step.step_bytes),
        )
        # On a CPU blocks that are kept for reuse come on top of what is in use.
        there_is_room = estimate.peak_bytes + estimate.most_idle_bytes <= self.target.free_bytes
        kept = self.target.device_type == "cpu" and is_kept(there_is_room)
        return replace(estimate, keeps_freed_memory=kept)

    def predict_on_all_ranks(self, config: Config) -> MemoryEstimate:
        """Predict with the limits that the smallest of all ranks needs. All ranks must call it.

        Raises:
            InputError: as ``predict``.
            UnknownMemoryError: on some rank the step cannot be run without weights.
        """
        result: MemoryEstimate | UnknownMemoryError
        with distributed.raise_on_all_ranks():
            try:
                result = self.predict(config)
            except UnknownMemoryError as error:
                result = error
        limits = distributed.all_gather(result.limits if isinstance(result, MemoryEstimate) else None)
        if isinstance(result, UnknownMemoryError):
            raise result
        known = [other for other in limits if other is not None]
        if len(known) < len(limits):
            raise UnknownMemoryError("the memory of this model's training cannot be predicted on another process")
        common = ForwardLimits(min(other.max_tokens for other in known), any(other.recomputed for other in known))
        if common == result.limits:
            return result
        train = replace(
            config.train, max_tokens_per_forward=common.max_tokens, gradient_checkpointing=common.recomputed
        )
        return self.predict(replace(config, train=train))

    def _program_bytes(self) -> int:
        compiles = self.target.device_type == "cpu" and self._dtype == torch.bfloat16
        return self.target.program_bytes + (kept_kernel_bytes() if compiles else 0)

    def _step(
        self, shape: ShapeModel, largest: Sequence[Example], *, recomputed: bool, several_forwards: bool = True
    ) -> StepMemory:
        return shape.step_memory(
            largest,
            device_type=self.target.device_type,
            recomputed=recomputed,
            several_forwards=several_forwards,
            has_flash=self.target.has_flash,
        )

    def _limits(self, config: Config, shape: ShapeModel, examples: Sequence[Example]) -> ForwardLimits:
        """Fit a forward pass into the memory that weights and optimizer leave free."""
        device_type, max_length = self.target.device_type, config.model.max_length
        probe = [max(examples, key=lambda example: len(example.input_ids))]
        tokens = len(probe[0].input_ids)
        plain = self._step(shape, probe, recomputed=False)
        name = optimizer_on(config.train.optim, torch.device(device_type))
        weights = plain.base_bytes + plain.adapter_bytes + plain.gradient_bytes
        weights += round(plain.num_trainable * _state_bytes(name))
        free = self.target.free_bytes - self._program_bytes() - weights // self.target.num_shards
        configured = config.train.max_tokens_per_forward
        enough = max(max_length, enough_tokens(device_type, self._dtype))
        most = enough if configured == "auto" else configured
        largest, _ = largest_forward(examples, config.train, most, shape.examples_at_once)
        # Twice the largest forward pass with room to spare: then recomputing buys nothing.
        plentiful = tokens_that_fit(plain.activation_bytes / tokens, free) >= 2 * num_tokens(largest)
        recomputed = uses_checkpointing(config.train, torch.device(device_type), plentiful)
        if configured != "auto":
            return ForwardLimits(configured, recomputed)
        kept = self._step(shape, probe, recomputed=True).activation_bytes if recomputed else plain.activation_bytes
        return ForwardLimits(tokens_per_forward(kept / tokens, free, device_type, self._dtype, max_length), recomputed)


def gib(size: int) -> str:
    """Return bytes for people, in GiB."""
    return f"{size / 2**30:.2f} GiB"


def fits(estimate: MemoryEstimate, target: Target) -> bool:
    """Tell whether the training has room, its optimizer state on the device."""
    return estimate.peak_bytes + estimate.paged_bytes <= target.available_bytes


def estimate_here(
    config: Config, hf_config: Any, examples: Sequence[Example], dtype: torch.dtype, device: torch.device
) -> MemoryEstimate | None:
    """Estimate the memory of a training run on ``device``, and say so if it has no room. All ranks must call it.

    Returns:
        None where a layer of the architecture needs real numbers.
    """
    target = device_at_hand(device)
    try:
        estimate = MemoryEstimator(hf_config, examples, dtype, target).predict_on_all_ranks(config)
    except UnknownMemoryError as error:
        console.note(f"{error.message}; the size of a forward pass is the fastest, whether it fits or not")
        return None
    if distributed.is_sharded():  # FSDP's own buffers are not part of the estimate
        return estimate
    if not fits(estimate, target):
        console.warn(
            f"this training run will probably run out of memory: it takes {gib(estimate.peak_bytes)} at its peak, and "
            f"{gib(target.available_bytes)} are available; `medqa train --plan` says which settings make it fit"
        )
    elif target.device_type == "cuda" and (instead := unpaged(config.train.optim)) is not None:
        console.note(
            f"train.optim: {config.train.optim} waits for the GPU after each of the adapter's tensors; its state "
            f"({gib(estimate.optimizer_bytes)}) has room here, and {instead} computes the same steps faster"
        )
    return estimate


def forward_limits(model: ModelConfig, train: TrainConfig, device: torch.device, dtype: torch.dtype) -> ForwardLimits:
    """Return the limits where memory is not known: the fastest forward pass, activations recomputed on a GPU."""
    fastest = max(model.max_length, enough_tokens(device.type, dtype))
    max_tokens = fastest if train.max_tokens_per_forward == "auto" else train.max_tokens_per_forward
    return ForwardLimits(max_tokens, uses_checkpointing(train, device))


def _state_bytes(optimizer: str) -> float:
    return next(value for part, value in _STATE_BYTES if part in optimizer)


def tokens_that_fit(bytes_per_token: float, free_bytes: int) -> int:
    """Return how many tokens of a forward pass the free memory holds, with a margin."""
    return int(max(0, free_bytes) * SHARE_OF_FREE_MEMORY / max(1.0, bytes_per_token))


def tokens_per_forward(
    bytes_per_token: float, free_bytes: int, device_type: str, dtype: torch.dtype, max_length: int
) -> int:
    """Return the limit on the tokens of a forward pass: enough to be fast, no more than fit, one example at least."""
    return max(max_length, min(enough_tokens(device_type, dtype), tokens_that_fit(bytes_per_token, free_bytes)))


def enough_tokens(device_type: str, dtype: torch.dtype) -> int:
    """Return the number of tokens beyond which a forward pass with products in ``dtype`` gets no faster."""
    known = ENOUGH_TOKENS.get((device_type, dtype)) or ENOUGH_TOKENS.get((device_type, None))
    return known or ENOUGH_TOKENS["cpu", torch.float32]
