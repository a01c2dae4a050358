"""The Trainer's safety: guards before each update, checkpoints that are whole or not there, exact resuming.

Transformers' ``Trainer`` does the loop and writes the files of a checkpoint; here is decided when an update must not be
made, where a checkpoint is written, and what beyond Transformers' own state a resumed run needs. Does not compute
losses: ``trainer`` does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerControl
from transformers.trainer_callback import CallbackHandler
from transformers.training_args import ParallelMode

from medqa_cli import console, distributed
from medqa_cli.model.adapter import all_finite
from medqa_cli.prompt.encoder import Example
from medqa_cli.training.checkpoint_files import checkpoint_at, publish, rotate, saving
from medqa_cli.training.guards import DivergedError, StepGuard, StepLoss
from medqa_cli.training.random_states import random_state, random_state_name
from medqa_cli.training.sharding import ShardedTrainer

# In each checkpoint, beside Transformers' trainer_state.json.
RESUME_STATE_NAME = "medqa_state.json"


class SafeTrainer(ShardedTrainer):
    """A Trainer that stops before a bad update and never leaves half a checkpoint.

    Args:
        guard: judges each step; None: a fresh one.
        trainer_arguments: those of Transformers' ``Trainer``.
    """

    control: TrainerControl
    callback_handler: CallbackHandler

    def __init__(self, *, guard: StepGuard | None = None, **trainer_arguments: Any) -> None:
        super().__init__(**trainer_arguments)
        self.guard = guard or StepGuard()
        # Steps whose checkpoints outlive the rotation: that of the best look at validation.
        self.kept_steps: set[int] = set()
        self._examples: Sequence[Example] = ()
        self._saving_dir: Path | None = None
        self._random_states: list[dict[str, Any]] = []
        self._is_restored = False
        self._trained: list[torch.nn.Parameter] = []

    # Guards

    def check_loss(self, loss: torch.Tensor, examples: Sequence[Example], step_tokens: int) -> None:
        """Judge the loss of the step at hand, before the optimizer's step.

        Args:
            loss: scalar; the step's mean loss over the answer tokens of all ranks.
            examples: the step's examples, those of all ranks.
            step_tokens: answer tokens of the step over all ranks.

        Raises:
            DivergedError: on all ranks alike, since all judge the same number.
        """
        self._examples = examples
        step = self.state.global_step + 1
        self.guard.check_loss(step, StepLoss(float(loss), step_tokens, len(examples)), self._row_ids())

    def check_validation(self, loss: float, nll_of_examples: Sequence[float]) -> None:
        """Judge a look at the validation split.

        Args:
            loss: its mean, in nats per answer token.
            nll_of_examples: summed loss of each example of ``eval_dataset``, in its order.

        Raises:
            DivergedError: the mean is not finite.
        """
        if not math.isfinite(loss):
            pairs = zip(self.eval_dataset, nll_of_examples, strict=True)
            wrong = [example.row_id for example, nll in pairs if not math.isfinite(nll)]
            step = self.state.global_step
            raise DivergedError(f"the validation loss after step {step} is {loss}", step, wrong, "validation")

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        # Transformers calls this between clipping and the optimizer's step; clipping has not touched the weights.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if hasattr(norm, "full_tensor"):
            # FSDP: what each rank has of it is only a part.
            norm = norm.full_tensor()
        if norm is not None:
            scaler = getattr(self.accelerator, "scaler", None)
            loss_scale = float(scaler.get_scale()) if scaler is not None else None
            self.guard.check_gradients(self.state.global_step + 1, float(norm), loss_scale, self._row_ids())
        return norm

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        # Each walk over all modules of a 7B model takes 6 ms, and only the adapter has gradients.
        if self.is_fsdp_enabled or self.args.max_grad_norm <= 0:
            return super()._clip_grad_norm(model)
        return self.accelerator.clip_grad_norm_(self._trained, self.args.max_grad_norm)

    def _clear_gradients(self, set_to_none: bool = True) -> None:
        for parameter in self._trained:
            parameter.grad = None

    def _row_ids(self) -> list[str]:
        return [example.row_id for example in self._examples]

    # Checkpoints

    def _get_output_dir(self, trial: Any = None) -> str:
        return str(self._saving_dir) if self._saving_dir is not None else str(super()._get_output_dir(trial))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any = None) -> None:
        """Let rank 0 write a checkpoint aside, publish it, then delete old ones; all ranks fail where it fails.

        Raises:
            DivergedError: the last update left weights that are not finite.
            NotWrittenError: the disk is full or failed.
        """
        step = self.state.global_step
        if distributed.any_rank(not all_finite(self.model)):
            raise DivergedError(f"the update of step {step} left weights that are not finite", step, self._row_ids())
        # All that takes all ranks comes first: one that cannot write must not leave others waiting.
        self.gather_parts()
        is_distributed = self.args.parallel_mode == ParallelMode.DISTRIBUTED
        self._random_states = distributed.all_gather(random_state(all_devices=is_distributed))
        distributed.from_main(lambda: self._write_checkpoint(model, trial, step))

    def _write_checkpoint(self, model: torch.nn.Module, trial: Any, step: int) -> None:
        checkpoints_dir = Path(self.args.output_dir)
        with saving(checkpoints_dir, step) as self._saving_dir:
            try:
                super()._save_checkpoint(model, trial)
                written = checkpoint_at(self._saving_dir, step)
                (written / RESUME_STATE_NAME).write_text(json.dumps(self._resume_state()), encoding="utf-8")
                scheduled = step % self.state.save_steps == 0 or step >= self.state.max_steps
                publish(self._saving_dir, checkpoints_dir, step, scheduled=scheduled)
            finally:
                self._saving_dir = None
        rotate(checkpoints_dir, step, self.args.save_total_limit, self.kept_steps)

    def _save_rng_state(self, output_dir: str) -> None:
        for number, state in enumerate(self._random_states):
            torch.save(state, Path(output_dir, random_state_name(number, len(self._random_states))))

    def store_flos(self) -> None:
        """Store nothing: Transformers would wait for the other ranks here."""

    # Resuming

    def _resume_state(self) -> dict[str, Any]:
        """Return what Transformers forgets: the loss since the last logged line, and what the guard has seen."""
        return {
            "loss_since_logged": float(self._tr_loss),  # the same on all ranks
            "last_logged_step": self._globalstep_last_logged,
            "learning_rate": self.args.learning_rate,
            "guard": self.guard.state(),
        }

    def _run_epoch(self, **kwargs: Any) -> None:
        checkpoint = kwargs["resume_from_checkpoint"]
        if checkpoint is not None and not self._is_restored:
            state = _read_resume_state(checkpoint)
            self._tr_loss += state["loss_since_logged"]
            self._globalstep_last_logged = state["last_logged_step"]
            self.guard.restore(state["guard"])
            self._is_restored = True
        # Resumed from the checkpoint of its last step: the Trainer would take one step more before it looks.
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        model = kwargs["model"]
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        model.zero_grad = self._clear_gradients
        try:
            super()._run_epoch(**kwargs)
        finally:
            del model.zero_grad  # the class's own appears again

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
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
