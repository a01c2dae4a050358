"""Which layers get an adapter: where PEFT knows no architecture, in mixtures of experts, beside a vision tower."""

from typing import Any

import pytest
import torch

from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.model.load import empty_base, quiet_libraries
from medqa_cli.model.lora import add_lora, find_targets
from medqa_cli.model.quantization import num_unquantized, tell_unquantized

SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 64, "num_experts_per_tok": 2},
}
MORE: dict[str, dict[str, Any]] = {
    **EXPERTS,
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
}


def config_of(kind: str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(kind, **{**SIZES, **MORE.get(kind, {})})


def model_of(kind: str) -> Any:
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_of(kind))


def adapted_layers(kind: str, target_modules: Any) -> set[str]:
    """The last names of the layers that get an adapter."""
    model = add_lora(model_of(kind), LoraConfig(target_modules=target_modules), "base", None)
    assert not model.peft_config["default"].target_parameters
    return {name.rpartition(".")[2] for name, module in model.named_modules() if hasattr(module, "lora_A")}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("llama", {"q_proj", "v_proj"}),
        ("gpt2", {"c_attn"}),
        ("phi3", {"qkv_proj"}),
        ("olmo2", {"q_proj", "v_proj"}),
        ("smollm3", {"q_proj", "v_proj"}),
        ("mixtral", {"q_proj", "v_proj"}),
        ("qwen3_moe", {"q_proj", "v_proj"}),
        ("gpt_oss", {"q_proj", "v_proj"}),
        ("lfm2", {"q_proj", "v_proj"}),
    ],
)
def test_auto_takes_the_attention_of_every_architecture(kind: str, expected: set[str]) -> None:
    assert adapted_layers(kind, "auto") == expected
    note = find_targets(model_of(kind), LoraConfig()).note
    told = (
        f"lora.target_modules: auto: PEFT names no layers for {kind}; {' and '.join(sorted(expected))} get an adapter"
    )
    assert note == ("" if kind in ("llama", "gpt2", "mixtral") else told)


@pytest.mark.parametrize("kind", EXPERTS)
def test_all_linear_leaves_experts_alone_which_merge_could_not_take(kind: str) -> None:
    assert adapted_layers(kind, "all-linear") == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert (
        "experts are not linear layers and get none"
        in find_targets(model_of(kind), LoraConfig(target_modules="all-linear")).note
    )


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("mixtral", ("q_proj", "w1", "w2", "w3")),
        ("qwen3_moe", ("q_proj", "gate_proj", "up_proj")),
        ("mixtral", ("w1",)),
    ],
)
def test_experts_by_name_are_refused_before_the_training(kind: str, names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=rf"{', '.join(sorted(set(names) - {'q_proj'}))} are the experts of {kind}"):
        find_targets(model_of(kind), LoraConfig(target_modules=names))


def test_llamas_all_linear_stays_what_it_is() -> None:
    assert find_targets(model_of("llama"), LoraConfig(target_modules="all-linear")).modules == "all-linear"


@pytest.mark.parametrize("target_modules", ["auto", "all-linear", ("q_proj", "fc1", "up_proj")])
def test_a_vision_tower_gets_no_adapter(target_modules: Any) -> None:
    from transformers import AutoModelForCausalLM, Gemma3Config

    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=SIZES,
        vision_config={**vision, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    adapted = add_lora(model, LoraConfig(target_modules=target_modules), "base", None)
    names = [name for name, module in adapted.named_modules() if hasattr(module, "lora_A")]
    assert len(names) == {"auto": 4, "all-linear": 14}.get(target_modules, 4)
    assert all(name.startswith("base_model.model.model.language_model.") for name in names)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("llama", 0),
        # The routers of two layers: too few to speak of.
        *((kind, 2 * 4 * 64) for kind in EXPERTS),
        # gate_up_proj and down_proj of four experts with their biases, and the router.
        ("gpt_oss", 2 * (4 * 64 * 256 + 4 * 256 + 4 * 128 * 64 + 4 * 64 + 4 * 64)),
    ],
)
def test_experts_that_stay_unquantized_are_told_with_their_figure(
    kind: str, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ModelConfig(quantization="nf4")
    base = empty_base(config_of(kind), how, torch.float32)
    assert num_unquantized(base) == expected
    tell_unquantized(base, how, torch.float32)
    said = " ".join(capsys.readouterr().err.split())
    assert (f"nf4 takes linear layers only: {expected:,} of " in said) == (kind == "gpt_oss")
