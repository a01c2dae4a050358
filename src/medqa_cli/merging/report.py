"""What is reported of a merge: ``merge.json`` and whether it is up to date, the tables, a warning for GGUF files."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.cards import memorization_of
from medqa_cli.data.dataset import report_of
from medqa_cli.errors import InputError
from medqa_cli.files import CARD_NAME, MERGE_FILE_NAME, RunFolder, read_json
from medqa_cli.merging.inputs import MergeInputs
from medqa_cli.merging.plan import MergePlan
from medqa_cli.merging.verify import Verification
from medqa_cli.model.devices import dtype_name

# With a larger fraction of small changes a GGUF file of that type answers more like the base than the tuned model does.
_NOTEWORTHY_FRACTION = 0.5


def finished_merge(out_dir: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the ``merge.json`` of a folder that was made from these inputs and is complete; None: merge again.

    Raises:
        InputError: the folder holds something that ``medqa merge`` did not write.
    """
    path = out_dir / MERGE_FILE_NAME
    if not path.is_file():
        if out_dir.exists() and not (out_dir.is_dir() and not any(out_dir.iterdir())):
            raise InputError(f"{out_dir} exists and was not made by medqa merge", "choose another folder: --out DIR")
        return None
    try:
        before = read_json(path)
    except InputError:
        console.note(f"{path} is damaged: merging again")
        return None
    if not isinstance(before, dict) or before.get("inputs") != inputs:
        console.note(f"{out_dir} holds an earlier merge of other inputs, which is replaced")
        return None
    recorded, sizes = before.get("files"), file_sizes(out_dir)
    if not isinstance(recorded, dict) or not recorded:
        console.note(f"{path} lists no files: merging again")
        return None
    damaged = [name for name, size in recorded.items() if sizes.get(name) != size]
    if damaged:
        console.note(f"{out_dir} is incomplete ({', '.join(damaged[:3])}): merging again")
        return None
    return before


def file_sizes(folder: Path) -> dict[str, int]:
    """Return the size in bytes of each file in a folder except ``merge.json``."""
    return {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MERGE_FILE_NAME
    }


def summarize(
    inputs: MergeInputs,
    plan: MergePlan,
    base_weights: str,
    verification: Verification | None,
    not_verified: str,
    data_dir: Path,
) -> dict[str, Any]:
    """Return the keys of ``merge.json`` that do not depend on the written folder.

    Args:
        inputs: what was merged.
        plan: how, with the types that were written.
        base_weights: the chosen ones.
        verification: what was measured; None: nothing.
        not_verified: why nothing was measured.
        data_dir: the converted data.
    """
    config = plan.adapter.config
    changed = [tensor for tensor in plan.tensors if tensor.update and not tensor.is_bias_of_update]
    tensors = plan.stored_tensors
    largest = max(tensors, key=lambda tensor: tensor.num_bytes)
    trained_with = {key: inputs.options[key] for key in ("quantization", "double_quantization", "compute_dtype")}
    return {
        "base_weights": base_weights,
        "requested_base_weights": inputs.options["base_weights"],
        "reason": _reason(inputs, base_weights, verification),
        "trained_with": trained_with,
        "dtype": dtype_name(largest.dtype),
        "adapter": {
            "kind": "DoRA" if config.get("use_dora") else "rsLoRA" if config.get("use_rslora") else "LoRA",
            "r": config.get("r"),
            "lora_alpha": config.get("lora_alpha"),
            "layers": len(changed),
            "replaced_tensors": len(plan.adapter.replacements),
        },
        "untied": plan.untied,
        "total_size_bytes": sum(tensor.num_bytes for tensor in tensors),
        "largest_tensor": largest.name,
        "largest_tensor_bytes": largest.num_bytes,
        "data": _describe_data(data_dir),
        "verification": verification.as_json(base_weights) if verification else None,
        "not_verified": not_verified or None,
        "medqa_version": version("medqa-cli"),
    }


def memorized_by(run: RunFolder) -> dict[str, Any]:
    """Return what is known of the adapter's memory: how many canaries it was trained on, what its card says."""
    trained = read_json(run.train_json_path) if run.train_json_path.is_file() else {}
    planted = trained.get("num_canary_examples", 0) if isinstance(trained, dict) else 0
    card = run.adapter_dir / CARD_NAME
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    return {"num_canary_examples": planted if type(planted) is int else 0, "memorization": memorization_of(text)}


def _reason(inputs: MergeInputs, base_weights: str, verification: Verification | None) -> str:
    if len(inputs.candidates) == 1:
        kind = "unquantized" if inputs.trained.quantization == "none" else inputs.trained.quantization
        return f"the adapter was trained on {kind} weights, which leaves one way to merge it"
    if inputs.options["base_weights"] != "auto":
        return "requested"
    if verification is None:
        return "nothing was measured; with these weights the merged model is the one that was trained"
    other = next(name for name in verification.candidates if name != base_weights)
    nll = {name: metrics.nll for name, metrics in verification.candidates.items()}
    reason = f"answer NLL {nll[base_weights]:.4f}, with {other} weights {nll[other]:.4f} nats per token"
    if problem := verification.problem(other):
        return f"{reason}; with {other} weights {problem}"
    if nll[other] < nll[base_weights]:
        return f"{reason}, which chance explains; these are the weights of the training"
    return reason


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


def show(summary: Mapping[str, Any], out_dir: Path) -> None:
    """Print what was written, how far it is from base + adapter, and how to use it."""
    rows = [
        ["base weights", summary["base_weights"]],
        ["quantization in training", summary["trained_with"]["quantization"]],
        ["written as", f"{summary['dtype']}, {summary['total_size_bytes'] / 1e9:.2f} GB"],
        ["peak memory of the merge", f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB"],
        ["time", f"{summary['seconds']:.0f} s"],
    ]
    console.table("Merged", rows)
    console.line(f"why {summary['base_weights']}: {summary['reason']}")
    verification = summary["verification"]
    if verification is None:
        console.line(f"not compared with base + adapter: {summary['not_verified']}")
    else:
        header = ["", "answer NLL", "mean KL", "largest logit difference", "top-1 agreement"]
        rows = [["base + adapter", f"{verification['answer_nll']['adapter']:.4f}", "", "", ""]]
        models = {f"merged into {name}": metrics for name, metrics in verification["candidates"].items()}
        for name, metrics in {**models, "noise floor (bfloat16)": verification["noise_floor"]}.items():
            difference, agreement = metrics["max_abs_logit_difference"], metrics["top1_agreement"]
            nll, kl = metrics["answer_nll"], metrics["mean_kl"]
            rows.append([name, f"{nll:.4f}", f"{kl:.1e}", f"{difference:.3f}", f"{agreement:.2%}"])
        questions, tokens = verification["questions"], verification["answer_tokens"]
        console.table(f"Against base + adapter: {questions} questions, {tokens} answer tokens, float32", rows, header)
    console.line(f"model: {out_dir}   (a plain Transformers folder; figures: {out_dir / 'merge.json'})")


def small_changes_warning(fractions: Mapping[str, float] | None, file_types: tuple[str, ...]) -> str | None:
    """Return a warning if GGUF files of the given types are too coarse for the adapter's changes, else None.

    Args:
        fractions: of changes below half a step, by file type (``changes_below_half_a_step`` in ``merge.json``).
        file_types: the types to write.
    """
    lost = [kind for kind in file_types if (fractions or {}).get(kind, 0.0) > _NOTEWORTHY_FRACTION]
    if not lost or fractions is None:
        return None
    lost_in_words = " and ".join(f"{fractions[kind]:.1%} of them in {kind}" for kind in lost)
    better = " or ".join(kind for kind in ("f16", "q8_0") if kind not in lost)
    return (
        f"the adapter's changes of the weights are smaller than half a quantization step: {lost_in_words}; rounding "
        f"loses much of what was learned. Measure that file, or take {better}"
    )
