"""What a training leaves beside its logs: the adapter folder, whole or not at all, and the plot of its losses."""

from __future__ import annotations

import copy
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medqa_cli import console
from medqa_cli.errors import MedqaError
from medqa_cli.files import atomic_dir, read_json, write_json
from medqa_cli.model.lora import as_plain_lora, plain_lora_config
from medqa_cli.prompt.chat_template import install_chat_template
from medqa_cli.prompt.encoder import PromptContract
from medqa_cli.training.checkpoints import sync_folder, writing

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
CARD_NAME = "README.md"
# From this many logged losses on, the plot has their running mean.
_MANY = 40
_TRAIN, _VALIDATION, _BASE = "tab:blue", "tab:orange", "tab:gray"

Points = list[tuple[int, float]]


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
    with writing(adapter_dir), atomic_dir(adapter_dir) as temporary:
        if checkpoint is None:
            # save_embedding_layers=False: otherwise PEFT asks the hub whether the vocabulary was resized.
            model.save_pretrained(temporary, state_dict=weights, save_embedding_layers=False)
        else:
            for name in (WEIGHTS_NAME, CONFIG_NAME):
                shutil.copyfile(checkpoint / name, temporary / name)
        _make_plain(temporary, model)
        _check_weights(temporary / WEIGHTS_NAME)
        # Its template is how other tools ask; nobody in this process needs to see it.
        own_tokenizer = copy.deepcopy(tokenizer)
        install_chat_template(own_tokenizer, contract)
        own_tokenizer.save_pretrained(temporary)
        contract.save(temporary)
        # In the place of PEFT's card, a template of questions.
        (temporary / CARD_NAME).write_text(card, encoding="utf-8")
        # safetensors makes its files private; those of a result are as readable as the others.
        shutil.copymode(temporary / CARD_NAME, temporary / WEIGHTS_NAME)
        sync_folder(temporary)


def _make_plain(folder: Path, model: Any) -> None:
    """Rewrite an adapter that started inside the base's weights (PiSSA) as one to the untouched base."""
    plain = as_plain_lora(model, load_file(folder / WEIGHTS_NAME))
    if plain is not None:
        save_file(plain, folder / WEIGHTS_NAME, metadata={"format": "pt"})
        write_json(folder / CONFIG_NAME, plain_lora_config(read_json(folder / CONFIG_NAME)))


def _check_weights(path: Path) -> None:
    has_effect = False
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 -- safe_open's handle is no mapping
            tensor = file.get_tensor(name)
            if not bool(tensor.isfinite().all()):
                raise MedqaError(
                    "the adapter holds values that are not finite: the last step diverged; no adapter was saved",
                    "lower train.learning_rate, then start over with: medqa train --restart",
                )
            # Adapters of embedding layers are named lora_embedding_B.
            if "lora_B" in name or "lora_embedding_B" in name:
                has_effect = has_effect or bool(tensor.count_nonzero())
    if not has_effect:
        raise MedqaError(
            "the adapter has no effect: all its B matrices are still zero, so it answers exactly like the base model",
            "check train.learning_rate and train.max_steps (no adapter was saved), then: medqa train --restart",
        )


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

    train: Points = [(line["step"], line["loss"]) for line in log if "loss" in line]
    validation: Points = [(line["step"], line["validation_loss"]) for line in log if "validation_loss" in line]
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


def _draw_train(axes: Any, points: Points) -> None:
    if not points:
        return
    steps, losses = zip(*points, strict=True)
    if len(points) < _MANY:
        axes.plot(steps, losses, color=_TRAIN, linewidth=1.5, marker=".", label="training")
        return
    axes.plot(steps, losses, color=_TRAIN, linewidth=0.7, alpha=0.35, label="training")
    window = max(5, len(points) // 20)
    axes.plot(
        steps,
        running_mean(losses, window),
        color=_TRAIN,
        linewidth=1.8,
        label=f"training, mean of {window} logged losses",
    )


def _draw_validation(axes: Any, points: Points) -> None:
    tuned = [point for point in points if point[0] > 0]
    if points and points[0][0] == 0:
        base = points[0][1]
        axes.axhline(base, color=_BASE, linestyle="--", linewidth=1.2, label=f"base model on validation: {base:.3f}")
    if not tuned:
        return
    steps, losses = zip(*points, strict=True)
    axes.plot(steps, losses, color=_VALIDATION, linewidth=1.5, marker="o", markersize=4, label="validation")
    best_step, best = min(tuned, key=lambda point: point[1])
    label = f"best: {best:.3f} at step {best_step}"
    axes.plot([best_step], [best], color=_VALIDATION, marker="*", markersize=12, linestyle="none", label=label)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of each value and those around it: ``window`` values, fewer at the ends."""
    before, after = (window - 1) // 2, window // 2
    parts = [values[max(0, i - before) : i + after + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]
