"""``medqa merge --gguf``: from the command line to files that load."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import Outcome, run_in
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.prompt.encoder import PromptEncoder

Medqa = Callable[..., Outcome]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("gguf") / "trained"
    shutil.copytree(tiny_model_dir, folder / "model")
    rows = [f"What is disease {i}?,Disease {i} is number {i * 7} of the list of diseases." for i in range(40)]
    (folder / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        """
run_dir: runs/tiny
data: {source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.2}
prompt: {template: chat, system: Answer the medical question.}
model: {name_or_path: model, max_length: 64, compute_dtype: float32, quantization: none}
lora: {r: 4, lora_alpha: 16, target_modules: all-linear}
train: {max_steps: 2, learning_rate: 1e-2, gradient_checkpointing: false}
generate: {max_new_tokens: 32}
""",
        encoding="utf-8",
    )
    run_in(folder, "convert")
    run_in(folder, "train")
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a training of its own, the current one."""
    shutil.copytree(trained_once, tmp_path / "trained")
    monkeypatch.chdir(tmp_path / "trained")
    return tmp_path / "trained"


def test_merge_writes_gguf_files_that_answer_as_the_merged_model(trained: Path, medqa: Medqa) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    outcome = medqa("merge", "--json", "--gguf", "f16", "q8_0,q4_0")
    assert outcome.code == 0, outcome.err
    written = json.loads(outcome.out)["gguf"]
    folder = Path("runs/tiny/gguf")
    assert [one["path"] for one in written] == [str(folder / f"tiny-{kind}.gguf") for kind in ("f16", "q8_0", "q4_0")]
    beside = {"Modelfile", "gguf.json", "prompt"}
    assert {path.name for path in folder.iterdir()} == {Path(one["path"]).name for one in written} | beside
    assert "PARAMETER num_predict 32\n" in (folder / "Modelfile").read_text()
    contract = PromptContract.load(Path("runs/tiny/merged"))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="tiny-f16.gguf")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is disease 7?"}], add_generation_prompt=True, return_dict=False
    )
    own = AutoTokenizer.from_pretrained("runs/tiny/merged")
    assert ids == PromptEncoder(contract, own).encode_prompt("What is disease 7?")

    def logits(**options: Any) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(dtype=torch.float32, **options).eval()
        with torch.inference_mode():
            return model(torch.tensor([ids])).logits

    merged = logits(pretrained_model_name_or_path="runs/tiny/merged")
    packed = {"pretrained_model_name_or_path": folder, "quantization_config": GgufConfig(dequantize=True)}
    assert torch.allclose(logits(gguf_file="tiny-f16.gguf", **packed), merged, atol=2e-3)
    assert torch.allclose(logits(gguf_file="tiny-q8_0.gguf", **packed), merged, atol=5e-2)


def test_the_table_names_the_files_and_reading_one_says_how_far_it_is(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = medqa("merge", "--gguf", "q8_0", "--gguf", "q8_0")
    assert outcome.code == 0, outcome.err
    assert "tiny-q8_0.gguf" in outcome.out
    assert "ollama create tiny -f runs/tiny/gguf/Modelfile" in outcome.out
    told: list[str] = []

    @contextlib.contextmanager
    def status(text: str) -> Iterator[Callable[[str], None]]:
        yield told.append

    monkeypatch.setattr("medqa_cli.console.status", status)
    monkeypatch.setenv("MEDQA_CACHE_DIR", "cache")
    find_base("runs/tiny/gguf/tiny-q8_0.gguf")
    assert told[-1] == "dequantizing tiny-q8_0.gguf: 100 % ..."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--gguf", "q5_1"], "--gguf q5_1: no such file type"), (["q8_0"], "merge takes no argument; got: q8_0")],
)
def test_wrong_types_are_refused_before_anything_is_merged(
    trained: Path, medqa: Medqa, arguments: list[str], said: str
) -> None:
    outcome = medqa("merge", *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert not Path("runs/tiny/merged").exists()


def test_a_model_that_cannot_be_exported_is_refused_before_it_is_merged(trained: Path, medqa: Medqa) -> None:
    path = Path("model/config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_act": "gelu"}))
    outcome = medqa("merge", "--gguf", "q8_0")
    assert outcome.code == 2
    assert "its activation is gelu" in outcome.err
    assert "convert_hf_to_gguf.py" in outcome.err
    assert not Path("runs/tiny/merged").exists()
    assert medqa("merge").code == 0
