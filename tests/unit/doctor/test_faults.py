"""A fault put into one path of the product is found by the check of that path, and by no other."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from helpers.commands import save_no_picture
from helpers.training import remembered_shape
from medqa_cli.answering import decode
from medqa_cli.config.schema import Config, LoraConfig, ModelConfig
from medqa_cli.doctor import adapters, kernels, steps
from medqa_cli.doctor import run as doctor
from medqa_cli.doctor.finding import Finding, examine
from medqa_cli.doctor.machine import Run
from medqa_cli.doctor.subject import Subject, tiny_subject
from medqa_cli.merging import weights
from medqa_cli.model.kernels import attention, packing
from medqa_cli.model.kernels.cpu_attention import CpuAttention
from medqa_cli.model.kernels.fused_layers import LAYER_KINDS
from medqa_cli.model.kernels.verify import Way, use_way
from medqa_cli.training import arguments, trainer

CPU = torch.device("cpu")
CONFIG = Config(model=ModelConfig(quantization="nf4", compute_dtype="float32"), lora=LoraConfig(lora_dropout=0.1))
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A tiny Llama with its adapter."""
    with pytest.MonkeyPatch.context() as patch, doctor.quiet():
        patch.setattr("medqa_cli.training.estimate.ShapeModel", remembered_shape)
        patch.setattr("matplotlib.figure.Figure.savefig", save_no_picture)
        subject = tiny_subject(CONFIG, tmp_path_factory.mktemp("doctor"), CPU, torch.float32)
        adapters.batched_is_alone(subject)
        yield subject


@pytest.fixture
def tiny(trained: Subject, unconfined: None) -> Iterator[Subject]:
    """The same, before anything was merged."""
    with doctor.quiet():
        yield trained
    shutil.rmtree(trained.run.path / "merged-by-doctor", ignore_errors=True)


@pytest.fixture
def one_way(monkeypatch: Patch) -> None:
    """The fastest way is taken for right, as it is: trying it takes a third of the time."""

    def fastest(model: Any, *args: Any, fuses: bool = True, **kwargs: Any) -> Way:
        way = Way(True, True, LAYER_KINDS if fuses else ())
        use_way(model, way)
        return way

    for module in ("training.setup", "merging.run", "model.load"):
        monkeypatch.setattr(f"medqa_cli.{module}.settle_way", fastest)


def findings(subject: Subject) -> dict[str, Finding]:
    checks = [*doctor.checks_of_the_device(CONFIG, CPU), *doctor.checks_of_a_model()]
    return {check.name: examine(check.name, "", partial(check.measure, subject)) for check in checks}


NOT_ON_A_CPU = {"paged optimizer", "float16 scaling", "flash = softmax"}


def test_a_sound_machine_has_nothing_wrong(tiny: Subject) -> None:
    found = findings(tiny)
    assert {name for name, finding in found.items() if finding.status == "not checked"} == NOT_ON_A_CPU
    told = [finding.line() for finding in found.values() if finding.status not in ("ok", "not checked")]
    assert told == []
    # Not near its bound, where another machine would be beyond it.
    near = {name: f.figure for name, f in found.items() if f.bound and f.figure is not None and f.figure > f.bound / 5}
    assert near == {}


def constants_off(patch: Patch) -> None:
    own = bnb.functional.quantize_4bit

    def quantize(*args: Any, **kwargs: Any) -> Any:
        packed, state = own(*args, **kwargs)
        state.absmax = state.absmax * 1.01
        return packed, state

    patch.setattr(bnb.functional, "quantize_4bit", quantize)


def short_examples_see_each_other(patch: Patch) -> None:
    """Both in the choice of a way and in the check, not in the attention that is tried by itself."""
    own = CpuAttention.forward

    def forward(ctx: Any, query: Any, key: Any, value: Any, lengths: Any, scale: Any) -> Any:
        seen = lengths if max(lengths) >= 128 else (sum(lengths),)
        return own(ctx, query, key, value, seen, scale)

    patch.setattr(CpuAttention, "forward", staticmethod(forward))


def long_examples_see_less(patch: Patch) -> None:
    own = CpuAttention.forward

    def forward(ctx: Any, query: Any, key: Any, value: Any, lengths: Any, scale: Any) -> Any:
        out = own(ctx, query, key, value, lengths, scale)
        return out * 1.01 if max(lengths) >= 128 else out

    patch.setattr(CpuAttention, "forward", staticmethod(forward))


def gradients_too_large(patch: Patch) -> None:
    own = Accelerator.backward
    patch.setattr(Accelerator, "backward", lambda self, loss: own(self, loss * 1.01))


def other_dropout_when_recomputed(patch: Patch) -> None:
    settings = {**arguments._IN_EVERY_TRAINING["activation_checkpointing_kwargs"], "preserve_rng_state": False}
    patch.setitem(arguments._IN_EVERY_TRAINING, "activation_checkpointing_kwargs", settings)


def padding_is_seen(patch: Patch) -> None:
    own = decode._Batch.__init__

    def start(self: Any, *args: Any) -> None:
        own(self, *args)
        self._mask.fill_(1)

    patch.setattr(decode._Batch, "__init__", start)


def merged_too_much(patch: Patch) -> None:
    own = weights._TensorMerge._with_delta
    patch.setattr(weights._TensorMerge, "_with_delta", lambda self, n, v: v + 1.01 * (own(self, n, v) - v))


def second_moment_forgets(patch: Patch) -> None:
    own = arguments.Trainer.get_optimizer_cls_and_kwargs

    def chosen(*args: Any) -> Any:
        optimizer_class, settings = own(*args)
        return optimizer_class, settings | ({"betas": (0.9, 0.99)} if "betas" in settings else {})

    patch.setattr(arguments.Trainer, "get_optimizer_cls_and_kwargs", staticmethod(chosen))


FAULTS: dict[str, Callable[[Patch], None]] = {
    "NF4 there and back": constants_off,
    "attention = softmax": long_examples_see_less,
    "step = the CPU's in float32": gradients_too_large,
    "recomputed = kept": other_dropout_when_recomputed,
    "answers batched = alone": padding_is_seen,
    "merge = PEFT's": merged_too_much,
    "optimizer = AdamW": second_moment_forgets,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_check_alone(fault: str, tiny: Subject, one_way: None, monkeypatch: Patch) -> None:
    FAULTS[fault](monkeypatch)
    assert {name for name, finding in findings(tiny).items() if finding.status in ("slower", "wrong")} == {fault}


def test_where_packing_is_wrong_examples_go_alone_and_all_else_is_right(tiny: Subject, monkeypatch: Patch) -> None:
    short_examples_see_each_other(monkeypatch)
    found = findings(tiny)
    assert {name: f.status for name, f in found.items() if f.status in ("slower", "wrong")} == {
        "packed = alone": "slower"
    }
    assert "one at a time" in found["packed = alone"].line()


def test_a_fault_that_the_choice_of_a_way_overlooks_is_found_by_comparing(
    tiny: Subject, one_way: None, monkeypatch: Patch
) -> None:
    """``settle_way`` tries two short examples; here the third of a forward pass comes out wrong."""
    own = packing.packed_batch

    def batch(ids: Any, lengths: Any, positions: Any, targets: Any, owners: Any, device: Any) -> Any:
        return own(ids, lengths, positions - (owners > 1), targets, owners, device)

    monkeypatch.setattr(packing, "packed_batch", batch)
    found = findings(tiny)
    assert {name for name, f in found.items() if f.status == "wrong"} == {
        "packed = alone",
        "step = the CPU's in float32",
    }
    assert found["packed = alone"].fails


@pytest.fixture
def scaled(monkeypatch: Patch) -> Iterator[None]:
    """The trainer scales losses on the CPU as it does on a GPU in float16."""
    own = trainer._make_accelerator

    def make(model: Any, args: Any) -> Accelerator:
        accelerator = own(model, args)
        accelerator.scaler = torch.amp.GradScaler("cpu")
        accelerator.native_amp = True
        monkeypatch.setattr(accelerator.state, "_mixed_precision", "fp16")
        return accelerator

    monkeypatch.setattr(trainer, "_make_accelerator", make)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_float16_steps_are_scaled_and_a_fault_of_the_scaler_is_found(
    tiny: Subject, one_way: None, scaled: None, monkeypatch: Patch
) -> None:
    sound = steps.scaled_is_plain(tiny)
    assert sound.status == "ok", sound
    own = torch.amp.GradScaler.scale
    monkeypatch.setattr(torch.amp.GradScaler, "scale", lambda self, loss: own(self, loss) * 1.1)
    assert steps.scaled_is_plain(tiny).status == "wrong"


@pytest.fixture
def paged_on_the_cpu(monkeypatch: Patch) -> None:
    """bitsandbytes' paged AdamW computes on the CPU, its state in plain memory."""

    def page(self: Any, parameter: torch.Tensor, dtype: torch.dtype = torch.float32) -> Any:
        buffer: Any = torch.zeros_like(parameter, dtype=dtype)
        buffer.is_paged = True
        return buffer

    monkeypatch.setattr(bnb.optim.optimizer.Optimizer8bit, "get_state_buffer", page)
    monkeypatch.setattr(bnb.functional, "prefetch_tensor", lambda *args, **kwargs: None)
    for module in (kernels, arguments):
        monkeypatch.setattr(module, "optimizer_on", lambda name, device: name)


PAGED = replace(CONFIG, train=replace(CONFIG.train, optim="paged_adamw_32bit"))


def test_the_paged_optimizer_computes_adamw(paged_on_the_cpu: None) -> None:
    measured = kernels.optimizer_is_adamw(PAGED, CPU)
    assert measured.status == "ok", measured
    assert measured.what.endswith("paged_adamw_32bit, state paged")


def test_a_page_that_loses_the_optimizers_state_is_found(paged_on_the_cpu: None, monkeypatch: Patch) -> None:
    monkeypatch.setattr(bnb.functional, "prefetch_tensor", lambda state, *args, **kwargs: state.zero_())
    assert kernels.optimizer_is_adamw(PAGED, CPU).status == "wrong"


@pytest.mark.parametrize(("losses", "status"), [([2.0, 1.9], "ok"), ([2.0, 1.7], "wrong"), ([2.0], "wrong")])
def test_two_ranks_whose_losses_are_not_those_of_one_are_found(
    losses: list[float], status: str, tiny: Subject, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(Run, "summary", lambda self, ranks: {"losses": losses if ranks == 2 else [2.0, 1.9]})
    monkeypatch.setattr("medqa_cli.doctor.machine.write_data", lambda folder, **sizes: None)
    run = Run(replace(tiny, device=torch.device("cuda")))
    assert examine("two ranks", "", run.two_ranks).status == status


def test_a_flash_kernel_that_is_off_is_found_and_not_used(tiny: Subject, monkeypatch: Patch) -> None:
    def off(query: Any, key: Any, value: Any, lengths: Any, scale: Any, window: Any) -> torch.Tensor:
        return 1.1 * attention._attention_per_example(query, key, value, lengths, scale, window, dropout=0.0)

    monkeypatch.setattr(attention, "_flash_takes", lambda query, dropout: True)
    monkeypatch.setattr(attention, "_varlen_kernel", lambda device_type: off)
    monkeypatch.setattr(attention, "_problems", {})
    finding = examine("flash = softmax", "", lambda: kernels.attention_is_plain(replace(tiny, dtype=torch.bfloat16)))
    assert finding.status == "slower"
    assert "heads of 16 in torch.bfloat16: its numbers are off" in finding.line()
    assert "medqa takes one example at a time" in finding.line()
