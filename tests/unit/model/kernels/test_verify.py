"""A model is computed in the fastest way that gives Transformers' own numbers, and stays as it was otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import Starter
from helpers.models import make_tiny_model
from helpers.tiny_architectures import tiny_model
from medqa_cli import console
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.model.kernels import attention, verify
from medqa_cli.model.kernels.attention import NotPackableError, is_packed, packed_attention, use_packed_attention
from medqa_cli.model.kernels.chunked_cross_entropy import install_answer_losses
from medqa_cli.model.kernels.fused_layers import GATED_SILU, LAYER_KINDS, LORA_LINEAR, RMS_NORM
from medqa_cli.model.kernels.packing import answer_token_losses, pack, score_answers
from medqa_cli.model.kernels.reduced_model import few_layers, short_windows
from medqa_cli.model.kernels.verify import settle_way
from medqa_cli.model.load import load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.encoder import Example

CPU = torch.device("cpu")


def adapted(base: Any, **lora: Any) -> Any:
    install_answer_losses(base)
    settings = {"r": 4, "lora_dropout": 0.0, "target_modules": ("q_proj", "v_proj", "down_proj"), **lora}
    return add_lora(base.requires_grad_(False), LoraConfig(**settings), "", None)


def settled(model_type: str, dtype: torch.dtype = torch.float32, **changes: Any) -> verify.Way:
    return settle_way(adapted(tiny_model(model_type, **changes).to(dtype)), "it", dtype, trains=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_llama_is_computed_in_the_fastest_way(dtype: torch.dtype) -> None:
    assert settled("llama", dtype) == verify.Way(True, True, LAYER_KINDS)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_llama_in_bfloat16_is_computed_in_the_fastest_way(quantization: str, tiny_model_dir: Path) -> None:
    config = ModelConfig(quantization=quantization)  # type: ignore[arg-type]
    base = load_base(find_base(str(tiny_model_dir)), config, CPU, torch.bfloat16, packed=True)
    settings = LoraConfig(r=4, target_modules="all-linear")
    model = add_lora(base, settings, "", None)
    kinds = LAYER_KINDS if quantization == "nf4" else (GATED_SILU, RMS_NORM)
    way = settle_way(model, "it", torch.bfloat16, trains=True)
    assert (way.packed, way.in_chunks, set(way.fused), way.reasons) == (True, True, set(kinds), ())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["qwen2_moe", "falcon_h1", "recurrent_gemma"])
def test_what_crosses_examples_is_seen_in_every_type(model_type: str, dtype: torch.dtype) -> None:
    """Rounding in 16 bits is as large as some of these faults in a model as small as this."""
    assert not settled(model_type, dtype).packed


def test_a_window_of_thousands_of_tokens_that_only_the_mask_knows_is_seen() -> None:
    assert not settled("qwen2_moe", sliding_window=4096, max_position_embeddings=32_768).packed


def test_a_window_longer_than_any_text_does_not_matter() -> None:
    assert settled("qwen2_moe", sliding_window=32_768, max_position_embeddings=32_768).packed


def test_nothing_is_left_changed() -> None:
    model = adapted(tiny_model("mistral", num_hidden_layers=5), lora_dropout=0.1).train()
    windows = [layer.self_attn.config.sliding_window for layer in model.get_base_model().model.layers]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    settle_way(model, "it", torch.float32, trains=True)
    assert torch.equal(torch.rand(3), expected)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [layer.self_attn.config.sliding_window for layer in model.get_base_model().model.layers] == windows
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_only_layers_of_another_kind_are_tried() -> None:
    alike = tiny_model("llama", num_hidden_layers=6)
    with few_layers(alike):
        assert len(alike.model.layers) == 2
    assert len(alike.model.layers) == 6
    kinds = ["sliding_attention"] * 3 + ["full_attention"] + ["sliding_attention"] * 4
    mixed = tiny_model("gemma3_text", num_hidden_layers=8, layer_types=kinds)
    with few_layers(mixed):
        assert len(mixed.model.layers) == 4


def test_windows_are_short_for_a_moment() -> None:
    model = tiny_model("ministral", sliding_window=4096, max_position_embeddings=32_768)
    with short_windows(model) as has_windows:
        assert has_windows
        assert model.config.sliding_window == model.model.layers[0].self_attn.sliding_window == 5
    assert model.config.sliding_window == model.model.layers[0].self_attn.sliding_window == 4096


class Scaled(torch.nn.Module):
    """A gated layer with a factor of its own, as Falcon-H1's."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj, self.act_fn = (
            mlp.gate_proj,
            mlp.up_proj,
            mlp.down_proj,
            mlp.act_fn,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(0.9 * self.gate_proj(x)) * self.up_proj(x))


class Dropping(Scaled):
    """A gated layer with dropout of its own, as Seed-OSS's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
        return torch.nn.functional.dropout(product, 0.1, self.training)


@pytest.mark.parametrize("layer_class", [Scaled, Dropping])
def test_a_layer_that_only_looks_like_the_standard_one_keeps_its_code(layer_class: type[Scaled]) -> None:
    base = make_tiny_model(200)
    for layer in base.model.layers:
        layer.mlp = layer_class(layer.mlp)
    way = settle_way(adapted(base), "it", torch.float32, trains=True)
    assert way.fused == (LORA_LINEAR, RMS_NORM)
    assert way.packed
    assert way.reasons == (f"{GATED_SILU} layers keep their own code, which computes something else",)


def test_a_layer_whose_fused_code_raises_keeps_its_own_and_the_reason_names_the_error() -> None:
    base = make_tiny_model(200)
    for layer in base.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(refuse_strides)
    way = settle_way(adapted(base, target_modules=("q_proj", "v_proj")), "it", torch.float32, trains=True)
    assert way.fused == (LORA_LINEAR, RMS_NORM)
    assert way.reasons == (f"{GATED_SILU} layers keep their own code, since fused ones fail (not as it was made)",)


def refuse_strides(module: Any, args: tuple[torch.Tensor]) -> None:
    """Refuse what medqa's own activation made, as a foreign kernel may."""
    if type(args[0].grad_fn).__name__ == "_GatedSiluBackward":
        raise RuntimeError("not as it was made\nand more")


RANKS_DIFFER = """
import json, os, sys
from pathlib import Path

sys.path[:0] = [{tests!r}, {unit!r}]
import torch
from helpers.commands import Starter
from helpers.models import make_tiny_model
from test_verify import Scaled, adapted
from medqa_cli import distributed
from medqa_cli.model.kernels.verify import settle_way

rank = distributed.rank()
base = make_tiny_model(200)
for layer in base.model.layers:
    if rank == 0:
        layer.mlp = Scaled(layer.mlp)
    else:
        norm = layer.input_layernorm
        norm.forward = lambda x, own=type(norm).forward, norm=norm: 1.01 * own(norm, x)
way = settle_way(adapted(base), "it", torch.float32, trains=True)
Path(f"way-{{rank}}.json").write_text(json.dumps(way.as_json()))
distributed.leave_group()
"""


def test_ranks_fuse_only_the_kinds_that_are_right_on_all(
    tmp_path: Path, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two ranks finds one kind wrong, another one: as many kinds, but not the same."""
    monkeypatch.chdir(tmp_path)
    here = Path(__file__)
    done = starter.run_ranks(RANKS_DIFFER.format(tests=str(here.parents[3]), unit=str(here.parent)))
    assert [rank.returncode for rank in done] == [0, 0], done[0].stderr + done[1].stderr
    ways = [json.loads((tmp_path / f"way-{rank}.json").read_text()) for rank in range(2)]
    assert ways[0] == ways[1]
    assert ways[0]["fused_layers"] == [LORA_LINEAR]
    assert ways[0]["packed"]
    assert ways[0]["losses_in_chunks"]
    assert ways[0]["reasons"] == [
        f"{kind} layers keep their own code, which computes something else" for kind in (GATED_SILU, RMS_NORM)
    ]


def test_the_user_is_told_why_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(console, "note", told.append)
    model = adapted(tiny_model("bloom"), target_modules=("dense",))
    way = settle_way(model, "some/bloom", torch.float32, trains=True)
    assert not way.packed
    assert [line.split(":")[0] for line in told] == ["some/bloom"]
    assert "one at a time" in told[0]
    assert way.as_json()["packed"] is False
    assert not is_packed(model)


@pytest.mark.parametrize("model_type", ["bert", "xlnet"])
def test_a_model_that_sees_later_tokens_is_refused(model_type: str) -> None:
    changes: dict[str, Any] = {"is_decoder": False} if model_type == "bert" else {}
    base = tiny_model(model_type, **changes)
    install_answer_losses(base)
    with pytest.raises(InputError, match=f"this {model_type} model sees the tokens that it is to predict"):
        settle_way(base, "it", torch.float32, trains=False)


def test_a_model_that_no_way_computes_is_refused_by_name() -> None:
    base = make_tiny_model(200)
    own = base.model.forward
    calls = iter(range(1, 1000))

    def restless(*args: Any, **kwargs: Any) -> Any:
        output = own(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * (1 + 0.01 * (next(calls) > 4))
        return output

    base.model.forward = restless
    with pytest.raises(InputError, match="some/model: medqa does not compute llama models as Transformers does"):
        settle_way(adapted(base), "some/model", torch.float32, trains=True)


def test_examples_one_at_a_time_score_as_by_themselves() -> None:
    model = tiny_model("bloom", vocab_size=200)
    install_answer_losses(model)
    assert not use_packed_attention(model)
    examples = [Example([7, 8, 9, 10], [-100, -100, 9, 10], False), Example([3, 4, 5], [-100, 4, 5], False)]
    batch = pack(examples, CPU)
    with torch.no_grad():
        together = answer_token_losses(model, batch)
        alone = torch.cat([answer_token_losses(model, pack([example], CPU)) for example in examples])
        logits = model(input_ids=torch.tensor([[7, 8, 9, 10]])).logits[0, 1:3]
    assert torch.equal(together, alone)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([9, 10]), reduction="none")
    torch.testing.assert_close(together[:2], expected)
    scores = score_answers(model, examples, batch_size=8, device=CPU, dtype=torch.float32)
    assert [score.nll_sum for score in scores] == pytest.approx([float(together[:2].sum()), float(together[2:].sum())])


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"s_aux": torch.zeros(2)}, "takes s_aux"),
        ({"softcap": 50.0}, "takes softcap"),
        ({"position_bias": torch.zeros(1)}, "takes position_bias"),
        ({"is_causal": False}, "sees later tokens"),
        ({"attention_mask": torch.ones(1, 1, 9, 9)}, "mask of its own"),
        ({"example_lengths": None}, "do not pass on which tokens belong together"),
        ({"example_lengths": (4, 4)}, "sees other tokens"),
    ],
)
def test_attention_that_asks_for_more_is_refused(asked: dict[str, Any], reason: str) -> None:
    query, key, value = (torch.randn(1, 2, 9, 8) for _ in range(3))
    arguments = {"attention_mask": None, "example_lengths": (9,), "is_causal": True, "use_cache": False, **asked}
    with pytest.raises(NotPackableError, match=reason):
        packed_attention(torch.nn.Identity(), query, key, value, **arguments)


def test_values_may_be_narrower_than_keys() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 4)
    found, _ = packed_attention(torch.nn.Identity(), query, key, value, None, example_lengths=(5, 4))
    scores = query[:, :, 5:] @ key[:, :, 5:].transpose(2, 3) / 8**0.5
    scores = scores.masked_fill(torch.ones(4, 4).triu(1).bool(), float("-inf"))
    torch.testing.assert_close(found[:, 5:], (scores.softmax(-1) @ value[:, :, 5:]).transpose(1, 2))


Kernel = Any


def right_kernel(query: Any, key: Any, value: Any, lengths: Any, scale: Any, window: Any) -> torch.Tensor:
    return attention._attention_per_example(query, key, value, lengths, scale, window, dropout=0.0)


def wrong_kernel(*arguments: Any) -> torch.Tensor:
    query, key, value, lengths, scale, _ = arguments
    return right_kernel(query, key, value, lengths, scale, None)  # knows no windows


def wrong_backward(*arguments: Any) -> torch.Tensor:
    out = right_kernel(*arguments)
    return out + 0.1 * (out - out.detach())


def wrong_beyond_a_block(*arguments: Any) -> torch.Tensor:
    out = right_kernel(*arguments)
    return torch.cat([out[:, :140], out[:, 140:] * 1.1], 1)


def refusing_kernel(*arguments: Any) -> torch.Tensor:
    raise RuntimeError("head_size should be a multiple of 8\nand more")


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        (right_kernel, ""),
        (wrong_kernel, "heads of 16 in torch.bfloat16: its numbers are off"),
        (wrong_backward, "heads of 16 in torch.bfloat16: its numbers are off"),
        (wrong_beyond_a_block, "heads of 16 in torch.bfloat16: its numbers are off"),
        (refusing_kernel, "heads of 16 in torch.bfloat16: head_size should be a multiple of 8"),
    ],
)
def test_a_flash_kernel_is_used_only_where_it_is_right(
    kernel: Kernel, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    def counted(*arguments: Any) -> torch.Tensor:
        used.append(1)
        return kernel(*arguments)

    monkeypatch.setattr(attention, "_flash_takes", lambda query, dropout: True)
    monkeypatch.setattr(attention, "_varlen_kernel", lambda device_type: counted)
    monkeypatch.setattr(attention, "_problems", {})
    query, key, value = (torch.randn(1, heads, 9, 16).bfloat16() for heads in (4, 2, 2))
    found, _ = packed_attention(torch.nn.Identity(), query, key, value, None, example_lengths=(5, 4))
    expected = right_kernel(query, key, value, (5, 4), 0.25, None)
    torch.testing.assert_close(found, expected)
    assert attention.kernel_problems() == ([problem] if problem else [])
    proof = len(used)
    packed_attention(torch.nn.Identity(), query, key, value, None, example_lengths=(5, 4))
    assert len(used) - proof == (0 if problem else 1)  # proven once, then used or not


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_full_memory_is_no_fault_of_a_flash_kernel(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> torch.Tensor:
        raise error("no room")

    monkeypatch.setattr(attention, "_flash_takes", lambda query, dropout: True)
    monkeypatch.setattr(attention, "_varlen_kernel", lambda device_type: full)
    monkeypatch.setattr(attention, "_problems", {})
    query, key, value = (torch.randn(1, heads, 9, 16).bfloat16() for heads in (4, 2, 2))
    with pytest.raises(error, match="no room"):
        packed_attention(torch.nn.Identity(), query, key, value, None, example_lengths=(5, 4))
    assert attention.kernel_problems() == []
