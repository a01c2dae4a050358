"""Answers through llama.cpp: those of Transformers from the same weights, without torch, only from the right file."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("xllamacpp", reason="the extra fast is not installed")

from helpers.commands import Outcome, fails, run_in
from helpers.serving import chat, serving
from medqa_cli.answering import engines
from medqa_cli.answering.engines import load_answerer
from medqa_cli.answering.generate import answer_question, prompt_questions
from medqa_cli.config.load import load
from medqa_cli.config.schema import Config, GenerateConfig, ModelConfig
from medqa_cli.model.gguf_model import LlamaModel
from medqa_cli.model.load import LoadedModel, load_tokenizer
from medqa_cli.prompt.fast_tokenizer import FastTokenizer

Medqa = Callable[..., Outcome]
QUESTIONS = [f"What is {name}?" for name in ("gout", "asthma", "a cold", "flu", "a rash", "rest", "pain", "measles")]
LLAMA = "generate.engine=llamacpp"
PLAIN = "generate.engine=transformers"
NEAR = 0.1  # of logits that span some 20


@pytest.fixture(scope="module")
def merged_once(tmp_path_factory: pytest.TempPathFactory, talking_model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("llamacpp") / "trained"
    shutil.copytree(talking_model_dir, folder / "model")
    rows = [f"What is disease {i}?,Disease {i} is number {i * 7} of the list of diseases." for i in range(40)]
    (folder / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        """
run_dir: runs/tiny
data: {source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.2}
prompt: {template: chat}
model: {name_or_path: model, max_length: 64, compute_dtype: float32, quantization: none}
lora: {r: 4, lora_alpha: 16, target_modules: all-linear}
train: {max_steps: 2, learning_rate: 1e-2, gradient_checkpointing: false}
generate: {max_new_tokens: 40}
""",
        encoding="utf-8",
    )
    run_in(folder, "convert")
    run_in(folder, "train")
    run_in(folder, "merge", "--gguf", "f16")
    return folder


@pytest.fixture
def merged(merged_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of its own, the current one."""
    shutil.copytree(merged_once, tmp_path / "trained")
    monkeypatch.chdir(tmp_path / "trained")
    return tmp_path / "trained"


def settings(*changes: str) -> Config:
    return load(None, changes).config


def ask(medqa: Medqa, *words: str, file: str = "What is gout?") -> dict[str, Any]:
    outcome = medqa("ask", "--json", *words, file)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_the_files_of_a_run_answer_on_a_cpu_and_say_so(merged: Path, medqa: Medqa) -> None:
    names = {path.name for path in Path("runs/tiny/gguf").iterdir()}
    assert names == {"tiny-f16.gguf", "Modelfile", "gguf.json", "prompt"}
    for choice in ("adapter", "merged"):
        found = ask(medqa, "--model", choice)
        assert (found["model"]["engine"], found["model"]["quantization"]) == ("llamacpp", "f16")
        assert found["model"]["name"] == choice
    told = medqa("ask", "What is gout?").err
    assert "llama.cpp answers from tiny-f16.gguf: the merged model in f16, which takes the adapter's token in " in told
    assert "mean KL" in told
    plain = ask(medqa, "--set", PLAIN)
    assert (plain["model"]["engine"], plain["model"]["base"]) == ("transformers", "model")


def ids_of(answerer: Any, questions: Sequence[str], config: GenerateConfig) -> list[list[int]]:
    asked = prompt_questions(answerer, questions, config)
    engines.decode(answerer, [one.ids for one in asked], [one.state for one in asked], config, lambda row: None)
    return [one.state.ids for one in asked]


def lead(slow: LoadedModel, question: str, ids: list[int], others: list[int]) -> float:
    """How far apart Transformers has the two tokens where two answers part; 0: they are the same."""
    same = next((n for n, (a, b) in enumerate(zip(ids, others, strict=False)) if a != b), None)
    if same is None:
        assert ids == others
        return 0.0
    prompt = slow.encoder.encode_prompt(question)
    with torch.inference_mode():
        logits = slow.model(torch.tensor([[*prompt, *ids[:same]]])).logits[0, -1]
    return abs(float(logits[ids[same]] - logits[others[same]]))


def test_greedy_tokens_are_those_of_transformers_but_for_near_ties(merged: Path) -> None:
    """From the same f16 weights; llama.cpp rounds what it multiplies to f16 as well, so that near ties may turn."""
    config = settings(LLAMA)
    fast, slow = load_answerer(config, "merged"), load_answerer(settings(PLAIN), "merged")
    assert isinstance(fast, LlamaModel)
    assert isinstance(slow, LoadedModel)
    expected = ids_of(slow, QUESTIONS, config.generate)
    alone = [ids_of(fast, [question], config.generate)[0] for question in QUESTIONS]
    together = ids_of(fast, QUESTIONS, config.generate)
    for found in (alone, together):
        leads = [lead(slow, *three) for three in zip(QUESTIONS, expected, found, strict=True)]
        assert max(leads) < NEAR
        assert leads.count(0.0) >= len(QUESTIONS) - 3
    assert len(set(map(tuple, alone))) == len(QUESTIONS)
    pieces: list[str] = []
    answer = answer_question(fast, QUESTIONS[0], config.generate, write=pieces.append)
    assert answer.text == "".join(pieces) == fast.encoder.decode_answer(alone[0])


def test_a_file_of_questions_is_answered_in_batches(
    merged: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("asked.txt").write_text("\n".join(QUESTIONS), encoding="utf-8")
    done = medqa("ask", "--file", "asked.txt", "--set", LLAMA, "--set", "generate.batch_size=3")
    assert done.code == 0, done.err
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [one["question"] for one in answers] == QUESTIONS
    assert {one["model"]["engine"] for one in answers} == {"llamacpp"}
    # auto, and so many that a batch of Transformers is faster where bfloat16 is.
    Path("asked.txt").write_text("\n".join(QUESTIONS * 2), encoding="utf-8")
    for is_fast, engine in ((True, "transformers"), (False, "llamacpp")):
        dtype = torch.bfloat16 if is_fast else torch.float32
        monkeypatch.setattr("medqa_cli.model.devices.pick_compute_dtype", lambda name, device, dtype=dtype: dtype)
        done = medqa("ask", "--file", "asked.txt", "--set", "generate.max_new_tokens=2")
        assert {json.loads(line)["model"]["engine"] for line in done.out.splitlines()} == {engine}
    alone = ask(medqa, "--set", LLAMA, file=QUESTIONS[0])
    assert {key: answers[0][key] for key in ("answer", "prompt_tokens")} == {
        key: alone[key] for key in ("answer", "prompt_tokens")
    }


def test_served_answers_are_those_that_each_question_gets_alone(merged: Path) -> None:
    """Each with a limit of its own; where others run beside it a near tie may turn."""
    config = settings(LLAMA, "generate.batch_size=3")
    answerer = load_answerer(config, "merged")
    limits = [40 - 3 * number for number in range(len(QUESTIONS))]
    bodies = [chat(question, max_tokens=limit) for question, limit in zip(QUESTIONS, limits, strict=True)]
    expected = [
        answer_question(answerer, question, replace(config.generate, max_new_tokens=limit)).text
        for question, limit in zip(QUESTIONS, limits, strict=True)
    ]
    with serving(config, answerer) as client, ThreadPoolExecutor(len(QUESTIONS)) as pool:

        def served(body: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = client.post("/v1/chat/completions", json=body).json()["medqa"]
            return found

        at_once = [one["answer"] for one in pool.map(served, bodies)]
        one_by_one = [served(body) for body in bodies]
        long = client.post("/v1/chat/completions", json=chat("What is gout? " * 200))
    assert [one["answer"] for one in one_by_one] == expected
    assert {one["model"]["engine"] for one in one_by_one} == {"llamacpp"}
    assert sum(map(str.__eq__, at_once, expected)) >= len(QUESTIONS) - 3
    assert all(found[:4] == wanted[:4] for found, wanted in zip(at_once, expected, strict=True))
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")


RUN_AND_LIST_MODULES = """
import sys
from medqa_cli.cli.program import main
try:
    main()
finally:
    print(sorted({name.partition(".")[0] for name in sys.modules} & set(HEAVY)), file=sys.stderr)
"""
# Half a second and more in all, before the first word: none of them is needed for it.
HEAVY: tuple[str, ...] = (
    "torch",
    "transformers",
    "peft",
    "gguf",
    "huggingface_hub",
    "pandas",
    "jinja2",
    "requests",
    "httpx",
    "tqdm",
)
HEAVY += ("charset_normalizer", "asyncio", "openpyxl", "python_calamine", "sympy", "scipy", "PIL", "starlette")


@pytest.mark.parametrize("words", [["What is gout?"], ["--model", "merged", "--json", "What is gout?"]])
def test_nothing_heavy_is_imported(merged: Path, words: list[str]) -> None:
    script = RUN_AND_LIST_MODULES.replace("HEAVY", repr(HEAVY))
    command = [sys.executable, "-c", script, "ask", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "[]")
    assert len(done.stdout) > 10


def test_a_named_file_is_asked_without_transformers_from_the_second_time_on(merged: Path) -> None:
    """Its contract is made once and kept; another prompt is another contract."""
    shutil.move("runs/tiny/gguf/tiny-f16.gguf", "alone.gguf")
    shutil.rmtree("runs")
    script = RUN_AND_LIST_MODULES.replace("HEAVY", repr(HEAVY))
    command = [sys.executable, "-c", script, "ask", "--model", "alone.gguf", "--set", LLAMA, "What is gout?"]
    environment = {**os.environ, "COLUMNS": "200", "MEDQA_CACHE_DIR": str(merged / "cache")}
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment) for _ in range(2)
    )
    assert "transformers" in first.stderr.splitlines()[-1]
    assert second.stderr.splitlines()[-1] == "[]"
    assert second.stdout == first.stdout
    assert len(list((merged / "cache/contracts").iterdir())) == 1


def test_eval_answers_through_llamacpp_and_says_so(merged: Path, medqa: Medqa) -> None:
    metrics = ("--set", "eval.metrics=[nll, rougeL]", "--set", "eval.bootstrap_draws=100")
    chosen = ("--model", "adapter,merged", *metrics)
    done = medqa("eval", "--json", *chosen, "--set", LLAMA)
    assert done.code == 0, done.err
    by = {"engine": "llamacpp", "quantization": "f16", "file": "tiny-f16.gguf"}
    found = json.loads(done.out)
    assert found["settings"]["answered_by"] == {"adapter": by, "merged": by}
    assert "written by llama.cpp from tiny-f16.gguf" in Path("runs/tiny/eval/report.html").read_text()
    samples = [json.loads(line) for line in Path("runs/tiny/eval/samples.jsonl").read_text().splitlines()]
    measured = {one["question"]: one for one in samples if one["model"] == "adapter"}
    Path("asked.txt").write_text("\n".join(measured), encoding="utf-8")
    asked = medqa("ask", "--file", "asked.txt", "--set", LLAMA)
    answers = [json.loads(line) for line in asked.out.splitlines()]
    same = [one["answer"] == measured[one["question"]]["answer"] for one in answers]
    assert sum(same) >= len(same) - 2  # near ties
    fails(medqa("eval", *metrics, "--set", LLAMA), 2, "no GGUF file of base")
    # Beside a base without a file all answers are those of Transformers, so that they compare.
    plain = medqa("eval", "--json", *metrics)
    assert {one["engine"] for one in json.loads(plain.out)["settings"]["answered_by"].values()} == {"transformers"}
    # The likelihoods are those of Transformers in both.
    likelihoods = [one["models"]["adapter"]["nll"]["value"] for one in (found, json.loads(plain.out))]
    assert likelihoods[0] == likelihoods[1]


def test_what_a_file_costs_is_measured_when_it_is_written(merged: Path, medqa: Medqa) -> None:
    done = medqa("merge", "--json", "--gguf", "f16,q4_0")
    assert done.code == 0, done.err
    costs = {file["type"]: file["cost"] for file in json.loads(done.out)["gguf"]}
    fine, coarse = costs["f16"], costs["q4_0"]
    assert fine["top1_agreement"] > 0.97
    assert 0 <= fine["mean_kl"] < 1e-3 < coarse["mean_kl"]
    assert abs(fine["answer_nll"] - fine["adapter_nll"]) < 1e-2
    # The reference's likelihood is that of the comparison of the merge, on the same questions.
    merge = json.loads(done.out)["verification"]
    assert merge["answer_tokens"] == fine["answer_tokens"]
    assert abs(merge["answer_nll"]["adapter"] - fine["adapter_nll"]) < 1e-5
    recorded = json.loads(Path("runs/tiny/gguf/gguf.json").read_text())["costs"]
    assert recorded == costs


@pytest.mark.parametrize(
    ("engine", "has_file", "is_fast", "num_questions", "expected"),
    [
        ("auto", True, False, 64, True),
        ("auto", True, True, 64, False),
        ("auto", True, True, 15, True),
        ("auto", False, False, 64, False),
        ("llamacpp", False, True, 64, True),
        ("transformers", True, False, 1, False),
    ],
)
def test_many_questions_go_to_the_engine_that_answers_them_sooner(
    monkeypatch: pytest.MonkeyPatch, engine: str, has_file: bool, is_fast: bool, num_questions: int, expected: bool
) -> None:
    dtype = torch.bfloat16 if is_fast else torch.float32
    monkeypatch.setattr("medqa_cli.model.devices.pick_compute_dtype", lambda name, device: dtype)
    monkeypatch.setattr(engines, "llama_file", lambda config, choice: Path("a.gguf") if has_file else None)
    config = Config(generate=GenerateConfig(engine=engine))  # type: ignore[arg-type]
    assert engines.llama_answers_many(config, ["adapter", "merged"], num_questions) is expected


@pytest.mark.parametrize(
    ("fast", "named", "expected"),
    [("bfloat16", "float32", True), ("float32", "bfloat16", True), ("bfloat16", "bfloat16", False)],
)
def test_the_type_that_the_config_names_decides_whether_transformers_is_sooner(
    monkeypatch: pytest.MonkeyPatch, fast: str, named: str, expected: bool
) -> None:
    """Transformers in float32, or in a bfloat16 that is emulated, is slower than llama.cpp."""
    monkeypatch.setattr(
        "medqa_cli.model.devices.pick_compute_dtype",
        lambda name, device: getattr(torch, fast if name == "auto" else name),
    )
    monkeypatch.setattr(engines, "llama_file", lambda config, choice: Path("a.gguf"))
    config = Config(model=ModelConfig(compute_dtype=named))  # type: ignore[arg-type]
    assert engines.llama_answers_many(config, ["adapter"], 64) is expected


def test_eval_measures_the_gguf_file_in_llamacpp_beside_the_others(merged: Path, medqa: Medqa) -> None:
    item = {"question": "Which?", "options": dict.fromkeys("ABCD", "x"), "answer_idx": "A"}
    Path("items.jsonl").write_text(json.dumps(item) + "\n", encoding="utf-8")
    sets = ("--set", "eval.multiple_choice=[{name: few, path: items.jsonl}]", "--set", PLAIN)
    done = medqa("eval", "--json", "--model", "gguf,adapter,merged", *sets)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    # The merged weights in f16, computed by another program.
    gguf, whole = (found["models"][name]["nll"]["value"] for name in ("gguf", "merged"))
    assert gguf == pytest.approx(whole, abs=1e-3)
    assert gguf != whole
    engine_of = {name: by["engine"] for name, by in found["settings"]["answered_by"].items()}
    assert engine_of == {"gguf": "llamacpp", "adapter": "transformers", "merged": "transformers"}
    assert {"gguf-merged", "gguf-adapter", "merged-adapter", "gguf-gguf_greedy"} <= set(found["differences"])
    assert set(found["multiple_choice"]["few"]["models"]) == {"adapter", "merged"}
    assert "not measured for the GGUF file" in done.err
    assert done.err.count("llama.cpp answers from tiny-f16.gguf") == 1  # loaded once
    alone = medqa("eval", "--json", "--model", "gguf", *sets)
    assert alone.code == 0, alone.err
    assert json.loads(alone.out)["models"]["gguf"]["nll"] == found["models"]["gguf"]["nll"]
    scored = medqa("eval", "--json", "--model", "gguf", *sets, "--set", "eval.metrics=[nll]")
    assert json.loads(scored.out)["models"]["gguf"]["nll"] == found["models"]["gguf"]["nll"]
    assert scored.err.count("llama.cpp answers from tiny-f16.gguf") == 1
    gate = medqa("eval", "--model", "gguf", *sets, "--fail-on", "gguf.few.accuracy < 1")
    fails(gate, 2, "gguf.few.accuracy will not be measured")
    assert ask(medqa, "--model", "gguf", "--set", PLAIN)["model"]["engine"] == "llamacpp"
    os.utime("runs/tiny/adapter/adapter_model.safetensors", ns=(2, 2))
    assert ask(medqa, "--model", "gguf")["model"]["quantization"] == "f16"  # copied, and still the same
    with Path("runs/tiny/adapter/adapter_model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    message = "no GGUF file of the adapter as it is now in runs/tiny/gguf"
    fails(medqa("eval", "--model", "gguf"), 2, message, "medqa merge --gguf q8_0")
    fails(medqa("ask", "--model", "gguf", "What is gout?"), 2, message)


def test_another_adapter_or_another_file_is_not_answered_for(merged: Path, medqa: Medqa) -> None:
    adapter, gguf = Path("runs/tiny/adapter/adapter_model.safetensors"), Path("runs/tiny/gguf/tiny-f16.gguf")
    os.utime(adapter, ns=(1, 1))  # copied, and still the same
    os.utime(gguf, ns=(1, 1))
    assert ask(medqa)["model"]["engine"] == "llamacpp"
    for path, choice in ((gguf, "merged"), (adapter, "adapter")):
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        os.utime(path, ns=(2, 2))
        assert ask(medqa, "--model", choice)["model"]["engine"] == "transformers"
        fails(
            medqa("ask", "--model", choice, "--set", LLAMA, "What is gout?"), 2, "no GGUF file of", "medqa merge --gguf"
        )
        path.write_bytes(kept)
    for damage in ("{", '{"format_version": 1}', '{"format_version": 9}', "[]"):
        Path("runs/tiny/gguf/gguf.json").write_text(damage, encoding="utf-8")
        assert ask(medqa)["model"]["engine"] == "transformers"


def test_a_file_that_is_named_answers_by_itself(merged: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDQA_CACHE_DIR", str(merged / "cache"))
    shutil.move("runs/tiny/gguf/tiny-f16.gguf", "alone.gguf")
    expected = ask(medqa, "--model", "merged")  # Transformers: the file has gone
    found = ask(medqa, "--model", "alone.gguf")
    assert (expected["model"]["engine"], found["model"]["engine"]) == ("transformers", "llamacpp")
    assert found["answer"] == expected["answer"]
    assert not (merged / "cache/models").exists()  # it was not dequantized


@pytest.mark.parametrize("change", ["cut", "header", "values"])
def test_a_damaged_file_ends_with_a_message(
    merged: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setenv("MEDQA_CACHE_DIR", str(merged / "cache"))
    content = Path("runs/tiny/gguf/tiny-f16.gguf").read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "header": b"GGUF" + bytes([255] * 20) + content[24:],
        "values": content.replace(b"llama.block_count", b"llama.block_cound"),
    }
    Path("bad.gguf").write_bytes(damaged[change])
    fails(medqa("ask", "--model", "bad.gguf", "--set", LLAMA, "What is gout?"), 2, "bad.gguf")


def test_the_tokenizer_beside_the_files_is_transformers_own(merged: Path) -> None:
    own, fast = load_tokenizer("runs/tiny/merged"), FastTokenizer(Path("runs/tiny/gguf/prompt/tokenizer.json"))
    texts = ["What is gout?", "<|im_start|>user\n<|im_end|>", "naïve ☕ 日本語 a  b\t\n\nc", " lead", "", "x" * 300]
    for split in (False, True):
        ids = own(texts, add_special_tokens=False, split_special_tokens=split)["input_ids"]
        assert fast(texts, add_special_tokens=False, split_special_tokens=split)["input_ids"] == ids
        decoded = [own.decode(one, skip_special_tokens=True, clean_up_tokenization_spaces=False) for one in ids]
        assert [fast.decode(one, skip_special_tokens=True) for one in ids] == decoded
    assert len(fast) == len(own)
    assert {i: token.content for i, token in fast.added_tokens_decoder.items()} == {
        i: str(token) for i, token in own.added_tokens_decoder.items()
    }
