"""Which models are written as GGUF, and which of the same name llama.cpp would compute otherwise."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.models import TINY_SIZES
from medqa_cli.errors import InputError
from medqa_cli.gguf.architecture import KnownModel, read_known_model
from medqa_cli.gguf.tensors import convert, plan_tensors
from medqa_cli.model.weights import WeightFiles

pytestmark = pytest.mark.usefixtures("unconfined")

SIZES = TINY_SIZES | {"vocab_size": 100}
GEMMA = SIZES | {"head_dim": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 6, "sliding_window": 32}
FULL, WINDOW = "full_attention", "sliding_attention"


def known(folder: Path, model_type: str, **sizes: Any) -> KnownModel:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.for_model(model_type, **sizes)
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]]
    config.save_pretrained(folder)
    return read_known_model(str(folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_types": [FULL] * 6}, "are not all but every 6th one"),
        ({"layer_types": [WINDOW, FULL] * 3}, "are not all but every 6th one"),
        (
            {"rope_parameters": {FULL: {"rope_theta": 1e6}, WINDOW: {"rope_theta": 2e4}}},
            "rotate otherwise than by the base 10,000",
        ),
        ({"query_pre_attn_scalar": 24}, "its query_pre_attn_scalar is 24; llama.cpp takes 16"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
        ({"attention_bias": True}, "its attention has biases"),
        ({"hidden_activation": "gelu"}, "its activation is gelu"),
    ],
)
def test_a_gemma_that_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        known(tmp_path, "gemma3_text", **GEMMA | changes)


def test_the_largest_gemma_divides_scores_by_another_root(tmp_path: Path) -> None:
    """27B: 62 layers, heads of 128, hidden_size / heads = 168."""
    sizes = GEMMA | {"num_hidden_layers": 62, "hidden_size": 168, "num_attention_heads": 1, "num_key_value_heads": 1}
    assert known(tmp_path, "gemma3_text", **sizes | {"query_pre_attn_scalar": 168}).architecture == "gemma3"
    with pytest.raises(InputError, match=r"is 16; llama\.cpp takes 168"):
        known(tmp_path, "gemma3_text", **sizes)


@pytest.mark.parametrize(
    ("model_type", "changes", "said"),
    [
        ("qwen3", {"attention_bias": True}, "its attention has biases, which llama.cpp does not read for qwen3"),
        ("qwen2", {"head_dim": 32}, "its heads have 32 rows"),
        (
            "qwen3",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}},
            "its rope scaling is yarn; medqa writes default, linear",
        ),
        ("phi3", {}, "the model is a Phi3ForCausalLM; medqa writes LlamaForCausalLM"),
    ],
)
def test_others_that_llama_cpp_would_compute_otherwise_are_refused(
    tmp_path: Path, model_type: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        known(tmp_path, model_type, **{"pad_token_id": 0, **SIZES, **changes})


def test_a_window_that_no_layer_has_does_not_shorten_the_context(tmp_path: Path) -> None:
    window = {"use_sliding_window": True, "sliding_window": 64}
    for layers, expected in ((2, 512), (1, 64)):
        model = known(tmp_path, "qwen2", **SIZES | window | {"max_window_layers": layers})
        assert model.context_length == expected


def test_of_a_model_that_reads_pictures_the_language_model_is_written(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForCausalLM

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=GEMMA, vision_config={**vision, "image_size": 28, "patch_size": 14}, mm_tokens_per_image=4
    )
    torch.manual_seed(0)
    whole = AutoModelForCausalLM.from_config(config)
    text = Gemma3ForCausalLM(whole.config.text_config)
    text.model.load_state_dict(whole.model.language_model.state_dict())
    found: dict[str, dict[str, Any]] = {}
    for name, model in (("whole", whole), ("text", text)):
        model.save_pretrained(tmp_path / name)
        weights = WeightFiles.open(tmp_path / name)
        plan = plan_tensors(read_known_model(str(tmp_path / name)), weights.tensors, "f16")
        found[name] = {tensor.name: convert(weights, tensor) for tensor in plan}
    assert found["whole"].keys() == found["text"].keys()
    assert all((values == found["text"][name]).all() for name, values in found["whole"].items())
    norm = found["whole"]["output_norm.weight"]
    assert (norm == 1.0).all()  # stored as zeros
