"""The adapter folder stands by itself: the program in its card loads it with plain PEFT and answers like ``ask``."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from helpers.commands import Outcome
from helpers.models import make_tiny_model
from medqa_cli.cards import PLACEHOLDER
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.prompt.encoder import PromptEncoder

# Runs the programs that it is given by folder, each in its folder, without medqa; prints what each one says.
RUN_ALL = """
import contextlib, io, json, os, sys

sys.modules["medqa_cli"] = None
said = {}
for folder, program in json.loads(sys.argv[1]).items():
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(program, {"__name__": "__main__"})
    said[folder] = out.getvalue().strip()
print(json.dumps(said))
"""


def test_the_card_of_an_adapter_tells_how_to_load_it_without_medqa(
    tmp_path: Path,
    tiny_model_dir: Path,
    bos_tokenizer: Any,
    medqa: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Llama 2's tokenizer puts a BOS before a text, which ChatML's does not.
    with_bos = tmp_path / "with-bos"
    make_tiny_model(len(bos_tokenizer)).save_pretrained(with_bos)
    bos_tokenizer.save_pretrained(with_bos)
    programs, answers = {}, {}
    for template, base in (("chat", tiny_model_dir), ("llama2", with_bos)):
        folder = tmp_path / template
        folder.mkdir()
        monkeypatch.chdir(folder)
        answers[str(folder / "run/adapter")] = train_and_ask(template, base, medqa)
        programs[str(folder / "run/adapter")] = program_of_the_card(folder / "run/adapter", base)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", RUN_ALL, json.dumps(programs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == answers


def train_and_ask(template: str, base: Path, medqa: Callable[..., Outcome]) -> str:
    """Train in the current folder; return the adapter's answer, which is not the base's."""
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
model: {{name_or_path: {base}, double_quantization: true, max_length: 128, compute_dtype: float32}}
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
    return str(answers[0])


def program_of_the_card(adapter: Path, base: Path) -> str:
    """Check the folder; return the program in its card, with the base's place and for a short answer."""
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
    assert str(adapter.parent.parent) not in card
    code = card.partition("```python\n")[2].partition("\n```")[0]
    assert PLACEHOLDER in code
    program = code.replace(PLACEHOLDER, str(base))
    assert "max_new_tokens=256" in program
    # Double quantization changes too little to be seen in the answer of a tiny model.
    assert 'quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32' in program
    return program.replace("max_new_tokens=256", "max_new_tokens=16")
