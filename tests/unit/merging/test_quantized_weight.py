"""The 4-bit weights that a merge adds to are, byte for byte, those that loading for the training makes."""

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from helpers.models import make_tiny_model
from medqa_cli.config.schema import ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.merging.architecture import build_architecture
from medqa_cli.merging.plan import FourBit
from medqa_cli.merging.weights import QuantizedWeight
from medqa_cli.model.load import load_base
from medqa_cli.model.resolve import ModelRef
from medqa_cli.model.weights import WeightFiles, rows_in_a_piece

CPU = torch.device("cpu")


def loaded_layers(folder: Path, how: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    source = ModelRef(str(folder), str(folder), "folder")
    model = load_base(source, how, CPU, dtype, packed=True)
    return {name: module for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[torch.dtype, Path]:
    root = tmp_path_factory.mktemp("bases")
    found = {}
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        # Values that float16 and bfloat16 round differently.
        make_tiny_model(300).to(dtype).save_pretrained(root / str(dtype))
        found[dtype] = root / str(dtype)
    return found


@pytest.mark.parametrize(
    ("stored", "computed"),
    [
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.bfloat16),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
    ],
    ids=str,
)
@pytest.mark.parametrize("double", [True, False], ids=["double", "single"])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bytes_equal_those_of_a_loaded_model(
    folders: dict[torch.dtype, Path], kind: Any, double: bool, stored: torch.dtype, computed: torch.dtype
) -> None:
    how = ModelConfig(quantization=kind, double_quantization=double)
    layers = loaded_layers(folders[stored], how, computed)
    architecture, _ = build_architecture(folders[stored])
    assert set(layers) == architecture.four_bit
    assert len(layers) == 14
    files = WeightFiles.open(folders[stored])
    for name, layer in layers.items():
        own = quantized(files, f"{name}.weight", FourBit(kind, double, computed, CPU), rows=8)
        check_equal(own, layer, num_pieces=files.tensors[f"{name}.weight"].shape[0] // 8, computed=computed)


def quantized(files: WeightFiles, name: str, how: FourBit, rows: int) -> QuantizedWeight:
    shape = files.tensors[name].shape
    return QuantizedWeight(lambda start, stop: files.rows(name, start, stop), (shape[0], shape[1]), how, rows)


def check_equal(own: QuantizedWeight, layer: Any, num_pieces: int, computed: torch.dtype) -> None:
    state = layer.weight.quant_state
    assert torch.cat(own.codes).equal(layer.weight.data.cpu())
    if state.nested:
        constants = bnb.functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
    else:
        constants = state.absmax
    assert own.constants.equal(constants)
    values = torch.cat([own.piece(index) for index in range(num_pieces)])
    assert values.dtype == torch.float32
    assert values.to(computed).equal(bnb.functional.dequantize_4bit(layer.weight.data, state))


def test_the_type_that_loading_casts_to_matters(folders: dict[torch.dtype, Path]) -> None:
    """Otherwise the parameters above would not test it."""
    name = "model.layers.0.mlp.up_proj.weight"
    files = WeightFiles.open(folders[torch.float32])
    first, second = (
        quantized(files, name, FourBit("nf4", False, dtype, CPU), rows=128) for dtype in (torch.float32, torch.bfloat16)
    )
    assert not first.constants.equal(second.constants)


def test_layers_that_are_stored_the_other_way_round(tmp_path: Path) -> None:
    """Transformers quantizes GPT-2's Conv1D layers transposed."""
    config = GPT2Config(n_layer=1, n_embd=64, n_head=4, vocab_size=300, n_positions=64, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).to(torch.bfloat16).save_pretrained(tmp_path)
    layers = loaded_layers(tmp_path, ModelConfig(quantization="nf4", double_quantization=True), torch.float32)
    architecture, _ = build_architecture(tmp_path)
    assert set(layers) == architecture.four_bit
    name = "transformer.h.0.attn.c_attn"
    files = WeightFiles.open(tmp_path)
    shape = files.tensors[f"{name}.weight"].shape
    own = QuantizedWeight(
        lambda start, stop: files.whole(f"{name}.weight").T[start:stop],
        (shape[1], shape[0]),
        FourBit("nf4", True, torch.float32, CPU),
        shape[1],
    )
    check_equal(own, layers[name], num_pieces=1, computed=torch.float32)


@pytest.mark.parametrize("shape", [(3, 5), (100, 30), (7, 64), (257, 96), (1, 4096)])
def test_pieces_end_where_blocks_end(shape: tuple[int, int]) -> None:
    """Shapes that are no multiple of the block size: a whole quantization and one in pieces agree."""
    weight = torch.randn(shape)
    weight = weight[:, : shape[1] // 2 * 2]
    columns = weight.shape[1]
    rows = rows_in_a_piece((64, columns))
    assert rows * columns % 64 == 0
    smallest = next(count for count in range(1, 65) if count * columns % 64 == 0)
    how = FourBit("nf4", True, torch.float32, CPU)
    read = weight.__getitem__
    whole, pieced = (
        QuantizedWeight(lambda start, stop: read(slice(start, stop)), (shape[0], columns), how, size)
        for size in (shape[0], smallest)
    )
    num_pieces = -(-shape[0] // smallest)
    assert torch.cat(whole.codes).equal(torch.cat(pieced.codes))
    assert whole.constants.equal(pieced.constants)
    assert whole.piece(0).equal(torch.cat([pieced.piece(index) for index in range(num_pieces)]))
    codes, state = bnb.functional.quantize_4bit(weight.contiguous(), compress_statistics=True, quant_type="nf4")
    # As one long row: on AVX-512 bitsandbytes takes wrong constants where rows end inside a block.
    state.shape = torch.Size((1, weight.numel()))
    assert whole.piece(0).equal(bnb.functional.dequantize_4bit(codes, state).view(weight.shape))
    table = bnb.functional.get_4bit_type("nf4", device="cpu")
    packed = torch.cat(whole.codes).flatten()
    each = table[torch.stack([packed >> 4, packed & 15], 1).flatten()[: weight.numel()].long()]
    by_hand = each * whole.constants.repeat_interleave(64)[: weight.numel()]
    torch.testing.assert_close(whole.piece(0).flatten(), by_hand, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="Linux lists what is mapped")
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_base_lets_go_of_its_file(folders: dict[torch.dtype, Path], quantization: Any) -> None:
    """Tensors of the file's own type would be views of it, and all of its pages count as the training's memory."""
    folder = folders[torch.bfloat16]
    source, how = ModelRef(str(folder), str(folder), "folder"), ModelConfig(quantization=quantization)
    model = load_base(source, how, CPU, torch.bfloat16, packed=True)
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert str(folder) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    # And a tied output layer stays tied.
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == model.config.tie_word_embeddings


@pytest.mark.parametrize("avx512", [True, False])
def test_rows_that_avx512_gets_wrong_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avx512: bool) -> None:
    config = make_tiny_model(300).config
    config.intermediate_size = 96
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512" if avx512 else "AVX2")
    source = ModelRef("odd-model", str(tmp_path), "folder")
    if avx512:
        with pytest.raises(InputError, match="odd-model has layers with 96 inputs, no multiple of 64"):
            load_base(source, ModelConfig(), CPU, torch.float32, packed=True)
    else:
        assert load_base(source, ModelConfig(), CPU, torch.float32, packed=True) is not None
    assert load_base(source, ModelConfig(quantization="none"), CPU, torch.float32, packed=True) is not None
