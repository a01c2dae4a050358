"""The adapter folder stands by itself: the program in its card loads it with plain PEFT and answers like ``ask``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from helpers.commands import Outcome
from medqa_cli.cards import PLACEHOLDER
from medqa_cli.prompt.encoder import PromptContract, PromptEncoder


@pytest.mark.parametrize("template", ["chat", "llama2"])
def test_the_card_of_an_adapter_tells_how_to_load_it_without_medqa(
    tmp_path: Path,
    tiny_model_dir: Path,
    medqa: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    template: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("glaucoma", "asthma", "gout", "angina", "anemia", "eczema", "migraine", "mumps")
    rows = [
        f"What is {name}{more}?,{name.capitalize()}{more} is a disease of the nerve number {index}."
        for index, name in enumerate(names)
        for more in ("", " of childhood", " with fever", "osis", "itis")
    ]
    Path("qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    Path("medqa.yaml").write_text(
        f"""
data: {{source: qa.csv, dir: data}}
run_dir: run
prompt: {{template: {template}, system: Answer the Question}}
model: {{name_or_path: {tiny_model_dir}, double_quantization: true, max_length: 128, compute_dtype: float32}}
lora: {{r: 4, lora_alpha: 16, target_modules: all-linear, lora_dropout: 0.0}}
train: {{max_steps: 12, learning_rate: 1e-2, gradient_checkpointing: false}}
generate: {{max_new_tokens: 16}}
""",
        encoding="utf-8",
    )
    assert medqa("convert").code == 0
    assert medqa("train").code == 0
    answers = [
        json.loads(medqa("ask", "How to treat glaucoma?", "--json", "--model", model).out)["answer"]
        for model in ("adapter", "base")
    ]
    assert answers[0]
    assert answers[0] != answers[1]

    adapter = tmp_path / "run/adapter"
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "prompt.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "README.md",
    }
    assert len({path.stat().st_mode for path in adapter.iterdir()}) == 1  # all as readable as the others
    tokenizer, contract = AutoTokenizer.from_pretrained(adapter), PromptContract.load(adapter)
    message = {"role": "user", "content": "How to treat glaucoma?"}
    asked = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
    assert list(asked) == PromptEncoder(contract, tokenizer).encode_prompt("How to treat glaucoma?")
    card = (adapter / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in card
    code = card.partition("```python\n")[2].partition("\n```")[0]
    assert PLACEHOLDER in code
    program = "import sys; sys.modules['medqa_cli'] = None\n" + code.replace(PLACEHOLDER, str(tiny_model_dir))
    assert "max_new_tokens=256" in program
    program = program.replace("max_new_tokens=256", "max_new_tokens=16")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=adapter, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == answers[0]
