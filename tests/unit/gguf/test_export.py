"""GGUF files of tiny merged models: read back by Transformers' loader and by ``gguf`` itself, refused, interrupted."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.models import TINY_SIZES, make_bos_tokenizer, make_chatml_tokenizer
from medqa_cli.config.schema import GenerateConfig, PromptConfig
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.gguf import tensors as gguf_tensors
from medqa_cli.gguf.architecture import read_known_model
from medqa_cli.gguf.export import export_gguf, parse_types
from medqa_cli.gguf.tensors import llama_row_order
from medqa_cli.prompt.contract import PromptContract, make_contract
from medqa_cli.prompt.encoder import PromptEncoder

pytestmark = pytest.mark.usefixtures("unconfined")

TYPES = ("f16", "q8_0", "q4_0")
QUESTIONS = ["How to treat glaucoma?", "Is 12 mg of <x>  enough?\n\nI'm 1.60 m tall é😀", "[INST] What? [/INST]"]
# bfloat16 fits f16 exactly, save numbers near zero: half the smallest step of f16.
NEAR_ZERO = 2**-25
SIZES = TINY_SIZES | {"rms_norm_eps": 1e-5}


def make_model(vocab_size: int, model_type: str = "llama", **changes: Any) -> Any:
    """A tiny model whose every tensor matters: no norm of ones, no bias of zeros."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, vocab_size=vocab_size, **{**SIZES, **changes})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.3 if parameter.dim() == 1 or "embed" in name else 0.1
            parameter.copy_(torch.randn_like(parameter) * spread + name.endswith("norm.weight"))
    return model.to(torch.bfloat16)


def save(folder: Path, model: Any, tokenizer: Any, template: str, **options: Any) -> PromptContract:
    """A folder as ``medqa merge`` writes it."""
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    contract = make_contract(PromptConfig(template=template, system="Answer the medical question."), tokenizer)
    contract.save(folder)
    return contract


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A merged folder with one of the two kinds of tokenizer, and its files of all types."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer, template = (
        (make_chatml_tokenizer(), "chat") if request.param == "byte-level" else (make_bos_tokenizer(), "llama2")
    )
    contract = save(folder / "merged", make_model(len(tokenizer)), tokenizer, template)
    written = export_gguf(folder / "merged", contract, TYPES, folder / "gguf", "tiny", GenerateConfig())
    return SimpleNamespace(
        kind=request.param, folder=folder, tokenizer=tokenizer, contract=contract, written=written, template=template
    )


@pytest.fixture
def merged(tmp_path: Path, chatml_tokenizer: Any) -> tuple[Path, PromptContract]:
    folder = tmp_path / "merged"
    return folder, save(folder, make_model(len(chatml_tokenizer)), chatml_tokenizer, "chat")


def load(folder: Path, file: str | None = None) -> Any:
    from transformers import AutoModelForCausalLM, GgufConfig

    options = {"gguf_file": file, "quantization_config": GgufConfig(dequantize=True)} if file else {}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()


def logits_of(model: Any, vocab_size: int) -> torch.Tensor:
    """Logits for random texts, shape (4 * 60, V)."""
    ids = torch.randint(0, vocab_size, (4, 60), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return model(ids).logits.flatten(0, 1)


def fields(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items() if not key.startswith("GGUF.")}


def tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Every tensor as float32, in the shape that it has in the file."""
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def types_in(path: Path) -> dict[str, str]:
    return {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}


def run(folder: Path, contract: PromptContract, types: tuple[str, ...] = ("f16",)) -> list[dict[str, Any]]:
    return export_gguf(folder, contract, types, folder.parent / "gguf", "tiny", GenerateConfig())


# The weights


def test_f16_has_the_logits_of_the_merged_model(exported: Any) -> None:
    size = len(exported.tokenizer)
    expected = logits_of(load(exported.folder / "merged"), size)
    found = logits_of(load(exported.folder / "gguf", "tiny-f16.gguf"), size)
    assert float(expected.std()) > 0.5
    assert torch.allclose(found, expected, atol=1e-4)


def test_quantized_files_agree_with_f16(exported: Any) -> None:
    size = len(exported.tokenizer)
    reference = logits_of(load(exported.folder / "gguf", "tiny-f16.gguf"), size)
    error, agreement = {}, {}
    for kind in ("q8_0", "q4_0"):
        found = logits_of(load(exported.folder / "gguf", f"tiny-{kind}.gguf"), size)
        error[kind] = float((found - reference).pow(2).mean().sqrt() / reference.std())
        agreement[kind] = float((found.argmax(-1) == reference.argmax(-1)).float().mean())
    assert agreement["q8_0"] >= 0.97
    assert 0 < error["q8_0"] < 0.02 < error["q4_0"] < 0.5


def test_quantized_numbers_are_within_half_a_step(exported: Any) -> None:
    exact = tensors(exported.folder / "gguf" / "tiny-f16.gguf")
    for kind, largest_level in (("q8_0", 127), ("q4_0", 8)):
        found = tensors(exported.folder / "gguf" / f"tiny-{kind}.gguf")
        assert found.keys() == exact.keys()
        for name in ("blk.0.attn_q.weight", "blk.1.ffn_down.weight"):
            blocks, own = exact[name].reshape(-1, 32), found[name].reshape(-1, 32)
            step = np.abs(blocks).max(-1, keepdims=True) / largest_level
            # q4_0 has levels -8 to 7: the far end of the other sign is a whole step off.
            # And the step itself is kept as f16.
            allowed = (0.5 if kind == "q8_0" else 1.0) * step
            assert (np.abs(own - blocks) <= allowed + largest_level * step * 2**-11).all()
            assert (own != blocks).any()


def test_types_are_those_of_llama_quantize(exported: Any) -> None:
    """Norms f32; the embedding, which is the output matrix too, never below q8_0."""
    matrices = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}
    for kind in TYPES:
        types = types_in(exported.folder / "gguf" / f"tiny-{kind}.gguf")
        expected = {f"blk.{i}.{name}.weight": kind.upper() for i in range(2) for name in matrices}
        expected |= {f"blk.{i}.{name}.weight": "F32" for i in range(2) for name in ("attn_norm", "ffn_norm")}
        expected |= {"output_norm.weight": "F32", "token_embd.weight": "Q8_0" if kind == "q4_0" else kind.upper()}
        assert types == expected
    assert [one["tensors"] for one in exported.written] == [
        {"f16": 15, "f32": 5},
        {"q8_0": 15, "f32": 5},
        {"q8_0": 1, "f32": 5, "q4_0": 14},
    ]


def test_the_modelfile_names_the_file_that_answers_best_for_its_size(exported: Any) -> None:
    assert "FROM ./tiny-q8_0.gguf\n" in (exported.folder / "gguf" / "Modelfile").read_text()


def test_the_row_order_turns_one_rope_into_the_other() -> None:
    """Transformers rotates row i with row i + d/2, llama.cpp neighbors: the scores of attention must be the same."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    heads, size, positions = 3, 8, 5
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(heads * size, positions, generator=generator) for _ in range(2))
    angles = torch.outer(torch.arange(positions).float(), 10000 ** -(torch.arange(0, size, 2) / size))
    doubled = torch.cat([angles, angles], -1)[None]

    def per_head(x: torch.Tensor) -> torch.Tensor:
        return x.T.reshape(1, positions, heads, size).transpose(1, 2)

    ours = apply_rotary_pos_emb(per_head(q), per_head(k), doubled.cos(), doubled.sin())

    def neighbors(x: torch.Tensor) -> torch.Tensor:
        reordered = torch.from_numpy(np.ascontiguousarray(llama_row_order(x.numpy(), heads)))
        even, odd = per_head(reordered)[..., 0::2], per_head(reordered)[..., 1::2]
        cos, sin = angles.cos(), angles.sin()
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

    scores = ours[0] @ ours[1].transpose(-1, -2)
    assert torch.allclose(neighbors(q) @ neighbors(k).transpose(-1, -2), scores, atol=1e-5)
    assert not torch.allclose(per_head(q) @ per_head(k).transpose(-1, -2), scores, atol=1e-2)


def test_untied_output_biases_and_a_head_size_of_its_own(tmp_path: Path, chatml_tokenizer: Any) -> None:
    changes: dict[str, Any] = {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "head_dim": 32}
    model = make_model(len(chatml_tokenizer), **changes)
    contract = save(tmp_path / "merged", model, chatml_tokenizer, "chat")
    run(tmp_path / "merged", contract, ("f16", "q4_0"))
    found, state = tensors(tmp_path / "gguf" / "tiny-f16.gguf"), model.float().state_dict()
    layer = "model.layers.1."
    for name, source, heads in (
        ("blk.1.attn_q.bias", layer + "self_attn.q_proj.bias", 4),
        ("blk.1.attn_k.weight", layer + "self_attn.k_proj.weight", 2),
    ):
        # Row 2j is Transformers' row j of the head, row 2j + 1 its row j + head_dim / 2.
        halves = state[source].numpy().reshape(heads, 2, 16, -1)
        assert found[name].reshape(heads, 16, 2, -1)[:, :, 1] == pytest.approx(halves[:, 1], abs=NEAR_ZERO, rel=0)
        assert found[name].reshape(heads, 16, 2, -1)[:, :, 0] == pytest.approx(halves[:, 0], abs=NEAR_ZERO, rel=0)
    for name, source in (
        ("output.weight", "lm_head.weight"),
        ("blk.1.attn_v.bias", layer + "self_attn.v_proj.bias"),
        ("blk.1.attn_output.bias", layer + "self_attn.o_proj.bias"),
        ("blk.1.ffn_down.bias", layer + "mlp.down_proj.bias"),
        ("blk.1.ffn_norm.weight", layer + "post_attention_layernorm.weight"),
    ):
        assert found[name] == pytest.approx(state[source].numpy(), abs=NEAR_ZERO, rel=0), name
    types = types_in(tmp_path / "gguf" / "tiny-q4_0.gguf")
    assert (types["output.weight"], types["token_embd.weight"], types["blk.0.attn_q.bias"]) == ("Q8_0", "Q4_0", "F32")
    metadata = fields(tmp_path / "gguf" / "tiny-f16.gguf")
    assert [metadata[f"llama.{key}"] for key in ("attention.key_length", "rope.dimension_count")] == [32, 32]


def test_rows_that_are_no_blocks_are_stored_as_f16_and_counted(
    tmp_path: Path, chatml_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(len(chatml_tokenizer), intermediate_size=100)
    contract = save(tmp_path / "merged", model, chatml_tokenizer, "chat")
    (written,) = run(tmp_path / "merged", contract, ("q8_0",))
    assert (written["stored_as_f16"], written["tensors"]) == (2, {"q8_0": 13, "f32": 5, "f16": 2})
    assert "2 matrices are stored as f16" in capsys.readouterr().err
    types = types_in(tmp_path / "gguf" / "tiny-q8_0.gguf")
    assert {name for name, kind in types.items() if kind == "F16"} == {f"blk.{i}.ffn_down.weight" for i in range(2)}


def test_shards_and_small_pieces_make_the_same_files(
    tmp_path: Path, chatml_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(len(chatml_tokenizer))
    contract = save(tmp_path / "one" / "merged", model, chatml_tokenizer, "chat")
    save(tmp_path / "many" / "merged", model, chatml_tokenizer, "chat", max_shard_size="40KB")
    assert len(list((tmp_path / "many" / "merged").glob("*.safetensors"))) > 2
    run(tmp_path / "one" / "merged", contract, TYPES)
    monkeypatch.setattr(gguf_tensors, "CHUNK_VALUES", 100)
    run(tmp_path / "many" / "merged", contract, TYPES)
    for kind in TYPES:
        one, many = (tmp_path / part / "gguf" / f"tiny-{kind}.gguf" for part in ("one", "many"))
        assert one.read_bytes() == many.read_bytes()


# The metadata


def test_the_metadata_is_exactly_what_loaders_need(exported: Any) -> None:
    found = fields(exported.folder / "gguf" / "tiny-q8_0.gguf")
    byte_level = exported.kind == "byte-level"
    size = len(exported.tokenizer)
    long = {key: found.pop(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type", "merges")}
    scores = found.pop("tokenizer.ggml.scores", None)
    assert found.pop("tokenizer.chat_template")
    assert found.pop("llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    expected = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "tiny",
        "general.size_label": "99K" if byte_level else "101K",
        "general.file_type": 7,
        "general.quantization_version": 2,
        "llama.context_length": 512,
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "llama.feed_forward_length": 128,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": size,
        "tokenizer.ggml.model": "gpt2" if byte_level else "llama",
        "tokenizer.ggml.pre": "gpt-2" if byte_level else "default",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2 if byte_level else 0,
        "tokenizer.ggml.add_bos_token": not byte_level,
        "tokenizer.ggml.add_eos_token": False,
    }
    assert found == expected | ({} if byte_level else {"tokenizer.ggml.add_space_prefix": True})
    assert long["tokens"] == exported.tokenizer.convert_ids_to_tokens(range(size))
    counts = [long["token_type"].count(kind) for kind in range(1, 7)]  # normal, unknown, control, user, unused, byte
    assert counts == ([size - 3, 0, 3, 0, 0, 0] if byte_level else [size - 259, 1, 2, 0, 0, 256])
    assert scores is None if byte_level else len(scores) == size


def test_the_tokenizer_survives(exported: Any) -> None:
    from transformers import AutoTokenizer

    own = exported.tokenizer
    found = AutoTokenizer.from_pretrained(exported.folder / "gguf", gguf_file="tiny-q4_0.gguf")
    assert [found.bos_token_id, found.eos_token_id, found.unk_token_id] == [1, 2, 0]
    assert found.pad_token_id == own.pad_token_id
    before, after = (PromptEncoder(exported.contract, one) for one in (own, found))
    assert after.encode_prompts(QUESTIONS) == before.encode_prompts(QUESTIONS)
    # Not with a space in front: Transformers' loader does not see who puts a second one there.
    texts = ["Glaucoma is a disease of the optic nerve.", "two  spaces, 1990's é😀\n\tx "]
    assert after.count_tokens(texts) == before.count_tokens(texts)


def test_the_chat_template_gives_the_contracts_ids(exported: Any) -> None:
    template = fields(exported.folder / "gguf" / "tiny-f16.gguf")["tokenizer.chat_template"]
    encoder = PromptEncoder(exported.contract, exported.tokenizer)
    for question in QUESTIONS:
        asked = [{"role": "user", "content": question}]
        for messages in (asked, [{"role": "system", "content": "Answer the medical question."}, *asked]):
            ids = exported.tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True, return_dict=False
            )
            assert ids == encoder.encode_prompt(question)


@pytest.mark.parametrize("kind", ["llama3", "linear"])
def test_rope_scaling_is_written_as_the_model_computes_it(tmp_path: Path, chatml_tokenizer: Any, kind: str) -> None:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0, "factor": 8.0}
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    contract = save(
        tmp_path / "merged", make_model(len(chatml_tokenizer), rope_parameters=rope), chatml_tokenizer, "chat"
    )
    run(tmp_path / "merged", contract)
    metadata, found = fields(tmp_path / "gguf" / "tiny-f16.gguf"), tensors(tmp_path / "gguf" / "tiny-f16.gguf")
    config = read_known_model(str(tmp_path / "merged")).config
    plain = 10000.0 ** -(np.arange(0, 16, 2) / 16)
    if kind == "linear":
        assert "rope_freqs.weight" not in found
        assert (metadata["llama.rope.scaling.type"], metadata["llama.rope.scaling.factor"]) == ("linear", 8.0)
        divisors: Any = 8.0
    else:
        assert "llama.rope.scaling.type" not in metadata
        divisors = found["rope_freqs.weight"]
        # As in llama.cpp's converter: high frequencies stay, low ones are divided by the factor, some lie between.
        assert (divisors[0], divisors[-1]) == (1.0, pytest.approx(8.0))
        assert any(1.01 < divisor < 7.99 for divisor in divisors)
    assert plain / divisors == pytest.approx(LlamaRotaryEmbedding(config).inv_freq.double().numpy(), rel=1e-6)


def test_plain_rope_has_no_factors(merged: tuple[Path, PromptContract]) -> None:
    assert read_known_model(str(merged[0])).rope_factors() is None


def test_mistral_and_its_sliding_window(tmp_path: Path, bos_tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(len(bos_tokenizer), "mistral", sliding_window=128)
    contract = save(tmp_path / "merged", model, bos_tokenizer, "llama2")
    run(tmp_path / "merged", contract)
    assert fields(tmp_path / "gguf" / "tiny-f16.gguf")["llama.context_length"] == 128
    assert "128 tokens, the model's sliding window" in capsys.readouterr().err
    found = logits_of(load(tmp_path / "gguf", "tiny-f16.gguf"), len(bos_tokenizer))
    assert torch.allclose(found, logits_of(load(tmp_path / "merged"), len(bos_tokenizer)), atol=1e-4)


# Refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["Phi3ForCausalLM"]}, "the model is a Phi3ForCausalLM"),
        ({"architectures": None}, "the model is a unknown"),
        ({"hidden_act": "gelu"}, "its activation is gelu"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
            "its rope scaling is yarn",
        ),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "it rotates a part of each head only",
        ),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "the weights are quantized"),
    ],
)
def test_models_that_llama_cpp_would_compute_otherwise(
    merged: tuple[Path, PromptContract], changes: dict[str, Any], said: str
) -> None:
    folder, contract = merged
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(InputError, match=said) as caught:
        run(folder, contract)
    assert "convert_hf_to_gguf.py" in caught.value.hint
    assert not (folder.parent / "gguf").exists()


def drop(state: dict[str, torch.Tensor]) -> None:
    del state["model.layers.1.mlp.up_proj.weight"]


def add(state: dict[str, torch.Tensor]) -> None:
    state["model.layers.0.self_attn.q_norm.weight"] = torch.ones(16)


def reshape(state: dict[str, torch.Tensor]) -> None:
    state["model.norm.weight"] = torch.ones(32)


def pack(state: dict[str, torch.Tensor]) -> None:
    state["model.norm.weight"] = torch.ones(64, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop, r"should have model.layers.1.mlp.up_proj.weight of shape \(128, 64\); found: none"),
        (add, "tensors that a llama model does not have: model.layers.0.self_attn.q_norm.weight"),
        (reshape, r"model.norm.weight of shape \(64,\); found: shape \(32,\)"),
        (pack, "model.norm.weight holds U8"),
    ],
)
def test_tensors_that_do_not_fit_the_config(
    merged: tuple[Path, PromptContract], change: Callable[[dict[str, torch.Tensor]], None], said: str
) -> None:
    folder, contract = merged
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(InputError, match=said):
        run(folder, contract)
    assert not (folder.parent / "gguf").exists()


def test_buffers_of_old_checkpoints_and_a_saved_copy_of_the_embedding_are_left_out(
    merged: tuple[Path, PromptContract],
) -> None:
    folder, contract = merged
    run(folder, contract)
    expected = (folder.parent / "gguf" / "tiny-f16.gguf").read_bytes()
    state = load_file(folder / "model.safetensors")
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    save_file(state, folder / "model.safetensors")
    run(folder, contract)
    assert (folder.parent / "gguf" / "tiny-f16.gguf").read_bytes() == expected


def test_a_truncated_shard(merged: tuple[Path, PromptContract]) -> None:
    folder, contract = merged
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        run(folder, contract)


def test_a_shard_that_shrinks_while_it_is_exported(
    merged: tuple[Path, PromptContract], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, contract = merged
    real = gguf_tensors.plan_tensors

    def plan_and_cut(*arguments: Any) -> Any:
        planned = real(*arguments)
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        return planned

    monkeypatch.setattr(gguf_tensors, "plan_tensors", plan_and_cut)
    with pytest.raises(InputError, match=r"model\.safetensors is damaged: ") as caught:
        run(folder, contract)
    assert caught.value.hint == "merge again: medqa merge"
    assert list(folder.parent.glob("gguf/*.gguf")) == []


def test_a_place_that_is_no_folder(merged: tuple[Path, PromptContract]) -> None:
    folder, contract = merged
    (folder.parent / "gguf").write_text("mine")
    with pytest.raises(InputError, match=r"cannot write .*gguf: File exists"):
        run(folder, contract)
    assert (folder.parent / "gguf").read_text() == "mine"


def test_a_missing_shard(tmp_path: Path, chatml_tokenizer: Any) -> None:
    model = make_model(len(chatml_tokenizer))
    contract = save(tmp_path / "merged", model, chatml_tokenizer, "chat", max_shard_size="40KB")
    missing = sorted((tmp_path / "merged").glob("*.safetensors"))[1]
    missing.unlink()
    with pytest.raises(InputError, match=f"{missing.name} missing"):
        run(tmp_path / "merged", contract)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("f16", float("nan"), "not finite"),
        ("q8_0", float("-inf"), "not finite"),
        ("f16", 65536.0, "too large for f16"),
        # The steps of blocks are f16: these round to infinity, and the whole block with them.
        ("q8_0", -8388608.0, "too large for q8_0"),
        ("q4_0", 524288.0, "too large for q4_0"),
    ],
)
def test_export_of_numbers_that_the_type_cannot_hold_fails_and_leaves_no_file(
    merged: tuple[Path, PromptContract], kind: str, value: float, said: str
) -> None:
    folder, contract = merged
    _set_one_weight(folder, value)
    with pytest.raises(MedqaError, match=said):
        run(folder, contract, (kind,))
    assert list((folder.parent / "gguf").iterdir()) == []


@pytest.mark.parametrize(("kind", "value"), [("f16", 65280.0), ("q8_0", -8257536.0), ("q4_0", 520192.0)])
def test_export_of_the_largest_numbers_of_a_type_keeps_them_finite(
    merged: tuple[Path, PromptContract], kind: str, value: float
) -> None:
    folder, contract = merged
    _set_one_weight(folder, value)
    run(folder, contract, (kind,))
    written = tensors(folder.parent / "gguf" / f"tiny-{kind}.gguf")["blk.1.ffn_up.weight"]
    assert np.isfinite(written).all()
    assert written[3, 5] == pytest.approx(value, rel=0.01)


def _set_one_weight(folder: Path, value: float) -> None:
    state = load_file(folder / "model.safetensors")
    state["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(state, folder / "model.safetensors")


# Whole or not at all


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "No space left on device"), InputError)],
)
def test_an_interrupted_export_leaves_what_was_there(
    merged: tuple[Path, PromptContract],
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    raised: type[BaseException],
) -> None:
    folder, contract = merged
    run(folder, contract)
    out_dir = folder.parent / "gguf"
    before = {path.name: path.read_bytes() for path in out_dir.iterdir()}
    assert set(before) == {"tiny-f16.gguf", "Modelfile"}
    convert, seen = gguf_tensors.convert, []

    def fail_late(weights: Any, tensor: Any) -> Any:
        seen.append(tensor.name)
        if len(seen) == 8:
            raise failure
        return convert(weights, tensor) * 0

    monkeypatch.setattr(gguf_tensors, "convert", fail_late)
    with pytest.raises(raised):
        run(folder, contract, ("f16", "q8_0"))
    assert len(seen) == 8
    assert {path.name: path.read_bytes() for path in out_dir.iterdir()} == before


def test_no_room_on_the_disk(merged: tuple[Path, PromptContract], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, contract = merged
    written = run(folder, contract, TYPES)
    total = sum(one["bytes"] for one in written)
    assert total == sum(path.stat().st_size for path in (folder.parent / "gguf").glob("*.gguf"))
    shutil.rmtree(folder.parent / "gguf")

    def free(size: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))

    free(total)
    with pytest.raises(MedqaError, match="not enough room for the GGUF files") as caught:
        run(folder, contract, TYPES)
    assert caught.value.exit_code == 1
    assert list((folder.parent / "gguf").iterdir()) == []
    free(total + 400_000)  # the estimate may be too large by little
    run(folder, contract, TYPES)


def test_files_of_earlier_exports_are_mentioned(
    merged: tuple[Path, PromptContract], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, contract = merged
    run(folder, contract, ("q8_0", "f16"))
    assert "earlier" not in capsys.readouterr().err
    assert "FROM ./tiny-q8_0.gguf\n" in (folder.parent / "gguf" / "Modelfile").read_text()
    run(folder, contract, ("q4_0",))
    assert "files of earlier exports: tiny-f16.gguf, tiny-q8_0.gguf" in capsys.readouterr().err
    assert "FROM ./tiny-q4_0.gguf\n" in (folder.parent / "gguf" / "Modelfile").read_text()


# What is asked for


def test_types_can_be_given_in_any_way() -> None:
    assert parse_types(["f16", "q8_0"]) == ("f16", "q8_0")
    assert parse_types(["F16, q8_0,", "f16"], ["q4_0"]) == ("f16", "q8_0", "q4_0")
    assert parse_types(None) == parse_types([]) == ()


@pytest.mark.parametrize(
    ("given", "more", "said"),
    [
        (["q5_0"], None, "--gguf q5_0: no such file type"),
        (["f16"], ["x"], "--gguf x"),
        (None, ["f16"], "no argument"),
        ([" , "], None, "names no file type"),
    ],
)
def test_unknown_types_are_refused(given: list[str] | None, more: list[str] | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_types(given, more)
