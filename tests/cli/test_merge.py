"""``medqa merge`` as a user types it: what it writes, what it does not do twice, and what stops it."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import Outcome, run_in
from helpers.models import make_chatml_tokenizer, make_tiny_model
from medqa_cli.merging import model_folder, verify
from medqa_cli.merging import run as merging
from medqa_cli.merging.streaming_model import NotStreamable
from medqa_cli.model.weights import WeightFiles

Medqa = Callable[..., Outcome]

CONDITIONS = ("glaucoma", "asthma", "gout", "anemia", "migraine", "eczema", "measles", "rabies", "scurvy", "tetanus")
CONFIG = """\
data: {{source: qa.csv, dir: data, validation_fraction: 0.3, test_fraction: 0.1}}
run_dir: run
prompt: {{template: chat}}
model: {{name_or_path: base, quantization: {quantization}, double_quantization: true, max_length: 256,
  compute_dtype: float32}}
lora: {{r: 4, lora_alpha: 16, target_modules: all-linear}}
train: {{max_steps: 4, learning_rate: 1e-2, gradient_checkpointing: false, logging_steps: 1}}
"""
FILES = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merge.json",
    "prompt.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def make_workspace(folder: Path, model: Any, tokenizer: Any, quantization: str) -> None:
    rows = [
        f'"{asked} {name}?","{name} is number {i}."'
        for i, name in enumerate(CONDITIONS)
        for asked in ("What is", "Why")
    ]
    (folder / "qa.csv").write_text("\n".join(["question,answer", *rows]) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(CONFIG.format(quantization=quantization), encoding="utf-8")
    model.to(torch.bfloat16).save_pretrained(folder / "base", max_shard_size="100KB")
    tokenizer.save_pretrained(folder / "base")


def large_steps_model(vocabulary_size: int) -> Any:
    """Weights that 4-bit quantization changes much, so that the two bases give different models."""
    model = make_tiny_model(vocabulary_size)
    for name, parameter in model.named_parameters():
        if "proj" in name:
            parameter.data *= 8
    return model


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, chatml_tokenizer: Any) -> dict[str, Path]:
    found = {}
    for quantization in ("nf4", "none", "int8"):
        folder = tmp_path_factory.mktemp(quantization)
        make_workspace(folder, large_steps_model(len(chatml_tokenizer)), chatml_tokenizer, quantization)
        run_in(folder, "convert")
        run_in(folder, "train")
        found[quantization] = folder
    return found


def enter(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def any_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pass what stands on original weights: on this random model they are worse by chance."""
    monkeypatch.setattr(verify, "NLL_TOLERANCE", 1.0)


@pytest.fixture
def trained(trained_once: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder after ``convert`` and a training run beside NF4 weights; a copy that a test may damage."""
    return enter(trained_once["nf4"], tmp_path, monkeypatch)


def merged(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def fails(outcome: Outcome, code: int, *said: str) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    missing = [text for text in said if text not in outcome.err]
    assert not missing, outcome.err


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def nothing_left_over() -> None:
    assert [path.name for path in Path("run").iterdir() if path.name.startswith(".")] == []


# What it writes


def test_auto_compares_both_and_leaves_the_trained_weights_only_for_a_gain(trained: Path, medqa: Medqa) -> None:
    outcome = medqa("merge", "--json")
    summary = merged(outcome)
    folder = Path("run/merged")
    assert summary == json.loads((folder / "merge.json").read_text())
    shards = {path.name for path in folder.glob("model-*-of-*.safetensors")}
    assert len(shards) == len(list(Path("base").glob("model-*.safetensors"))) > 2
    assert {path.name for path in folder.iterdir()} == FILES | shards | {"model.safetensors.index.json"}
    found = summary["verification"]
    nll = found["answer_nll"]
    gain = found["nll_difference"]["original-nf4"]
    is_likelier = gain["value"] < -1.96 * gain["standard_error"]
    assert summary["base_weights"] == ("original" if is_likelier else "nf4")
    assert f"{nll[summary['base_weights']]:.4f}" in summary["reason"]
    own = found["candidates"][summary["base_weights"]]
    assert [found[key] for key in ("mean_kl", "top1_agreement", "max_abs_logit_difference")] == [
        own[key] for key in ("mean_kl", "top1_agreement", "max_abs_logit_difference")
    ]
    faithful, other, floor = found["candidates"]["nf4"], found["candidates"]["original"], found["noise_floor"]
    # Rounding to bfloat16 is all that separates the one from base + adapter; the other stands on other weights.
    assert 0 < faithful["mean_kl"] < 1e-3 < other["mean_kl"]
    assert nll["nf4"] == pytest.approx(nll["adapter"], abs=1e-3)
    assert abs(nll["original"] - nll["adapter"]) > 1e-3
    assert floor["mean_kl"] > 0
    assert found["passed"] is True
    assert found["questions"] == len(Path("data/validation.jsonl").read_text().splitlines())
    assert summary["trained_with"] == {
        "quantization": "nf4",
        "double_quantization": True,
        "compute_dtype": summary["trained_with"]["compute_dtype"],
    }
    assert (
        summary["total_size_bytes"]
        == json.loads((folder / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    )
    assert summary["largest_tensor_bytes"] <= summary["total_size_bytes"]


@pytest.mark.parametrize("wanted", ["nf4", "original"])
def test_asked_for_base_weights_are_taken(trained: Path, medqa: Medqa, wanted: str) -> None:
    summary = merged(medqa("merge", "--json", "--base-weights", wanted))
    assert (summary["base_weights"], summary["reason"]) == (wanted, "requested")
    assert set(summary["verification"]["candidates"]) == {"nf4", "original"}


def test_switching_to_the_better_one_writes_its_weights(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {}
    for name in ("nf4", "original"):
        merged(medqa("merge", "--json", "--base-weights", name, "--out", name))
        weights[name] = {k: v for k, v in content(Path(name)).items() if k.startswith("model")}
    assert weights["nf4"] != weights["original"]
    for name in ("nf4", "original"):
        monkeypatch.setattr(verify.Verification, "better", lambda self, name=name: name)
        assert merged(medqa("merge", "--json", "--out", f"auto-{name}"))["base_weights"] == name
        assert {k: v for k, v in content(Path(f"auto-{name}")).items() if k.startswith("model")} == weights[name]


def test_a_file_that_is_not_what_was_measured(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    real = merging.MergedModel.write

    def write_badly(model: merging.MergedModel, name: str) -> None:
        real(model, name)
        if name == "original":
            path = next(model.folder.glob("model-00001-*"))
            path.write_bytes(path.read_bytes()[:-1] + b"\x01")

    monkeypatch.setattr(merging.MergedModel, "write", write_badly)
    monkeypatch.setattr(verify.Verification, "better", lambda self: "original")
    fails(medqa("merge"), 1, "was not written as it was computed")
    assert not Path("run/merged").exists()
    nothing_left_over()


def test_plain_transformers_computes_base_plus_adapter(trained: Path, medqa: Medqa) -> None:
    """Nothing of medqa: AutoModel and AutoTokenizer on the folder, PEFT and bitsandbytes on the other side."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    merged(medqa("merge", "--json", "--base-weights", "nf4"))
    tokenizer = AutoTokenizer.from_pretrained("run/merged")
    model, info = AutoModelForCausalLM.from_pretrained("run/merged", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float16  # the base is stored as bfloat16, the training computed in float32
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForCausalLM.from_pretrained("base", dtype=torch.float32, quantization_config=how)
    tuned = PeftModel.from_pretrained(base, "run/adapter").eval()
    messages = [{"role": "user", "content": "What is gout?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        ours, theirs = model.float()(**inputs).logits, tuned(**inputs).logits
        with tuned.disable_adapter():
            without = tuned(**inputs).logits
    assert (ours - theirs).abs().max() < 0.1 * (without - theirs).abs().max()
    stops = json.loads(Path("run/merged/prompt.json").read_text())["stop_token_ids"]
    assert model.generation_config.eos_token_id == stops == [tokenizer.eos_token_id]
    assert model.generate(**inputs, max_new_tokens=4, do_sample=False).shape[1] > inputs["input_ids"].shape[1]


def types_of(folder: str) -> tuple[set[str], str]:
    """The types of the tensors in the files, and what config.json says."""
    config = json.loads(Path(folder, "config.json").read_text())
    tensors = WeightFiles.open(Path(folder)).tensors.values()
    return {tensor.type_name for tensor in tensors}, config.get("dtype") or config["torch_dtype"]


def test_a_finer_type_of_the_same_size_is_nearer_to_base_and_adapter(trained: Path, medqa: Medqa) -> None:
    finer = merged(medqa("merge", "--json", "--base-weights", "nf4"))
    assert types_of("run/merged") == ({"F16"}, "float16")
    assert finer["dtype"] == "float16"
    coarser = merged(medqa("merge", "--json", "--base-weights", "nf4", "--dtype", "bfloat16"))
    assert types_of("run/merged") == ({"BF16"}, "bfloat16")
    assert coarser["dtype"] == "bfloat16"
    assert finer["total_size_bytes"] == coarser["total_size_bytes"]
    # Steps of a float16 are 8 times finer, the divergence goes with their square.
    assert finer["verification"]["mean_kl"] < 0.1 * coarser["verification"]["mean_kl"]
    exact = merged(medqa("merge", "--json", "--base-weights", "nf4", "--dtype", "float32"))
    assert types_of("run/merged") == ({"F32"}, "float32")
    assert exact["verification"]["mean_kl"] < 0.1 * finer["verification"]["mean_kl"]
    assert exact["total_size_bytes"] == 2 * finer["total_size_bytes"]


def test_large_activations_keep_the_type_of_the_base(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "largest_activation", lambda model: 60_000.0)
    outcome = medqa("merge", "--json", "--base-weights", "nf4")
    summary = merged(outcome)
    assert "activations reach 6e+04, too large for float16" in outcome.err
    assert types_of("run/merged") == ({"BF16"}, "bfloat16")
    assert summary["dtype"] == "bfloat16"
    asked_for = merged(medqa("merge", "--json", "--base-weights", "nf4", "--dtype", "float16"))
    assert types_of("run/merged")[0] == {"F16"}
    assert asked_for["verification"]["largest_activation"] == 60_000.0


def test_a_training_that_computed_as_coarsely_as_the_base_is_stored(trained: Path, medqa: Medqa) -> None:
    path = Path("run/environment.json")
    recorded = json.loads(path.read_text())
    assert recorded["compute_dtype"] == "float32"
    path.write_text(json.dumps({**recorded, "compute_dtype": "bfloat16"}))
    summary = merged(medqa("merge", "--json", "--base-weights", "nf4"))
    assert types_of("run/merged") == ({"BF16"}, "bfloat16")
    assert summary["trained_with"]["compute_dtype"] == "bfloat16"


def test_without_a_comparison_the_type_of_the_base_is_kept(trained: Path, medqa: Medqa) -> None:
    Path("data/validation.jsonl").unlink()
    merged(medqa("merge", "--json", "--base-weights", "nf4"))
    assert types_of("run/merged") == ({"BF16"}, "bfloat16")


def test_changes_that_a_file_is_too_coarse_for_are_counted(trained: Path, medqa: Medqa) -> None:
    from safetensors.torch import load_file, save_file

    path = "run/adapter/adapter_model.safetensors"
    tiny = {name: value * (1e-6 if "lora_B" in name else 1) for name, value in load_file(path).items()}
    save_file(tiny, path, metadata={"format": "pt"})
    outcome = medqa("merge", "--json", "--gguf", "q4_0")
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("run/merged/merge.json").read_text())["changes_below_half_a_step"] == {"q4_0": 1, "q8_0": 1}
    assert "smaller than half a quantization step: 100.0% of them in q4_0" in " ".join(outcome.err.split())


def test_the_chat_template_asks_as_medqa_does(trained: Path, medqa: Medqa) -> None:
    from transformers import AutoTokenizer

    merged(medqa("merge", "--json"))
    tokenizer = AutoTokenizer.from_pretrained("run/merged")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is gout?"}], add_generation_prompt=True, return_dict=False
    )
    asked = json.loads(
        medqa("ask", "--json", "--model", "merged", "What is gout?", "--set", "generate.max_new_tokens=2").out
    )
    assert asked["prompt_tokens"] == len(ids)
    assert "Answer the Question" in tokenizer.decode(ids)


def test_the_model_card_names_no_path(trained: Path, medqa: Medqa) -> None:
    absolute = str(trained / "base")
    config = json.loads(Path("run/adapter/adapter_config.json").read_text())
    Path("run/adapter/adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": absolute}))
    summary = merged(medqa("merge", "--json"))
    card = Path("run/merged/README.md").read_text()
    assert str(trained) not in card
    for said in ("Base: base", "rank 4", "Not for clinical use", "trained on nf4 (double quantization)", "qa.csv"):
        assert said in card
    assert f"{summary['verification']['candidates']['nf4']['mean_kl']:.2e}" in card


def test_merge_without_json_prints_the_comparison_as_a_table(trained: Path, medqa: Medqa) -> None:
    shown = medqa("merge")
    assert shown.code == 0, shown.err
    for said in (
        "base weights",
        "merged into nf4",
        "merged into original",
        "noise floor",
        "top-1 agreement",
        "run/merged",
    ):
        assert said in shown.out


# Bases and adapters of other kinds


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_an_adapter_that_was_not_trained_in_four_bit(
    trained_once: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, medqa: Medqa, quantization: str
) -> None:
    enter(trained_once[quantization], tmp_path, monkeypatch)
    kind = {"none": "unquantized", "int8": "int8"}[quantization]
    fails(medqa("merge", "--base-weights", "nf4"), 2, f"was trained on {kind} weights", "--base-weights original")
    summary = merged(medqa("merge", "--json"))
    assert (summary["base_weights"], list(summary["verification"]["candidates"])) == ("original", ["original"])
    assert summary["verification"]["answer_nll"]["nf4"] is None
    if quantization == "none":
        # The weights are those of the training: it must be faithful.
        assert summary["verification"]["mean_kl"] < 1e-3


def test_the_config_does_not_overrule_the_record(trained: Path, medqa: Medqa) -> None:
    summary = merged(medqa("merge", "--json", "--set", "model.quantization=none"))
    assert summary["trained_with"]["quantization"] == "nf4"


def test_an_adapter_of_plain_peft(trained: Path, medqa: Medqa) -> None:
    Path("run/environment.json").unlink()
    for path in Path("run/adapter").iterdir():
        if not path.name.startswith("adapter_"):
            path.unlink()
    outcome = medqa("merge", "--json")
    summary = merged(outcome)
    assert "was not trained by medqa" in outcome.err
    assert "does not record how the base was quantized" in outcome.err
    assert summary["trained_with"]["quantization"] == "nf4"
    assert summary["verification"]["passed"] is True
    assert json.loads(Path("run/merged/prompt.json").read_text())["text"]["template"] == "chat"


def test_a_base_by_hub_id_comes_from_the_cache(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = trained / "hub/models--tiny--llama"
    shutil.copytree("base", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(trained / "hub"))
    expected = merged(medqa("merge", "--json", "--base-weights", "nf4", "--out", "by-folder"))
    path = Path("run/adapter/adapter_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "tiny/llama"}))
    monkeypatch.setattr(merging, "load_base", lambda source, *rest, **how: real_load_base(local(source), *rest, **how))
    found = merged(medqa("merge", "--json", "--base-weights", "nf4", "--out", "by-id"))
    assert found["inputs"]["base"]["name"] == "tiny/llama"
    weights = [
        {k: v for k, v in content(Path(name)).items() if k.startswith("model")} for name in ("by-folder", "by-id")
    ]
    assert weights[0] == weights[1]
    assert 'base_model: "tiny/llama"' in Path("by-id/README.md").read_text()
    assert expected["verification"]["mean_kl"] == found["verification"]["mean_kl"]
    next(repository.glob("snapshots/*/model-00002-*")).unlink()
    fails(medqa("merge", "--out", "cut"), 2, "tiny/llama has no file model-00002-of", "three ways to get a model")


def local(source: Any) -> Any:
    """The same model as a folder: Transformers read the place of the hub's cache when it was imported."""
    from medqa_cli.model.resolve import ModelRef

    return ModelRef("base", "base", "folder")


real_load_base = merging.load_base


# Not twice


def test_a_second_merge_does_nothing(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    first = merged(medqa("merge", "--json"))
    before = {path.name: path.stat().st_mtime_ns for path in Path("run/merged").iterdir()}

    def not_again(*_: Any, **__: Any) -> None:
        raise AssertionError("it merged again")

    with monkeypatch.context() as patch:
        patch.setattr(merging.MergedModel, "write", not_again)
        again = medqa("merge", "--json")
    assert merged(again) == first
    assert "run/merged already holds this merge; it is not made again" in again.err
    assert {path.name: path.stat().st_mtime_ns for path in Path("run/merged").iterdir()} == before


def cut_a_shard() -> None:
    path = next(Path("run/merged").glob("model-00001-*"))
    path.write_bytes(path.read_bytes()[:-10])


def train_on() -> None:
    from safetensors.torch import load_file, save_file

    path = "run/adapter/adapter_model.safetensors"
    save_file({name: value * 1.5 for name, value in load_file(path).items()}, path, metadata={"format": "pt"})


def touch_the_base() -> None:
    os.utime(next(Path("base").glob("model-00001-*")))


def other_questions() -> None:
    path = Path("data/validation.jsonl")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def damage_merge_json() -> None:
    Path("run/merged/merge.json").write_text("{")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut_a_shard, "is incomplete (model-00001"),
        (train_on, "of other inputs, which is replaced"),
        (touch_the_base, "of other inputs, which is replaced"),
        (other_questions, "of other inputs, which is replaced"),
        (damage_merge_json, "is damaged: merging again"),
    ],
)
def test_what_changed_is_merged_again(trained: Path, medqa: Medqa, change: Callable[[], None], said: str) -> None:
    merged(medqa("merge", "--json"))
    change()
    again = medqa("merge", "--json")
    merged(again)
    assert said in again.err
    assert "it is not made again" in medqa("merge").err


# What stops it


def test_a_model_that_fails_its_comparison_is_put_aside(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged(medqa("merge", "--json", "--base-weights", "original"))
    before = content(Path("run/merged"))
    monkeypatch.setattr(verify, "MAX_MEAN_KL", 1e-12)
    outcome = medqa("merge", "--base-weights", "nf4")
    fails(outcome, 1, "does not answer like base + adapter", "mean KL divergence", "moved to run/merged.failed")
    assert content(Path("run/merged")) == before
    failed = json.loads(Path("run/merged.failed/merge.json").read_text())
    assert (failed["base_weights"], failed["verification"]["passed"]) == ("nf4", False)
    assert "mean KL" in failed["verification"]["problem"]
    nothing_left_over()
    # Auto leaves the one that does not fit.
    assert merged(medqa("merge", "--json"))["base_weights"] == "original"


def test_a_worse_model_on_other_weights_is_put_aside(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "NLL_TOLERANCE", -10.0)
    monkeypatch.setattr(verify, "paired_difference", lambda *_: (0.5, 0.1))
    outcome = medqa("merge", "--base-weights", "original")
    fails(outcome, 1, "less likely than the adapter's by 0.5000 nats per token (standard error 0.1000")
    assert Path("run/merged.failed/merge.json").is_file()
    assert not Path("run/merged").exists()


def test_nothing_to_compare_on_is_said(trained: Path, medqa: Medqa) -> None:
    Path("data/validation.jsonl").unlink()
    outcome = medqa("merge", "--json")
    summary = merged(outcome)
    assert (summary["base_weights"], summary["verification"]) == ("nf4", None)
    assert "no validation split" in summary["not_verified"]
    assert "was not compared with base + adapter" in outcome.err
    assert "not compared with base + adapter" in medqa("merge").out
    assert "It was not compared" in Path("run/merged/README.md").read_text()


def test_too_little_memory_to_compare_is_said(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "free_memory_bytes", lambda device: 1 << 29)
    summary = merged(medqa("merge", "--json"))
    assert summary["verification"] is None
    assert "0.5 GiB are available" in summary["not_verified"]


def test_a_model_that_cannot_be_read_layer_by_layer_is_not_compared(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotStreamable("the files hold no separate tensor for gate_up_proj")

    monkeypatch.setattr(merging, "streamed_model", refuse)
    outcome = medqa("merge", "--json")
    assert merged(outcome)["not_verified"] == "the files hold no separate tensor for gate_up_proj"
    assert "was not compared with base + adapter: the files hold no separate tensor for gate_up_proj" in outcome.err
    # It is in float16 only if a comparison has shown that activations fit.
    assert types_of("run/merged") == ({"BF16"}, "bfloat16")


def test_a_chat_template_that_is_not_exact_is_said(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "install_chat_template", lambda tokenizer, contract: False)
    outcome = medqa("merge", "--json")
    assert merged(outcome)["chat_template_exact"] is False
    assert "cannot give exactly the prompt that was trained on; use prompt.json, or ask with: medqa ask" in outcome.err


def test_what_a_killed_merge_left_behind_is_removed_by_the_next(trained: Path, medqa: Medqa) -> None:
    Path("run/.merged.abcd_123.tmp").mkdir()
    merged(medqa("merge", "--json"))
    nothing_left_over()


@pytest.mark.parametrize("report", [None, "{}", "[]", "cut off {"])
def test_a_report_of_the_data_that_says_nothing_does_not_stop_a_merge(
    trained: Path, medqa: Medqa, report: str | None
) -> None:
    path = Path("data/report.json")
    path.unlink()
    if report is not None:
        path.write_text(report)
    assert merged(medqa("merge", "--json"))["data"] is None


def test_a_base_stored_in_another_type_without_a_record_of_the_training(trained: Path, medqa: Medqa) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("base", dtype=torch.float32)
    for path in Path("base").glob("model*"):
        path.unlink()
    model.save_pretrained("base")
    auto = ("--set", "model.compute_dtype=auto")
    warning = "the base is stored as F32: 4-bit weights are made as a training run in "
    assert warning not in medqa("merge", "--json", *auto).err
    path = Path("run/environment.json")
    recorded = json.loads(path.read_text())
    del recorded["compute_dtype"]
    path.write_text(json.dumps({**recorded, "device": "another machine"}))
    shutil.rmtree("run/merged")  # where auto is the training's float32 as well, nothing would be done
    outcome = medqa("merge", "--json", *auto)
    merged(outcome)
    assert warning in outcome.err
    assert "set model.compute_dtype to that" in outcome.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("base/config.json", "[]", "base/config.json is damaged: not an object"),
        ("base/generation_config.json", "[]", "base/generation_config.json is damaged: not an object"),
        ("run/environment.json", '{"trained_with": {"model.quantization": "nf5"}}', "model.quantization 'nf5'"),
    ],
)
def test_a_damaged_file_beside_the_weights(trained: Path, medqa: Medqa, name: str, content: str, said: str) -> None:
    Path(name).write_text(content)
    fails(medqa("merge"), 2, said)
    assert not Path("run/merged").exists()
    nothing_left_over()


def test_an_environment_that_is_none_counts_as_not_recorded(trained: Path, medqa: Medqa) -> None:
    Path("run/environment.json").write_text("[]")
    outcome = medqa("merge", "--json", "--set", "model.compute_dtype=auto")
    assert merged(outcome)["trained_with"]["quantization"] == "nf4"
    assert "does not record how the base was quantized" in outcome.err


def test_a_missing_shard_of_the_base(trained: Path, medqa: Medqa) -> None:
    next(Path("base").glob("model-00002-*")).unlink()
    fails(medqa("merge"), 2, "base is incomplete: model-00002-of", "copy or download")
    assert not Path("run/merged").exists()


def test_a_shard_of_the_base_that_was_cut_short(trained: Path, medqa: Medqa) -> None:
    path = next(Path("base").glob("model-00002-*"))
    path.write_bytes(path.read_bytes()[:-100])
    fails(medqa("merge"), 2, f"{path} is damaged or cut short", "copy or download it again")
    assert not Path("run/merged").exists()


def test_an_adapter_of_another_base(trained: Path, medqa: Medqa, chatml_tokenizer: Any) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    merged(medqa("merge", "--json"))
    before = content(Path("run/merged"))
    sizes = {"intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(chatml_tokenizer), hidden_size=96, **sizes)
    shutil.rmtree("base")
    LlamaForCausalLM(config).save_pretrained("base")
    fails(medqa("merge"), 2, "does not fit the base model", "base_model_name_or_path in adapter_config.json")
    assert content(Path("run/merged")) == before


def test_another_prompt_for_an_adapter_without_a_contract_merges_again(trained: Path, medqa: Medqa) -> None:
    """The prompt of such an adapter is the config's; it used to be taken for the merge that was there."""
    Path("run/adapter/prompt.json").unlink()
    Path("data/validation.jsonl").unlink()
    plain = ("merge", "--json", "--set", "prompt.template=plain")
    merged(medqa("merge", "--json"))
    merged(medqa(*plain))
    assert json.loads(Path("run/merged/prompt.json").read_text())["text"]["template"] == "plain"
    assert "already holds this merge" in medqa(*plain).err


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (lambda name: True, "changes nothing: all its B matrices are zero"),
        (lambda name: ".layers.0." in name, "is incomplete: its file lacks 14 tensors"),
    ],
    ids=["zero", "half"],
)
def test_an_adapter_without_effect_is_refused_by_every_command(
    trained: Path, medqa: Medqa, kept: Callable[[str], bool], said: str
) -> None:
    from safetensors.torch import load_file, save_file

    path = "run/adapter/adapter_model.safetensors"
    tensors = {name: value * ("lora_B" not in name) for name, value in load_file(path).items() if kept(name)}
    save_file(tensors, path, metadata={"format": "pt"})
    for command in (["merge"], ["ask", "Why?"], ["eval", "--limit", "1"]):
        fails(medqa(*command), 2, said)


def test_a_base_that_lacks_weights_is_refused_by_every_command(trained: Path, medqa: Medqa) -> None:
    shard = next(Path("base").glob("model-00002-*"))
    names = json.loads(Path("base/model.safetensors.index.json").read_text())
    lost = [name for name, file in names["weight_map"].items() if file == shard.name]
    names["weight_map"] = {name: file for name, file in names["weight_map"].items() if name not in lost}
    Path("base/model.safetensors.index.json").write_text(json.dumps(names))
    shard.unlink()
    said = f"the files of base lack {len(lost)} weights of the model: "
    for command in (["merge"], ["ask", "Why?"], ["eval", "--limit", "1"], ["train", "--restart"]):
        fails(medqa(*command), 2, said)
    assert Path("run/adapter/adapter_model.safetensors").is_file()


def test_a_tokenizer_larger_than_the_model_is_refused_by_every_command(trained: Path, medqa: Medqa) -> None:
    tokenizer = make_chatml_tokenizer()
    size = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<|new|>")
    for folder in ("base", "run/adapter"):
        tokenizer.save_pretrained(folder)
    prompt = json.loads(Path("run/adapter/prompt.json").read_text())
    prompt["text"]["before_question"] = "<|new|>" + prompt["text"]["before_question"]
    Path("run/adapter/prompt.json").write_text(json.dumps(prompt))
    said = f"token id {size} ('<|new|>'), but the model has embeddings for {size} ids (0 to {size - 1})"
    commands = (["convert", "--force"], ["train", "--restart"], ["ask", "Why?"], ["eval", "--limit", "1"], ["merge"])
    for command in commands:
        fails(medqa(*command), 2, said)


def test_a_full_disk(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    merged(medqa("merge", "--json", "--base-weights", "original"))
    before = content(Path("run/merged"))
    with monkeypatch.context() as patch:
        usage = type(shutil.disk_usage("."))(10**9, 10**9 - 1000, 1000)
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        fails(medqa("merge", "--base-weights", "nf4"), 1, "not enough room for the merged model", "--out DIR")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(model_folder, "_write_all", full)
        fails(medqa("merge", "--base-weights", "nf4"), 1, "no space is left on the disk", "nothing was changed")
    assert content(Path("run/merged")) == before
    nothing_left_over()


def test_an_interrupted_merge_changes_nothing(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    merged(medqa("merge", "--json", "--base-weights", "original"))
    before = content(Path("run/merged"))
    real, calls = model_folder._write_all, []

    def interrupt(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(model_folder, "_write_all", interrupt)
        fails(medqa("merge", "--base-weights", "nf4"), 130, "interrupted")
    assert content(Path("run/merged")) == before
    nothing_left_over()
    merged(medqa("merge", "--json", "--base-weights", "nf4"))


def test_a_wrong_kind_of_base_weights(trained: Path, medqa: Medqa) -> None:
    fails(medqa("merge", "--base-weights", "nf5"), 2, "'nf5' is not one of 'nf4', 'original', 'auto'")


def test_a_merged_model_can_be_evaluated_and_asked(trained: Path, medqa: Medqa) -> None:
    summary = merged(medqa("merge", "--json", "--base-weights", "nf4"))
    outcome = medqa("eval", "--json", "--model", "adapter,merged", "--set", "eval.split=validation")
    assert outcome.code == 0, outcome.err
    models = json.loads(outcome.out)["models"]
    nll = {name: models[name]["nll"]["value"] for name in ("adapter", "merged")}
    measured = summary["verification"]["answer_nll"]
    # eval computes in the type of the config, the comparison in float32.
    assert nll["merged"] == pytest.approx(measured["nf4"], abs=0.02)
    assert nll["adapter"] == pytest.approx(measured["adapter"], abs=0.02)
