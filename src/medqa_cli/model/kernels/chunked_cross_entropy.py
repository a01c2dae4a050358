"""Losses of answer tokens without the whole logits: a chunk at a time, its gradient taken at once.

The full logits of a step of 8 answers are the largest tensors of the training of a small model (vocabulary 49,152:
192 KB a token), and autograd keeps several copies. Here a chunk of them lives at a time. The idea is that of
fused linear cross-entropy (Liger-Kernel, ``fused_linear_cross_entropy.py``); the code is plain PyTorch.
"""

import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import CausalLMOutput

from medqa_cli.model.changed import changed
from medqa_cli.model.kernels.attention import is_packed, stands_for

# Bytes of float32 logits in one chunk: large enough for full speed, small beside everything else.
CHUNK_BYTES = {"cpu": 24 << 20, "cuda": 256 << 20}
# Config keys of architectures that change the logits after the output layer.
_LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")


def install_answer_losses(causal_lm: Any) -> None:
    """Let a Transformers causal language model compute several examples, and losses of their answers.

    The batch is one row of examples end to end, ``example_lengths`` tokens each; ``logits_to_keep`` (``(N,)`` int64)
    are positions in it. With ``targets`` (``(N,)`` int64) ``forward`` returns ``(N,)`` float32 losses in nats, without
    them the ``(1, N, V)`` logits. A model whose attention is not the packed one computes an example at a time, as
    Transformers does. Without ``example_lengths`` ``forward`` is the model's own.
    """
    own_forward = causal_lm.forward

    def forward(
        self: Any,
        *args: Any,
        targets: Tensor | None = None,
        example_lengths: tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> Any:
        if example_lengths is None:
            return own_forward(*args, **kwargs)
        if not is_packed(self) or _rotate_differently(self.config, example_lengths):
            return _one_at_a_time(self, own_forward, targets, example_lengths, **kwargs)
        kwargs["example_lengths"] = example_lengths
        if targets is not None and _is_plain(self):
            positions = kwargs.pop("logits_to_keep")
            # Not [0, positions]: the gradient of an index is sorted on a GPU, that of index_select is not.
            hidden = self.base_model(**kwargs)[0][0].index_select(0, positions)  # (N, hidden_size)
            return answer_losses(hidden, self.get_output_embeddings(), targets)
        output = own_forward(**kwargs)
        return output if targets is None else _losses_of(output.logits[0], targets)

    causal_lm.forward = types.MethodType(forward, causal_lm)


def use_whole_logits(causal_lm: Any, wanted: bool) -> None:
    """Take the losses from the logits that the model itself returns, or where possible a chunk at a time again."""
    causal_lm.medqa_uses_whole_logits = wanted


def _one_at_a_time(
    causal_lm: Any,
    own_forward: Callable[..., Any],
    targets: Tensor | None,
    example_lengths: tuple[int, ...],
    *,
    input_ids: Tensor,
    logits_to_keep: Tensor,
    **_: Any,
) -> Any:
    """Compute each example by itself: the model makes positions and masks as it does for any single text."""
    results, order = [], []
    # One example needs no numbers: asking for them waits for a GPU, and the prediction of the memory has none.
    all_positions = logits_to_keep.tolist() if len(example_lengths) > 1 else [0] * len(logits_to_keep)
    start = 0
    is_asked_for_lengths = is_packed(causal_lm)
    for length in example_lengths:
        indices = [index for index, position in enumerate(all_positions) if start <= position < start + length]
        positions = logits_to_keep[indices] - start
        row = {"input_ids": input_ids[:, start : start + length], "use_cache": False}
        if is_asked_for_lengths:
            row["example_lengths"] = (length,)
        if targets is not None and _is_plain(causal_lm):
            hidden = causal_lm.base_model(**row)[0][0, positions]
            results.append(answer_losses(hidden, causal_lm.get_output_embeddings(), targets[indices]))
        else:
            logits = own_forward(**row).logits[0, positions]
            results.append(logits if targets is None else _losses_of(logits, targets[indices]))
        order += indices
        start += length
    inverse = sorted(range(len(order)), key=order.__getitem__)
    together = torch.cat(results)[inverse]
    return together if targets is not None else CausalLMOutput(logits=together[None])


def _rotate_differently(config: Any, example_lengths: tuple[int, ...]) -> bool:
    """Tell whether rotary positions depend on the longest example of a forward pass, so that others would be wrong.

    LongRoPE (Phi-3) and dynamic scaling change them beyond the length of the pretraining (Transformers,
    ``modeling_rope_utils.py``, ``dynamic_rope_update``).
    """
    text_config = config.get_text_config()
    rope = getattr(text_config, "rope_parameters", None) or {}
    # One set of values, or one for each type of layer.
    sets = [values for values in rope.values() if isinstance(values, dict)] or [rope]
    return len(example_lengths) > 1 and any(
        max(example_lengths) > (values.get("original_max_position_embeddings") or text_config.max_position_embeddings)
        for values in sets
        if values.get("rope_type") in ("longrope", "dynamic")
    )


def _losses_of(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="none")


def answer_losses(hidden: Tensor, output_layer: torch.nn.Module, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of each target: ``(N,)`` float32, in nats.

    Args:
        hidden: ``(N, hidden_size)``, the last layer's output at the places whose next token is a target.
        output_layer: a linear layer to the vocabulary; it may carry an adapter.
        targets: ``(N,)`` int64.
    """
    is_sharded = _is_sharded(output_layer)
    rows = _chunk_rows(output_layer, hidden.device.type)
    if _is_frozen_linear(output_layer):

        def frozen_losses() -> Tensor:
            losses: Tensor = _FrozenHeadLosses.apply(part, output_layer.weight, output_layer.bias, targets, rows)
            return losses

        autocast = torch.is_autocast_enabled(hidden.device.type)
        part = hidden.to(torch.get_autocast_dtype(hidden.device.type)) if autocast else hidden
        if not is_sharded:
            return frozen_losses()
        # In the place of the layer's forward pass, once: FSDP gathers its weights for that.
        with changed((output_layer, "forward", lambda hidden: frozen_losses())):
            gathered: Tensor = output_layer(hidden)
        return gathered
    if is_sharded:
        # FSDP gathers the weights at each call, and all ranks must call equally often.
        rows = len(targets)

    def chunk_losses(part: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(output_layer(part).float(), wanted, reduction="none")

    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([chunk_losses(part, wanted) for part, wanted in parts])
    # Trained or quantized output layers: the chunk's logits are made again in the backward pass.
    return torch.cat([checkpoint(chunk_losses, part, wanted, use_reentrant=False) for part, wanted in parts])


def _is_frozen_linear(layer: Any) -> bool:
    """Tell whether the layer is its frozen weight and nothing else; a hook on it wants to see it called."""
    if _is_sharded(layer):
        # FSDP puts a class of its own before the layer's, and hooks that ``answer_losses`` lets run.
        return type(layer).__bases__[-1] is torch.nn.Linear and not layer.weight.requires_grad
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) is torch.nn.Linear and not layer.weight.requires_grad and not any(hooks)


def _is_sharded(layer: Any) -> bool:
    return hasattr(layer, "unshard")  # torch.distributed.fsdp.FSDPModule


def _is_plain(causal_lm: Any) -> bool:
    """Tell whether the logits are the output layer's own, applied to the last hidden state."""
    if getattr(causal_lm, "medqa_uses_whole_logits", False):
        return False
    config = causal_lm.config.get_text_config()
    is_changed = any(getattr(config, key, None) not in (None, 1, 1.0) for key in _LOGIT_CHANGES)
    return not is_changed and causal_lm.base_model is not causal_lm and causal_lm.get_output_embeddings() is not None


def _chunk_rows(output_layer: Any, device_type: str) -> int:
    vocabulary_size = int(getattr(output_layer, "out_features", 1 << 15))
    chunk_bytes = CHUNK_BYTES.get(stands_for(device_type), CHUNK_BYTES["cpu"])
    return max(16, chunk_bytes // (4 * vocabulary_size))


class _FrozenHeadLosses(torch.autograd.Function):
    """Cross-entropy after a frozen linear layer; keeps only the gradient of ``hidden``."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rows: int) -> Tensor:
        losses = hidden.new_empty(len(targets), dtype=torch.float32)
        grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        # Made once, not for each chunk: large blocks that come and go scatter the memory, which then grows.
        products = hidden.new_empty(min(rows, len(targets)), len(weight))
        wide = products if hidden.dtype == torch.float32 else torch.empty_like(products, dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            weight = weight.to(hidden.dtype)
            for start in range(0, len(targets), rows):
                part = slice(start, start + rows)
                wanted = targets[part, None]
                narrow, logits = products[: len(wanted)], wide[: len(wanted)]  # (rows, V)
                torch.mm(hidden[part], weight.t(), out=narrow)
                if bias is not None:
                    narrow.add_(bias)
                if wide is not products:
                    logits.copy_(narrow)
                losses[part] = _losses_and_probabilities(logits, wanted)
                if grad is not None:
                    logits.scatter_add_(1, wanted, torch.full_like(logits[:, :1], -1.0))
                    if wide is not products:
                        narrow.copy_(logits)
                    torch.mm(narrow, weight, out=grad[part])
        if grad is not None:
            ctx.save_for_backward(grad)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return (grad * grads[0].to(grad.dtype)[:, None], None, None, None, None)


def _losses_and_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each row's loss, ``(rows,)`` float32, and turn the logits into probabilities in place.

    In place, since a second tensor of this size, as ``logsumexp`` makes one, costs more than the exponentials.

    Args:
        logits: ``(rows, V)`` float32; overwritten.
        targets: ``(rows, 1)`` int64.
    """
    target_logits = logits.gather(1, targets)
    largest = logits.amax(-1, keepdim=True)
    sums = logits.sub_(largest).exp_().sum(-1, keepdim=True)
    logits.div_(sums)
    return (sums.log() + largest - target_logits)[:, 0]
