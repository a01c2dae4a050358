"""What a training run leaves: how it ended (``train.json``, the message to the user), loss plot and adapter folder."""

import copy
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from medqa_cli import console
from medqa_cli.errors import Interrupted, MedqaError
from medqa_cli.files import CARD_NAME, RunFolder, atomic_dir, read_json, write_json
from medqa_cli.model.checks.adapter import ADAPTER_CONFIG_NAME, is_b_matrix
from medqa_cli.model.lora import as_plain_lora, plain_lora_config, write_adapter
from medqa_cli.model.weights import ADAPTER_FILES
from medqa_cli.prompt.chat_template import install_chat_template
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.training import callbacks, checkpoints, divergence
from medqa_cli.training.checkpoints import NotWrittenError, checkpoint_at

# Ids of rows in a message; train.json has all of them.
_MOST_ROWS = 16
_WEIGHTS_NAME = ADAPTER_FILES[0]
# From this many logged losses on, the plot has their running mean.
_PLOTTED_WITH_MEAN = 40
_TRAIN_COLOR, _VALIDATION_COLOR, _BASE_COLOR = "tab:blue", "tab:orange", "tab:gray"

_Points = list[tuple[int, float]]

Status = Literal["completed", "interrupted", "diverged"]
StopReason = Literal["max_steps", "early_stopping", "signal", "not_written", "diverged"]


@dataclass(frozen=True)
class Outcome:
    """What a training run did, in this process and before it.

    ``error``: what ended the loop, if anything was raised; ``early_stopping`` has the validation losses.
    """

    status: Status
    stop_reason: StopReason
    error: divergence.DivergedError | NotWrittenError | None
    global_step: int
    num_tokens: int
    tokens_per_second: float
    num_skipped_steps: int
    num_validation_examples: int
    early_stopping: callbacks.EarlyStopping


def adapter_checkpoint(run: RunFolder, outcome: Outcome) -> Path | None:
    """Return the checkpoint of the best evaluation, whose weights become the adapter; None: the last step was best."""
    validation, step = outcome.early_stopping, outcome.global_step
    if validation.best_step is None:
        return None
    if validation.base_loss is not None and validation.best_loss >= validation.base_loss:
        console.warn(
            f"no validation loss was better than the base model's {validation.base_loss:.4f} "
            f"(the best: {validation.best_loss:.4f} after step {validation.best_step})"
        )
    if validation.best_step == step:
        return None
    if validation.rising_since is not None:
        console.warn(
            f"the validation loss has risen since step {validation.rising_since} (from {validation.best_loss:.4f} to "
            f"{validation.last_loss:.4f}): the model memorizes the training rows; fewer epochs, a lower "
            "train.learning_rate or more data help"
        )
    chosen = checkpoint_at(run.checkpoints_dir, validation.best_step)
    problem = checkpoints.problem_of(chosen) if chosen.is_dir() else "missing"
    if problem is not None:
        console.warn(f"{chosen} had the best validation loss but is {problem}: the adapter is that of the last step")
        return None
    console.note(
        f"the adapter is that of step {validation.best_step}, which had the best validation loss "
        f"({validation.best_loss:.4f}; after the last step, {step}: {validation.last_loss:.4f})"
    )
    return chosen


def error_of(outcome: Outcome, run: RunFolder, data_dir: Path) -> MedqaError | None:
    """Return what to tell the user of a training run that did not complete; None: it did."""
    if outcome.status == "completed":
        return None
    newest = newest_step(run, outcome.global_step)
    error = outcome.error
    if isinstance(error, divergence.DivergedError):
        ids = error.row_ids
        more = f" and {len(ids) - _MOST_ROWS} more" if len(ids) > _MOST_ROWS else ""
        rows = f"; its rows in {data_dir / error.split}.jsonl: {', '.join(ids[:_MOST_ROWS])}{more}" if ids else ""
        restart = "start over with: medqa train --restart"
        if newest is not None:
            restart = f"go on from step {newest} with: medqa train --resume, or {restart}"
        return MedqaError(
            f"{error.reason}; the run was stopped and no adapter was saved{rows}",
            f"{'look at these rows, ' if rows else ''}lower train.learning_rate, then {restart}",
        )
    kept = "there is no earlier checkpoint" if newest is None else f"the checkpoint of step {newest} is kept"
    if error is not None:
        return NotWrittenError(f"{error.message}; {kept}", error.hint)
    if newest is None:
        return Interrupted(
            f"stopped after step {outcome.global_step}, before the first checkpoint; nothing was saved",
            "start again with: medqa train",
        )
    saved = "a checkpoint was saved" if newest == outcome.global_step else kept
    return Interrupted(f"stopped at step {outcome.global_step}; {saved}", "go on with: medqa train --resume")


def newest_step(run: RunFolder, up_to: int) -> int | None:
    """Return the step of the newest checkpoint that this run can have made; None: there is none."""
    steps = [checkpoints.step_of(path) for path in checkpoints.numbered_checkpoints(run.checkpoints_dir)]
    return max((step for step in steps if step <= up_to), default=None)


def summarize(outcome: Outcome, run: RunFolder, log: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what ``train.json`` says of the training itself.

    Args:
        outcome: what it did.
        run: where its checkpoints are.
        log: the lines of ``train.jsonl``.
    """
    losses = [line["loss"] for line in log if "loss" in line]
    validation = [line["validation_loss"] for line in log if "validation_loss" in line]
    error, diverged = outcome.error, None
    if isinstance(error, divergence.DivergedError):
        diverged = {"step": error.step, "reason": error.reason, "split": error.split, "rows": error.row_ids}
    return {
        "status": outcome.status,
        "stop_reason": outcome.stop_reason,
        "global_step": outcome.global_step,
        "adapter_step": None,
        "best_step": outcome.early_stopping.best_step,
        "validation_rising_since": outcome.early_stopping.rising_since,
        "checkpoint_step": newest_step(run, outcome.global_step),
        "num_train_tokens": outcome.num_tokens,
        "num_skipped_steps": outcome.num_skipped_steps,
        "num_validation_examples": outcome.num_validation_examples,
        "tokens_per_second": round(outcome.tokens_per_second, 1),
        "train_loss": [losses[0], losses[-1]] if losses else None,
        "validation_loss": [validation[0], min(validation), validation[-1]] if validation else None,
        "diverged": diverged,
    }


def show(summary: dict[str, Any], run: RunFolder, num_sources: int) -> None:
    """Print what was trained, the losses, speed, memory, and where everything lies; ``num_sources``: of a question."""
    # Labels that no window of 80 columns breaks beside the longest cell: a figure would stand inside of one.
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
        rows.append(["validation loss before, best, last", _losses(summary["validation_loss"])])
        rows.append(["validation questions", f"{summary['num_validation_examples']:,}"])
    step, last, best = summary["adapter_step"], summary["global_step"], summary["best_step"]
    which = f"of step {step:,}, the last"
    if step != last:
        which = f"of step {step:,}, the best on validation"
    elif best == step:
        which += " and best"
    rows.append(["adapter saved", which])
    if summary["num_skipped_steps"]:
        rows.append(["updates skipped by the loss scaler", f"{summary['num_skipped_steps']:,}"])
    rows.append(["tokens per second", f"{summary['tokens_per_second']:,.0f}"])
    predicted, keeps = summary["predicted_peak_memory_bytes"], summary["keeps_freed_memory"]
    with_freed = ", freed memory included" if keeps and predicted is not None else ""
    rows.append([f"peak memory{with_freed}", f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB"])
    if predicted is not None:
        rows.append([f"peak memory{' in use' if keeps else ''}, as predicted", f"{predicted / 2**30:.2f} GiB"])
    rows.append(["time", f"{summary['seconds']:.0f} s"])
    early = ", stopped early" if summary["stop_reason"] == "early_stopping" else ""
    console.table(f"Training {summary['status']}{early}", rows)
    if num_sources:
        console.line("losses are of questions with sources, as they are trained; that of medqa eval is without sources")
    console.line(f"adapter: {run.adapter_dir}   curves: {run.loss_plot_path}   log: {run.train_log_path}")


def _losses(losses: list[float] | None) -> str:
    return " -> ".join(f"{loss:.4f}" for loss in losses) if losses else "-"


def plot_losses(log: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw training and validation loss over optimizer steps into a PNG file.

    If the image cannot be written, warn and continue.

    Args:
        log: the lines of ``train.jsonl``.
        path: the file; replaced.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    train: _Points = [(line["step"], line["loss"]) for line in log if "loss" in line]
    validation: _Points = [(line["step"], line["validation_loss"]) for line in log if "validation_loss" in line]
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_train(axes, train)
    _draw_validation(axes, validation)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per answer token)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if train or validation:
        # Above the axes: over no curve, wherever they run.
        figure.legend(loc="outside upper center", ncols=3, fontsize="small", frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(picture.getvalue())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        console.warn(f"{path} could not be written: {error.strerror}")


def _draw_train(axes: Any, points: _Points) -> None:
    if not points:
        return
    steps, losses = zip(*points, strict=True)
    if len(points) < _PLOTTED_WITH_MEAN:
        axes.plot(steps, losses, color=_TRAIN_COLOR, linewidth=1.5, marker=".", label="training")
        return
    axes.plot(steps, losses, color=_TRAIN_COLOR, linewidth=0.7, alpha=0.35, label="training")
    window = max(5, len(points) // 20)
    # Of each loss and those around it; fewer at the ends.
    before, after = (window - 1) // 2, window // 2
    running_mean = [fmean(losses[max(0, i - before) : i + after + 1]) for i in range(len(losses))]
    label = f"training, mean of {window} logged losses"
    axes.plot(steps, running_mean, color=_TRAIN_COLOR, linewidth=1.8, label=label)


def _draw_validation(axes: Any, points: _Points) -> None:
    tuned = [point for point in points if point[0] > 0]
    if points and points[0][0] == 0:
        base = points[0][1]
        axes.axhline(
            base, color=_BASE_COLOR, linestyle="--", linewidth=1.2, label=f"base model on validation: {base:.3f}"
        )
    if not tuned:
        return
    steps, losses = zip(*points, strict=True)
    axes.plot(steps, losses, color=_VALIDATION_COLOR, linewidth=1.5, marker="o", markersize=4, label="validation")
    best_step, best = min(tuned, key=lambda point: point[1])
    label = f"best: {best:.3f} at step {best_step}"
    axes.plot([best_step], [best], color=_VALIDATION_COLOR, marker="*", markersize=12, linestyle="none", label=label)


def save_adapter(
    adapter_dir: Path,
    model: Any,
    checkpoint: Path | None,
    *,
    tokenizer: Any,
    contract: PromptContract,
    card: str,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write the folder and check its weights before it takes its place.

    Args:
        adapter_dir: where it appears; an earlier one stays where this fails.
        model: the PEFT model after its last step.
        checkpoint: take the weights of this checkpoint instead; None: those of ``model``.
        tokenizer: of the base; it gets the contract's chat template.
        contract: how the adapter is asked.
        card: the text of its README.md.
        weights: the trained parameters of a model that lies in parts on several ranks; None: the model has them whole.

    Raises:
        MedqaError: the weights are not finite or have no effect.
        NotWrittenError: the disk is full or failed.
    """
    with checkpoints.writing(adapter_dir), atomic_dir(adapter_dir) as temporary:
        if checkpoint is None:
            write_adapter(model, temporary, weights)
        else:
            for name in (_WEIGHTS_NAME, ADAPTER_CONFIG_NAME):
                shutil.copyfile(checkpoint / name, temporary / name)
        # One that started inside the base's weights (PiSSA) becomes one to the untouched base.
        plain = as_plain_lora(model, load_file(temporary / _WEIGHTS_NAME))
        if plain is not None:
            save_file(plain, temporary / _WEIGHTS_NAME, metadata={"format": "pt"})
            plain_config = plain_lora_config(read_json(temporary / ADAPTER_CONFIG_NAME))
            write_json(temporary / ADAPTER_CONFIG_NAME, plain_config)
        _check_weights(load_file(temporary / _WEIGHTS_NAME))
        # Its template is how other tools ask; nobody in this process needs to see it.
        own_tokenizer = copy.deepcopy(tokenizer)
        install_chat_template(own_tokenizer, contract)
        own_tokenizer.save_pretrained(temporary)
        contract.save(temporary)
        # In the place of PEFT's card, a template of questions.
        (temporary / CARD_NAME).write_text(card, encoding="utf-8")
        # safetensors makes its files private; those of a result are as readable as the others.
        shutil.copymode(temporary / CARD_NAME, temporary / _WEIGHTS_NAME)
        checkpoints.sync_folder(temporary)


def _check_weights(weights: dict[str, torch.Tensor]) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise MedqaError(
            "the adapter holds values that are not finite: the last step diverged; no adapter was saved",
            "lower train.learning_rate, then start over with: medqa train --restart",
        )
    if not any(bool(tensor.count_nonzero()) for name, tensor in weights.items() if is_b_matrix(name)):
        raise MedqaError(
            "the adapter has no effect: all its B matrices are still zero, so it answers exactly like the base model",
            "check train.learning_rate and train.max_steps (no adapter was saved), then: medqa train --restart",
        )
