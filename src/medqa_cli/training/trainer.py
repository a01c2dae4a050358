"""The training loop on Accelerate: padding-free optimizer steps, each checked before it is taken.

The loss is summed over answer tokens and divided by their number in the whole step, over all ranks. An update that
would diverge is not taken; checkpoints are whole or absent; a resumed run ends with the same bytes. From Transformers
come the optimizers, the schedules, the callbacks and the trackers.
"""

import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin
from transformers import TrainerCallback, TrainingArguments, set_seed
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback, TrainerControl, TrainerState

from medqa_cli import console, distributed
from medqa_cli.model.kernels import packing
from medqa_cli.model.kernels.lora_products import casting_once, keeping_constants
from medqa_cli.model.lora import all_finite, write_adapter
from medqa_cli.prompt.encoder import Example
from medqa_cli.training import arguments, checkpoints, fsdp
from medqa_cli.training.callbacks import EarlyStopping
from medqa_cli.training.data_order import forwards_of_rank, num_tokens, steps_of_epoch
from medqa_cli.training.divergence import DivergedError, DivergenceDetector, StepLoss


class MedqaTrainer:
    """Trains a PEFT model on lists of ``Example``.

    An optimizer step takes per_device_train_batch_size x gradient_accumulation_steps examples per rank. Each rank
    regroups its share of them into forward passes of at most ``max_tokens_per_forward`` tokens (the same on all ranks).

    Args:
        model: the PEFT model.
        args: of ``make_training_arguments``.
        examples: the training split.
        validation: what each evaluation scores; empty: nothing is evaluated.
        max_tokens_per_forward: limit on the tokens of a forward pass.
        compute_dtype: type of the matrix products.
        callbacks: called before ``early_stopping``.
        divergence: judges each step; None: a fresh one.
        early_stopping: a callback if there is validation; the checkpoint of its best step outlives the rotation.

    Raises:
        InputError: the package of a tracker is not installed.
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
        callbacks: Sequence[TrainerCallback],
        divergence: DivergenceDetector | None = None,
        early_stopping: EarlyStopping | None = None,
    ) -> None:
        set_seed(args.seed)
        self.model = model
        self.args = args
        self.divergence = divergence or DivergenceDetector()
        self._early_stopping = early_stopping
        self._examples = list(examples)
        self.validation = list(validation)
        self._max_tokens_per_forward = max_tokens_per_forward
        self._compute_dtype = compute_dtype
        self.accelerator = _make_accelerator(model, args)
        self._is_sharded = getattr(self.accelerator.state, "fsdp_plugin", None) is not None
        if not self._is_sharded and getattr(model, "quantization_method", None) is None:
            model.to(args.device)
        model.config.use_cache = False
        try:
            called = [DefaultFlowCallback, *get_reporting_integration_callbacks(args.report_to), *callbacks]
            if early_stopping and validation:
                called.append(early_stopping)
            self.callback_handler = CallbackHandler(called, model, None, None, None)
        except (ImportError, RuntimeError) as error:
            raise arguments.not_set_up(error) from error
        self.state = TrainerState(
            is_local_process_zero=self.accelerator.is_local_main_process,
            is_world_process_zero=self.accelerator.is_main_process,
        )
        self.control = TrainerControl()
        if args.should_save:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        self._step_row_ids: list[str] = []
        # The sum of the steps' losses since the last logged line: on the device, so that no step waits for it.
        self._loss_since_logged = torch.zeros((), device=args.device)
        self._last_logged_step = 0
        self._call("on_init_end")
        if args.process_index > 0:
            # Each rank drops other activations. The adapter was made before, from the same seed on all.
            set_seed(args.seed + args.process_index)

    def _call(self, event: str, **more: Any) -> None:
        self.control = getattr(self.callback_handler, event)(self.args, self.state, self.control, **more)

    # Set-up

    def train(self, checkpoint: Path | None = None) -> None:
        """Train until the last step, a callback's request to stop, or an error.

        Raises:
            DivergedError: an update would diverge; it is not taken.
            NotWrittenError: the disk is full or failed.
            InputError: the package of an optimizer is not installed.
        """
        steps_per_epoch = -(-len(self._examples) // (self.args.train_batch_size * self.args.world_size))
        max_steps = self.args.max_steps
        if max_steps <= 0:
            max_steps = math.ceil(self.args.num_train_epochs * steps_per_epoch)
        self._restore_state(checkpoint, max_steps, -(-max_steps // steps_per_epoch))
        self._prepare(checkpoint, max_steps)
        # All of it: PEFT's wrapper begins in training mode around a base that was loaded for evaluation.
        self.model_wrapped.train()
        self._clear_gradients()
        self._call("on_train_begin")
        if self.args.eval_on_start:
            self.evaluate()
        first_epoch = self.state.global_step // steps_per_epoch
        for epoch in range(first_epoch, self.state.num_train_epochs):
            # A callback may stop before the first step: the run had stopped early.
            if self.control.should_training_stop:
                break
            self._call("on_epoch_begin")
            self._run_epoch(epoch, checkpoint if epoch == first_epoch else None)
            self._call("on_epoch_end")
        self._call("on_train_end")

    def _restore_state(self, checkpoint: Path | None, max_steps: int, num_epochs: int) -> None:
        if checkpoint is None:
            self.state.train_batch_size = self.args.train_batch_size
        else:
            self.state = TrainerState.load_from_json(str(checkpoint / checkpoints.TRAINER_STATE_NAME))
            state = checkpoints.read_resume_state(checkpoint)
            self._loss_since_logged += state["loss_since_logged"]
            self.divergence.restore(state["guard"])
        self._last_logged_step = self.state.global_step if checkpoint is None else state["last_logged_step"]
        # Those of the config, which may have been changed since the checkpoint.
        self.state.compute_steps(self.args, max_steps)
        self.state.max_steps, self.state.num_train_epochs = max_steps, num_epochs
        self.state.is_local_process_zero = self.accelerator.is_local_main_process
        self.state.is_world_process_zero = self.accelerator.is_main_process

    def _prepare(self, checkpoint: Path | None, max_steps: int) -> None:
        if self.args.activation_checkpointing:
            self.model.activation_checkpointing_enable(
                activation_checkpointing_kwargs=dict(self.args.activation_checkpointing_kwargs)
            )
        if checkpoint is not None:
            self.model.load_adapter(str(checkpoint), self.model.active_adapters[0], is_trainable=True)
        if self._is_sharded:  # while each rank still has the whole adapter
            fsdp.same_adapter_on_all_ranks(self.model)
        optimizer = arguments.make_optimizer(self.args, self.model)
        self.model_wrapped, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        if self._is_sharded:
            self.model = self.model_wrapped
        self._trained_parameters = [p for p in self.model_wrapped.parameters() if p.requires_grad]
        self.lr_scheduler = arguments.make_scheduler(self.args, self.optimizer, max_steps)
        if checkpoint is not None:
            if self._is_sharded:
                fsdp.divide_optimizer_state(self.model, self.optimizer, checkpoint / checkpoints.OPTIMIZER_NAME)
            else:
                self.optimizer.load_state_dict(
                    torch.load(checkpoint / checkpoints.OPTIMIZER_NAME, map_location="cpu", weights_only=True)
                )
            self.lr_scheduler.load_state_dict(torch.load(checkpoint / checkpoints.SCHEDULER_NAME, weights_only=True))
            scaler = self.accelerator.scaler
            if scaler is not None and (checkpoint / checkpoints.SCALER_NAME).is_file():
                scaler.load_state_dict(torch.load(checkpoint / checkpoints.SCALER_NAME, weights_only=True))
            before = checkpoints.read_resume_state(checkpoint)["learning_rate"]
            arguments.keep_learning_rate_of_config(self.optimizer, self.lr_scheduler, before, self.args.learning_rate)
        self.callback_handler.model = self.model
        self.callback_handler.optimizer, self.callback_handler.lr_scheduler = self.optimizer, self.lr_scheduler

    # The loop

    def _run_epoch(self, epoch: int, checkpoint: Path | None) -> None:
        """Take the steps of an epoch, or those of it that a run resumed from ``checkpoint`` has not taken."""
        seed = None if self.args.train_sampling_strategy == "sequential" else self.args.seed + epoch
        step_examples = self.args.train_batch_size * self.args.world_size
        steps = steps_of_epoch(len(self._examples), step_examples, seed)
        first = self.state.global_step - epoch * len(steps)
        if checkpoint is not None:
            checkpoints.load_rng_state(checkpoint, self.args.process_index, self.args.world_size)
        if first == 0:
            # PyTorch's data loaders draw a seed here; without it, dropout would differ from that of earlier versions.
            torch.empty((), dtype=torch.int64).random_()
        for number, indices in enumerate(steps[first:], start=first + 1):
            if self.state.global_step >= self.state.max_steps:
                return
            examples = [self._examples[index] for index in indices]
            self._call("on_step_begin")
            loss = self.training_step(self.model_wrapped, examples)
            self._loss_since_logged += loss
            self._grad_norm = self._checked_grad_norm()
            self._call("on_pre_optimizer_step")
            self.optimizer.step()
            self._call("on_optimizer_step")
            self._learning_rate = arguments.learning_rate(self.optimizer, self.lr_scheduler)  # that of this step
            if not self.accelerator.optimizer_step_was_skipped and not arguments.follows_metrics(self.lr_scheduler):
                self.lr_scheduler.step()
            self._clear_gradients()
            self.state.global_step += 1
            self.state.epoch = epoch + number / len(steps)
            self._call("on_step_end")
            self._log_evaluate_save()
            if self.control.should_training_stop:
                return

    def _clear_gradients(self) -> None:
        for parameter in self._trained_parameters:
            parameter.grad = None

    def _checked_grad_norm(self) -> float:
        """Clip the gradients; return their norm before.

        Raises:
            DivergedError: it is not finite, and no loss scaler explains that.
        """
        limit = self.args.max_grad_norm if self.args.max_grad_norm > 0 else math.inf
        parameters = self.model_wrapped.parameters() if self._is_sharded else self._trained_parameters
        norm = self.accelerator.clip_grad_norm_(parameters, limit)
        # FSDP: what each rank has of it is only a part.
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        scaler = self.accelerator.scaler
        loss_scale = None if scaler is None else float(scaler.get_scale())
        self.divergence.check_gradients(self.state.global_step + 1, norm, loss_scale, self._step_row_ids)
        return norm

    def _log_evaluate_save(self) -> None:
        if self.control.should_log and self.state.global_step > self._last_logged_step:
            steps = self.state.global_step - self._last_logged_step
            logs = {
                "loss": float(self._loss_since_logged) / steps,
                "grad_norm": self._grad_norm,
                "learning_rate": self._learning_rate,
            }
            self._loss_since_logged.zero_()
            self._last_logged_step = self.state.global_step
            self._log(logs)
        if self.control.should_evaluate:
            metrics = self.evaluate()
            if arguments.follows_metrics(self.lr_scheduler):
                self.lr_scheduler.step(metrics["eval_loss"])
        if self.control.should_save:
            self._save_checkpoint()
            self._call("on_save")

    def _log(self, logs: dict[str, float]) -> None:
        if self.state.epoch is not None:
            logs["epoch"] = self.state.epoch
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self._call("on_log", logs=logs)

    # A step

    def training_step(self, model: torch.nn.Module, examples: Sequence[Example]) -> torch.Tensor:
        """Run forward and backward for one optimizer step.

        Args:
            model: the wrapped model.
            examples: those of all ranks.

        Returns:
            The step's mean loss over the answer tokens of all ranks: a scalar, float32, detached; the same on all.

        Raises:
            DivergedError: that loss is not finite, or far above those before it; on all ranks alike.
        """
        if not (model.training and self.model.training):  # scoring switches the model inside the wrapper
            model.train()
        self._step_row_ids = [example.row_id for example in examples]
        device, num_ranks = self.args.device, self.args.world_size
        # DDP and FSDP average gradients over ranks; the factor turns that average back into a sum.
        step_tokens = sum(example.num_answer_tokens for example in examples)
        scale = num_ranks / step_tokens
        total = torch.zeros((), device=device)
        forwards, fillers = forwards_of_rank(
            examples,
            rank=self.args.process_index,
            world_size=num_ranks,
            max_tokens=self._max_tokens_per_forward,
            max_examples=packing.examples_at_once(self.model),
            same_number_on_all_ranks=self._is_sharded,
        )
        with casting_once(device.type == "cuda"), keeping_constants(self.args.activation_checkpointing):
            for number, group in enumerate(forwards + fillers, start=1):
                batch = packing.pack(group, device)
                # Gradients are exchanged once a step, in the last backward pass.
                is_last = number == len(forwards + fillers)
                with contextlib.nullcontext() if is_last else self.accelerator.no_sync(model):
                    with torch.autocast(device.type, self._compute_dtype, enabled=self._compute_dtype != torch.float32):
                        losses = packing.answer_token_losses(model, batch)
                    loss = losses.sum() * (scale if number <= len(forwards) else 0.0)
                    self.accelerator.backward(loss)
                total += loss.detach()
        total = cast(torch.Tensor, self.accelerator.reduce(total, reduction="mean"))
        step_loss = StepLoss(float(total), step_tokens, len(examples))
        self.divergence.check_loss(self.state.global_step + 1, step_loss, self._step_row_ids)
        self.state.num_input_tokens_seen += num_tokens(examples)
        return total

    # Validation

    def evaluate(self) -> dict[str, float]:
        """Score the validation examples: nats per answer token, as ``eval_loss``; each rank scores its part of them.

        Raises:
            DivergedError: that loss is not finite.
        """
        num_ranks = self.args.world_size
        examples = self.validation[self.args.process_index :: num_ranks]
        # FSDP gathers weights in every forward pass: ranks with an example less score one that does not count.
        fill = self.validation[: -(-len(self.validation) // num_ranks) - len(examples)]
        size = packing.examples_at_once(self.model, self.args.per_device_eval_batch_size) or 1
        max_tokens: int | None = self._max_tokens_per_forward
        if self._is_sharded:
            # As many forward passes on each rank, however long its examples are.
            longest = max(len(example.input_ids) for example in self.validation)
            size, max_tokens = max(1, min(size, self._max_tokens_per_forward // longest)), None
        with console.status("scoring the validation rows ..."):
            scores = packing.score_answers(
                self.model,
                [*examples, *fill],
                batch_size=size,
                max_tokens=max_tokens,
                device=self.args.device,
                dtype=self._compute_dtype,
            )
            # In the order of the split, whichever rank scored them.
            parts = distributed.all_gather(scores[: len(examples)])
        all_scores = [parts[i % num_ranks][i // num_ranks] for i in range(len(self.validation))]
        metrics = {"eval_loss": packing.mean_nll(all_scores)}
        if not math.isfinite(metrics["eval_loss"]):
            pairs = zip(self.validation, all_scores, strict=True)
            rows = [example.row_id for example, score in pairs if not math.isfinite(score.nll_sum)]
            reason = f"the validation loss after step {self.state.global_step} is {metrics['eval_loss']}"
            raise DivergedError(reason, self.state.global_step, rows, "validation")
        self._log(dict(metrics))
        self._call("on_evaluate", metrics=metrics)
        return metrics

    # Checkpoints: the same files with and without FSDP, so that one is resumed by the other

    def _save_checkpoint(self) -> None:
        """Let rank 0 write a checkpoint aside, publish it, then delete old ones; all ranks fail where it fails.

        Raises:
            DivergedError: the last update left weights that are not finite numbers.
            NotWrittenError: the disk is full or failed.
        """
        step = self.state.global_step
        if distributed.any_rank(not all_finite(self.model)):
            raise DivergedError(f"the update of step {step} left weights that are not finite", step, self._step_row_ids)
        # All that takes all ranks comes first: one that cannot write must not leave others waiting.
        adapter = fsdp.whole_adapter(self.model) if self._is_sharded else None
        optimizer = (
            fsdp.whole_optimizer_state(self.model, self.optimizer) if self._is_sharded else self.optimizer.state_dict()
        )
        rng_states = distributed.all_gather(checkpoints.rng_state(all_devices=self.args.world_size > 1))

        def write() -> None:
            checkpoints_dir = Path(self.args.output_dir)
            with checkpoints.saving(checkpoints_dir, step) as saving_dir:
                written = checkpoints.checkpoint_at(saving_dir, step)
                write_adapter(self.model, written, adapter)
                torch.save(optimizer, written / checkpoints.OPTIMIZER_NAME)
                torch.save(self.lr_scheduler.state_dict(), written / checkpoints.SCHEDULER_NAME)
                if self.accelerator.scaler is not None:
                    torch.save(self.accelerator.scaler.state_dict(), written / checkpoints.SCALER_NAME)
                checkpoints.save_rng_states(written, rng_states)
                self.state.save_to_json(str(written / checkpoints.TRAINER_STATE_NAME))
                resume_state = {
                    "loss_since_logged": float(self._loss_since_logged),  # the same on all ranks
                    "last_logged_step": self._last_logged_step,
                    "learning_rate": self.args.learning_rate,
                    "guard": self.divergence.state(),
                }
                (written / checkpoints.RESUME_STATE_NAME).write_text(json.dumps(resume_state), encoding="utf-8")
                scheduled = step % self.state.save_steps == 0 or step >= self.state.max_steps
                checkpoints.publish(saving_dir, checkpoints_dir, step, scheduled=scheduled)
            best_step = self._early_stopping.best_step if self._early_stopping else None
            checkpoints.rotate(checkpoints_dir, step, self.args.save_total_limit, best_step)

        distributed.from_main(write)


def _make_accelerator(model: Any, args: TrainingArguments) -> Accelerator:
    # PEFT's layers take part in every forward pass; only the experts of a mixture may be left out of one. Buffers
    # (rotary frequencies) never change.
    has_experts = any("expert" in name for name, p in model.named_parameters() if p.requires_grad)
    ddp = DistributedDataParallelKwargs(find_unused_parameters=has_experts, broadcast_buffers=False)
    # What a launcher's config says of precision and accumulation does not count.
    return Accelerator(
        mixed_precision=args.mixed_precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[ddp],
    )
