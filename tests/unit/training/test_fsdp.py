"""What FSDP cannot do is said before anything is loaded; what ranks must have in common is compared."""

from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_cli import distributed
from medqa_cli.config.schema import ModelConfig, TrainConfig
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.training.arguments import make_training_arguments, optimizer_on
from medqa_cli.training.fsdp import check_sharded_type, check_sharding
from medqa_cli.training.resume import checkpoint_to_go_on_from
from medqa_cli.training.setup import check_same_on_all_ranks

LAUNCHED = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
FSDP = {
    **LAUNCHED,
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
}
UNUSUAL = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM", "ACCELERATE_USE_PARALLELISM_CONFIG")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the launcher's variables for this test."""
    for name in (*UNUSUAL, *FSDP):
        monkeypatch.delenv(name, raising=False)

    def launch(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return launch


@pytest.mark.parametrize("optim", ["paged_adamw_32bit", "adamw_torch", "adamw_torch_fused", "adafactor", "sgd"])
def test_what_can_be_sharded(launched: Any, optim: Any) -> None:
    launched(FSDP)
    check_sharding(ModelConfig(), TrainConfig(optim=optim))
    check_sharding(ModelConfig(quantization="none"), TrainConfig(optim=optim))
    expected = "adamw_torch" if optim == "paged_adamw_32bit" else optim
    assert optimizer_on(optim, torch.device("cuda")) == expected


@pytest.mark.parametrize(
    ("changed", "model", "train", "message"),
    [
        ({"FSDP_VERSION": "1"}, {}, {}, "FSDP 1"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, {}, {}, "fsdp_activation_checkpointing; train.gradient_check"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, {}, {}, "fsdp_cpu_ram_efficient_loading; each process"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, {}, "DeepSpeed"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, {}, {}, "Megatron-LM"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, {}, {}, "parallelism_config"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, {}, {}, "dynamo_backend, which compiles"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, {}, {}, "the default that `accelerate config` wrote.* bf16, with"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, {}, {}, "sets mixed_precision: fp16"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, {}, {}, "sets mixed_precision: fp8"),
        ({}, {"quantization": "int8"}, {}, "int8 weights cannot be sharded"),
        ({}, {}, {"optim": "adamw_bnb_8bit"}, "adamw_bnb_8bit works on whole tensors"),
        ({}, {}, {"optim": "paged_adamw_8bit"}, "paged_adamw_8bit works on whole tensors"),
        ({}, {}, {"optim": "lion_32bit"}, "lion_32bit works on whole tensors"),
        ({}, {}, {"optim": "rmsprop_bnb"}, "rmsprop_bnb works on whole tensors"),
    ],
)
def test_settings_that_cannot_be_sharded_are_refused(
    launched: Any, changed: dict[str, str], model: dict[str, Any], train: dict[str, Any], message: str
) -> None:
    launched({**FSDP, **changed})
    with pytest.raises(InputError, match=message):
        check_sharding(ModelConfig(**model), TrainConfig(**train))


def test_float16_cannot_be_sharded(launched: Any) -> None:
    launched(FSDP)
    check_sharded_type(torch.bfloat16)
    with pytest.raises(InputError, match="FSDP does not go with float16") as raised:
        check_sharded_type(torch.float16)
    assert "model.compute_dtype: bfloat16" in raised.value.hint
    launched({"ACCELERATE_USE_FSDP": "false"})
    check_sharded_type(torch.float16)


def test_without_fsdp_a_mixed_precision_is_only_left_unused(launched: Any, tmp_path: Path) -> None:
    """``accelerate launch`` passes that of its default config on, whatever program it starts."""
    launched({"ACCELERATE_MIXED_PRECISION": "fp16"})
    check_sharding(ModelConfig(), TrainConfig())
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        args = make_training_arguments(
            TrainConfig(), seed=0, output_dir=tmp_path, device=torch.device("cpu"), compute_dtype=dtype
        )
        assert args.mixed_precision == "no"


def test_without_fsdp_nothing_is_refused(launched: Any) -> None:
    launched(LAUNCHED)
    check_sharding(ModelConfig(quantization="int8"), TrainConfig(optim="paged_adamw_8bit"))
    assert optimizer_on("paged_adamw_32bit", torch.device("cuda")) == "paged_adamw_32bit"


SAME = (
    "seed: 42",
    {"train_sha256": "a", "the index of the data": "a", "the optimizer on this device": "paged_adamw_32bit"},
    torch.float16,
)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (("seed: 43", *SAME[1:]), "do not read the same config: process 1 differs"),
        (
            (SAME[0], {**SAME[1], "train_sha256": "b"}, SAME[2]),
            "do not read the same train.jsonl in data.dir: process 1",
        ),
        (
            (SAME[0], {**SAME[1], "the index of the data": "b"}, SAME[2]),
            "do not read the same index.sqlite in data.dir: process 1",
        ),
        (
            (SAME[0], {**SAME[1], "the optimizer on this device": "adamw_torch"}, SAME[2]),
            "the optimizer on this device is paged_adamw_32bit on process 0 and adamw_torch on process 1",
        ),
        ((*SAME[:2], torch.bfloat16), "torch.float16 on process 0 and torch.bfloat16 on process 1"),
    ],
)
def test_ranks_must_have_the_same(monkeypatch: pytest.MonkeyPatch, other: tuple[Any, ...], message: str) -> None:
    monkeypatch.setattr(distributed, "all_gather", lambda value: [value, value])
    check_same_on_all_ranks(*SAME)
    monkeypatch.setattr(distributed, "all_gather", lambda value: [value, other])
    with pytest.raises(InputError, match=message):
        check_same_on_all_ranks(*SAME)


def test_a_host_that_does_not_see_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "runs/checkpoints/checkpoint-4"
    monkeypatch.setattr(distributed, "from_main", lambda work: elsewhere)
    with pytest.raises(InputError, match=r"there is no .*checkpoint-4 here") as raised:
        checkpoint_to_go_on_from(RunFolder(tmp_path / "runs"), {}, resume=True, restart=False)
    assert "a file system that they share" in raised.value.hint
    elsewhere.mkdir(parents=True)
    chosen = checkpoint_to_go_on_from(RunFolder(tmp_path / "runs"), {}, resume=True, restart=False)
    assert chosen == elsewhere
