"""The merged tensors are those of PEFT's own merge on the same base weights, to one unit in the last place."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from helpers.models import make_tiny_model
from medqa_cli.errors import InputError
from medqa_cli.merging.adapter_file import AdapterFile
from medqa_cli.merging.architecture import build_architecture, stored_names
from medqa_cli.merging.plan import MergePlan, make_plan
from medqa_cli.merging.weights import MergedWeights
from medqa_cli.model.weights import WeightFiles

pytestmark = pytest.mark.usefixtures("unconfined")

VOCABULARY = 300


def llama(*, tied: bool) -> Any:
    model = make_tiny_model(VOCABULARY)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 64) * 0.02)
    return model


def save_base(model: Any, folder: Path, dtype: torch.dtype = torch.float32, shard_size: str = "50GB") -> Path:
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    return folder


def save_adapter(base_dir: Path, folder: Path, seed: int = 0, **settings: Any) -> Path:
    """Train nothing: every weight of the adapter is random, as after a long training."""
    base = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 16, "task_type": "CAUSAL_LM", **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(base, LoraConfig(**settings))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.data *= 1 + 0.2 * torch.rand(parameter.shape, generator=generator)
            elif parameter.requires_grad:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(folder)
    return folder


def peft_merge(base_dir: Path, adapter_dir: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """PEFT's merge in float32, rounded once."""
    base = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = PeftModel.from_pretrained(base, adapter_dir)
        # Merged into shared weights, the change of one layer would reach the other one (docs/footguns.md).
        output = tuned.get_base_model().get_output_embeddings()
        output = output.get_base_layer() if hasattr(output, "get_base_layer") else output
        if isinstance(output, torch.nn.Linear):
            output.weight = torch.nn.Parameter(output.weight.detach().clone())
        merged = tuned.merge_and_unload(safe_merge=True)
    return {name: value.to(dtype) for name, value in merged.state_dict().items()}


def plan_of(base_dir: Path, adapter_dir: Path) -> tuple[MergePlan, MergedWeights]:
    base, adapter = WeightFiles.open(base_dir), AdapterFile(adapter_dir)
    architecture, model = build_architecture(base_dir)
    plan = make_plan(base, architecture, stored_names(model, base.tensors), adapter, None)
    return plan, MergedWeights(plan)


def our_merge(base_dir: Path, adapter_dir: Path) -> dict[str, torch.Tensor]:
    plan, weights = plan_of(base_dir, adapter_dir)
    return {tensor.name: torch.cat(list(weights.pieces(tensor.name))) for tensor in plan.tensors}


def ulps(first: torch.Tensor, second: torch.Tensor) -> int:
    """The largest distance of two tensors, counted in representable values between them."""
    integers = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}[first.dtype]

    def ordered(values: torch.Tensor) -> torch.Tensor:
        bits = values.view(integers).long()
        lowest = -(1 << (8 * values.element_size() - 1))
        return torch.where(bits < 0, lowest - bits, bits)

    return int((ordered(first) - ordered(second)).abs().max())


def check_equal(base_dir: Path, adapter_dir: Path, dtype: torch.dtype, num_changed: int) -> None:
    ours, theirs = our_merge(base_dir, adapter_dir), peft_merge(base_dir, adapter_dir, dtype)
    base = WeightFiles.open(base_dir)
    changed = 0
    for name, tensor in ours.items():
        assert (tensor.dtype, tensor.shape) == (dtype, theirs[name].shape), name
        distance = ulps(tensor, theirs[name])
        assert distance <= 1, (name, distance)
        changed += name not in base.tensors or not base.whole(name).equal(tensor)
    assert changed == num_changed
    missing = set(theirs) - set(ours)
    assert missing <= {"lm_head.weight"}  # tied


def test_ulps_counts_representable_values() -> None:
    one = torch.tensor([1.0, -1.0, 0.0], dtype=torch.bfloat16)
    assert ulps(one, one) == 0
    assert ulps(one[:1], torch.tensor([1.0 + 2**-7], dtype=torch.bfloat16)) == 1
    assert ulps(one[1:2], torch.tensor([-1.0 - 2**-6], dtype=torch.bfloat16)) == 2
    assert ulps(torch.tensor([-(2.0**-149)]), torch.tensor([2.0**-149])) == 2


KINDS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": "all-linear"},
    "rslora": {"target_modules": "all-linear", "use_rslora": True},
    "dora": {"target_modules": "all-linear", "use_dora": True},
    "patterns": {
        "target_modules": "all-linear",
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 8},
        "alpha_pattern": {"v_proj": 64},
    },
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", KINDS)
def test_merged_tensors_equal_pefts(tmp_path: Path, kind: str, tied: bool, dtype: torch.dtype) -> None:
    base_dir = save_base(llama(tied=tied), tmp_path / "base", dtype)
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", **KINDS[kind])
    assert ("lm_head.weight" in WeightFiles.open(base_dir).tensors) is not tied
    check_equal(base_dir, adapter_dir, dtype, num_changed=14)


@pytest.mark.parametrize("use_dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize(
    ("modules", "tied", "num_changed"),
    [
        (["embed_tokens", "q_proj"], True, 4),  # two layers, the embedding, and the output layer gets its own weights
        (["lm_head"], True, 1),
        (["embed_tokens", "lm_head"], True, 2),
        (["embed_tokens"], False, 1),
        (["lm_head"], False, 1),
    ],
)
def test_adapters_of_embedding_and_output(
    tmp_path: Path, modules: list[str], tied: bool, num_changed: int, use_dora: bool
) -> None:
    base_dir = save_base(llama(tied=tied), tmp_path / "base", torch.bfloat16)
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=modules, use_dora=use_dora)
    assert plan_of(base_dir, adapter_dir)[0].untied is tied
    check_equal(base_dir, adapter_dir, torch.bfloat16, num_changed)


@pytest.mark.parametrize(
    ("saved", "tied", "num_changed"),
    [(["lm_head"], True, 3), (["lm_head"], False, 3), (["embed_tokens"], True, 4), (["norm"], True, 7)],
)
def test_modules_to_save_replace_the_weights(tmp_path: Path, saved: list[str], tied: bool, num_changed: int) -> None:
    base_dir = save_base(llama(tied=tied), tmp_path / "base", torch.bfloat16)
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=saved)
    assert plan_of(base_dir, adapter_dir)[0].untied is (tied and saved != ["norm"])
    # embed_tokens: the output layer gets a weight of its own; norm: PEFT takes all layers whose names end so.
    check_equal(base_dir, adapter_dir, torch.bfloat16, num_changed)


@pytest.mark.parametrize(("bias", "lora_bias"), [("all", False), ("lora_only", False), ("none", True)])
def test_trained_biases_are_merged_exactly(tmp_path: Path, bias: str, lora_bias: bool) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=VOCABULARY, num_key_value_heads=2, max_position_embeddings=512, **sizes)
    base_dir = save_base(Qwen2ForCausalLM(config), tmp_path / "base", torch.bfloat16)
    adapter_dir = save_adapter(
        base_dir, tmp_path / "adapter", target_modules=["q_proj"], bias=bias, lora_bias=lora_bias
    )
    # Two weights, and the biases of q_proj, or of all three projections in both layers.
    check_equal(base_dir, adapter_dir, torch.bfloat16, num_changed=2 + (6 if bias == "all" else 2))


@pytest.mark.parametrize("use_dora", [False, True], ids=["lora", "dora"])
def test_layers_stored_the_other_way_round(tmp_path: Path, use_dora: bool) -> None:
    """GPT-2's Conv1D layers are stored as (in, out)."""
    config = GPT2Config(
        n_layer=2, n_embd=64, n_head=4, vocab_size=VOCABULARY, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    base_dir = save_base(GPT2LMHeadModel(config), tmp_path / "base", torch.bfloat16)
    settings: dict[str, Any] = {"target_modules": ["c_attn", "c_fc"], "use_dora": use_dora, "fan_in_fan_out": True}
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", **settings)
    check_equal(base_dir, adapter_dir, torch.bfloat16, num_changed=4)


def test_several_shards_and_pytorch_files(tmp_path: Path) -> None:
    base_dir = save_base(llama(tied=False), tmp_path / "base", torch.bfloat16, shard_size="60KB")
    assert len(WeightFiles.open(base_dir).paths) > 3
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", **KINDS["lora"])
    check_equal(base_dir, adapter_dir, torch.bfloat16, num_changed=14)
    expected = our_merge(base_dir, adapter_dir)

    state = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.bfloat16).state_dict()
    old_dir = tmp_path / "old"
    old_dir.mkdir()
    (old_dir / "config.json").write_bytes((base_dir / "config.json").read_bytes())
    torch.save(state, old_dir / "pytorch_model.bin")
    found = our_merge(old_dir, adapter_dir)
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)


def test_tied_weights_that_are_stored_twice_or_under_the_other_name(tmp_path: Path) -> None:
    base_dir = save_base(llama(tied=True), tmp_path / "base", torch.bfloat16)
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", **KINDS["lora"])
    expected = our_merge(base_dir, adapter_dir)
    state = {name: value for name, value in torch_state(base_dir).items() if name != "lm_head.weight"}
    twice = {**state, "lm_head.weight": state["model.embed_tokens.weight"].clone()}
    other = {name: value for name, value in twice.items() if name != "model.embed_tokens.weight"}
    for name, content, written in (
        ("twice", twice, "model.embed_tokens.weight"),
        ("other", other, "lm_head.weight"),
    ):
        found = our_merge(with_weights(base_dir, tmp_path / name, content), adapter_dir)
        assert found[written].equal(expected["model.embed_tokens.weight"])
        assert len(found) == len(expected)
    # Two different tensors although the config ties them: Transformers keeps them apart, and so does the merge.
    apart = {**state, "lm_head.weight": state["model.embed_tokens.weight"] + 1}
    plan, _ = plan_of(with_weights(base_dir, tmp_path / "apart", apart), adapter_dir)
    assert plan.untied
    assert len(plan.tensors) == len(expected) + 1


def torch_state(base_dir: Path) -> dict[str, torch.Tensor]:
    state = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.bfloat16).state_dict()
    return {name: value.clone() for name, value in state.items()}


def with_weights(base_dir: Path, folder: Path, state: dict[str, torch.Tensor]) -> Path:
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "config.json").write_bytes((base_dir / "config.json").read_bytes())
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_checkpoints_of_the_inner_model_have_shorter_names(tmp_path: Path) -> None:
    """GPT-2 on the hub is stored without the prefix of the model with a head."""
    config = GPT2Config(
        n_layer=1, n_embd=64, n_head=4, vocab_size=VOCABULARY, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    base_dir = save_base(GPT2LMHeadModel(config), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    files = WeightFiles.open(base_dir)
    short = {name.removeprefix("transformer."): files.whole(name) for name in files.tensors}
    found = our_merge(with_weights(base_dir, tmp_path / "short", short), adapter_dir)
    expected = our_merge(base_dir, adapter_dir)
    assert {f"transformer.{name}" for name in found} == set(expected)
    assert all(found[name.removeprefix("transformer.")].equal(expected[name]) for name in expected)


# What does not fit


def refused(base_dir: Path, adapter_dir: Path) -> str:
    with pytest.raises(InputError) as caught:
        our_merge(base_dir, adapter_dir)
    return f"{caught.value.message} | {caught.value.hint}"


def test_an_adapter_of_a_wider_base(tmp_path: Path) -> None:
    base_dir = save_base(llama(tied=True), tmp_path / "base")
    wide = small_llama(96)
    adapter_dir = save_adapter(save_base(wide, tmp_path / "wide"), tmp_path / "adapter", target_modules=["q_proj"])
    said = refused(base_dir, adapter_dir)
    assert "model.layers.0.self_attn.q_proj is 64 x 64 there" in said
    assert "make 96 x 96" in said
    assert "base_model_name_or_path" in said


def small_llama(hidden_size: int, layers: int = 2) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden_size,
            intermediate_size=128,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            tie_word_embeddings=True,
        )
    )


def test_an_adapter_of_a_deeper_base(tmp_path: Path) -> None:
    base_dir = save_base(llama(tied=True), tmp_path / "base")
    deep_dir = save_base(small_llama(64, layers=3), tmp_path / "deep")
    adapter_dir = save_adapter(deep_dir, tmp_path / "adapter", target_modules=["o_proj"])
    assert "the adapter changes model.layers.2.self_attn.o_proj, which the base model does not have" in refused(
        base_dir, adapter_dir
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights pissa changed the base's own weights"),
        ({"target_parameters": ["q_proj.weight"], "target_modules": []}, "target_parameters"),
    ],
)
def test_what_cannot_be_merged_is_named(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    base_dir = save_base(llama(tied=True), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", **{"target_modules": ["q_proj"], **settings})
    assert said in refused(base_dir, adapter_dir)


def edit_config(adapter_dir: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    import json

    path = adapter_dir / "adapter_config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "LOHA"}, 'is of type "LOHA"'),
        ({"r": 8}, "its config says rank 8"),
        ({"r": None}, "adapter_config.json: r is null, expected a number"),
        ({"use_dora": True}, "use_dora is True, but"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication"),
        ({"alora_invocation_tokens": [3]}, "Activated LoRA"),
    ],
)
def test_a_config_that_contradicts_the_weights(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    base_dir = save_base(llama(tied=True), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["q_proj"])
    edit_config(adapter_dir, lambda config: config.update(change))
    assert said in refused(base_dir, adapter_dir)


def edit_weights(adapter_dir: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    from safetensors.torch import load_file, save_file

    path = adapter_dir / "adapter_model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


MODEL = "base_model.model.model."
Q_PROJ = f"{MODEL}layers.0.self_attn.q_proj."
NORM = f"{MODEL}layers.0.input_layernorm."
DAMAGE: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "no tensors": (lambda weights: weights.clear(), "holds no weights"),
    "a matrix is gone": (
        lambda weights: weights.pop(f"{Q_PROJ}lora_B.weight"),
        "is incomplete: model.layers.0.self_attn.q_proj has no lora_B | train again",
    ),
    "a part of another method": (
        lambda weights: weights.update({f"{Q_PROJ}lora_E": torch.zeros(4)}),
        f"{Q_PROJ}lora_E is not part of a LoRA or DoRA adapter",
    ),
    "a layer that is not linear": (
        lambda weights: weights.update(
            {f"{NORM}lora_A.weight": torch.zeros(4, 64), f"{NORM}lora_B.weight": torch.zeros(64, 4)}
        ),
        "changes model.layers.0.input_layernorm, which is not a linear layer in the base model",
    ),
    "a parameter too many": (
        lambda weights: weights.update({f"{MODEL}layers.7.mlp.up_proj.weight": torch.zeros(128, 64)}),
        "holds model.layers.7.mlp.up_proj.weight, which the base model does not have",
    ),
    "a grown vocabulary": (
        lambda weights: weights.update({f"{MODEL}embed_tokens.weight": torch.zeros(VOCABULARY + 1, 64)}),
        "holds model.embed_tokens.weight as 301 x 64, the base model has 300 x 64; a changed vocabulary",
    ),
    "a bias where the base has none": (
        lambda weights: weights.update({f"{Q_PROJ}lora_B.bias": torch.zeros(64)}),
        "has a bias for model.layers.0.self_attn.q_proj (lora_bias), which has none in the base model",
    ),
    "tied weights that differ": (
        lambda weights: weights.update(
            {
                f"{MODEL}embed_tokens.weight": torch.zeros(VOCABULARY, 64),
                "base_model.model.lm_head.weight": torch.ones(VOCABULARY, 64),
            }
        ),
        "two different tensors for the tied weights model.embed_tokens.weight and lm_head.weight",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_weights_of_an_adapter_that_find_no_place(tmp_path: Path, name: str) -> None:
    damage, said = DAMAGE[name]
    base_dir = save_base(llama(tied=True), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["q_proj"])
    edit_weights(adapter_dir, damage)
    assert said in refused(base_dir, adapter_dir)


def test_a_magnitude_of_another_layer(tmp_path: Path) -> None:
    base_dir = save_base(llama(tied=True), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["q_proj"], use_dora=True)
    edit_weights(adapter_dir, lambda weights: weights.update({f"{Q_PROJ}lora_magnitude_vector": torch.ones(32)}))
    assert "the magnitude of model.layers.0.self_attn.q_proj is 32 | train again" in refused(base_dir, adapter_dir)


def test_an_adapter_without_its_files(tmp_path: Path) -> None:
    base_dir = save_base(llama(tied=True), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["q_proj"])
    (adapter_dir / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors is missing | train again" in refused(base_dir, adapter_dir)
    (adapter_dir / "adapter_config.json").write_text("[]")
    assert "adapter_config.json is damaged: not an object" in refused(base_dir, adapter_dir)


def test_an_adapter_in_a_pytorch_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    base_dir = save_base(llama(tied=True), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", **KINDS["dora"])
    expected = our_merge(base_dir, adapter_dir)
    path = adapter_dir / "adapter_model.safetensors"
    torch.save(load_file(path), adapter_dir / "adapter_model.bin")
    path.unlink()
    found = our_merge(base_dir, adapter_dir)
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)


def test_a_base_that_lacks_a_weight_or_holds_it_as_integers(tmp_path: Path) -> None:
    base_dir = save_base(llama(tied=True), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["q_proj"])
    changed = "model.layers.1.self_attn.q_proj.weight"
    state = {name: value for name, value in torch_state(base_dir).items() if name != "lm_head.weight"}
    integers = with_weights(base_dir, tmp_path / "integers", {**state, changed: state[changed].to(torch.int8)})
    assert f"{changed} is stored as I8: an adapter cannot be added to it" in refused(integers, adapter_dir)
    del state[changed]
    assert "the adapter changes model.layers.1.self_attn.q_proj, for which the base's files hold no weight" in refused(
        with_weights(base_dir, tmp_path / "lacking", state), adapter_dir
    )


def test_experts_that_transformers_joins_while_loading(tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=VOCABULARY, num_key_value_heads=2, num_local_experts=2, **sizes)
    base_dir = save_base(MixtralForCausalLM(config), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["q_proj"])
    assert len(our_merge(base_dir, adapter_dir)) == len(list(WeightFiles.open(base_dir).tensors))
    joined = f"{MODEL}layers.0.mlp.experts.gate_up_proj"
    edit_weights(adapter_dir, lambda weights: weights.update({joined: torch.zeros(2, 64, 64)}))
    assert (
        "model.layers.0.mlp.experts.gate_up_proj, which the weight files hold in pieces that Transformers joins while "
        "loading; merging into such layers is not supported | merge with PEFT's merge_and_unload"
    ) in refused(base_dir, adapter_dir)


def test_an_adapter_that_makes_a_weight_infinite(tmp_path: Path) -> None:
    from medqa_cli.errors import MedqaError

    base_dir = save_base(llama(tied=True), tmp_path / "base", torch.float16)
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["q_proj"])
    edit_config(adapter_dir, lambda config: config.update(lora_alpha=1e7))
    with pytest.raises(MedqaError, match=r"q_proj\.weight holds values that are not finite"):
        our_merge(base_dir, adapter_dir)


def test_a_base_that_is_stored_quantized(tmp_path: Path) -> None:
    base_dir = save_base(llama(tied=True), tmp_path / "base")
    adapter_dir = save_adapter(base_dir, tmp_path / "adapter", target_modules=["q_proj"])
    edit = (base_dir / "config.json").read_text().replace("{", '{"quantization_config": {"quant_method": "gptq"},', 1)
    (base_dir / "config.json").write_text(edit)
    assert "is stored quantized (gptq)" in refused(base_dir, adapter_dir)
