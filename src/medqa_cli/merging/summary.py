"""The content of ``merge.json``: what was merged, onto which weights and why, and how far it is from what was trained.

Does not measure anything and does not write.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from medqa_cli.data.data_folder import report_of
from medqa_cli.merging.parts import MergeJob, Parts
from medqa_cli.merging.verify import Verification


def summarize(
    job: MergeJob, parts: Parts, chosen: str, found: Verification | None, not_verified: str
) -> dict[str, Any]:
    """Return the keys of ``merge.json`` that do not depend on the written folder.

    Args:
        job: what was asked for.
        parts: what was merged.
        chosen: the base weights that were taken.
        found: what was measured; None: nothing.
        not_verified: why nothing was measured.
    """
    largest = max(parts.tensors, key=lambda tensor: tensor.num_bytes)
    options = parts.given.options(job)
    return {
        "base_weights": chosen,
        "requested_base_weights": job.base_weights,
        "reason": _why(job, parts, chosen, found),
        "trained_with": {key: options[key] for key in ("quantization", "double_quantization", "compute_dtype")},
        "dtype": str(largest.dtype).removeprefix("torch."),
        "adapter": _describe_adapter(parts),
        "untied": parts.plan.untied,
        "total_size_bytes": sum(tensor.num_bytes for tensor in parts.tensors),
        "largest_tensor": largest.name,
        "largest_tensor_bytes": largest.num_bytes,
        "data": _describe_data(job.data_dir),
        "verification": found.as_json(chosen) if found else None,
        "not_verified": not_verified or None,
        "medqa_version": version("medqa-cli"),
    }


def _why(job: MergeJob, parts: Parts, chosen: str, found: Verification | None) -> str:
    if len(parts.given.names) == 1:
        return (
            f"the adapter was trained beside {parts.given.trained.quantization} weights; there is one way to merge it"
        )
    if job.base_weights != "auto":
        return "asked for"
    if found is None:
        return "nothing was measured; onto these weights the merged model is the one that was trained"
    other = next(name for name in found.candidates if name != chosen)
    nll = {name: measured.nll for name, measured in found.candidates.items()}
    reason = f"answer NLL {nll[chosen]:.4f}, onto {other} weights {nll[other]:.4f} nats per token"
    problem = found.problem(other)
    return f"{reason}; onto {other} weights {problem}" if problem else reason


def _describe_adapter(parts: Parts) -> dict[str, Any]:
    config = parts.adapter.config
    changed = [recipe for recipe in parts.plan.recipes if recipe.update and not recipe.is_bias_of_update]
    return {
        "kind": "DoRA" if config.get("use_dora") else "rsLoRA" if config.get("use_rslora") else "LoRA",
        "r": config.get("r"),
        "lora_alpha": config.get("lora_alpha"),
        "layers": len(changed),
        "replaced_tensors": len(parts.adapter.replacements),
    }


def _describe_data(data_dir: Path) -> dict[str, Any] | None:
    report = report_of(data_dir)
    if report is None:
        return None
    try:
        source = report["source"]
        # A name, not the path: the folder travels to other people.
        return {**report["splits"], "source": Path(str(source["path"])).name, "sha256": source["sha256"]}
    except (KeyError, TypeError):  # damaged: no reason to give up a model that is already written
        return None
