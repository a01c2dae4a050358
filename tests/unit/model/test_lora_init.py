"""Where an adapter starts: nearer to the unquantized base (LoftQ) or inside its weights (PiSSA); how it is saved."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.training import make_examples
from medqa_cli.config.schema import LoraConfig, ModelConfig, PromptConfig
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.model.kernels.packing import answer_token_losses, pack
from medqa_cli.model.load import base_of_adapter, load_adapter, load_base
from medqa_cli.model.lora import add_lora, as_plain_lora, check_init, init_adapter, write_adapter
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.contract import make_contract
from medqa_cli.training.outcome import save_adapter

CPU = torch.device("cpu")
BATCH = pack(make_examples([(5, 7), (12, 9), (3, 20)]), CPU)


def base_of(folder: Path, quantization: Any) -> Any:
    how = ModelConfig(quantization=quantization, double_quantization=True)
    return load_base(find_base(str(folder)), how, CPU, torch.float32, packed=True)


def adapted(folder: Path, quantization: Any, **lora: Any) -> Any:
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 8, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": "all-linear", **lora})
    model = add_lora(base_of(folder, quantization), config, str(folder), None)
    init_adapter(model, config, find_base(str(folder)))
    return model


def losses(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return answer_token_losses(model, BATCH)


@pytest.mark.parametrize("scale", [{}, {"use_rslora": True}, {"lora_alpha": 8}])
def test_loftq_starts_nearer_to_the_unquantized_base(tiny_model_dir: Path, scale: dict[str, Any]) -> None:
    exact = losses(base_of(tiny_model_dir, "none"))
    plain = (losses(adapted(tiny_model_dir, "nf4", **scale)) - exact).norm()
    loftq = (losses(adapted(tiny_model_dir, "nf4", init_lora_weights="loftq", **scale)) - exact).norm()
    assert plain > 1e-3
    assert loftq < 0.8 * plain
    whole = adapted(tiny_model_dir, "nf4", init_lora_weights="loftq", r=64, lora_alpha=4)  # the full rank
    assert (losses(whole) - exact).norm() < 1e-2 * plain


def test_pissa_starts_as_the_base_and_takes_its_main_directions(tiny_model_dir: Path) -> None:
    model = adapted(tiny_model_dir, "none", init_lora_weights="pissa")
    torch.testing.assert_close(losses(model), losses(base_of(tiny_model_dir, "none")), rtol=1e-4, atol=1e-4)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    original = base_of(tiny_model_dir, "none").model.layers[0].self_attn.q_proj.weight
    values = torch.linalg.svdvals(original)
    left = torch.linalg.svdvals(layer.get_base_layer().weight)
    torch.testing.assert_close(left[: len(values) - 8], values[8:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [{}, {"use_rslora": True}])
def test_a_pissa_adapter_is_saved_for_the_untouched_base(
    tiny_model_dir: Path, tmp_path: Path, chatml_tokenizer: Any, scale: dict[str, Any]
) -> None:
    model = adapted(tiny_model_dir, "none", init_lora_weights="pissa", **scale)
    contract = make_contract(PromptConfig(template="chat"), chatml_tokenizer)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.05 * torch.randn_like(parameter)
    trained = losses(model)
    adapter_dir = tmp_path / "adapter"
    save_adapter(adapter_dir, model, None, tokenizer=chatml_tokenizer, contract=contract, card="")
    config = json.loads((adapter_dir / "adapter_config.json").read_text())
    assert config["r"] == 16
    assert config["init_lora_weights"] is True
    again = load_adapter(base_of(tiny_model_dir, "none"), adapter_dir)
    assert (trained - losses(base_of(tiny_model_dir, "none"))).norm() > 0.01
    torch.testing.assert_close(losses(again), trained, rtol=1e-4, atol=1e-4)


def test_an_adapters_config_names_the_layers_in_an_order_that_stays(tiny_model_dir: Path, tmp_path: Path) -> None:
    """PEFT keeps them as sets, whose order is another one in each process."""
    names = ("v_proj", "q_proj", "up_proj", "o_proj", "k_proj", "gate_proj", "down_proj")
    write_adapter(adapted(tiny_model_dir, "none", target_modules=names), tmp_path, None)
    written = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert written == sorted(names)


def test_an_adapter_that_is_not_finite_leaves_the_one_before(
    tiny_model_dir: Path, tmp_path: Path, chatml_tokenizer: Any
) -> None:
    model = adapted(tiny_model_dir, "none")
    contract = make_contract(PromptConfig(template="chat"), chatml_tokenizer)
    parts: dict[str, Any] = {"tokenizer": chatml_tokenizer, "contract": contract, "card": ""}
    parameters = [parameter for name, parameter in model.named_parameters() if "lora_B" in name]
    parameters[0].data += 1
    save_adapter(tmp_path / "adapter", model, None, **parts)
    before = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()
    parameters[-1].data += torch.inf
    with pytest.raises(MedqaError, match="holds values that are not finite: the last step diverged") as caught:
        save_adapter(tmp_path / "adapter", model, None, **parts)
    assert "medqa train --restart" in caught.value.hint
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_folder_without_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^no adapter in {tmp_path}$") as caught:
        base_of_adapter(tmp_path)
    assert caught.value.hint == "train one: medqa train"


def test_loftq_on_files_that_lack_a_weight(tiny_model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "base")
    path = tmp_path / "base" / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.self_attn.o_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    config = LoraConfig(init_lora_weights="loftq", target_modules="all-linear")
    model = add_lora(base_of(tiny_model_dir, "nf4"), config, str(tiny_model_dir), None)
    with pytest.raises(InputError, match=r"base hold no model\.layers\.1\.self_attn\.o_proj\.weight") as caught:
        init_adapter(model, config, find_base(str(tmp_path / "base")))
    assert caught.value.hint == "set it to default"


def test_other_adapters_are_saved_as_they_are(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = adapted(tiny_model_dir, "nf4", init_lora_weights="loftq")
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert as_plain_lora(model, weights) is None


@pytest.mark.parametrize(
    ("quantization", "lora", "sharded", "said"),
    [
        ("none", {"init_lora_weights": "loftq"}, False, "makes up for 4-bit quantization"),
        ("int8", {"init_lora_weights": "loftq"}, False, "makes up for 4-bit quantization"),
        ("nf4", {"init_lora_weights": "pissa"}, False, "takes directions out of the base's weights"),
        ("nf4", {"init_lora_weights": "loftq", "use_dora": True}, False, "exclude each other"),
        ("nf4", {"init_lora_weights": "loftq"}, True, "FSDP"),
    ],
)
def test_what_does_not_go_together(quantization: Any, lora: dict[str, Any], sharded: bool, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_init(ModelConfig(quantization=quantization), LoraConfig(**lora), sharded=sharded)


def test_the_default_goes_with_all() -> None:
    check_init(ModelConfig(quantization="int8"), LoraConfig(use_dora=True), sharded=True)
