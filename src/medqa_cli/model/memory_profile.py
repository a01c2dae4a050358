"""How much memory a training step takes, found by running the step on tensors that have shapes but no content.

The layers, losses and checkpointing are those of the training itself, in PyTorch's ``FakeTensorMode``; every storage
that the step makes is counted from its allocation to its release. The step is run with two and with three layers, and
what one more layer takes is counted for each of the others. CPU kernels stand in for the GPU's: they keep the same
tensors for the backward pass.
"""

import copy
import logging
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.errors import MedqaError
from medqa_cli.model import load, quantization
from medqa_cli.model.changed import changed
from medqa_cli.model.kernels import attention, chunked_cross_entropy, fused_layers
from medqa_cli.model.kernels.lora_products import casting_once, keeping_constants
from medqa_cli.model.kernels.packing import answer_token_losses, examples_at_once, pack
from medqa_cli.model.lora import add_lora
from medqa_cli.prompt.encoder import Example

# Layers that the step is run with. All layers of a model are taken to be alike.
_FEW_LAYERS = (2, 3)
# Elements from which on bitsandbytes keeps an optimizer's state in paged memory (0.50, optim/optimizer.py).
_PAGED_FROM = 100_000


class UnknownMemoryError(MedqaError):
    """A layer of this architecture looks at the numbers, so that it cannot run without them."""


@dataclass(frozen=True)
class StepMemory:
    """The memory of one optimizer step, in bytes, and the parameters.

    ``base_bytes``: frozen weights with their quantization constants; ``adapter_bytes``: trained weights;
    ``gradient_bytes``: their gradients; ``activation_bytes``: what the largest forward pass keeps for its backward
    pass; ``logit_bytes``: logits of answer tokens, as many as live at a time; ``working_bytes``: what else lives at the
    peak (dequantized weights, gradients of activations). ``num_trainable`` and ``num_parameters`` count parameters,
    quantized ones as they were before; ``num_in_small_tensors``: trained ones in tensors of less than 100,000.
    ``working_bytes`` is below zero where the adapter's gradients do not all live at the peak.
    """

    base_bytes: int
    adapter_bytes: int
    gradient_bytes: int
    activation_bytes: int
    logit_bytes: int
    working_bytes: int
    num_trainable: int
    num_in_small_tensors: int
    num_parameters: int

    @property
    def step_bytes(self) -> int:
        """Return what a step takes beside weights and optimizer state."""
        return self.gradient_bytes + self.activation_bytes + self.logit_bytes + self.working_bytes


class ShapeModel:
    """The model that would be trained, without the content of its weights."""

    def __init__(self, hf_config: Any, model: ModelConfig, lora: LoraConfig, dtype: torch.dtype) -> None:
        """Build it.

        Args:
            hf_config: the Transformers config of the base.
            model: section of the config.
            lora: section of the config.
            dtype: type of the unquantized tensors and of the matrix products.

        Raises:
            InputError: a target module of the adapter does not exist.
            UnknownMemoryError: the architecture cannot be built so.
        """
        load.quiet_libraries()
        self._dtype = dtype
        self._num_layers = int(hf_config.get_text_config().num_hidden_layers)
        depths = _FEW_LAYERS if self._num_layers > max(_FEW_LAYERS) else (self._num_layers,)
        with _unknown_where_it_fails():
            self._models = [_OneDepth(depth, hf_config, model, lora, dtype) for depth in depths]

    @property
    def examples_at_once(self) -> int | None:
        """How many examples a forward pass may hold (None: no limit), as far as the steps that were run have shown."""
        return examples_at_once(self._models[0].causal_lm)

    def step_memory(
        self,
        largest: Sequence[Example],
        *,
        device_type: str,
        recomputed: bool,
        several_forwards: bool,
        has_flash: bool = True,
    ) -> StepMemory:
        """Run a step.

        Args:
            largest: the examples of its largest forward pass.
            device_type: ``cpu`` or ``cuda``.
            recomputed: gradient checkpointing is on.
            several_forwards: the step has more than one, so that gradients live during the largest.
            has_flash: with ``cuda``: 16-bit attention is one flash kernel for all examples, not a call for each.

        Raises:
            UnknownMemoryError: a layer needs real numbers.
        """
        with _unknown_where_it_fails(), _as_on(device_type, self._dtype, has_flash), keeping_constants(recomputed):
            memories = [model.step_memory(largest, recomputed, several_forwards) for model in self._models]
        if len(memories) == 1:
            return memories[0]
        few, more = (asdict(memory) for memory in memories)
        extra = self._num_layers - _FEW_LAYERS[0]
        return StepMemory(**{name: few[name] + extra * (more[name] - few[name]) for name in few})


class _OneDepth:
    """The model with some number of layers."""

    def __init__(
        self, num_layers: int, hf_config: Any, model: ModelConfig, lora: LoraConfig, dtype: torch.dtype
    ) -> None:
        config = copy.deepcopy(hf_config)
        text = config.get_text_config()
        text.num_hidden_layers = num_layers
        if getattr(text, "layer_types", None):
            with suppress(AttributeError):  # where it follows from the number of layers
                text.layer_types = text.layer_types[:num_layers]
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        base = load.empty_base(config, model, dtype).requires_grad_(False)
        with torch.device("meta"):
            self._model = add_lora(base, lora, "", None)
        with self._mode:
            _leave_meta_device(self._model)
            quantization.give_empty_weights(base, model, dtype)
        chunked_cross_entropy.install_answer_losses(base)
        attention.use_packed_attention(base)
        fused_layers.fuse_layers(self._model)
        self._model.train()
        self.causal_lm: Any = base

    def step_memory(self, largest: Sequence[Example], recomputed: bool, several_forwards: bool) -> StepMemory:
        """Run a step; one that is not computed packed has one example in a forward pass."""
        try:
            if attention.is_packed(self.causal_lm):
                return self._step_memory(largest, recomputed, several_forwards)
        except attention.NotPackableError:
            attention.use_own_attention(self.causal_lm)
        longest = max(largest, key=lambda example: len(example.input_ids))
        return self._step_memory([longest], recomputed, several_forwards or len(largest) > 1)

    def _step_memory(self, largest: Sequence[Example], recomputed: bool, several_forwards: bool) -> StepMemory:
        model, live = self._model, _LiveBytes(self._model)
        _switch_checkpointing(self.causal_lm, recomputed)
        trained = [p for p in model.parameters() if p.requires_grad]
        with self._mode, live:
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter) if several_forwards else None
            before = live.now
            # The live bytes at the moment when the layers below the output layer are through.
            after_layers: list[int] = []
            with self.causal_lm.base_model.register_forward_hook(lambda *_: after_layers.append(live.mark())):
                losses = answer_token_losses(model, pack(largest, torch.device("cpu")))
            activations, logits = after_layers[0] - before, live.peak_since_mark - after_layers[0]
            losses.sum().backward()
        for parameter in trained:
            parameter.grad = None
        gradients = _bytes_of(trained)
        return StepMemory(
            base_bytes=_bytes_of([tensor for tensor in _weights_of(model) if not tensor.requires_grad]),
            adapter_bytes=gradients,
            gradient_bytes=gradients,
            activation_bytes=activations,
            logit_bytes=logits,
            working_bytes=live.peak - gradients - activations - logits,
            num_trainable=sum(p.numel() for p in trained),
            num_in_small_tensors=sum(p.numel() for p in trained if p.numel() < _PAGED_FROM),
            num_parameters=quantization.num_parameters(model),
        )


@contextmanager
def _as_on(device_type: str, dtype: torch.dtype, has_flash: bool) -> Iterator[None]:
    """Compute on the CPU as a training run on the device does: its chunks, attention, and types of the products."""
    is_autocast = dtype != torch.float32
    with attention.attention_as_on(device_type, has_flash and is_autocast), ExitStack() as stack:
        if device_type == "cuda":

            def dropout(
                input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
            ) -> torch.Tensor:
                # A mask of one byte a number is kept; on the CPU it is as wide as the numbers.
                return torch.native_dropout(input, p, True)[0] if training and p > 0 else input

            stack.enter_context(changed((F, "dropout", dropout)))
        if is_autocast and device_type == "cuda":
            # PEFT's layers ask whether CUDA has autocast on, and cast by themselves where it has not.
            stack.callback(torch.set_autocast_enabled, "cuda", torch.is_autocast_enabled("cuda"))
            torch.set_autocast_enabled("cuda", True)
        with torch.autocast("cpu", dtype, enabled=is_autocast), casting_once(device_type == "cuda"):
            yield


@contextmanager
def _unknown_where_it_fails() -> Iterator[None]:
    """Convert errors from data-dependent layers to UnknownMemoryError.

    A prediction that fails must not stop a training run. The error names the exception and carries it. PyTorch's log of
    the same exception, with its stack, is not the user's.
    """
    muted_before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    except (MedqaError, MemoryError):
        raise
    except Exception as error:  # PyTorch's stand-ins raise RuntimeError and AssertionError, an architecture anything
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        raise UnknownMemoryError(f"the memory of this model's training cannot be predicted ({reason})") from error
    finally:
        logging.disable(muted_before)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages made while it is active and not yet released.

    ``model``: its weights were there before, and a view of one (``detach``, ``t``) is no new storage.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.peak = self.peak_since_mark = 0
        storages = (tensor.untyped_storage() for tensor in _weights_of(model))
        self._known: dict[int, Any] = {storage._cdata: storage for storage in storages}

    def mark(self) -> int:
        """Begin a new ``peak_since_mark``; return the live bytes."""
        self.peak_since_mark = self.now
        return self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def release(_: Any) -> None:
            del self._known[key]
            self.now -= size

        self._known[key] = weakref.ref(storage, release)
        self.now += size
        self.peak = max(self.peak, self.now)
        self.peak_since_mark = max(self.peak_since_mark, self.now)


def _switch_checkpointing(causal_lm: Any, recomputed: bool) -> None:
    if recomputed:
        # The state of the random numbers is 5 KB, and asking a GPU for it would need one.
        causal_lm.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    else:
        causal_lm.activation_checkpointing_disable()


def _bytes_of(tensors: Sequence[torch.Tensor]) -> int:
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _weights_of(model: torch.nn.Module) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        while state is not None:
            tensors += [state.absmax, state.code]
            state = state.state2
        scales = getattr(getattr(module, "state", None), "SCB", None)
        tensors += [] if scales is None else [scales]
    return tensors


def _leave_meta_device(model: torch.nn.Module) -> None:
    """Put fake tensors of the default device in the place of all parameters and buffers; what was shared stays so."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=torch.get_default_device())
                    is_parameter = isinstance(tensor, torch.nn.Parameter)
                    # The old one is kept as well: a freed tensor's id may come again.
                    made[id(tensor)] = tensor, torch.nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
                tensors[name] = made[id(tensor)][1]
