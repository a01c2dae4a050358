"""The Trainer subclass: one optimizer step over all examples of a step, in padding-free forwards.

Transformers' ``Trainer`` keeps the loop, the optimizer, the schedule and the checkpoints. Ours decides how a step's
loss is computed: summed over answer tokens and divided by their number in the whole step, over all ranks.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from medqa_cli import distributed
from medqa_cli.config.schema import TrainConfig
from medqa_cli.errors import InputError
from medqa_cli.model.fused_layers import casting_once
from medqa_cli.model.packing import answer_token_losses, examples_at_once, group_by_tokens, pack
from medqa_cli.model.scoring import mean_nll, score_answers
from medqa_cli.prompt.encoder import Example
from medqa_cli.training.guards import StepGuard
from medqa_cli.training.safe_trainer import SafeTrainer
from medqa_cli.training.sharding import OPTIMIZERS_ON_PARTS
from medqa_cli.training.step_shares import StepSampler, shares_of_step

# On the CPU there is no second memory to page to; the arithmetic is the same.
_CPU_EQUIVALENTS = {
    "paged_adamw_32bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_8bit",
    "paged_ademamix_32bit": "ademamix",
    "paged_ademamix_8bit": "ademamix_8bit",
    "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit",
}
# What would compute other steps than it should, without a word.
_REFUSED_OPTIMIZERS = {
    "layerwise": "updates weights during the backward pass, of which a step has several here",
    "lomo": "updates weights during the backward pass, of which a step has several here",
    "schedule_free": "has to be told when the model is looked at or saved, which medqa does not do",
}


class MedqaTrainer(SafeTrainer):
    """Trains a PEFT model on lists of ``Example``.

    One batch of the data loader is one optimizer step: per_device_train_batch_size x gradient_accumulation_steps
    examples per rank. Each rank takes its share and regroups it into forwards of at most ``max_tokens_per_forward``
    tokens (the same on all ranks).
    """

    def __init__(
        self,
        *,
        model: Any,
        args: TrainingArguments,
        examples: Sequence[Example],
        validation: Sequence[Example],
        max_tokens_per_forward: int,
        compute_dtype: torch.dtype,
        callbacks: list[TrainerCallback],
        guard: StepGuard | None = None,
    ) -> None:
        # PEFT's layers take part in every forward; only the experts of a mixture may be left out of one.
        args.ddp_find_unused_parameters = any(
            "expert" in name for name, p in model.named_parameters() if p.requires_grad
        )
        try:
            super().__init__(
                model=model,
                args=args,
                train_dataset=list(examples),
                eval_dataset=list(validation) or None,
                data_collator=lambda batch: {"examples": batch},
                callbacks=callbacks,
                guard=guard,
            )
        except (ImportError, RuntimeError) as error:
            # A tracker (train.report_to) whose package is not installed.
            raise _not_set_up(error) from error
        self.remove_callback(PrinterCallback)
        self._validation = list(validation)
        self._max_tokens_per_forward = max_tokens_per_forward
        self._compute_dtype = compute_dtype
        if args.process_index > 0:
            # Each rank drops other activations. The adapter was made before, from the same seed on all.
            set_seed(args.seed + args.process_index)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of whole steps: with several ranks, each sees all examples of a step."""
        if self.args.world_size == 1:
            loader: DataLoader[Any] = super().get_train_dataloader()
            return loader
        num_examples = len(self.train_dataset)
        seed = None if self.args.train_sampling_strategy == "sequential" else self.args.seed
        steps = StepSampler(num_examples, self.args.train_batch_size * self.args.world_size, seed)
        # Not prepared by accelerate: it would fill up the last step with examples of the first.
        return DataLoader(self.train_dataset, batch_sampler=steps, collate_fn=self.data_collator)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Make the optimizer; some need a package of their own.

        Raises:
            InputError: it is not installed.
        """
        try:
            optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        except (ImportError, ValueError) as error:
            raise _not_set_up(error) from error
        return optimizer

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Run forward and backward for one optimizer step.

        Args:
            model: the wrapped model.
            inputs: ``{"examples": [Example, ...]}``, those of all ranks.
            num_items_in_batch: unused; the answer tokens are counted here.

        Returns:
            The step's mean loss over the answer tokens of all ranks: a scalar, float32, detached; the same on all.

        Raises:
            DivergedError: that loss is not finite, or far above those before it.
        """
        if not (model.training and self.model.training):  # scoring switches the model inside the wrapper
            model.train()
        examples: list[Example] = inputs["examples"]
        device, num_ranks = self.args.device, self.args.world_size
        # DDP and FSDP average gradients over ranks; the factor turns that average back into a sum.
        step_tokens = sum(example.num_answer_tokens for example in examples)
        scale = num_ranks / step_tokens
        total = torch.zeros((), device=device)
        forwards = self._own_forwards(examples)
        with casting_once(device.type == "cuda"):
            for number, (group, counts) in enumerate(forwards, start=1):
                batch = pack(group, device)
                with self._synchronizing(model, number == len(forwards)):
                    with torch.autocast(device.type, self._compute_dtype, enabled=self._compute_dtype != torch.float32):
                        losses = answer_token_losses(model, batch)
                    loss = losses.sum() * (scale if counts else 0.0)
                    self.accelerator.backward(loss)
                total += loss.detach()
        total = cast(torch.Tensor, self.accelerator.reduce(total, reduction="mean"))
        self.check_loss(total, examples, step_tokens)
        self.state.num_input_tokens_seen += sum(len(example.input_ids) for example in examples)
        return total

    def _own_forwards(self, examples: Sequence[Example]) -> list[tuple[list[Example], bool]]:
        """Return this rank's forwards of a step, at least one, and whether each counts.

        One that does not count only keeps step with the other ranks: the gradients are exchanged in the last backward
        of each, and FSDP gathers weights in every forward.
        """
        shares = [
            list(group_by_tokens(share, self._max_tokens_per_forward, examples_at_once(self.model)))
            for share in shares_of_step(examples, self.args.world_size)
        ]
        own = shares[self.args.process_index]
        needed = max(map(len, shares)) if self.is_fsdp_enabled else 1
        shortest = min(examples, key=lambda example: len(example.input_ids))
        return [(group, True) for group in own] + [([shortest], False)] * (needed - len(own))

    def _synchronizing(self, model: torch.nn.Module, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Exchange gradients once a step, in the last backward."""
        return contextlib.nullcontext() if is_last else self.accelerator.no_sync(model)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the validation examples: nats per answer token, as ``eval_loss``; each rank scores its part of them.

        Raises:
            DivergedError: that loss is not finite.
        """
        num_ranks = self.args.world_size
        own = self._validation[self.args.process_index :: num_ranks]
        # FSDP gathers weights in every forward: ranks with an example less score one that does not count.
        fill = self._validation[: -(-len(self._validation) // num_ranks) - len(own)]
        scores = score_answers(
            self.model,
            [*own, *fill],
            **self._eval_batches(),
            device=self.args.device,
            dtype=self._compute_dtype,
        )
        # In the order of the split, whichever rank scored them.
        parts = distributed.all_gather(scores[: len(own)])
        all_scores = [parts[i % num_ranks][i // num_ranks] for i in range(len(self._validation))]
        metrics = {"eval_loss": mean_nll(all_scores)}
        self.check_validation(metrics["eval_loss"], [score.nll_sum for score in all_scores])
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _eval_batches(self) -> dict[str, Any]:
        size = examples_at_once(self.model, self.args.per_device_eval_batch_size) or 1
        if not self.is_fsdp_enabled:
            return {"batch_size": size, "max_tokens": self._max_tokens_per_forward}
        # As many forwards on each rank, however long its examples are.
        longest = max(len(example.input_ids) for example in self._validation)
        return {"batch_size": max(1, min(size, self._max_tokens_per_forward // longest)), "max_tokens": None}

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count nothing: medqa reports tokens, not estimated operations."""
        return 0


def make_training_arguments(
    config: TrainConfig,
    *,
    seed: int,
    output_dir: Path,
    device: torch.device,
    compute_dtype: torch.dtype,
    memory_is_plentiful: bool = False,
) -> TrainingArguments:
    """Translate the config into Transformers' arguments.

    ``memory_is_plentiful``: the device holds a step's activations, so that ``auto`` need not recompute them.

    Raises:
        InputError: the optimizer or the tracker does not work here.
    """
    on_cpu = device.type == "cpu"
    step_examples = config.per_device_train_batch_size * config.gradient_accumulation_steps
    try:
        args = TrainingArguments(
            output_dir=str(output_dir),
            num_train_epochs=config.num_train_epochs,
            max_steps=config.max_steps,
            per_device_train_batch_size=step_examples,
            per_device_eval_batch_size=step_examples,
            gradient_accumulation_steps=1,
            activation_checkpointing=uses_checkpointing(config, device, memory_is_plentiful),
            activation_checkpointing_kwargs={"use_reentrant": False},
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.lr_scheduler_type,
            # Transformers reads values below 1 as a share of the steps, 1 and more as a number of steps.
            warmup_steps=min(config.warmup_ratio, math.nextafter(1.0, 0.0)),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            optim=optimizer_on(config.optim, device),
            save_strategy="steps",
            save_steps=config.save_steps,
            save_total_limit=config.save_total_limit,
            logging_strategy="steps",
            logging_steps=config.logging_steps,
            logging_first_step=True,
            logging_nan_inf_filter=False,
            eval_strategy="no" if config.eval_steps is None else "steps",
            eval_steps=config.eval_steps,
            report_to=config.report_to,
            use_cpu=on_cpu,
            # float16 needs a loss scaler, which Transformers sets up; other types need nothing from it.
            fp16=compute_dtype == torch.float16 and not on_cpu,
            seed=seed,
            disable_tqdm=True,
            log_level="error",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            # Buffers (rotary frequencies) never change.
            ddp_broadcast_buffers=False,
        )
    except (ImportError, ValueError, RuntimeError) as error:
        raise _not_set_up(error) from error
    # ``accelerate launch`` passes on its config's mixed_precision, which the arguments take where they have none of
    # their own; here model.compute_dtype decides.
    args.mixed_precision = "fp16" if args.fp16 else "no"
    # One process drives one device; several GPUs are several processes (accelerate launch), never DataParallel.
    args._n_gpu = min(args.n_gpu, 1)
    return args


def _not_set_up(error: Exception) -> InputError:
    message = f"the training cannot be set up: {str(error).splitlines()[0]}"
    return InputError(message, "install what is missing, or change train.optim or train.report_to")


def check_optimizer(name: str) -> None:
    """Check that an optimizer goes with how medqa computes a step.

    Raises:
        InputError: it does not.
    """
    for part, reason in _REFUSED_OPTIMIZERS.items():
        if part in name:
            raise InputError(f"train.optim: {name} {reason}", "take another: adamw_torch, adamw_8bit, adafactor, ...")


def optimizer_on(name: str, device: torch.device) -> str:
    """Return the optimizer that runs on ``device``, and on parts of tensors under FSDP, for the configured name."""
    if distributed.is_sharded():
        name = OPTIMIZERS_ON_PARTS.get(name, name)
    return _CPU_EQUIVALENTS.get(name, name) if device.type == "cpu" else name


def unpaged(name: str) -> str | None:
    """Return what computes the steps of a paged optimizer without waiting for the GPU; None: it is not paged."""
    if name not in _CPU_EQUIVALENTS:
        return None
    equivalent = _CPU_EQUIVALENTS[name]
    return "adamw_torch_fused" if equivalent == "adamw_torch" else equivalent


def uses_checkpointing(config: TrainConfig, device: torch.device, memory_is_plentiful: bool = False) -> bool:
    """Tell whether activations are recomputed; ``auto`` does so on a GPU unless its memory is plentiful."""
    if config.gradient_checkpointing == "auto":
        return device.type == "cuda" and not memory_is_plentiful
    return config.gradient_checkpointing
