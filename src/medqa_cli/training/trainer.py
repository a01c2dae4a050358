"""The Trainer: one optimizer step over all its examples in padding-free forwards, checked before it is taken.

Transformers' ``Trainer`` runs the loop, the optimizer, the schedule and the trackers. This subclass computes the loss
(summed over answer tokens and divided by their number in the whole step, over all ranks), stops before an update that
would diverge, writes checkpoints that are whole or absent, and resumes to the byte. docs/private_apis.md lists the
private methods that it overrides.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainingArguments, set_seed
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_callback import CallbackHandler
from transformers.training_args import ParallelMode

from medqa_cli import console, distributed
from medqa_cli.model.kernels import packing
from medqa_cli.model.kernels.fused_layers import casting_once
from medqa_cli.model.lora import all_finite
from medqa_cli.prompt.encoder import Example
from medqa_cli.training import fsdp
from medqa_cli.training.arguments import not_set_up
from medqa_cli.training.callbacks import EarlyStopping
from medqa_cli.training.checkpoints import checkpoint_at, publish, rng_state, rng_state_name, rotate, saving
from medqa_cli.training.divergence import DivergedError, DivergenceDetector, StepLoss

# In each checkpoint, beside Transformers' trainer_state.json.
RESUME_STATE_NAME = "medqa_state.json"


class MedqaTrainer(Trainer):
    """Trains a PEFT model on lists of ``Example``.

    One batch of the data loader is one optimizer step: per_device_train_batch_size x gradient_accumulation_steps
    examples per rank. Each rank takes its share and regroups it into forwards of at most ``max_tokens_per_forward``
    tokens (the same on all ranks).

    Args:
        model: the PEFT model.
        args: of ``make_training_arguments``.
        examples: the training split.
        validation: what each evaluation scores; empty: nothing is evaluated.
        max_tokens_per_forward: limit on the tokens of a forward.
        compute_dtype: type of the matrix products.
        callbacks: called before ``early_stopping``.
        divergence: judges each step; None: a fresh one.
        early_stopping: a callback if there is validation; the checkpoint of its best step outlives the rotation.

    Raises:
        InputError: the package of a tracker is not installed.
    """

    control: TrainerControl
    callback_handler: CallbackHandler

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
                callbacks=[*callbacks, early_stopping] if early_stopping and validation else list(callbacks),
            )
        except (ImportError, RuntimeError) as error:
            raise not_set_up(error) from error
        self.remove_callback(PrinterCallback)
        self.divergence = divergence or DivergenceDetector()
        self._early_stopping = early_stopping
        self._validation = list(validation)
        self._max_tokens_per_forward = max_tokens_per_forward
        self._compute_dtype = compute_dtype
        self._step_row_ids: list[str] = []
        self._trained_parameters: list[torch.nn.Parameter] = []
        self._is_restored = False
        # Set while a checkpoint is written: where it is written to, and what the other ranks gave rank 0 for it.
        self._saving_dir: Path | None = None
        self._rng_states: list[dict[str, Any]] = []
        self._gathered_parts: tuple[dict[str, torch.Tensor], dict[str, Any]] = {}, {}
        if args.process_index > 0:
            # Each rank drops other activations. The adapter was made before, from the same seed on all.
            set_seed(args.seed + args.process_index)

    # Set-up and loop

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
            raise not_set_up(error) from error
        return optimizer

    def train(self, resume_from_checkpoint: str | None = None, **more: Any) -> Any:
        """Train; see ``Trainer.train``."""
        if self.is_fsdp_enabled:
            # While each rank still has the whole adapter.
            if resume_from_checkpoint is not None:
                super()._load_from_checkpoint(resume_from_checkpoint)
            fsdp.same_adapter_on_all_ranks(self.model)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **more)

    def _run_epoch(self, **kwargs: Any) -> None:
        checkpoint = kwargs["resume_from_checkpoint"]
        if checkpoint is not None and not self._is_restored:
            state = _read_resume_state(checkpoint)
            self._tr_loss += state["loss_since_logged"]
            self._globalstep_last_logged = state["last_logged_step"]
            self.divergence.restore(state["guard"])
            self._is_restored = True
        # Resumed from the checkpoint of its last step: the Trainer would take one step more before it looks.
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        # Transformers walks over all modules to clip and to clear gradients, 6 ms each on a 7B model; only the adapter
        # has any.
        model = kwargs["model"]
        self._trained_parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        model.zero_grad = self._clear_gradients
        try:
            super()._run_epoch(**kwargs)
        finally:
            del model.zero_grad  # the class's own appears again

    def _clear_gradients(self, set_to_none: bool = True) -> None:
        for parameter in self._trained_parameters:
            parameter.grad = None

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count nothing: medqa reports tokens, not estimated operations."""
        return 0

    def store_flos(self) -> None:
        """Store nothing: Transformers would wait for the other ranks here."""

    # A step

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
            DivergedError: that loss is not finite, or far above those before it; on all ranks alike.
        """
        if not (model.training and self.model.training):  # scoring switches the model inside the wrapper
            model.train()
        examples: list[Example] = inputs["examples"]
        self._step_row_ids = [example.row_id for example in examples]
        device, num_ranks = self.args.device, self.args.world_size
        # DDP and FSDP average gradients over ranks; the factor turns that average back into a sum.
        step_tokens = sum(example.num_answer_tokens for example in examples)
        scale = num_ranks / step_tokens
        total = torch.zeros((), device=device)
        forwards = self._forwards_of_rank(examples)
        with casting_once(device.type == "cuda"):
            for number, (group, counts) in enumerate(forwards, start=1):
                batch = packing.pack(group, device)
                # Gradients are exchanged once a step, in the last backward.
                is_last = number == len(forwards)
                with contextlib.nullcontext() if is_last else self.accelerator.no_sync(model):
                    with torch.autocast(device.type, self._compute_dtype, enabled=self._compute_dtype != torch.float32):
                        losses = packing.answer_token_losses(model, batch)
                    loss = losses.sum() * (scale if counts else 0.0)
                    self.accelerator.backward(loss)
                total += loss.detach()
        total = cast(torch.Tensor, self.accelerator.reduce(total, reduction="mean"))
        step_loss = StepLoss(float(total), step_tokens, len(examples))
        self.divergence.check_loss(self.state.global_step + 1, step_loss, self._step_row_ids)
        self.state.num_input_tokens_seen += sum(len(example.input_ids) for example in examples)
        return total

    def _forwards_of_rank(self, examples: Sequence[Example]) -> list[tuple[list[Example], bool]]:
        """Return this rank's forwards of a step, at least one, and whether each counts.

        One that does not count only keeps step with the other ranks: the gradients are exchanged in the last backward
        of each, and FSDP gathers weights in every forward.
        """
        shares = [
            list(packing.group_by_tokens(share, self._max_tokens_per_forward, packing.examples_at_once(self.model)))
            for share in shares_of_step(examples, self.args.world_size)
        ]
        groups = shares[self.args.process_index]
        needed = max(map(len, shares)) if self.is_fsdp_enabled else 1
        shortest = min(examples, key=lambda example: len(example.input_ids))
        return [(group, True) for group in groups] + [([shortest], False)] * (needed - len(groups))

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        if self.is_fsdp_enabled or self.args.max_grad_norm <= 0:
            return super()._clip_grad_norm(model)
        return self.accelerator.clip_grad_norm_(self._trained_parameters, self.args.max_grad_norm)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        # Transformers calls this between clipping and the optimizer's step; clipping has not touched the weights.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if hasattr(norm, "full_tensor"):
            # FSDP: what each rank has of it is only a part.
            norm = norm.full_tensor()
        if norm is not None:
            scaler = getattr(self.accelerator, "scaler", None)
            loss_scale = float(scaler.get_scale()) if scaler is not None else None
            self.divergence.check_gradients(self.state.global_step + 1, float(norm), loss_scale, self._step_row_ids)
        return norm

    # Validation

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the validation examples: nats per answer token, as ``eval_loss``; each rank scores its part of them.

        Raises:
            DivergedError: that loss is not finite.
        """
        num_ranks = self.args.world_size
        examples = self._validation[self.args.process_index :: num_ranks]
        # FSDP gathers weights in every forward: ranks with an example less score one that does not count.
        fill = self._validation[: -(-len(self._validation) // num_ranks) - len(examples)]
        size = packing.examples_at_once(self.model, self.args.per_device_eval_batch_size) or 1
        max_tokens: int | None = self._max_tokens_per_forward
        if self.is_fsdp_enabled:
            # As many forwards on each rank, however long its examples are.
            longest = max(len(example.input_ids) for example in self._validation)
            size, max_tokens = max(1, min(size, self._max_tokens_per_forward // longest)), None
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
        all_scores = [parts[i % num_ranks][i // num_ranks] for i in range(len(self._validation))]
        metrics = {"eval_loss": packing.mean_nll(all_scores)}
        if not math.isfinite(metrics["eval_loss"]):
            pairs = zip(self._validation, all_scores, strict=True)
            rows = [example.row_id for example, score in pairs if not math.isfinite(score.nll_sum)]
            step = self.state.global_step
            reason = f"the validation loss after step {step} is {metrics['eval_loss']}"
            raise DivergedError(reason, step, rows, "validation")
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # Checkpoints: the same files with and without FSDP, so that one is resumed by the other

    def _get_output_dir(self, trial: Any = None) -> str:
        return str(self._saving_dir) if self._saving_dir is not None else str(super()._get_output_dir(trial))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any = None) -> None:
        """Let rank 0 write a checkpoint aside, publish it, then delete old ones; all ranks fail where it fails.

        Raises:
            DivergedError: the last update left weights that are not finite numbers.
            NotWrittenError: the disk is full or failed.
        """
        step = self.state.global_step
        if distributed.any_rank(not all_finite(self.model)):
            reason = f"the update of step {step} left weights that are not finite"
            raise DivergedError(reason, step, self._step_row_ids)
        # All that takes all ranks comes first: one that cannot write must not leave others waiting.
        if self.is_fsdp_enabled:
            self._gathered_parts = (
                fsdp.whole_adapter(self.model),
                fsdp.whole_optimizer_state(self.model, self.optimizer),
            )
        is_distributed = self.args.parallel_mode == ParallelMode.DISTRIBUTED
        self._rng_states = distributed.all_gather(rng_state(all_devices=is_distributed))
        distributed.from_main(lambda: self._write_checkpoint(model, trial, step))

    def _write_checkpoint(self, model: torch.nn.Module, trial: Any, step: int) -> None:
        checkpoints_dir = Path(self.args.output_dir)
        with saving(checkpoints_dir, step) as self._saving_dir:
            try:
                super()._save_checkpoint(model, trial)
                written = checkpoint_at(self._saving_dir, step)
                # What Transformers forgets: the loss since the last logged line, and what was judged so far.
                resume_state = {
                    "loss_since_logged": float(self._tr_loss),  # the same on all ranks
                    "last_logged_step": self._globalstep_last_logged,
                    "learning_rate": self.args.learning_rate,
                    "guard": self.divergence.state(),
                }
                (written / RESUME_STATE_NAME).write_text(json.dumps(resume_state), encoding="utf-8")
                scheduled = step % self.state.save_steps == 0 or step >= self.state.max_steps
                publish(self._saving_dir, checkpoints_dir, step, scheduled=scheduled)
            finally:
                self._saving_dir = None
        best_step = self._early_stopping.best_step if self._early_stopping else None
        rotate(checkpoints_dir, step, self.args.save_total_limit, best_step)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter into a checkpoint."""
        if self.is_fsdp_enabled:
            self._save(output_dir, self._gathered_parts[0])
        else:
            super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # save_embedding_layers=False: otherwise PEFT asks the hub whether the vocabulary was resized.
        if self.args.should_save:
            folder = output_dir or self.args.output_dir
            self.model.save_pretrained(folder, state_dict=state_dict, save_embedding_layers=False)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            torch.save(self._gathered_parts[1], Path(output_dir, OPTIMIZER_NAME))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _save_rng_state(self, output_dir: str) -> None:
        # Transformers lets each rank write its own file; here rank 0 writes those of all.
        for rank, state in enumerate(self._rng_states):
            torch.save(state, Path(output_dir, rng_state_name(rank, len(self._rng_states))))

    # Resuming

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_fsdp_enabled:  # otherwise ``train`` has loaded it
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            fsdp.divide_optimizer_state(self.model, self.optimizer, Path(checkpoint, OPTIMIZER_NAME))
            self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))
        if checkpoint is None:
            return
        # Both come back with the learning rate of the checkpoint; a new one in the config would be ignored.
        before, now = _read_resume_state(checkpoint)["learning_rate"], self.args.learning_rate
        if before == now:
            return
        console.note(f"train.learning_rate was {before:g} up to this checkpoint and is {now:g} from here on")
        for group in self.optimizer.param_groups:
            for key in ("lr", "initial_lr"):
                if key in group:
                    group[key] *= now / before
        if hasattr(self.lr_scheduler, "base_lrs"):
            self.lr_scheduler.base_lrs = [rate * now / before for rate in self.lr_scheduler.base_lrs]


def _read_resume_state(checkpoint: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((Path(checkpoint) / RESUME_STATE_NAME).read_text(encoding="utf-8"))
    return state


class StepSampler(Sampler[list[int]]):
    """Yields the indices of one step after the other, those of all ranks together; the last step may be smaller.

    The order is that of Transformers' ``Trainer`` with one process (``accelerate.data_loader.SeedableRandomSampler``).

    Args:
        num_examples: examples in an epoch.
        step_examples: examples in a step, over all ranks.
        seed: of the order, together with the epoch; None: the order of the data.
    """

    def __init__(self, num_examples: int, step_examples: int, seed: int | None) -> None:
        self._num_examples = num_examples
        self._step_examples = step_examples
        self._seed = seed
        self._epoch = 0

    @property
    def batch_sampler(self) -> StepSampler:
        """Itself: the Trainer looks for ``set_epoch`` one level below what it takes for a shard of a rank."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-self._num_examples // self._step_examples)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self._num_examples))
        if self._seed is not None:
            generator = torch.Generator().manual_seed(self._seed + self._epoch)
            order = torch.randperm(self._num_examples, generator=generator).tolist()
        for start in range(0, self._num_examples, self._step_examples):
            yield order[start : start + self._step_examples]


def shares_of_step(examples: Sequence[Example], world_size: int) -> list[list[Example]]:
    """Deal the examples of a step to the ranks: as many to each, and about as many tokens.

    The longest example goes first, each to the rank with the fewest tokens that still has room (greedy scheduling,
    Graham 1969). Ranks wait for the slowest at the end of a step. Every rank computes the same shares.

    Returns:
        One list per rank, in the order given; empty for some where a last step has fewer examples than ranks.
    """
    room = -(-len(examples) // world_size)
    indices: list[list[int]] = [[] for _ in range(world_size)]
    tokens = [0] * world_size
    for index in sorted(range(len(examples)), key=lambda i: -len(examples[i].input_ids)):
        free = [rank for rank in range(world_size) if len(indices[rank]) < room]
        chosen = min(free, key=lambda rank: tokens[rank])
        indices[chosen].append(index)
        tokens[chosen] += len(examples[index].input_ids)
    return [[examples[i] for i in sorted(share)] for share in indices]
