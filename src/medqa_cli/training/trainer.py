"""The Trainer subclass: one optimizer step over all examples of a step, in padding-free forwards.

Transformers' ``Trainer`` keeps the loop, the optimizer, the schedule and the checkpoints. Ours decides how a step's
loss is computed: summed over answer tokens and divided by their number in the whole step, over all ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from medqa_cli.config.sections import TrainConfig
from medqa_cli.errors import InputError
from medqa_cli.model.packing import answer_token_losses, group_by_tokens, pack
from medqa_cli.model.scoring import mean_nll, score_answers
from medqa_cli.prompt import Example
from medqa_cli.training.guards import StepGuard
from medqa_cli.training.safe_trainer import SafeTrainer

# On the CPU there is no second memory to page to, and AdamW in 32 bits is the same arithmetic.
_CPU_EQUIVALENTS = {"paged_adamw_32bit": "adamw_torch"}


class MedqaTrainer(SafeTrainer):
    """Trains a PEFT model on lists of ``Example``.

    One batch of the data loader is one optimizer step: per_device_train_batch_size x gradient_accumulation_steps
    examples, regrouped into forwards of at most ``max_tokens_per_forward`` tokens.
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
            inputs: ``{"examples": [Example, ...]}``.
            num_items_in_batch: unused; the answer tokens are counted here.

        Returns:
            The step's mean loss over answer tokens: a scalar, float32, detached.

        Raises:
            DivergedError: that loss is not finite, or far above those before it.
        """
        model.train()
        examples: list[Example] = inputs["examples"]
        device = self.args.device
        own_tokens = sum(example.num_answer_tokens for example in examples)
        step_tokens = self.accelerator.reduce(torch.tensor(own_tokens, device=device), reduction="sum")
        # DDP averages gradients over ranks; the factor turns that average back into a sum.
        scale = self.accelerator.num_processes / step_tokens
        total = torch.zeros((), device=device)
        for group in group_by_tokens(examples, self._max_tokens_per_forward):
            batch = pack(group, device)
            with torch.autocast(device.type, self._compute_dtype, enabled=self._compute_dtype != torch.float32):
                losses = answer_token_losses(model, batch)
            loss = losses.sum() * scale
            self.accelerator.backward(loss)
            total += loss.detach()
        self.check_loss(total, examples, int(step_tokens))
        self.state.num_input_tokens_seen += sum(len(example.input_ids) for example in examples)
        return total

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the validation examples: nats per answer token, as ``eval_loss``.

        Raises:
            DivergedError: that loss is not finite.
        """
        scores = score_answers(
            self.model,
            self._validation,
            batch_size=self.args.per_device_eval_batch_size,
            max_tokens=self._max_tokens_per_forward,
            device=self.args.device,
            dtype=self._compute_dtype,
        )
        metrics = {"eval_loss": mean_nll(scores)}
        self.check_validation(metrics["eval_loss"], [score.nll_sum for score in scores])
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

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
        )
    except (ImportError, ValueError, RuntimeError) as error:
        raise _not_set_up(error) from error
    # One process drives one device; several GPUs are several processes (accelerate launch), never DataParallel.
    args._n_gpu = min(args.n_gpu, 1)
    return args


def _not_set_up(error: Exception) -> InputError:
    message = f"the training cannot be set up: {str(error).splitlines()[0]}"
    return InputError(message, "install what is missing, or change train.optim or train.report_to")


def optimizer_on(name: str, device: torch.device) -> str:
    """Return the optimizer that runs on ``device`` for the configured name."""
    return _CPU_EQUIVALENTS.get(name, name) if device.type == "cpu" else name


def uses_checkpointing(config: TrainConfig, device: torch.device, memory_is_plentiful: bool = False) -> bool:
    """Tell whether activations are recomputed; ``auto`` does so on a GPU unless its memory is plentiful."""
    if config.gradient_checkpointing == "auto":
        return device.type == "cuda" and not memory_is_plentiful
    return config.gradient_checkpointing
