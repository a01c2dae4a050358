"""Checks of a training step: packed = alone, recomputed = kept, here = CPU in float32, float16 with its loss scaler."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from medqa_cli.doctor.finding import Measured, NotChecked
from medqa_cli.doctor.reference import Numbers, in_a_row, numbers_of, plain_model, plain_numbers, trained
from medqa_cli.doctor.subject import Subject
from medqa_cli.model.devices import dtype_name
from medqa_cli.model.kernels import packing, reduced_model
from medqa_cli.prompt.encoder import Example
from medqa_cli.training.arguments import make_training_arguments
from medqa_cli.training.data_order import forwards_of_rank
from medqa_cli.training.trainer import MedqaTrainer

# Distances relative to the size of the numbers. Two right ways to compute them were 1e-6 apart in float32, 0.004 in
# bfloat16 (this CPU); an example that sees another, or a gradient of the wrong size, moves them by a tenth or more.
FLOAT32_BOUND = 1e-4
BOUNDS = {torch.float32: FLOAT32_BOUND, torch.float16: 0.02, torch.bfloat16: 0.06}
INT8_BOUND = 0.2  # LLM.int8() rounds what goes into a layer as well
_FORWARD_TOKENS = 300  # so that a step has several forward passes, of several examples each
_STEP_EXAMPLES = 6
_DROPOUT = 0.1
_MOST_SKIPPED = 8


def bound_of(subject: Subject) -> float:
    """Return how far two right ways may be apart."""
    return max(BOUNDS[subject.dtype], INT8_BOUND if subject.config.model.quantization == "int8" else 0.0)


def examples_of(subject: Subject) -> list[Example]:
    """Return the examples of a step."""
    return subject.inputs.data.examples[:_STEP_EXAMPLES]


def packed_is_alone(subject: Subject) -> Measured:
    """Compare examples in the forward passes of a training with each of them alone, as Transformers computes it."""
    model, way = subject.settled(lora_dropout=0.0)
    examples = examples_of(subject)
    model.eval()
    device, dtype = subject.device, subject.dtype
    with reduced_model.in_float32(model.get_base_model()):
        together = _packed_numbers(model, examples, device, torch.float32)
    in_order = [example for group in _forwards(model, examples) for example in group]
    truth = plain_numbers(plain_model(subject, model), in_order)
    problems = list(way.reasons)
    if dtype != torch.float32:
        in_own_type = truth.apart(_packed_numbers(model, examples, device, dtype))
        if not in_own_type <= bound_of(subject):
            problems.append(f"in {dtype_name(dtype)} they are {in_own_type:.2g} apart")
            return Measured(in_own_type, bound_of(subject), "apart", "; ".join(problems))
    return Measured(
        truth.apart(together),
        FLOAT32_BOUND,
        "apart in losses and gradients",
        "; ".join(problems),
        "takes the way that is right, which is slower" if way.reasons else "",
    )


def _forwards(model: Any, examples: Sequence[Example]) -> list[list[Example]]:
    return forwards_of_rank(
        examples,
        rank=0,
        world_size=1,
        max_tokens=_FORWARD_TOKENS,
        max_examples=packing.examples_at_once(model),
        same_number_on_all_ranks=False,
    )[0]


def _packed_numbers(model: Any, examples: Sequence[Example], device: torch.device, dtype: torch.dtype) -> Numbers:
    def losses() -> Iterator[torch.Tensor]:
        for group in _forwards(model, examples):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                yield packing.answer_token_losses(model, packing.pack(group, device))

    return numbers_of(model, losses)


class _NoCheckpoint(TrainerCallback):
    """Takes back the wish for a checkpoint behind the last step: nobody goes on from it."""

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Save nothing."""
        control.should_save = False


def take_step(subject: Subject, model: Any, *, recomputed: bool | None = None, steps: int = 1) -> Numbers:
    """Let the trainer take a step of plain gradient descent, at a learning rate of 1: the update is the gradient.

    Return the mean loss and the update.

    Args:
        subject: whose data and settings.
        model: it is changed.
        recomputed: None: as the config says.
        steps: how many; those before the last are to be skipped by the loss scaler.
    """
    examples = examples_of(subject)
    settings = replace(
        subject.config.train,
        optim="sgd",
        learning_rate=1.0,
        weight_decay=0.0,
        max_grad_norm=0.0,
        max_steps=steps,
        save_steps=steps + 1,
        per_device_train_batch_size=len(examples),
        gradient_accumulation_steps=1,
        gradient_checkpointing=subject.config.train.gradient_checkpointing if recomputed is None else recomputed,
    )
    before = in_a_row([parameter for _, parameter in trained(model)])
    with tempfile.TemporaryDirectory(prefix="medqa-doctor-", ignore_cleanup_errors=True) as folder:
        trainer = MedqaTrainer(
            model=model,
            args=make_training_arguments(
                settings,
                seed=subject.config.seed,
                output_dir=Path(folder),
                device=subject.device,
                compute_dtype=subject.dtype,
            ),
            examples=examples,
            validation=[],
            max_tokens_per_forward=_FORWARD_TOKENS,
            compute_dtype=subject.dtype,
            callbacks=[_NoCheckpoint()],
        )
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    update = before - in_a_row([parameter for _, parameter in trained(model)])
    return Numbers(torch.tensor(losses[-1:], dtype=torch.float64), update)


def step_is_that_of_the_cpu(subject: Subject) -> Measured:
    """Compare a step of the trainer with the gradient that Transformers and PEFT give on the CPU in float32."""
    model, _ = subject.settled(lora_dropout=0.0)
    expected = _expected_step(subject, model)
    return Measured(expected.apart(take_step(subject, model)), bound_of(subject), "apart in loss and update")


def _expected_step(subject: Subject, model: Any) -> Numbers:
    numbers = plain_numbers(plain_model(subject, model), examples_of(subject))
    return Numbers(numbers.losses.mean(0, keepdim=True).double(), numbers.gradients)


def recomputed_is_kept(subject: Subject) -> Measured:
    """Compare a step that recomputes its activations, with dropout, with one that keeps them."""
    dropout = max(subject.config.lora.lora_dropout, _DROPOUT)
    steps = [
        take_step(subject, subject.settled(lora_dropout=dropout)[0], recomputed=recomputed)
        for recomputed in (False, True)
    ]
    unit = torch.finfo(subject.dtype).eps
    return Measured(steps[0].apart(steps[1]), max(FLOAT32_BOUND, 4 * unit), "apart in loss and update, with dropout")


def float16_is_scaled(subject: Subject) -> Measured:
    """Check a float16 step with its loss scaler.

    Raises:
        NotChecked: there is no GPU.
    """
    if subject.device.type == "cpu":
        raise NotChecked("there is no GPU, and only there are losses scaled")
    return scaled_is_plain(subject)


def scaled_is_plain(subject: Subject) -> Measured:
    """Compare a float16 step, whose losses are scaled up and whose gradients down, with the CPU's in float32."""
    subject = replace(subject, dtype=torch.float16)
    expected: Numbers | None = None
    for steps in range(1, _MOST_SKIPPED + 1):  # a scale that is too large costs steps, each of which halves it
        model, _ = subject.settled(lora_dropout=0.0)
        expected = expected or _expected_step(subject, model)
        step = take_step(subject, model, steps=steps)
        if step.gradients.any():
            break
    assert expected is not None  # of the first round
    return Measured(expected.apart(step), bound_of(subject), "apart in loss and update")
