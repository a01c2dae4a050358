"""The table that ``medqa merge`` prints. Does not compute anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medqa_cli import console


def show(summary: Mapping[str, Any], out_dir: Path) -> None:
    """Print what was written, how far it is from base + adapter, and how to use it."""
    rows = [
        ["base weights", summary["base_weights"]],
        ["trained beside", summary["trained_with"]["quantization"]],
        ["written as", f"{summary['dtype']}, {summary['total_size_bytes'] / 1e9:.2f} GB"],
        ["peak memory of the merge", f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB"],
        ["time", f"{summary['seconds']:.0f} s"],
    ]
    console.table("Merged", rows)
    console.line(f"why {summary['base_weights']}: {summary['reason']}")
    found = summary["verification"]
    if found is None:
        console.line(f"not compared with base + adapter: {summary['not_verified']}")
    else:
        _show_comparison(found)
    console.line(f"model: {out_dir}   (a plain Transformers folder; figures: {out_dir / 'merge.json'})")


def _show_comparison(found: Mapping[str, Any]) -> None:
    header = ["", "answer NLL", "mean KL", "largest logit difference", "top-1 agreement"]
    rows = [["base + adapter", f"{found['answer_nll']['adapter']:.4f}", "", "", ""]]
    named = {f"merged onto {name}": figures for name, figures in found["candidates"].items()}
    named["noise floor (bfloat16)"] = found["noise_floor"]
    for name, figures in named.items():
        rows.append(
            [
                name,
                f"{figures['answer_nll']:.4f}",
                f"{figures['mean_kl']:.1e}",
                f"{figures['max_abs_logit_difference']:.3f}",
                f"{figures['top1_agreement']:.2%}",
            ]
        )
    title = f"Against base + adapter: {found['questions']} questions, {found['answer_tokens']} answer tokens, float32"
    console.table(title, rows, header)
