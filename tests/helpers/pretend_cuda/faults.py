"""Errors in medqa's GPU code, each put in for one case: what would find them if somebody made them.

A fault is a context in which the code is wrong in one place. None of them raises by itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch

from medqa_cli.answering import decode
from medqa_cli.model import memory_profile
from medqa_cli.model.kernels import attention, lora_products, packing
from medqa_cli.training import arguments, trainer

CPU = torch.device("cpu")


def _changed(owner: Any, name: str, change: Callable[[Any], Any]) -> Callable[[], Any]:
    """Return a context in which ``owner.name`` is what ``change`` makes of it."""
    own = getattr(owner, name)
    return lambda: patch.object(owner, name, change(own))


def _starts_as(**what: Any) -> Callable[[], Any]:
    """Starts of examples of another type or in another place."""

    def starts(own: Any) -> Any:
        def changed(lengths: Any, device: Any) -> torch.Tensor:
            result: torch.Tensor = own(lengths, device).to(**what)
            return result

        changed.cache_clear = own.cache_clear  # type: ignore[attr-defined]
        return changed

    return _changed(attention, "example_starts", starts)


def _asking_flash_for(window_of: Callable[[tuple[int, int]], tuple[int, int]]) -> Callable[[], Any]:
    """Another window than the layer's."""

    def kernel(own: Any) -> Any:
        return lambda *arguments: own(*arguments[:-1], window_of(arguments[-1]))

    @contextmanager
    def changed() -> Iterator[None]:
        attention._varlen_kernel.cache_clear()
        try:
            with _changed(attention, "_torch_kernel", kernel)():
                yield
        finally:
            attention._varlen_kernel.cache_clear()

    return changed


def _copied_one_by_one(own: Any) -> Any:
    def packed(ids: Any, lengths: Any, places: Any, targets: Any, numbers: Any, device: Any) -> Any:
        on_cpu = own(ids, lengths, places, targets, numbers, CPU)
        tensors = {name: value.to(device) for name, value in vars(on_cpu).items() if torch.is_tensor(value)}
        return replace(on_cpu, **tensors)

    return packed


def _positions_on_the_cpu(own: Any) -> Any:
    def packed(*arguments: Any) -> Any:
        batch = own(*arguments)
        return replace(batch, position_ids=batch.position_ids.to("cpu"))

    return packed


def _in_float32(own: Any) -> Any:
    return lambda *arguments: (own(*arguments)[0].float(), True)


def _constants_in_16_bits(own: Any) -> Any:
    def dense(base: Any, *more: Any) -> Any:
        state = base.weight.quant_state
        with patch.object(state, "absmax", state.absmax.to(torch.bfloat16)):
            return own(base, *more)

    return dense


def _looking_at_losses(own: Any) -> Any:
    def losses(model: Any, batch: Any) -> Any:
        found = own(model, batch)
        assert float(found.amax()) < 1e9
        return found

    return losses


def _keeping_the_weight(own: Any) -> Any:
    """Keep each dequantized weight until the backward pass."""

    def forward(ctx: Any, x: Any, *more: Any) -> Any:
        ctx.kept = lora_products._dense_weight(more[3], x.dtype)[0]
        return own(ctx, x, *more)

    return staticmethod(forward)


def _without_scaler(own: Any) -> Any:
    return lambda *positional, **named: own(*positional, **{**named, "compute_dtype": torch.bfloat16})


def _mask_on_the_cpu(own: Any) -> Any:
    def make(self: Any, *arguments: Any) -> None:
        own(self, *arguments)
        self._mask = self._mask.to("cpu")

    return make


def _score_by_score(losses: torch.Tensor, batch: Any) -> list[packing.AnswerScore]:
    by_example = (losses[batch.example_of_target == index] for index in range(len(batch.example_lengths)))
    return [packing.AnswerScore(float(part.sum(dtype=torch.float64)), len(part)) for part in by_example]


def _walking(own: Any) -> Any:
    def clear(self: Any) -> None:
        self.model.zero_grad()
        own(self)

    return clear


def _with_flash(own: Any) -> Any:
    return lambda device_type, has_flash: own(device_type, True)


FAULTS: dict[str, Callable[[], Any]] = {
    "starts of examples in 64 bits": _starts_as(dtype=torch.int64),
    "a window that is a token short": _asking_flash_for(lambda window: (window[0] - 1, window[1])),
    "attention to later tokens": _asking_flash_for(lambda window: (-1, -1)),
    "the adapter is not cast": _changed(lora_products, "_cast", lambda own: lambda weight, dtype: weight),
    "the adapter is cast at each use": _changed(lora_products, "casting_once", lambda own: nullcontext),
    "dequantized weights in float32": _changed(lora_products, "_dense_weight", _in_float32),
    "4-bit constants in 16 bits": _changed(lora_products, "_dense_weight", _constants_in_16_bits),
    "a dequantized weight is kept": _changed(lora_products._LoraLinear, "forward", _keeping_the_weight),
    "positions on the CPU": _changed(packing, "packed_batch", _positions_on_the_cpu),
    "the batch is copied tensor by tensor": _changed(packing, "packed_batch", _copied_one_by_one),
    "the forward pass looks at its losses": _changed(packing, "answer_token_losses", _looking_at_losses),
    "float16 without its scaler": _changed(arguments, "make_training_arguments", _without_scaler),
    "a step walks over all modules": _changed(trainer.MedqaTrainer, "_clear_gradients", _walking),
    "the plan sees flash on a T4": _changed(memory_profile.attention, "attention_as_on", _with_flash),
    "the mask of padding on the CPU": _changed(decode._Batch, "__init__", _mask_on_the_cpu),
    "scores are read one by one": _changed(packing, "scores_of", lambda own: _score_by_score),
}  # fmt: skip
