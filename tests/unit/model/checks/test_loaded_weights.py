"""A base whose files lack weights, hold others, or hold no numbers is named before anything is computed with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.models import make_tiny_model
from medqa_cli.config.schema import GenerateConfig, ModelConfig, PromptConfig, Quantization
from medqa_cli.errors import InputError
from medqa_cli.gguf import export as gguf_export
from medqa_cli.gguf import tensors as gguf_tensors
from medqa_cli.merging.architecture import build_architecture, stored_names
from medqa_cli.model.load import load_base
from medqa_cli.model.resolve import ModelRef, find_base
from medqa_cli.model.weights import WeightFiles
from medqa_cli.prompt.contract import make_contract

Weights = dict[str, torch.Tensor]
EVERY_WAY: tuple[Quantization, ...] = ("none", "nf4", "int8")
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def base(tmp_path: Path, chatml_tokenizer: Any) -> Path:
    make_tiny_model(len(chatml_tokenizer)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    path = folder / "model.safetensors"
    save_file({name: value.contiguous() for name, value in change(load_file(path)).items()}, path, {"format": "pt"})


def without(*parts: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if not any(part in name for part in parts)}


def load(folder: Path, quantization: Quantization, *, packed: bool = True) -> Any:
    config = ModelConfig(quantization=quantization)
    return load_base(ModelRef("mine", str(folder), "folder"), config, torch.device("cpu"), torch.float32, packed=packed)


def refused(folder: Path, quantization: Quantization) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, quantization)
    return caught.value.message


@pytest.mark.parametrize("quantization", EVERY_WAY)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("model.norm"), "the files of mine lack 1 weights of the model: model.norm.weight"),
        (without("embed_tokens"), "lack 2 weights of the model: lm_head.weight, model.embed_tokens.weight"),
        (without("layers.1."), "lack 9 weights of the model: model.layers.1.input_layernorm.weight, "),
        (without("k_proj"), "lack 2 weights of the model: model.layers.{0, 1}.self_attn.k_proj.weight"),
        (
            lambda weights: {f"base.{name}": value for name, value in weights.items()},
            "no weight in the files of mine has a name of the model: they hold base.model.embed_tokens.weight, ",
        ),
    ],
    ids=["norm", "tied embedding", "layer", "keys", "prefix"],
)
def test_missing_weights_are_refused_by_name(
    base: Path, quantization: Quantization, change: Callable[[Weights], Weights], said: str
) -> None:
    rewrite(base, change)
    assert said in refused(base, quantization)


def test_a_missing_output_layer_that_is_not_tied_is_refused(tmp_path: Path, chatml_tokenizer: Any) -> None:
    model = make_tiny_model(len(chatml_tokenizer))
    model.config.tie_word_embeddings = False
    type(model)(model.config).save_pretrained(tmp_path)
    rewrite(tmp_path, without("lm_head"))
    assert refused(tmp_path, "none") == "the files of mine lack 1 weights of the model: lm_head.weight"


@pytest.mark.parametrize("quantization", EVERY_WAY)
def test_weights_of_another_shape_are_refused_also_where_they_are_quantized(
    base: Path, quantization: Quantization
) -> None:
    rewrite(base, lambda weights: {**weights, Q_PROJ: weights[Q_PROJ][:56]})
    assert f"such as {Q_PROJ}: 56 x 64 in the files, 64 x 64 in the model" in refused(base, quantization)


@pytest.mark.parametrize("quantization", EVERY_WAY)
@pytest.mark.parametrize("name", [Q_PROJ, "model.norm.weight", "model.embed_tokens.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(base: Path, quantization: Quantization, name: str, value: float) -> None:
    def change(weights: Weights) -> Weights:
        weights[name].view(-1)[3] = value
        return weights

    rewrite(base, change)
    assert refused(base, quantization) == f"weights of mine are not finite numbers (NaN or infinite): {name}"


def test_what_the_model_has_no_place_for_is_said(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {
        "model.layers.0.self_attn.q_proj.bias": torch.zeros(64),
        "model.layers.2.mlp.up_proj.weight": torch.zeros(128, 64),
        "vision_tower.patch.weight": torch.zeros(4),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8),
    }
    rewrite(base, lambda weights: {**weights, **more})
    load(base, "none")
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "warning: the files of mine hold weights that its config.json has no place for; the model is computed without: "
        "model.layers.0.self_attn.q_proj.bias, model.layers.2.mlp.up_proj.weight" in said
    )
    assert "mine: not part of the language model and left out: vision_tower.patch.weight" in said
    assert "inv_freq" not in said


def test_a_whole_base_is_loaded_without_a_word(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for quantization in EVERY_WAY:
        load(base, quantization)
    assert capsys.readouterr().err == ""


def test_merge_knows_which_weights_the_files_lack(base: Path) -> None:
    rewrite(base, without("model.norm", "embed_tokens"))
    _, model = build_architecture(base, WeightFiles.open(base).tensors)
    names = stored_names(model, WeightFiles.open(base).tensors)
    assert names.missing == {"model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"}


def test_weights_stored_quantized_in_another_way_are_refused(base: Path, tmp_path: Path) -> None:
    load(base, "int8").save_pretrained(tmp_path / "int8")
    # Read as they are, the integers would be taken for weights.
    assert refused(tmp_path / "int8", "none") == "mine is stored quantized (int8), and model.quantization is none"
    assert refused(tmp_path / "int8", "nf4") == "mine is stored quantized (int8), and model.quantization is nf4"


def test_a_gguf_file_without_a_tensor_is_refused(
    base: Path, tmp_path: Path, chatml_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDQA_CACHE_DIR", str(tmp_path / "cache"))
    chatml_tokenizer.save_pretrained(base)
    contract = make_contract(PromptConfig(template="chat"), chatml_tokenizer)
    plan = gguf_tensors.plan_tensors
    monkeypatch.setattr(
        gguf_tensors,
        "plan_tensors",
        lambda *given: [tensor for tensor in plan(*given) if tensor.name != "blk.1.ffn_down.weight"],
    )
    gguf_export.export_gguf(base, contract, ("f16",), tmp_path, "cut", GenerateConfig())
    with pytest.raises(
        InputError, match=r"cut-f16\.gguf lack 1 weights of the model: model\.layers\.1\.mlp\.down_proj"
    ):
        find_base(str(tmp_path / "cut-f16.gguf"))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
