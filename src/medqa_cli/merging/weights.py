"""The weights of the merged model, computed from base and adapter a few rows at a time.

Sums are made in float32 and rounded once, to the type that the plan names. The formulas are those of PEFT's own merge.
Weights that training saw in 4 bits are quantized and dequantized by bitsandbytes' own functions, in pieces that end
where a quantization block ends, with the constants of all pieces quantized together: the values are the same with a
fraction of the memory (a test compares the bytes with those of a loaded model).
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

from medqa_cli.errors import MedqaError
from medqa_cli.merging.plan import FourBit, MergePlan, TensorPlan
from medqa_cli.model.quantization import CONSTANTS_PER_BLOCK, WEIGHTS_PER_BLOCK
from medqa_cli.model.weights import TYPES, as_bytes, row_ranges, rows_in_a_piece

T = TypeVar("T")

_MAX_THREADS = 8
# GGUF's block types (llama.cpp, ggml-quants.c): 32 neighbors in a row share a step, a fraction of their largest value.
_BLOCK = 32
_STEPS = {"q4_0": 1 / 8, "q8_0": 1 / 127}


class SmallChanges:
    """Counts changes by an adapter that are below half a step of a GGUF type; a piece computed twice counts once.

    A weight of a q4_0 file is one of 16 multiples of its block's step. Smaller changes survive rounding only by chance.
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
    """All tensors of a merged model, by name, in the order in which they are written."""

    def __init__(self, plan: MergePlan) -> None:
        self.tensors = {tensor.name: tensor for tensor in plan.tensors}
        self.small_changes = SmallChanges()
        self._plan = plan
        self._current: _TensorMerge | None = None

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """Yield a tensor as consecutive groups of rows, in its stored type, on the CPU."""
        if self._current is None or self._current.tensor.name != name:
            self._current = None
            self._current = _TensorMerge(self._plan, self.tensors[name], self.small_changes)
        yield from parallel_map(self._current.piece, len(self._current.row_ranges))

    def raw_blocks(self, name: str) -> Iterator[memoryview]:
        """Yield the bytes of a tensor; a block is valid until the next one is requested."""
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
    """One tensor of the merged model, and what its pieces have in common."""

    def __init__(self, plan: MergePlan, tensor: TensorPlan, small_changes: SmallChanges) -> None:
        self.tensor, self._base, self._small_changes = tensor, plan.base, small_changes
        self._dtype = TYPES[tensor.type_name]
        shape, adapter = tensor.shape, plan.adapter
        is_one_piece = len(shape) < 2 or tensor.conv1d
        self.row_ranges = [(0, shape[0] if shape else 1)] if is_one_piece else row_ranges(shape)
        self._replacement = adapter.tensor(tensor.replacement_key) if tensor.replacement_key else None
        self._quantized: QuantizedWeight | None = None
        if tensor.four_bit and plan.quantization is not None:

            def read(start: int, stop: int) -> torch.Tensor:
                # Transformers quantizes a Conv1D layer as a linear one is stored: (out, in). It is one piece.
                return self._base.whole(tensor.base_name).T if tensor.conv1d else self._rows(start, stop)

            out_in = (shape[1], shape[0]) if tensor.conv1d else (shape[0], shape[1])
            rows_at_once = out_in[0] if tensor.conv1d else rows_in_a_piece(shape)
            self._quantized = QuantizedWeight(read, out_in, plan.quantization, rows_at_once)
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
                # Norms run over the inputs, which are the rows here: of each column, (out,).
                squares = torch.zeros(shape[1], dtype=torch.float64)
                for index in range(len(self.row_ranges)):
                    values = self._with_delta(index, self._rows_before_update(index))
                    squares += values.double().square().sum(0)
                self._column_factors = self._magnitude / squares.sqrt().float()

    def piece(self, index: int) -> torch.Tensor:
        """Return the merged rows of one range, in the stored type.

        Raises:
            MedqaError: they are not finite.
        """
        values = before = self._rows_before_update(index)
        if self.tensor.update is not None:
            start, stop = self.row_ranges[index]
            values = before + self._bias[start:stop] if self._bias is not None else self._with_delta(index, before)
            # DoRA gives them learned norms (arXiv 2402.09353, equation 5).
            if self._column_factors is not None:
                values = self._column_factors * values
            elif self._magnitude is not None:
                norms: torch.Tensor = torch.linalg.norm(values, dim=1)
                values = (self._magnitude[start:stop] / norms).view(-1, 1) * values
            if not self.tensor.columns_are_outputs:
                self._small_changes.add(self.tensor.name, index, before, values)
        if self.tensor.is_copy:
            return values
        # Smallest and largest suffice, and are quicker to check than each value; both are NaN if any value is.
        if values.numel() and not torch.stack(values.aminmax()).to(self._dtype).isfinite().all():
            raise MedqaError(
                f"the merged {self.tensor.name} holds values that are not finite: the adapter is broken, or its sum "
                f"with the base exceeds {self.tensor.type_name}",
                "train again with a lower learning rate, or write it in a wider type: --dtype bfloat16",
            )
        return values.to(self._dtype)

    def _rows(self, start: int, stop: int) -> torch.Tensor:
        """Return rows of the base's tensor in its stored type; all of a scalar."""
        name = self.tensor.base_name
        return self._base.rows(name, start, stop) if self.tensor.shape else self._base.whole(name)

    def _rows_before_update(self, index: int) -> torch.Tensor:
        """Return the rows that the update is added to: float32, or the stored type where nothing is computed."""
        start, stop = self.row_ranges[index]
        if self._replacement is not None:
            return self._replacement[start:stop] if self.tensor.shape else self._replacement
        if self._quantized is not None:
            values = self._quantized.piece(index)
            return values.T.contiguous() if self.tensor.conv1d else values
        values = self._rows(start, stop)
        return values if self.tensor.is_copy else values.float()

    def _with_delta(self, index: int, values: torch.Tensor) -> torch.Tensor:
        """Return ``values + scaling * (B @ A)`` of the rows of one range."""
        assert self._lora is not None
        a, b, scaling = self._lora
        start, stop = self.row_ranges[index]
        delta = (b @ a[:, start:stop]).T if self.tensor.columns_are_outputs else b[start:stop] @ a
        return delta.mul_(scaling).add_(values)


class QuantizedWeight:
    """One weight in 4 bits.

    ``codes``: of each piece, two in a byte, as a loaded ``Params4bit`` holds them. ``constants``: the largest absolute
    value of each block, float32, after double quantization where it is on.
    """

    def __init__(
        self, read: Callable[[int, int], torch.Tensor], shape: tuple[int, int], how: FourBit, rows_at_once: int
    ) -> None:
        """Quantize a weight.

        Args:
            read: returns rows ``start`` to ``stop`` of the weight, of any float type.
            shape: ``(out, in)`` of the weight.
            how: the quantization.
            rows_at_once: rows in one piece; it must end where a quantization block ends.
        """
        import bitsandbytes as bnb

        self._shape, self._how, self._rows = shape, how, rows_at_once

        def quantize(index: int) -> tuple[torch.Tensor, torch.Tensor]:
            start = index * rows_at_once
            piece = read(start, min(start + rows_at_once, shape[0])).to(how.device, how.source_dtype)
            codes, state = bnb.functional.quantize_4bit(
                piece.contiguous(), blocksize=WEIGHTS_PER_BLOCK, compress_statistics=False, quant_type=how.quant_type
            )
            return codes, state.absmax

        pieces = list(parallel_map(quantize, -(-shape[0] // rows_at_once)))
        self.codes = [codes for codes, _ in pieces]
        self.constants = torch.cat([constants for _, constants in pieces])
        if how.double_quantization:  # as in bitsandbytes' quantize_4bit
            offset = self.constants.mean()
            nested, state = bnb.functional.quantize_blockwise(self.constants - offset, blocksize=CONSTANTS_PER_BLOCK)
            self.constants = bnb.functional.dequantize_blockwise(nested, state) + offset

    def piece(self, index: int) -> torch.Tensor:
        """Return the dequantized rows of one piece, ``(rows, in)`` float32, on the CPU."""
        import bitsandbytes as bnb

        num_columns = self._shape[1]
        start = index * self._rows
        num_rows = min(self._rows, self._shape[0] - start)
        first_block = start * num_columns // WEIGHTS_PER_BLOCK
        num_blocks = -(-num_rows * num_columns // WEIGHTS_PER_BLOCK)
        state = bnb.functional.QuantState(
            absmax=self.constants[first_block : first_block + num_blocks],
            # Rows that end inside a block as one long row: bitsandbytes' AVX-512 kernel counts blocks from each row's
            # start (docs/footguns.md).
            shape=torch.Size(
                (num_rows, num_columns) if num_columns % WEIGHTS_PER_BLOCK == 0 else (1, num_rows * num_columns)
            ),
            # float32: training in a shorter type rounds after this, as a part of its arithmetic.
            dtype=torch.float32,
            blocksize=WEIGHTS_PER_BLOCK,
            quant_type=self._how.quant_type,
        )
        values: torch.Tensor = bnb.functional.dequantize_4bit(self.codes[index], state)
        return values.cpu().reshape(num_rows, num_columns)


def parallel_map(work: Callable[[int], T], count: int) -> Iterator[T]:
    """Yield ``work(0)`` to ``work(count - 1)``; a few threads compute up to two results each ahead.

    A piece is too small for PyTorch's own threads, which would meet after every operation: each computes alone.
    """
    if count == 1:
        yield work(0)
        return
    pool, num_threads = _pool()
    waiting: deque[Future[T]] = deque()
    try:
        for index in range(count):
            waiting.append(pool.submit(work, index))
            if len(waiting) >= 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # If the caller stops early, no thread may still read what it closes next.
        for future in waiting:
            future.cancel()
        for future in waiting:
            if not future.cancelled():
                future.exception()


@cache
def _pool() -> tuple[ThreadPoolExecutor, int]:
    num_threads = max(1, min(_MAX_THREADS, torch.get_num_threads(), os.cpu_count() or 1))
    # The setting holds for the thread that makes it.
    return ThreadPoolExecutor(num_threads, "medqa-merge", initializer=torch.set_num_threads, initargs=(1,)), num_threads
