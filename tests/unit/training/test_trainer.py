"""The Trainer subclass: grouping does not change the step, quantized weights stay differentiable after scoring."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from transformers.training_args import OptimizerNames

from helpers.training import CPU, make_examples, make_model
from medqa_cli import console
from medqa_cli.config.schema import SCHEDULERS_THAT_WATCH, Scheduler, TrainConfig
from medqa_cli.data.dataset import encode_rows, evenly_spaced
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.model.kernels.packing import answer_token_losses, pack, score_answers
from medqa_cli.prompt.encoder import Example
from medqa_cli.training.arguments import (
    follows_metrics,
    make_scheduler,
    make_training_arguments,
    optimizer_on,
    uses_checkpointing,
)
from medqa_cli.training.callbacks import TrainingMonitor
from medqa_cli.training.trainer import MedqaTrainer


def run_steps(
    model: Any, examples: list[Example], tmp_path: Path, **settings: Any
) -> tuple[dict[str, torch.Tensor], list[float]]:
    config = TrainConfig(
        **{
            "max_steps": 3,
            "learning_rate": 1e-2,
            "gradient_checkpointing": False,
            "logging_steps": 1,
            "save_steps": 100,
            **settings,
        }
    )
    trainer = MedqaTrainer(
        model=model,
        args=make_training_arguments(config, seed=5, output_dir=tmp_path, device=CPU, compute_dtype=torch.float32),
        examples=examples,
        validation=[],
        max_tokens_per_forward=config.max_tokens_per_forward if isinstance(config.max_tokens_per_forward, int) else 64,
        compute_dtype=torch.float32,
        callbacks=[TrainingMonitor(tmp_path / "log.jsonl", console.RunDisplay("training", 3))],
    )
    trainer.train()
    weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    return weights, [line["loss"] for line in trainer.state.log_history if "loss" in line]


VARIANTS: dict[str, dict[str, Any]] = {
    "one example per forward pass": {"max_tokens_per_forward": 1},
    "all in one forward pass": {"max_tokens_per_forward": 10_000},
    "8 x 1 instead of 2 x 4": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
    "activations recomputed": {"gradient_checkpointing": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_how_a_step_is_computed_does_not_change_it(tiny_model_dir: Path, tmp_path: Path, variant: str) -> None:
    examples = make_examples([(3 + i % 5, 2 + 3 * (i % 7)) for i in range(24)])
    expected, expected_losses = run_steps(make_model(tiny_model_dir), examples, tmp_path / "a")
    got, losses = run_steps(make_model(tiny_model_dir), examples, tmp_path / "b", **VARIANTS[variant])
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    assert len(losses) == 3
    moved = max(float(value.abs().max()) for name, value in expected.items() if "lora_B" in name)
    assert moved > 1e-3
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-2, atol=2e-4, msg=name)


def test_a_step_walks_over_the_frozen_modules_only_in_its_forwards(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk over the modules of a 7B model takes 6 to 11 ms; what it would change is the adapter's alone."""
    walked: list[str] = []
    for name in ("train", "parameters", "zero_grad"):
        own = getattr(torch.nn.Module, name)

        def watched(self: Any, *args: Any, own: Any = own, name: str = name, **kwargs: Any) -> Any:
            if hasattr(self, "peft_config"):
                walked.append(name)
            return own(self, *args, **kwargs)

        monkeypatch.setattr(torch.nn.Module, name, watched)

    def walks(steps: int) -> int:
        model = make_model(tiny_model_dir)
        walked.clear()
        run_steps(model, make_examples([(5, 10)] * 40), tmp_path, max_steps=steps)
        assert all(p.grad is None for p in model.parameters())
        assert "zero_grad" not in vars(model)
        return len(walked)

    assert walks(4) == walks(2)


def test_without_a_validation_split_inputs_are_dropped_and_activations_recomputed(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    """An evaluation puts all layers into training mode behind it; a run without one begins with the base as loaded."""
    modes: list[bool] = []

    def passes(recomputed: bool) -> int:
        model = make_model(tiny_model_dir)
        modes.clear()
        model.get_base_model().model.layers[0].mlp.register_forward_pre_hook(
            lambda layer, *_: modes.append(layer.training and layer.up_proj.lora_dropout.training)
        )
        run_steps(model, make_examples([(5, 10)] * 8), tmp_path, max_steps=1, gradient_checkpointing=recomputed)
        assert all(modes)
        return len(modes)

    assert passes(recomputed=True) == 2 * passes(recomputed=False)


def test_a_launchers_precision_and_accumulation_change_no_number(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``accelerate launch`` sets the variable from a default config that may have been made for another program."""
    examples = make_examples([(3 + i % 5, 2 + 3 * (i % 7)) for i in range(16)])
    expected, expected_losses = run_steps(make_model(tiny_model_dir), examples, tmp_path / "a")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    weights, losses = run_steps(make_model(tiny_model_dir), examples, tmp_path / "b")
    assert losses == expected_losses
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_the_step_loss_is_the_mean_over_its_answer_tokens(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Not the mean of per-batch means: a long answer counts by its tokens."""
    examples = make_examples([(3, 1)] * 4 + [(3, 30)] * 4)
    model = make_model(tiny_model_dir)
    with torch.no_grad():
        expected = float(answer_token_losses(model.train(), pack(examples, CPU)).mean())
    _, losses = run_steps(model, examples, tmp_path, max_steps=1)
    assert losses == [pytest.approx(expected, rel=1e-4)]


def test_training_after_scoring_still_has_gradients(tiny_model_dir: Path) -> None:
    """bitsandbytes repacks 4-bit weights in eval mode on AVX512-BF16 CPUs; the gradient would be gone silently."""
    model = make_model(tiny_model_dir)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    examples = make_examples([(3, 9)])

    def gradients() -> dict[str, torch.Tensor]:
        model.train()
        model.zero_grad()
        answer_token_losses(model, pack(examples, CPU)).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}

    before = gradients()
    score_answers(model, examples, batch_size=1, device=CPU, dtype=torch.float32)
    after = gradients()
    assert min(float(g.abs().max()) for g in before.values()) > 0
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, rtol=0, atol=0, msg=name)


def test_the_paged_optimizer_is_plain_on_a_cpu() -> None:
    assert optimizer_on("paged_adamw_32bit", CPU) == "adamw_torch"
    assert optimizer_on("paged_adamw_32bit", torch.device("cuda")) == "paged_adamw_32bit"
    assert optimizer_on("adafactor", CPU) == "adafactor"


def test_each_paged_optimizer_has_its_equivalent_on_a_cpu() -> None:
    names = {name.value for name in OptimizerNames}
    paged = {name for name in names if name.startswith("paged")}
    assert len(paged) >= 6
    for name in paged:
        assert optimizer_on(name, CPU) in names - paged
        assert optimizer_on(name, torch.device("cuda")) == name


@pytest.mark.parametrize("name", get_args(Scheduler))
def test_the_schedulers_that_the_config_knows_follow_the_validation_loss(name: Scheduler, tmp_path: Path) -> None:
    config = TrainConfig(lr_scheduler_type=name)
    arguments = make_training_arguments(
        config, seed=0, output_dir=tmp_path, device=CPU, compute_dtype=torch.float32, eval_steps=1
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    assert follows_metrics(make_scheduler(arguments, optimizer, 10)) == (name in SCHEDULERS_THAT_WATCH)


def test_auto_checkpointing_is_on_for_a_gpu_only() -> None:
    assert not uses_checkpointing(TrainConfig(gradient_checkpointing="auto"), CPU)
    assert uses_checkpointing(TrainConfig(gradient_checkpointing="auto"), torch.device("cuda"))
    assert uses_checkpointing(TrainConfig(gradient_checkpointing=True), CPU)


def test_unusable_tracker_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def broken(**_: Any) -> None:
        raise ImportError("tensorboard is not installed")

    monkeypatch.setattr("medqa_cli.training.arguments.TrainingArguments", broken)
    assert transformers is not None
    with pytest.raises(InputError, match="tensorboard is not installed"):
        make_training_arguments(TrainConfig(), seed=1, output_dir=tmp_path, device=CPU, compute_dtype=torch.float32)


def test_a_tracker_that_fails_when_it_starts_is_an_input_error(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("wandb is not reachable\nand more")

    arguments = make_training_arguments(
        TrainConfig(), seed=1, output_dir=tmp_path, device=CPU, compute_dtype=torch.float32
    )
    monkeypatch.setattr("medqa_cli.training.trainer.get_reporting_integration_callbacks", broken)
    with pytest.raises(InputError, match=r"^the training cannot be set up: wandb is not reachable$") as caught:
        MedqaTrainer(
            model=make_model(tiny_model_dir),
            args=arguments,
            examples=make_examples([(3, 5)]),
            validation=[],
            max_tokens_per_forward=64,
            compute_dtype=torch.float32,
            callbacks=[],
        )
    assert "train.report_to" in caught.value.hint


def test_encode_rows_counts_what_it_cuts_and_leaves_out(chatml_tokenizer: Any) -> None:
    from medqa_cli.config.schema import PromptConfig
    from medqa_cli.data.dataset import QaRow
    from medqa_cli.prompt.contract import make_contract
    from medqa_cli.prompt.encoder import PromptEncoder

    encoder = PromptEncoder(make_contract(PromptConfig(template="chat"), chatml_tokenizer), chatml_tokenizer)
    rows = [
        QaRow("1", "What is glaucoma?", "A disease.", "", ""),
        QaRow("2", "What is glaucoma?", "A disease of the nerve. " * 9, "", ""),
        QaRow("3", "What is glaucoma? " * 20, "A disease.", "", ""),
    ]
    split = encode_rows(rows, encoder, 60)
    assert (len(split.examples), split.num_truncated_answers, split.num_without_answer) == (2, 1, 1)
    assert split.examples[0].labels[-1] == encoder.contract.end_token_id
    assert len(split.examples[1].input_ids) == 57  # cut at the end of a sentence
    with pytest.raises(MedqaError, match="no supervised token: all 3 prompts"):
        encode_rows(rows, encoder, 8)


def test_evenly_spaced_takes_every_third_of_ten_or_all() -> None:
    examples = make_examples([(1, i + 1) for i in range(10)])
    assert evenly_spaced(examples, 3) == [examples[0], examples[3], examples[6]]
    assert evenly_spaced(examples, 30) == examples
