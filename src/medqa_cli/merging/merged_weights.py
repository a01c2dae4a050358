"""The weights of the merged model, computed from base and adapter a few rows at a time.

Sums are made in float32 and rounded once, to the type that the plan names. The formulas are those of PEFT's own
merge. Knows nothing of files to write (``writing``) or of models that run (``streamed``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from medqa_cli.errors import MedqaError
from medqa_cli.merging.adapter_file import AdapterFile, LoraUpdate
from medqa_cli.merging.ahead import in_order
from medqa_cli.merging.four_bit import FourBit, QuantizedWeight
from medqa_cli.merging.plan import MergePlan, Recipe
from medqa_cli.merging.small_changes import SmallChanges
from medqa_cli.model.weights import WeightFiles, as_bytes, dtype_of, rows_in_a_piece


class MergedWeights:
    """All tensors of a merged model. ``four_bit``: the quantization that the plan's quantized weights pass through."""

    def __init__(self, base: WeightFiles, adapter: AdapterFile, plan: MergePlan, four_bit: FourBit | None) -> None:
        self.plan = plan
        self.recipes = {recipe.name: recipe for recipe in plan.recipes}
        self.small_changes = SmallChanges()
        self._base, self._adapter, self._four_bit = base, adapter, four_bit
        self._current: _Tensor | None = None

    @property
    def names(self) -> Iterable[str]:
        """Names of all tensors, in the order in which they are written."""
        return self.recipes.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.recipes[name].shape

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """Yield a tensor as consecutive groups of rows, in its stored type, on the CPU."""
        tensor = self._tensor(self.recipes[name])
        yield from in_order(tensor.piece, tensor.num_pieces)

    def raw_blocks(self, name: str) -> Iterator[memoryview]:
        """Yield the bytes of a tensor; a block is valid until the next one is asked for."""
        recipe = self.recipes[name]
        if recipe.is_copy:
            yield from self._base.raw_blocks(recipe.base_name)
        else:
            yield from map(as_bytes, self.pieces(name))

    def release(self) -> None:
        """Forget the tensor that was computed last and close the base's file."""
        self._current = None
        self._base.close()

    def _tensor(self, recipe: Recipe) -> _Tensor:
        if self._current is None or self._current.recipe is not recipe:
            self._current = None
            self._current = _Tensor(recipe, self._base, self._adapter, self._four_bit, self.small_changes)
        return self._current


class _Tensor:
    """One tensor that is being computed, and what its pieces have in common."""

    def __init__(
        self,
        recipe: Recipe,
        base: WeightFiles,
        adapter: AdapterFile,
        four_bit: FourBit | None,
        small_changes: SmallChanges,
    ) -> None:
        self.recipe, self._small_changes = recipe, small_changes
        self._base, self._dtype = base, dtype_of(recipe.type_name)
        self._replacement = adapter.tensor(recipe.replacement_key) if recipe.replacement_key else None
        self._rows_at_once = self._choose_rows()
        shape = recipe.shape
        num_rows = shape[0] if shape else 1
        self.num_pieces = max(1, -(-num_rows // self._rows_at_once))
        self._ranges = [
            (index * self._rows_at_once, min((index + 1) * self._rows_at_once, num_rows))
            for index in range(self.num_pieces)
        ]
        self._quantized: QuantizedWeight | None = None
        if recipe.four_bit and four_bit is not None:
            # Transformers quantizes a Conv1D layer the way a linear one is stored: (out, in).
            out_in = (shape[1], shape[0]) if recipe.conv1d else (shape[0], shape[1])
            rows = out_in[0] if recipe.conv1d else self._rows_at_once
            self._quantized = QuantizedWeight(self._read_out_in, out_in, four_bit, rows)
        self._change: Callable[[int, int, torch.Tensor], torch.Tensor] | None = None
        if recipe.update is not None:
            self._change = self._make_change(recipe.update, adapter)

    def piece(self, index: int) -> torch.Tensor:
        start, stop = self._ranges[index]
        values = self._before_change(index)
        if self._change is not None:
            before, values = values, self._change(start, stop, values)
            if not self.recipe.columns_are_outputs:
                self._small_changes.add(self.recipe.name, index, before, values)
        if self.recipe.is_copy:
            return values
        # The two ends are enough, and quicker than a look at each value; both are NaN where there is one.
        if values.numel() and not torch.stack(values.aminmax()).to(self._dtype).isfinite().all():
            raise MedqaError(
                f"the merged {self.recipe.name} holds values that are not finite: the adapter is broken, or its sum "
                f"with the base exceeds {self.recipe.type_name}",
                "train again with a lower learning rate, or write it in a wider type: --dtype bfloat16",
            )
        return values.to(self._dtype)

    def _choose_rows(self) -> int:
        shape = self.recipe.shape
        if len(shape) < 2 or self.recipe.conv1d:
            return max(1, shape[0] if shape else 1)
        return rows_in_a_piece(shape)

    def _read(self, start: int, stop: int) -> torch.Tensor:
        if not self.recipe.shape:
            return self._base.whole(self.recipe.base_name)
        return self._base.rows(self.recipe.base_name, start, stop)

    def _read_out_in(self, start: int, stop: int) -> torch.Tensor:
        return self._read(0, self.recipe.shape[0]).T if self.recipe.conv1d else self._read(start, stop)

    def _before_change(self, index: int) -> torch.Tensor:
        """Return the rows that the update is added to: float32, or the stored type where nothing is computed."""
        start, stop = self._ranges[index]
        if self._replacement is not None:
            return self._replacement[start:stop] if self.recipe.shape else self._replacement
        if self._quantized is not None:
            found = self._quantized.piece(index)
            return found.T.contiguous() if self.recipe.conv1d else found
        values = self._read(start, stop)
        return values if self.recipe.is_copy else values.float()

    def _make_change(
        self, update: LoraUpdate, adapter: AdapterFile
    ) -> Callable[[int, int, torch.Tensor], torch.Tensor]:
        scaling = update.scaling
        if self.recipe.is_bias_of_update:
            assert update.bias_key is not None
            bias = adapter.tensor(update.bias_key) * scaling
            return lambda start, stop, values: values + bias[start:stop]
        a, b = adapter.tensor(update.a_key), adapter.tensor(update.b_key)  # (r, in), (out, r)
        transposed = self.recipe.columns_are_outputs

        def added(start: int, stop: int, values: torch.Tensor) -> torch.Tensor:
            delta = (b @ a[:, start:stop]).T if transposed else b[start:stop] @ a
            return delta.mul_(scaling).add_(values)

        if update.magnitude_key is None:
            return added
        magnitude = adapter.tensor(update.magnitude_key)  # (out,)
        if not transposed:
            return lambda start, stop, values: _scaled_rows(added(start, stop, values), magnitude[start:stop])
        # DoRA's norms run over the inputs, which are the rows here: they are summed up first.
        squares = torch.zeros(len(magnitude), dtype=torch.float64)
        for index, (start, stop) in enumerate(self._ranges):
            squares += added(start, stop, self._before_change(index)).double().square().sum(0)
        factors = magnitude / squares.sqrt().float()
        return lambda start, stop, values: factors * added(start, stop, values)


def _scaled_rows(values: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Give each row the norm that DoRA learnt (arXiv 2402.09353, equation 5)."""
    norms: torch.Tensor = torch.linalg.norm(values, dim=1)
    return (magnitude / norms).view(-1, 1) * values
