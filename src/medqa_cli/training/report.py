"""The table that ``medqa train`` prints. Does not compute anything."""

from __future__ import annotations

from typing import Any

from medqa_cli import console
from medqa_cli.files import RunFolder


def show(summary: dict[str, Any], run: RunFolder) -> None:
    """Print what was trained, the losses, speed, memory, and where everything lies."""
    rows = [
        ["examples", f"{summary['num_train_examples']:,}"],
        ["answers cut at max_length", f"{summary['num_truncated_answers']:,}"],
        ["optimizer steps", f"{summary['global_step']:,}"],
        ["tokens", f"{summary['num_train_tokens']:,}"],
        ["training loss, first and last", _losses(summary["train_loss"])],
    ]
    if summary["num_examples_without_answer"]:
        rows.insert(2, ["rows without room for an answer", f"{summary['num_examples_without_answer']:,}"])
    if summary["validation_loss"]:
        label = f"validation loss before, best, last ({summary['num_validation_examples']} questions)"
        rows.append([label, _losses(summary["validation_loss"])])
    rows.append(["adapter saved", _adapter(summary)])
    if summary["num_skipped_steps"]:
        rows.append(["updates skipped by the loss scaler", f"{summary['num_skipped_steps']:,}"])
    rows += [
        ["tokens per second", f"{summary['tokens_per_second']:,.0f}"],
        [_peak_label(summary), f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB"],
        ["time", f"{summary['seconds']:.0f} s"],
    ]
    early = ", stopped early" if summary["stop_reason"] == "early_stopping" else ""
    console.table(f"Training {summary['status']}{early}", rows)
    console.line(f"adapter: {run.adapter_dir}   curves: {run.loss_plot_path}   log: {run.train_log_path}")


def _peak_label(summary: dict[str, Any]) -> str:
    predicted = summary["predicted_peak_memory_bytes"]
    if predicted is None:
        return "peak memory"
    idle = " in use, freed memory kept for speed" if summary["keeps_freed_memory"] else ""
    return f"peak memory (predicted {predicted / 2**30:.2f} GiB{idle})"


def _adapter(summary: dict[str, Any]) -> str:
    step, last, best = summary["adapter_step"], summary["global_step"], summary["best_step"]
    if step != last:
        return f"of step {step:,}, the best look at validation"
    if best is None:
        return f"of step {step:,}, the last"
    return f"of step {step:,}, the last" + (" and best" if best == step else f" (best look: {best:,})")


def _losses(losses: list[float] | None) -> str:
    return " -> ".join(f"{loss:.4f}" for loss in losses) if losses else "-"
