"""A training run stops before a bad update, at the very step; and never leaves half a checkpoint."""

import errno
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from helpers.training import CPU, make_examples, make_model
from medqa_cli.config.schema import LoraConfig, ModelConfig, TrainConfig
from medqa_cli.model.load import load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example
from medqa_cli.training import checkpoints
from medqa_cli.training.arguments import make_training_arguments
from medqa_cli.training.callbacks import EarlyStopping
from medqa_cli.training.checkpoints import NotWrittenError, problem_of
from medqa_cli.training.divergence import MAX_OVERFLOWS, DivergedError
from medqa_cli.training.trainer import MedqaTrainer

STEPS = 8
BAD_STEP = 5


def named_examples() -> list[Example]:
    made = make_examples([(3 + i % 5, 70 + 3 * (i % 7)) for i in range(8 * STEPS)])
    return [replace(example, row_id=f"row-{number}") for number, example in enumerate(made)]


def make_trainer(
    model: Any,
    folder: Path,
    callbacks: list[TrainerCallback],
    early_stopping: EarlyStopping | None = None,
    **settings: Any,
) -> MedqaTrainer:
    config = TrainConfig(
        **{
            "max_steps": STEPS,
            "learning_rate": 1e-3,
            "save_steps": 2,
            "logging_steps": 1,
            "warmup_ratio": 0.0,
            **settings,
        }
    )
    args = make_training_arguments(config, seed=5, output_dir=folder, device=CPU, compute_dtype=torch.float32)
    args.train_sampling_strategy = "sequential"
    return MedqaTrainer(
        model=model,
        args=args,
        examples=named_examples(),
        validation=[],
        max_tokens_per_forward=4096,
        compute_dtype=torch.float32,
        callbacks=callbacks,
        early_stopping=early_stopping,
    )


class Injection(TrainerCallback):
    """Spoils the logits or the gradients of one step, or of all from it on, in any Trainer."""

    def __init__(
        self, model: Any, *, logits: Callable[[torch.Tensor], torch.Tensor] | None = None, **hooks: Any
    ) -> None:
        self.active = False
        self.forever = hooks.get("forever", False)
        head = model.get_base_model().lm_head
        if logits is not None:
            head.register_forward_hook(lambda module, inputs, output: logits(output) if self.active else None)
        spoil = hooks.get("gradient")
        if spoil is not None:
            parameter = next(p for name, p in model.named_parameters() if "lora_B" in name)
            parameter.register_hook(lambda gradient: spoil(gradient) if self.active else gradient)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step + 1
        self.active = step == BAD_STEP or (self.forever and step > BAD_STEP)


def trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def stopped(trainer: MedqaTrainer) -> DivergedError:
    with pytest.raises(DivergedError) as caught:
        trainer.train()
    return caught.value


class WeightsBefore(TrainerCallback):
    """Keeps the weights that the bad step starts with."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.weights: dict[str, torch.Tensor] = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == BAD_STEP:
            self.weights = trained(self.model)


INJECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a loss that is not a number": ({"logits": lambda logits: logits * math.nan}, f"loss of step {BAD_STEP} is nan"),
    "an endless loss": ({"logits": lambda logits: logits * 0 - math.inf}, f"loss of step {BAD_STEP} is nan"),
    "a loss out of all proportion": ({"logits": lambda logits: logits * 1000}, "times its running median"),
    "a gradient that is not a number": ({"gradient": lambda g: g * math.nan}, "has the norm nan"),
    "an endless gradient": ({"gradient": lambda g: torch.full_like(g, math.inf)}, "has the norm inf"),
}


@pytest.mark.parametrize("name", INJECTIONS)
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.3])
def test_it_stops_at_that_step_before_the_update(
    tiny_model_dir: Path, tmp_path: Path, name: str, max_grad_norm: float
) -> None:
    hooks, said = INJECTIONS[name]
    model = make_model(tiny_model_dir)
    before = WeightsBefore(model)
    trainer = make_trainer(model, tmp_path, [Injection(model, **hooks), before], max_grad_norm=max_grad_norm)
    error = stopped(trainer)
    assert said in error.reason
    assert (error.step, error.split) == (BAD_STEP, "train")
    assert error.row_ids == [f"row-{number}" for number in range(8 * (BAD_STEP - 1), 8 * BAD_STEP)]
    assert trainer.state.global_step == BAD_STEP - 1
    # Not one weight was touched, and the checkpoints before are whole.
    for parameter, value in trained(model).items():
        torch.testing.assert_close(value, before.weights[parameter], rtol=0, atol=0, msg=parameter)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    assert problem_of(tmp_path / "checkpoint-4") is None


def pad(batch: list[Example]) -> dict[str, torch.Tensor]:
    longest = max(len(example.input_ids) for example in batch)

    def padded(ids: list[int], filler: int) -> list[int]:
        return ids + [filler] * (longest - len(ids))

    return {
        "input_ids": torch.tensor([padded(example.input_ids, 0) for example in batch]),
        "labels": torch.tensor([padded(example.labels, IGNORE_INDEX) for example in batch]),
        "attention_mask": torch.tensor([padded([1] * len(example.input_ids), 0) for example in batch]),
    }


@pytest.mark.parametrize("name", ["a loss that is not a number", "a gradient that is not a number"])
def test_the_stock_trainer_does_not_notice(tiny_model_dir: Path, tmp_path: Path, name: str) -> None:
    """The same model, the same injection, Transformers' own Trainer with its defaults: it trains on to the end."""
    torch.manual_seed(3)
    source = find_base(str(tiny_model_dir))
    base = load_base(source, ModelConfig(quantization="nf4"), CPU, torch.float32, packed=False)
    model = add_lora(base, LoraConfig(r=4, lora_dropout=0.0, target_modules="all-linear"), source.name, None)
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=STEPS,
        per_device_train_batch_size=8,
        logging_steps=1,
        save_steps=STEPS,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    assert args.logging_nan_inf_filter
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=named_examples(),
        data_collator=pad,
        callbacks=[Injection(model, **INJECTIONS[name][0])],
    )
    args.remove_unused_columns = False
    trainer.train()
    assert trainer.state.global_step == STEPS
    assert not all(bool(value.isfinite().all()) for value in trained(model).values())
    # Every loss that it wrote down looks sound.
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == STEPS
    assert all(math.isfinite(loss) for loss in losses)


class Float16:
    """What accelerate sets up for float16 on a GPU, autocast and PyTorch's own loss scaler, on the CPU."""

    def __init__(self, trainer: MedqaTrainer, scale: float) -> None:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.accelerator.scaler = self.scaler
        trainer.accelerator.native_amp = True
        trainer.accelerator.state._mixed_precision = "fp16"


def test_a_loss_scaler_may_lower_its_scale(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tiny_model_dir)
    trainer = make_trainer(model, tmp_path, [], max_steps=16, save_steps=1000, gradient_accumulation_steps=1)
    before = trainer.accelerator.state._mixed_precision
    monkeypatch.setattr(trainer.accelerator.state, "_mixed_precision", before)  # shared by all trainers: put back
    # Too high for float16 by some powers of two.
    float16 = Float16(trainer, 2.0**24)
    start = trained(model)
    trainer.train()
    assert trainer.state.global_step == 16
    assert 0 < trainer.divergence.num_skipped_steps < 16
    assert float16.scaler.get_scale() == 2.0 ** (24 - trainer.divergence.num_skipped_steps)
    assert all(bool(value.isfinite().all()) for value in trained(model).values())
    assert any(not torch.equal(value, start[name]) for name, value in trained(model).items())


def test_a_loss_scaler_that_does_not_help_ends_the_run(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tiny_model_dir)
    injection = Injection(model, gradient=lambda g: torch.full_like(g, math.inf), forever=True)
    before = WeightsBefore(model)
    trainer = make_trainer(
        model, tmp_path, [injection, before], max_steps=60, save_steps=1000, gradient_accumulation_steps=1
    )
    monkeypatch.setattr(trainer.accelerator.state, "_mixed_precision", trainer.accelerator.state._mixed_precision)
    float16 = Float16(trainer, 2.0**20)
    error = stopped(trainer)
    assert error.step == BAD_STEP + MAX_OVERFLOWS
    assert f"though the loss scale was lowered to {float16.scaler.get_scale():g}" in error.reason
    # Halved for every skipped update but the one that ended the run.
    assert float16.scaler.get_scale() == 2.0 ** (20 - (trainer.divergence.num_skipped_steps - 1))
    assert trainer.divergence.num_skipped_steps > MAX_OVERFLOWS
    for name, value in trained(model).items():
        torch.testing.assert_close(value, before.weights[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_lora_weights_are_float32_whatever_the_base_is(
    tiny_model_dir: Path, dtype: torch.dtype, quantization: Any
) -> None:
    source = find_base(str(tiny_model_dir))
    base = load_base(source, ModelConfig(quantization=quantization), CPU, dtype, packed=True)
    lora = LoraConfig(r=4, target_modules="all-linear", use_dora=quantization == "none")
    model = add_lora(base, lora, source.name, None)
    types = {p.dtype for p in model.parameters() if p.requires_grad}
    assert types == {torch.float32}
    assert any(p.dtype == dtype for p in model.parameters())


def test_weights_that_are_not_finite_are_not_saved(tiny_model_dir: Path, tmp_path: Path) -> None:
    class Spoil(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 4:
                next(p for p in model.parameters() if p.requires_grad).data.fill_(math.nan)

    model = make_model(tiny_model_dir)
    error = stopped(make_trainer(model, tmp_path, [Spoil()]))
    assert error.reason == "the update of step 4 left weights that are not finite"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


# A disk that is full


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_as_torch_says_it(*_: Any, **__: Any) -> Any:
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")


# Where a write can fail: the adapter, the optimizer, the random state, Transformers' state, ours, the manifest.
PLACES = {
    "optimizer": (torch, "save", full_as_torch_says_it),
    "random state": (checkpoints, "save_rng_states", full),
    "our state": (checkpoints, "publish", full),
    "manifest": (checkpoints, "_write_manifest", full),
    "sync": (checkpoints, "sync_folder", full),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_keeps_the_checkpoint_before(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    class Fill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 4:
                owner, name, failure = PLACES[place]
                monkeypatch.setattr(owner, name, failure)

    trainer = make_trainer(make_model(tiny_model_dir), tmp_path, [Fill()], save_total_limit=1)
    with pytest.raises(NotWrittenError, match=r"checkpoint-4 could not be written: ") as caught:
        trainer.train()
    assert caught.value.exit_code == 1
    assert "medqa train --resume" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    assert problem_of(tmp_path / "checkpoint-2") is None


def test_an_error_that_is_no_full_disk_stays_itself(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(checkpoints, "save_rng_states", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        make_trainer(make_model(tiny_model_dir), tmp_path, []).train()
    assert list(tmp_path.iterdir()) == []


# Rotation


@pytest.mark.parametrize(
    ("limit", "best", "left"), [(None, None, [2, 4, 6, 8]), (1, None, [8]), (2, None, [6, 8]), (1, 4, [4, 8])]
)
def test_old_checkpoints_go_when_the_new_one_is_whole(
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int | None,
    best: int | None,
    left: list[int],
) -> None:
    rotate, seen = checkpoints.rotate, []
    log = [] if best is None else [{"step": best, "validation_loss": 1.0}]
    early_stopping = EarlyStopping(log, None)

    def watched(checkpoints_dir: Path, newest_step: int, *rest: Any) -> None:
        newest = checkpoints_dir / f"checkpoint-{newest_step}"
        seen.append((newest_step, problem_of(newest)))
        rotate(checkpoints_dir, newest_step, *rest)

    monkeypatch.setattr(checkpoints, "rotate", watched)
    trainer = make_trainer(
        make_model(tiny_model_dir), tmp_path, [], early_stopping=early_stopping, save_total_limit=limit
    )
    trainer.train()
    assert seen == [(2, None), (4, None), (6, None), (8, None)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"checkpoint-{step}" for step in left)


# Resuming


def test_a_resumed_run_logs_the_mean_over_all_steps_of_a_line(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Transformers' Trainer forgets the losses between the last logged line and the checkpoint."""

    def lines(folder: Path, resume: Path | None) -> list[tuple[int, float]]:
        trainer = make_trainer(make_model(tiny_model_dir), folder, [], logging_steps=4, save_steps=3)
        trainer.train(resume)
        return [(line["step"], line["loss"]) for line in trainer.state.log_history if "loss" in line]

    whole = lines(tmp_path, None)
    assert [step for step, _ in whole] == [1, 4, 8]
    resumed = lines(tmp_path, tmp_path / "checkpoint-6")
    assert resumed == whole


def test_a_new_learning_rate_counts_after_a_resume(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Transformers' Trainer takes the rate of the checkpoint and ignores the config's."""
    rates: list[float] = []

    class Rates(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    settings: dict[str, Any] = {"lr_scheduler_type": "linear", "learning_rate": 1e-3}
    make_trainer(make_model(tiny_model_dir), tmp_path, [Rates()], **settings).train()
    whole, rates[:] = rates.copy(), []
    resumed = make_trainer(make_model(tiny_model_dir), tmp_path, [Rates()], **{**settings, "learning_rate": 1e-4})
    resumed.train(tmp_path / "checkpoint-4")
    assert rates == pytest.approx([rate / 10 for rate in whole[4:]])
    assert "train.learning_rate was 0.001 up to this checkpoint and is 0.0001" in capsys.readouterr().err


def test_new_intervals_count_after_a_resume(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Transformers' Trainer goes on with those of the checkpoint."""
    make_trainer(make_model(tiny_model_dir), tmp_path, [], save_steps=4, max_steps=4).train()
    resumed = make_trainer(make_model(tiny_model_dir), tmp_path, [], save_steps=3, logging_steps=3)
    resumed.train(tmp_path / "checkpoint-4")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"checkpoint-{step}" for step in (4, 6, 8)]
    assert [line["step"] for line in resumed.state.log_history if "loss" in line and line["step"] > 4] == [6]


def test_the_state_of_the_guard_travels_in_the_checkpoint(tiny_model_dir: Path, tmp_path: Path) -> None:
    first = make_trainer(make_model(tiny_model_dir), tmp_path, [])
    first.train()
    saved = json.loads((tmp_path / "checkpoint-8" / checkpoints.RESUME_STATE_NAME).read_text())
    assert saved["guard"] == first.divergence.state()
    assert len(saved["guard"]["losses"]) == 8
    resumed = make_trainer(make_model(tiny_model_dir), tmp_path, [])
    resumed.train(tmp_path / "checkpoint-4")
    assert resumed.divergence.state() == first.divergence.state()
