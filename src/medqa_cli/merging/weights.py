"""The weights of the merged model, computed from base and adapter a few rows at a time.

Sums are made in float32 and rounded once, to the type that the plan names. The formulas are those of PEFT's own merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from medqa_cli.errors import MedqaError
from medqa_cli.merging.blockwise_quantization import QuantizedWeight
from medqa_cli.merging.plan import MergePlan, TensorPlan
from medqa_cli.merging.prefetch import parallel_map
from medqa_cli.model.weights import as_bytes, dtype_of, rows_in_a_piece

# Of GGUF's block types (llama.cpp, ggml-quants.c): 32 neighbours in a row share a step, that of their largest value.
_BLOCK = 32
_STEPS = {"q4_0": 1 / 8, "q8_0": 1 / 127}


class SmallChanges:
    """Counts changes by an adapter that are below half a step of a GGUF type; a piece computed again counts once.

    A weight of a q4_0 file is one of 16 multiples of its block's step. Most changes of a usual adapter are far below
    half of it, so that rounding keeps them by chance only.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], tuple[int, ...]] = {}

    def add(self, name: str, piece: int, before: torch.Tensor, after: torch.Tensor) -> None:
        """Count a piece of a matrix, ``(rows, in)`` float32, before and after the change."""
        if after.dim() != 2 or after.shape[1] % _BLOCK:
            return
        changes = (after - before).abs_().view(-1, _BLOCK)
        largest = after.reshape(-1, _BLOCK).abs().amax(1, keepdim=True)
        small = (int((changes < step * largest / 2).sum()) for step in _STEPS.values())
        self._counts[name, piece] = (after.numel(), *small)

    def fractions(self) -> dict[str, float] | None:
        """Return the fraction of small changes by type of file; None: no matrix divides into blocks."""
        if not self._counts:
            return None
        total, *small = (sum(column) for column in zip(*self._counts.values(), strict=True))
        return {kind: round(count / total, 4) for kind, count in zip(_STEPS, small, strict=True)}


class MergedWeights:
    """All tensors of a merged model, by name."""

    def __init__(self, plan: MergePlan) -> None:
        self.tensors = {tensor.name: tensor for tensor in plan.tensors}
        self.small_changes = SmallChanges()
        self._plan = plan
        self._current: _TensorMerge | None = None

    @property
    def names(self) -> Iterable[str]:
        """Names of all tensors, in the order in which they are written."""
        return self.tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.tensors[name].shape

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """Yield a tensor as consecutive groups of rows, in its stored type, on the CPU."""
        if self._current is None or self._current.tensor.name != name:
            self._current = None
            self._current = _TensorMerge(self._plan, self.tensors[name], self.small_changes)
        yield from parallel_map(self._current.piece, len(self._current.row_ranges))

    def raw_blocks(self, name: str) -> Iterator[memoryview]:
        """Yield the bytes of a tensor; a block is valid until the next one is asked for."""
        tensor = self.tensors[name]
        if tensor.is_copy:
            yield from self._plan.base.raw_blocks(tensor.base_name)
        else:
            yield from map(as_bytes, self.pieces(name))

    def release(self) -> None:
        """Forget the tensor that was computed last and close the base's file."""
        self._current = None
        self._plan.base.close()


class _TensorMerge:
    """One tensor that is being merged, and what its pieces have in common."""

    def __init__(self, plan: MergePlan, tensor: TensorPlan, small_changes: SmallChanges) -> None:
        self.tensor, self._base, self._small_changes = tensor, plan.base, small_changes
        self._dtype = dtype_of(tensor.type_name)
        shape, adapter = tensor.shape, plan.adapter
        num_rows = shape[0] if shape else 1
        at_once = max(1, num_rows) if len(shape) < 2 or tensor.conv1d else rows_in_a_piece(shape)
        self.row_ranges = [(start, min(start + at_once, num_rows)) for start in range(0, max(1, num_rows), at_once)]
        self._replacement = adapter.tensor(tensor.replacement_key) if tensor.replacement_key else None
        self._quantized: QuantizedWeight | None = None
        if tensor.four_bit and plan.quantization is not None:
            # Transformers quantizes a Conv1D layer the way a linear one is stored: (out, in).
            out_in = (shape[1], shape[0]) if tensor.conv1d else (shape[0], shape[1])
            self._quantized = QuantizedWeight(
                self._read_out_in, out_in, plan.quantization, out_in[0] if tensor.conv1d else at_once
            )
        self._bias: torch.Tensor | None = None
        self._lora: tuple[torch.Tensor, torch.Tensor, float] | None = None  # (r, in), (out, r), scaling
        self._magnitude: torch.Tensor | None = None
        self._column_factors: torch.Tensor | None = None
        update = tensor.update
        if update is None:
            return
        if tensor.is_bias_of_update:
            assert update.bias_key is not None
            self._bias = adapter.tensor(update.bias_key) * update.scaling
            return
        self._lora = adapter.tensor(update.a_key), adapter.tensor(update.b_key), update.scaling
        if update.magnitude_key is not None:
            self._magnitude = adapter.tensor(update.magnitude_key)  # (out,)
            if tensor.columns_are_outputs:
                self._column_factors = self._magnitude / self._column_norms()

    def piece(self, index: int) -> torch.Tensor:
        """Return the merged rows of one range, in the stored type.

        Raises:
            MedqaError: they are not finite.
        """
        values = before = self._rows_before_update(index)
        if self.tensor.update is not None:
            values = self._updated(index, before)
            if not self.tensor.columns_are_outputs:
                self._small_changes.add(self.tensor.name, index, before, values)
        if self.tensor.is_copy:
            return values
        # The two ends are enough, and quicker than a look at each value; both are NaN where there is one.
        if values.numel() and not torch.stack(values.aminmax()).to(self._dtype).isfinite().all():
            raise MedqaError(
                f"the merged {self.tensor.name} holds values that are not finite: the adapter is broken, or its sum "
                f"with the base exceeds {self.tensor.type_name}",
                "train again with a lower learning rate, or write it in a wider type: --dtype bfloat16",
            )
        return values.to(self._dtype)

    def _read_out_in(self, start: int, stop: int) -> torch.Tensor:
        if self.tensor.conv1d:
            return self._base.rows(self.tensor.base_name, 0, self.tensor.shape[0]).T
        return self._base.rows(self.tensor.base_name, start, stop)

    def _rows_before_update(self, index: int) -> torch.Tensor:
        """Return the rows that the update is added to: float32, or the stored type where nothing is computed."""
        start, stop = self.row_ranges[index]
        if self._replacement is not None:
            return self._replacement[start:stop] if self.tensor.shape else self._replacement
        if self._quantized is not None:
            values = self._quantized.piece(index)
            return values.T.contiguous() if self.tensor.conv1d else values
        name = self.tensor.base_name
        values = self._base.rows(name, start, stop) if self.tensor.shape else self._base.whole(name)
        return values if self.tensor.is_copy else values.float()

    def _updated(self, index: int, values: torch.Tensor) -> torch.Tensor:
        """Return rows with the adapter's update; DoRA gives them learned norms (arXiv 2402.09353, equation 5)."""
        start, stop = self.row_ranges[index]
        if self._bias is not None:
            return values + self._bias[start:stop]
        values = self._with_delta(index, values)
        if self._magnitude is None:
            return values
        if self._column_factors is not None:
            return self._column_factors * values
        norms: torch.Tensor = torch.linalg.norm(values, dim=1)
        return (self._magnitude[start:stop] / norms).view(-1, 1) * values

    def _with_delta(self, index: int, values: torch.Tensor) -> torch.Tensor:
        """Return ``values + scaling * (B @ A)`` of the rows of one range."""
        assert self._lora is not None
        a, b, scaling = self._lora
        start, stop = self.row_ranges[index]
        delta = (b @ a[:, start:stop]).T if self.tensor.columns_are_outputs else b[start:stop] @ a
        return delta.mul_(scaling).add_(values)

    def _column_norms(self) -> torch.Tensor:
        """Return the norm of each column, ``(out,)`` float32: DoRA's norms run over the inputs, the rows here."""
        squares = torch.zeros(self.tensor.shape[1], dtype=torch.float64)
        for index in range(len(self.row_ranges)):
            squares += self._with_delta(index, self._rows_before_update(index)).double().square().sum(0)
        return squares.sqrt().float()
