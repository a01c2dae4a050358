"""Training on preferences: tokens of the contract, the adapter as the reference, a run folder that the others take."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.commands import Outcome, fails
from medqa_cli.config.schema import PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.model.load import load_adapter, load_base
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.given import Given, Turn
from medqa_cli.training.dpo import encode_pairs, read_pairs

Medqa = Callable[..., Outcome]
NAMES = ("glaucoma", "asthma", "gout", "angina", "anemia", "eczema", "migraine", "mumps")
CONFIG = """
run_dir: run
data: {{dir: data, validation_fraction: 0.1, test_fraction: 0.2}}
prompt: {{template: chat}}
model: {{name_or_path: {folder}, quantization: {quantization}, compute_dtype: float32, max_length: 96}}
lora: {{r: 4, target_modules: all-linear, lora_dropout: 0.1}}
train: {{max_steps: 2, per_device_train_batch_size: 4, gradient_accumulation_steps: 1, learning_rate: 1e-2}}
dpo: {{max_steps: 6, pairs_per_step: 4, learning_rate: 1e-3}}
generate: {{max_new_tokens: 4}}
"""


def write_run(folder: Path, model_dir: Path, medqa: Medqa, quantization: str = "none") -> RunFolder:
    """Train a tiny adapter in the current folder, and write pairs in its prompt."""
    (folder / "medqa.yaml").write_text(CONFIG.format(folder=model_dir, quantization=quantization))
    rows = [f"What is {name}{more}?,{name} is a disease." for name in NAMES for more in ("", "itis", "osis", "oma")]
    (folder / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n")
    for command in (["convert", "qa.csv"], ["train"]):
        outcome = medqa(*command)
        assert outcome.code == 0, outcome.err
    run = RunFolder(folder / "run")
    run.review_dir.mkdir()
    prompt = json.loads((run.adapter_dir / "prompt.json").read_text())["text"]
    pairs = [
        {
            "prompt": prompt["before_question"] + f"What is {name}?" + prompt["after_question"],
            "chosen": prompt["answer_prefix"] + f"{name} is cured by rest.",
            "rejected": prompt["answer_prefix"] + f"Nobody knows {name}.",
            "rater": "anna",
            "strength": 1.0,
        }
        for name in NAMES
    ]
    run.preferences_path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return run


def margins(run: RunFolder, base_folder: Path, pairs: list[Any]) -> torch.Tensor:
    """Log-probability of the chosen less that of the rejected answer, by Transformers alone; float64 ``(pairs,)``."""
    from medqa_cli.config.schema import ModelConfig

    source = find_base(str(base_folder))
    model = load_base(source, ModelConfig(quantization="none"), torch.device("cpu"), torch.float32, packed=False)
    model = load_adapter(model, run.adapter_dir)

    def log_probability(prompt: list[int], answer: list[int]) -> float:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].double()
        return float(logits.log_softmax(-1)[torch.arange(len(answer)), answer].sum())

    return torch.tensor(
        [
            log_probability(p["prompt_ids"], p["chosen_ids"]) - log_probability(p["prompt_ids"], p["rejected_ids"])
            for p in pairs
        ]
    )


@pytest.mark.filterwarnings("ignore")
def test_the_preferred_answers_become_likelier_and_the_run_can_be_evaluated(
    tmp_path: Path, tiny_model_dir: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    run = write_run(tmp_path, tiny_model_dir, medqa)
    before = load_file(run.adapter_dir / "adapter_model.safetensors")
    outcome = medqa("train", "--method", "dpo", "--json")
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert summary["global_step"] == 6
    assert outcome.err.index("6 optimizer steps") < outcome.err.index("step 1/6: loss")
    # Before the first step the adapter is its own reference.
    assert summary["train_loss"][0] == pytest.approx(math.log(2), abs=1e-4)
    assert summary["train_loss"][1] < 0.68

    tuned = RunFolder(tmp_path / "run-dpo")
    after = load_file(tuned.adapter_dir / "adapter_model.safetensors")
    assert set(after) == set(before)
    assert all(tensor.dtype == torch.float32 for tensor in after.values())
    assert any(not torch.equal(after[name], before[name]) for name in after)
    untouched = load_file(run.adapter_dir / "adapter_model.safetensors")
    assert all(torch.equal(untouched[name], before[name]) for name in before)

    pairs = encoded(run)
    # beta 0.1; the loss that TRL reports of a step is that before its update, so the last is above this one.
    moved = margins(tuned, tiny_model_dir, pairs) - margins(run, tiny_model_dir, pairs)
    loss = -torch.nn.functional.logsigmoid(0.1 * moved).mean()
    assert float(loss) < summary["train_loss"][1]
    assert (moved > 0).all()

    for command in ("eval", "merge"):
        outcome = medqa(command, "--set", "run_dir=run-dpo")
        assert outcome.code == 0, outcome.err
    assert "Trained further on preferences" in (tuned.adapter_dir / "README.md").read_text()
    assert not tuned.checkpoints_dir.exists()
    fails(medqa("train", "--method", "dpo"), 2, "already holds", "--restart")
    fails(medqa("train", "--method", "dpo", "--out", "run"), 2, "the run whose adapter is the reference")


@pytest.mark.filterwarnings("ignore")
def test_a_4_bit_base_trains_in_float32_and_asks_nobody(
    tmp_path: Path, tiny_model_dir: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    silenced: list[bool] = []
    from huggingface_hub import constants
    from trl.trainer import base_trainer

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    # TRL calls it at each start; it sends nothing where the constant says so.
    monkeypatch.setattr(
        base_trainer, "send_telemetry", lambda *args, **kwargs: silenced.append(constants.HF_HUB_DISABLE_TELEMETRY)
    )
    run = write_run(tmp_path, tiny_model_dir, medqa, quantization="nf4")
    before = load_file(run.adapter_dir / "adapter_model.safetensors")
    # So small a rate that nothing but rounding could move a weight by this much.
    outcome = medqa("train", "--method", "dpo", "--set", "dpo.learning_rate=1e-9", "--set", "dpo.max_steps=1")
    assert outcome.code == 0, outcome.err
    after = load_file(tmp_path / "run-dpo/adapter/adapter_model.safetensors")
    assert max(float((after[name] - before[name]).abs().max()) for name in after) < 1e-7
    assert silenced == [True]


def encoded(run: RunFolder) -> list[Any]:
    from medqa_cli.model.load import load_tokenizer
    from medqa_cli.prompt.contract import PromptContract

    encoder = PromptEncoder(PromptContract.load(run.adapter_dir), load_tokenizer(str(run.adapter_dir)))
    return encode_pairs(read_pairs(run.preferences_path), encoder, 96)[0]


@pytest.mark.parametrize("template", ["chat", "plain", "llama2"])
def test_pairs_are_encoded_as_training_rows(chatml_tokenizer: Any, template: str) -> None:
    contract = make_contract(PromptConfig(template=template), chatml_tokenizer)
    encoder = PromptEncoder(contract, chatml_tokenizer)
    row = {
        "prompt": contract.text.prompt("What is gout?"),
        "chosen": contract.text.answer_prefix + "A disease.",
        "rejected": contract.text.answer_prefix + "No idea at all.",
    }
    (pair,), left_out = encode_pairs([row], encoder, 200)
    good, bad = encoder.encode_examples(["What is gout?"] * 2, ["A disease.", "No idea at all."], 200)
    assert pair["prompt_ids"] + pair["chosen_ids"] == good.input_ids
    assert pair["prompt_ids"] + pair["rejected_ids"] == bad.input_ids
    assert pair["chosen_ids"][-1] == pair["rejected_ids"][-1] == contract.end_token_id
    assert left_out == 0
    assert encode_pairs([row], encoder, len(pair["prompt_ids"])) == ([], 1)
    with pytest.raises(InputError, match="not one of this adapter"):
        encode_pairs([{**row, "prompt": "What is gout?"}], encoder, 200)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no preference pairs"),
        ('{"prompt": "a", "chosen": "b"}\n', ":1: expected an object"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n[1]\n', ":2: expected an object"),
        ("{\n", ":1: no JSON"),
        ("\xff", "cannot be read"),
        (None, "no preference pairs in"),
    ],
)
def test_files_that_hold_no_pairs_are_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "dpo.jsonl"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        read_pairs(path)


def test_options_of_the_two_methods_are_not_mixed(
    tmp_path: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(medqa("train", "--method", "dpo", "--resume"), 2, "neither --resume nor --plan")
    fails(medqa("train", "--pairs", "x.jsonl"), 2, "belong to --method dpo")
    fails(medqa("train", "--method", "dpo"), 2, "no adapter")


def test_a_pair_with_earlier_turns_is_refused_and_not_learned_as_one_question(chatml_tokenizer: Any) -> None:
    contract = make_contract(PromptConfig(template="chat"), chatml_tokenizer, 100)
    encoder = PromptEncoder(contract, chatml_tokenizer)
    given = Given((Turn("What is gout?", "A disease."),))
    row = {"prompt": contract.text.prompt("Why?", given), "chosen": "A.", "rejected": "B."}
    with pytest.raises(InputError, match="pair 1: its prompt has earlier turns"):
        encode_pairs([row], encoder, 200)
    assert len(encode_pairs([{**row, "prompt": contract.text.prompt("Why?")}], encoder, 200)[0]) == 1
