"""A weight as 4-bit training sees it: quantized and dequantized by bitsandbytes, a block of rows at a time.

bitsandbytes works on whole tensors; here the same functions run on pieces that end where a quantization block ends, and
the constants of all pieces are quantized together, so that the values are the same with a fraction of the memory
(``tests/unit/merging/test_blockwise_quantization.py`` compares the bytes with those of a loaded model).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from medqa_cli.merging.prefetch import parallel_map
from medqa_cli.model.quantization import CONSTANTS_PER_BLOCK, WEIGHTS_PER_BLOCK


@dataclass(frozen=True)
class FourBit:
    """How the base was quantized in training.

    ``source_dtype``: the type that loading cast the weights to before it quantized them.
    """

    quant_type: Literal["nf4", "fp4"]
    double_quantization: bool
    source_dtype: torch.dtype
    device: torch.device


class QuantizedWeight:
    """One weight in 4 bit: packed codes and the constant of each block."""

    def __init__(
        self,
        read: Callable[[int, int], torch.Tensor],
        shape: tuple[int, int],
        how: FourBit,
        rows_at_once: int,
    ) -> None:
        """Quantize a weight.

        Args:
            read: returns rows ``start`` to ``stop`` of the weight, of any float type.
            shape: ``(out, in)`` of the weight.
            how: the quantization.
            rows_at_once: rows in one piece, which must end where a quantization block ends.
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
        self._codes = [codes for codes, _ in pieces]
        self._constants = torch.cat([constants for _, constants in pieces])
        if how.double_quantization:
            self._constants = _quantized_constants(self._constants)

    @property
    def packed(self) -> torch.Tensor:
        """All codes, ``(n / 2, 1)`` uint8, as a loaded ``Params4bit`` holds them."""
        return torch.cat(self._codes)

    @property
    def constants(self) -> torch.Tensor:
        """The largest absolute value of each block, float32, after double quantization where it is on."""
        return self._constants

    def piece(self, index: int) -> torch.Tensor:
        """Return the dequantized rows of one piece, ``(rows, in)`` float32, on the CPU."""
        import bitsandbytes as bnb

        num_columns = self._shape[1]
        start = index * self._rows
        num_rows = min(self._rows, self._shape[0] - start)
        first_block = start * num_columns // WEIGHTS_PER_BLOCK
        num_blocks = -(-num_rows * num_columns // WEIGHTS_PER_BLOCK)
        state = bnb.functional.QuantState(
            absmax=self._constants[first_block : first_block + num_blocks],
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
        found: torch.Tensor = bnb.functional.dequantize_4bit(self._codes[index], state)
        return found.cpu().reshape(num_rows, num_columns)


def _quantized_constants(constants: torch.Tensor) -> torch.Tensor:
    """Pass the constants through bitsandbytes' double quantization (as in its ``quantize_4bit``)."""
    import bitsandbytes as bnb

    offset = constants.mean()
    codes, state = bnb.functional.quantize_blockwise(constants - offset, blocksize=CONSTANTS_PER_BLOCK)
    nested: torch.Tensor = bnb.functional.dequantize_blockwise(codes, state) + offset
    return nested
