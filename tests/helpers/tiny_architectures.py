"""Every causal language model that the installed Transformers can build, tiny, from its config class alone.

Sizes are set by the names that configs use for them; the few types that need more have a line of their own.
"""

import inspect
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

VOCABULARY = 100
# Anything larger was not made small: its config has names that stand in no list below.
MOST_PARAMETERS = 6_000_000
WINDOW = 8

# By name, wherever a config has it.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "dim": 32,
    "emb_dim": 32,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "n_inner": 48,
    "d_ff": 48,
    "dim_ff": 48,
    "ffn_hidden_size": 48,
    "feed_forward_size": 48,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "num_layers": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "num_heads": 4,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "rotary_dim": 4,
    "sliding_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "use_sliding_window": True,
    "max_window_layers": 0,
    "max_position_embeddings": 256,
    "n_positions": 256,
    "n_ctx": 256,
    "max_seq_len": 256,
    "max_sequence_length": 256,
    "initializer_range": 0.1,
    "init_std": 0.1,
    "initializer_factor": 1.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_decoder": True,
    "tie_word_embeddings": False,
    "mamba_d_state": 8,
    "mamba_n_heads": 4,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "mamba_d_head": 16,
    "mamba_chunk_size": 8,
    "ssm_state_size": 8,
    "state_size": 8,
    "chunk_size": 8,
    "linear_head_dim": 8,
    "linear_num_heads": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}

# Made anew by the config for its number of layers.
_LAYER_LISTS = ("layer_types", "mlp_layer_types", "no_rope_layers", "indexer_types", "num_attention_heads_per_layer")
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
}
_TYPES: dict[str, dict[str, Any]] = {
    "ctrl": {"dff": 48},
    "dots3_note_text": {"index_n_heads": 2, "index_head_dim": 8},
    "deepseek_v4": {"head_dim": 64, "o_groups": 2, "o_lora_rank": 8, "index_n_heads": 2, "index_head_dim": 64},
    "nemotron_h": {"n_groups": 2},
    "ernie4_5_moe": {"moe_k": 2},
    "cohere_compass_text": {"layer_types": ["full_attention", "sliding_attention"]},
    "qwen4_exp_text": {"ple_embed_dim": 8, "ngram_vocab_size_base": 100, "split_ngram_parts": 1},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [16, 16], "attention_head_size": 8},
    "phi4_multimodal": {
        "vision_config": _VISION,
        "audio_config": {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_blocks": 1,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 16,
            "depthwise_separable_out_channel": 16,
            "nemo_conv_channels": 16,
        },
    },
    "longcat_flash": {
        "expert_ffn_hidden_size": 24,
        "ffn_hidden_size": 48,
        "zero_expert_num": 1,
        "moe_topk": 2,
        "head_dim": 4,
        "num_layers": 1,
        "qk_head_dim": None,
        "vocab_size": VOCABULARY,
    },
    "gemma3": {
        "vision_config": {**_VISION, "patch_size": 14},
        "mm_tokens_per_image": 4,
    },
    "mellum": {"layer_types": ["full_attention", "sliding_attention"]},
    "laguna": {"layer_types": ["full_attention", "sliding_attention"]},
    "smollm3": {"no_rope_layers": [1, 0]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "attention_window_size": WINDOW, "lru_width": 32},
    "qwen2_moe": {"layer_types": ["full_attention", "sliding_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "bamba": {"attn_layer_indices": [1]},
    "dots1": {"n_shared_experts": 1},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0],
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
    },
    "gemma4_text": {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "n_groups": 2},
    "roc_bert": {"pronunciation_vocab_size": 20, "shape_vocab_size": 20},
    "zamba": {
        "num_hidden_layers": 3,
        "attention_head_dim": 16,
        "n_mamba_heads": 2,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention"],
    },
    "zamba2": {
        "num_hidden_layers": 3,
        "attention_head_dim": 16,
        "mamba_headdim": 8,
        "n_mamba_heads": 8,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
    },
    "zaya": {"num_experts_per_tok": 1},
}

_NO_TEXT_MODEL = "its text model is another type, or it needs an encoder for pictures or sound"
NOT_BUILT: dict[str, str] = {
    "blt": "too large however small its config",
    "cohere_compass_text": "not built from its config alone",
    "dots3_note": _NO_TEXT_MODEL,
    "dots3_note_text": "too large however small its config",
    "fuyu": _NO_TEXT_MODEL,
    "gemma3n": _NO_TEXT_MODEL + " (see gemma3n_text)",
    "gemma4_assistant": _NO_TEXT_MODEL,
    "gemma4_unified_assistant": _NO_TEXT_MODEL,
    "git": _NO_TEXT_MODEL,
    "got_ocr2": _NO_TEXT_MODEL,
    "moss_transcribe_diarize": _NO_TEXT_MODEL,
    "musicgen": _NO_TEXT_MODEL,
    "musicgen_melody": _NO_TEXT_MODEL,
    "qwen4_exp": "not built from its config alone",
    "qwen4_exp_text": "not built from its config alone",
}


def causal_types() -> list[str]:
    """Return the model types that Transformers' ``AutoModelForCausalLM`` knows."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(model_type: str, **changes: Any) -> Any:
    """Return a config of this type for a model of a few thousand weights, with windows of ``WINDOW`` tokens."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    sub_configs = getattr(config_class, "sub_configs", {})
    if "text_config" in sub_configs:
        text_class = sub_configs["text_config"]
        text = _sizes(text_class, text_class.model_type) | changes
        return config_class(text_config=text, **_TYPES.get(model_type, {}))
    return config_class(**(_sizes(config_class, model_type) | changes))


def _sizes(config_class: Any, model_type: str) -> dict[str, Any]:
    names = set(inspect.signature(config_class.__init__).parameters) | set(dir(config_class))
    names -= {name for name in names if isinstance(getattr(config_class, name, None), property)}
    names -= set(getattr(config_class, "attribute_map", {}))
    found = {name: size for name, size in _SIZES.items() if name in names}
    if "kv_lora_rank" in names:
        found["num_key_value_heads"] = found["num_attention_heads"]
    found |= {name: None for name in _LAYER_LISTS if name in names}
    kinds = list(dict.fromkeys(getattr(config_class(), "layer_types", None) or []))
    if len(kinds) > 1 and "layer_types" in names:
        # One layer of each kind.
        found |= {"layer_types": kinds, "num_hidden_layers": len(kinds)}
    return found | _TYPES.get(model_type, {})


def tiny_model(model_type: str, attention: str | None = None, **changes: Any) -> Any:
    """Return a model of this type with random weights, in float32 and eval mode.

    Raises:
        ValueError: its sizes are not known here.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = tiny_config(model_type, **changes)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"{model_type} has {size:,} weights")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        # Sinks, biases and norms that are all zeros or ones hide what is left out.
        if parameter.dim() < 2:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@dataclass(frozen=True)
class Tried:
    """What came of an architecture: its row in docs/architectures.md, and how far its numbers are from plain ones.

    ``largest_difference``: of a loss, in nats, or as a part of it where it is above 1; ``gradient_difference``: as a
    part of all gradients together. NaN where nothing was computed.
    """

    row: str
    largest_difference: float = math.nan
    gradient_difference: float = math.nan


def try_architecture(model_type: str) -> Tried:
    """Settle how a tiny model of this type with an adapter is computed; compare with Transformers' own forward pass."""
    import torch

    from medqa_cli.errors import InputError
    from medqa_cli.model.kernels.attention import use_own_attention
    from medqa_cli.model.kernels.chunked_cross_entropy import install_answer_losses
    from medqa_cli.model.kernels.fused_layers import unfuse_layers
    from medqa_cli.model.kernels.packing import answer_token_losses, pack
    from medqa_cli.model.kernels.verify import settle_way

    if model_type in NOT_BUILT:
        return Tried(f"| {model_type} | not tried | {NOT_BUILT[model_type]} |")
    model = _adapted(tiny_model(model_type).requires_grad_(False))
    causal_lm = model.get_base_model()
    install_answer_losses(causal_lm)
    try:
        way = settle_way(model, "it", torch.float32, trains=True)
    except InputError as error:
        return Tried(f"| {model_type} | refused | {error.message.removeprefix('it: ')} |")
    generator = torch.Generator().manual_seed(2)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    examples = _examples()
    fast = answer_token_losses(model, pack(examples, torch.device("cpu")))
    fast_gradients = torch.autograd.grad(fast.sum(), trained, allow_unused=True)
    use_own_attention(causal_lm)
    unfuse_layers(model)
    plain = torch.cat([_plain_losses(model, example.input_ids) for example in examples])
    gradients = torch.autograd.grad(plain.sum(), trained, allow_unused=True)
    pairs = [(g, f) for g, f in zip(gradients, fast_gradients, strict=True) if g is not None and f is not None]
    apart = sum(float((g - f).square().sum()) for g, f in pairs) / sum(float(g.square().sum()) for g, _ in pairs)
    reasons = "; ".join(re.sub(r" by up to [\d.e+-]+", "", reason) for reason in way.reasons)
    return Tried(
        f"| {model_type} | {'packed' if way.packed else 'one at a time'} | {reasons} |",
        float(((fast - plain).abs() / plain.clamp(min=1)).max()),
        math.sqrt(apart),
    )


def _adapted(model: Any) -> Any:
    """Put LoRA on the linear layers that PEFT takes: not on routers, not inside Mamba's kernels."""
    import torch
    from peft import LoraConfig, get_peft_model

    names = [
        name
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear
        and module is not model.get_output_embeddings()
        and not any(part in name for part in ("router", "lm_head", "cls.", "mamba", "mixer.out_proj"))
    ]
    return get_peft_model(model, LoraConfig(r=4, target_modules=names or "all-linear", task_type="CAUSAL_LM")).eval()


def _examples() -> list[Any]:
    """Return examples of three and four windows, and one that is shorter than a window."""
    import torch

    from medqa_cli.prompt.encoder import IGNORE_INDEX, Example

    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(5, VOCABULARY, (length,), generator=generator).tolist() for length in (24, 29, 6)]
    return [Example(ids, [IGNORE_INDEX, *ids[1:]], False) for ids in rows]


def _plain_losses(model: Any, ids: list[int]) -> Any:
    import torch

    row = torch.tensor([ids])
    logits = model(input_ids=row, use_cache=False).logits[0, :-1].float()
    return torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="none")


PAGE_HEAD = """# Architectures

Every type that Transformers {transformers} knows as a causal language model, tried tiny and with random weights: the
losses and gradients of three examples, as medqa computes them, against Transformers' own forward pass of one at a time.
They agree within 1e-5 (of the loss, where it is above 1 nat) for each type that is not refused.

The tables say what came of a type; what counts for a model is that medqa **tries the loaded model itself** before it
is trained, scored, or compared after a merge, with two short examples, forward and (where it is trained) backward:

- *packed*: several examples end to end in one forward pass, without padding.
- *one at a time*: the model's own attention, one example a forward pass. As right, and slower. medqa says so once, and
  `environment.json` records it under `forwards`.
- *refused*: exit code 2, with the reason.

Layers that medqa replaces by faster ones, and losses that it takes from a part of the logits at a time, are tried in
the same way, and each keeps its own code where that computes something else.

Written by `python tools/architectures_page.py`; tests hold it.
"""
_ALL = """
## All types

| type | computed | why |
|---|---|---|
"""


def page(rows: Iterable[str]) -> str:
    """Return docs/architectures.md."""
    import transformers

    from helpers.todays_models import todays_table

    rows = list(rows)
    todays = todays_table({row.split("|")[1].strip(): row for row in rows})
    return PAGE_HEAD.format(transformers=transformers.__version__) + todays + _ALL + "\n".join(rows) + "\n"
