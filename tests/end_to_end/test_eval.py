"""``medqa eval`` on a tiny model, as a user types it: answers, floors, choices, the gate, a kill, scoring again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome, Starter, run_in

Medqa = Callable[..., Outcome]

NAMES = ["glaucoma", "asthma", "gout", "angina", "anemia", "eczema", "migraine", "mumps", "rabies", "scurvy"]
ROWS = [
    (question.format(name), f"{name.capitalize()} {answer} of the nerve number {index}.")
    for index, name in enumerate(NAMES)
    for question, answer in (
        ("What is {}?", "is a disease"),
        ("How to treat {}?", "is treated by rest"),
        ("What causes {}?", "is caused by a fault"),
        ("What causes {}?", "comes from a weakness"),
    )
]
TEXT_METRICS = {"rouge1", "rouge2", "rougeL", "chrf", "bleu"}
FILES = {"results.json", "samples.jsonl", "floors.jsonl", "report.html"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with data, an adapter of a few steps and a multiple-choice file."""
    folder = tmp_path_factory.mktemp("eval")
    lines = ["question,answer", *(f'"{question}","{answer}"' for question, answer in ROWS)]
    (folder / "qa.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = dict(zip("ABCD", ("rest", "iron", "salt", "zinc"), strict=True))
    items = [{"question": f"What helps {n}?", "options": options, "answer_idx": "ABCD"[n % 3]} for n in range(20)]
    (folder / "choices.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        f"""
run_dir: run
data: {{source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.3}}
prompt: {{template: chat}}
model: {{name_or_path: {tiny_model_dir}, max_length: 128, quantization: none, compute_dtype: float32}}
lora: {{r: 4, lora_alpha: 16, target_modules: all-linear}}
train: {{max_steps: 16, learning_rate: 1e-2, save_steps: 100, gradient_checkpointing: false, optim: adamw_torch}}
generate: {{max_new_tokens: 24, batch_size: 4, loop_retries: 0}}
eval: {{bootstrap_draws: 200, batch_size: 1, multiple_choice: [{{name: quiz, path: choices.jsonl}}]}}
""",
        encoding="utf-8",
    )
    run_in(folder, "convert")
    run_in(folder, "train")
    return folder


@pytest.fixture(scope="module")
def whole(trained: Path) -> dict[str, bytes]:
    """The files of one evaluation without a break."""
    run_in(trained, "eval", "--json")
    found = {path.name: path.read_bytes() for path in (trained / "run/eval").iterdir()}
    assert found.keys() == FILES
    return found


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def samples_of(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.decode().splitlines()]


def test_one_report_has_models_floors_and_differences(whole: dict[str, bytes]) -> None:
    results = json.loads(whole["results.json"])
    assert results["questions"] == 12
    assert results["topics"] == 3
    everything = {"nll", "bits_per_byte", *TEXT_METRICS, *(f"{name}_stripped" for name in TEXT_METRICS)}
    everything |= {"topic_coverage", "reference_swap_margin", "seq_rep_4", "loop_rate", "finished_rate"}
    everything |= {"length_ratio", "prompt_echo_rate"}
    for own in results["models"].values():
        assert own.keys() == everything
        assert all(figure["ci95"][0] <= figure["value"] <= figure["ci95"][1] for figure in own.values())
    assert list(results["models"]) == ["adapter", "base"]
    text_floors = {"random_answer", "nearest_question", "wrong_topic", "cut_reference"}
    assert results["floors"].keys() == {"unigram", *text_floors, "reference"}
    assert all(results["floors"][name].keys() >= TEXT_METRICS for name in text_floors)
    # The right template for the wrong disease reads well and earns nothing from the swap.
    parrot = results["floors"]["wrong_topic"]
    assert parrot["rougeL"]["value"] > 0.5
    assert parrot["reference_swap_margin"]["ci95"][0] <= 0 <= parrot["reference_swap_margin"]["ci95"][1]
    assert results["floors"]["cut_reference"]["reference_swap_margin"]["value"] > 0.1
    difference = results["differences"]["adapter-base"]
    assert difference["nll"]["better"] is True
    assert difference["rougeL"]["better"] is True
    settings = results["settings"]
    assert settings["decoding"] == "greedy"
    assert settings["max_new_tokens"] == 24
    # "What causes X?" has two answers.
    assert settings["num_with_several_references"] == 6
    quiz = results["multiple_choice"]["quiz"]
    assert quiz["items"] == 20
    assert quiz["floors"]["majority"]["accuracy"]["value"] == pytest.approx(7 / 20)
    assert quiz["models"].keys() == {"adapter", "base"}


def test_leaks_are_those_of_the_audit_of_the_data_that_were_trained_on(
    whole: dict[str, bytes], folder: Path, tmp_path: Path, medqa: Medqa
) -> None:
    report = json.loads((folder / "data/report.json").read_text(encoding="utf-8"))
    assert json.loads(whole["results.json"])["leakage"] == report["leakage"]["test"]
    data = shutil.copytree(folder / "data", tmp_path / "data")
    shutil.copytree(folder / "run/adapter", tmp_path / "run/adapter")
    shutil.copy(folder / "run/environment.json", tmp_path / "run/environment.json")
    report["leakage"]["test"] |= {"answer": 3}
    (data / "report.json").write_text(json.dumps(report), encoding="utf-8")
    options = ["--set", f"data.dir={data}", "--set", f"run_dir={tmp_path / 'run'}", "--set", "eval.metrics=[nll]"]
    options += ["--set", "eval.multiple_choice=[]"]
    said = "Not known: rows of the test split stand in another split too (3 by answer)"
    for command in (("eval", "--limit", "2"), ("eval", "--rescore")):
        assert said in medqa(*command, *options).out.replace("\n", " ")
    # Other rows than those that were trained on: what the audit says of these is not known.
    rows = (data / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "train.jsonl").write_text("".join(rows[1:]), encoding="utf-8")
    shown = medqa("eval", "--limit", "2", *options)
    assert "was converted again after" in shown.err
    assert "Whether it was trained on some of them is not known." in shown.out.replace("\n", " ")
    assert json.loads((tmp_path / "run/eval/results.json").read_text(encoding="utf-8"))["leakage"] is None


def test_with_retries_plain_greedy_answers_stand_beside_those_of_ask(
    whole: dict[str, bytes], folder: Path, tmp_path: Path, medqa: Medqa
) -> None:
    shutil.copytree(folder / "run/adapter", tmp_path / "run/adapter")
    shutil.copy(folder / "run/environment.json", tmp_path / "run/environment.json")
    outcome = medqa("eval", "--set", f"run_dir={tmp_path / 'run'}", "--set", "generate.loop_retries=2")
    assert outcome.code == 0, outcome.err
    samples = samples_of((tmp_path / "run/eval/samples.jsonl").read_bytes())
    plain = [{**sample, "model": sample["model"].removesuffix("_greedy")} for sample in samples
             if sample["model"].endswith("_greedy")]  # fmt: skip
    likelihood = dict.fromkeys(("nll_sum", "answer_tokens", "answer_bytes"))
    assert plain == [{**sample, **likelihood} for sample in samples_of(whole["samples.jsonl"])]
    results = json.loads((tmp_path / "run/eval/results.json").read_text(encoding="utf-8"))
    assert list(results["models"]) == ["adapter", "adapter_greedy", "base", "base_greedy"]
    assert list(results["differences"]) == ["adapter-base", "adapter-adapter_greedy", "base-base_greedy"]
    assert list(results["floors_not_beaten"]) == ["adapter", "base"]
    assert results["models"]["adapter_greedy"].keys() == results["models"]["adapter"].keys() - {"nll", "bits_per_byte"}
    assert results["settings"]["loop_retries"] == 2


def test_a_batch_gives_the_answers_that_ask_gives(whole: dict[str, bytes], folder: Path, tiny_model_dir: Path) -> None:
    from medqa_cli.answering.decode import decode_batch
    from medqa_cli.answering.generate import answer_question
    from medqa_cli.config.schema import GenerateConfig, ModelConfig, PromptConfig
    from medqa_cli.evaluation.generation import WholeAnswer
    from medqa_cli.files import RunFolder
    from medqa_cli.model.load import load_model

    model = ModelConfig(name_or_path=str(tiny_model_dir), quantization="none", compute_dtype="float32")
    samples = samples_of(whole["samples.jsonl"])
    texts = set()
    for name in ("adapter", "base"):
        answerer = load_model(name, RunFolder(Path("run")), model, PromptConfig())
        for sample in (own for own in samples if own["model"] == name):
            encoder = answerer.encoder
            whole_answer = WholeAnswer(encoder.decode_answer, encoder.contract.stop_token_ids, 24)
            prompts = encoder.encode_prompts([sample["question"]])
            decode_batch(answerer.model, answerer.device, prompts, [whole_answer], GenerateConfig())
            found = (sample["answer"], sample["finish_reason"], sample["generated_tokens"])
            text = encoder.decode_answer(whole_answer.ids)
            assert found == (text, whole_answer.finish_reason, len(whole_answer.ids))
            # What a person is shown is made of the same tokens; it may be cut at a repetition or back to a sentence.
            answer = answer_question(answerer, sample["question"], GenerateConfig(max_new_tokens=24, loop_retries=0))
            assert text.startswith(answer.text)
            assert answer.finish_reason != "stop" or found == (answer.text, "stop", answer.answer_tokens)
            texts.add(text)
    assert len(texts) > 1


def test_a_killed_run_goes_on_and_gives_the_same_files(
    whole: dict[str, bytes], folder: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medqa_cli.answering import decode as decoding
    from medqa_cli.evaluation import generation, multiple_choice

    for name in FILES:
        (folder / "run/eval" / name).unlink()
    calls = {"answers": 0, "likelihood": 0, "choices": 0}
    die_at = {"answers": 2}
    plain = decoding.decode_batch

    def decode(*arguments: Any) -> Any:
        calls["answers"] += 1
        if calls["answers"] == die_at.get("answers"):
            raise KeyboardInterrupt
        return plain(*arguments)

    def counted(module: Any, name: str, key: str) -> None:
        inner = getattr(module, name)

        def call(*arguments: Any, **named: Any) -> Any:
            calls[key] += 1
            return inner(*arguments, **named)

        monkeypatch.setattr(module, name, call)

    monkeypatch.setattr(decoding, "decode_batch", decode)
    counted(generation, "score_answers", "likelihood")
    counted(multiple_choice, "_log_likelihoods", "choices")
    killed = medqa("eval", "--json")
    assert (killed.code, killed.out) == (130, "")
    assert "9 finished pieces of work are kept" in killed.err
    assert {path.name for path in (folder / "run/eval").iterdir()} == {"progress.jsonl"}
    first = dict(calls)
    assert min(first.values()) > 1
    die_at.clear()
    calls.update(answers=0, likelihood=0, choices=0)
    outcome = medqa("eval", "--json")
    assert outcome.code == 0, outcome.err
    assert "resuming an interrupted evaluation" in outcome.err
    # Nine questions, a batch of four each: three batches a model; one of the six was done before.
    assert calls == {"answers": 5, "likelihood": 0, "choices": 0}
    assert {path.name: path.read_bytes() for path in (folder / "run/eval").iterdir()} == whole


def test_the_gate_passes_fails_with_1_and_refuses_unknown_metrics_before_the_work(
    whole: dict[str, bytes], folder: Path, medqa: Medqa
) -> None:
    passed = medqa("eval", "--json", "--rescore", "--fail-on", "adapter.nll > base.nll")
    assert passed.code == 0, passed.err
    failing = ("--fail-on", "adapter.nll < base.nll", "--fail-on", "adapter.quiz.accuracy <= 1")
    failed = medqa("eval", "--json", "--rescore", *failing)
    assert failed.code == 1
    assert "adapter.nll < base.nll: adapter.nll is" in failed.err
    assert "adapter.quiz.accuracy <= 1" in failed.err
    found, before = json.loads(failed.out), json.loads(passed.out)
    assert before.pop("gate") == [{"condition": "adapter.nll > base.nll", "failed": False}]
    assert [one["failed"] for one in found.pop("gate")] == [True, True]
    assert found == before
    page = (folder / "run/eval/report.html").read_text(encoding="utf-8")
    assert "it fails the gate adapter.nll &lt; base.nll; it fails the gate adapter.quiz.accuracy &lt;= 1" in page
    for name, content in whole.items():
        (folder / "run/eval" / name).write_bytes(content)
    early = medqa("eval", "--fail-on", "adapter.nlll > 2")
    assert early.code == 2
    assert "did you mean 'nll'?" in early.err
    assert early.out == ""


@pytest.mark.parametrize("changed", ["model.safetensors", "config.json", None])
def test_a_killed_run_starts_again_if_its_base_has_changed(
    trained: Path,
    tiny_model_dir: Path,
    tmp_path: Path,
    medqa: Medqa,
    monkeypatch: pytest.MonkeyPatch,
    changed: str | None,
) -> None:
    from medqa_cli.evaluation import generation

    for name in ("data", "run/adapter"):
        shutil.copytree(trained / name, tmp_path / name)
    shutil.copytree(tiny_model_dir, tmp_path / "base")
    path = tmp_path / "run/adapter/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(tmp_path / "base")}))
    monkeypatch.chdir(tmp_path)
    keys = ("run_dir=run", "data.dir=data", "model.quantization=none", "model.name_or_path=base", "eval.metrics=[nll]")
    command = ("eval", "--model", "base,adapter", "--limit", "3", *(part for key in keys for part in ("--set", key)))

    def stop(*arguments: Any, **named: Any) -> Any:
        if stops.pop():
            raise KeyboardInterrupt
        return score(*arguments, **named)

    score, stops = generation.score_answers, [True, False]
    with monkeypatch.context() as patch:
        patch.setattr(generation, "score_answers", stop)
        assert medqa(*command).code == 130
    if changed is not None:
        os.utime(tmp_path / "base" / changed, (1, 1))
    outcome = medqa(*command)
    assert outcome.code == 0, outcome.err
    assert ("resuming an interrupted evaluation" in outcome.err) == (changed is None)
    assert ("set aside: 1 piece of work of an interrupted evaluation" in outcome.err) == (changed is not None)


@pytest.mark.parametrize("options", [["--limit", "3", "--set", "eval.metrics=[nll]"], ["--rescore"]])
def test_a_second_evaluation_leaves_a_running_one_its_files(
    whole: dict[str, bytes], folder: Path, medqa: Medqa, options: list[str]
) -> None:
    from medqa_cli.files import locked

    with locked(folder / "run/eval", "medqa eval"):
        outcome = medqa("eval", *options)
    assert outcome.code == 2
    assert "another medqa eval is running in run/eval" in outcome.err
    assert {path.name: path.read_bytes() for path in (folder / "run/eval").iterdir()} == whole


RESCORE = """
import sys
from medqa_cli.cli.program import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def test_scoring_again_needs_neither_model_nor_data(whole: dict[str, bytes], folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "run" / "eval"
    saved.mkdir(parents=True)
    for name in ("samples.jsonl", "floors.jsonl", "results.json"):
        (saved / name).write_bytes(whole[name])
    command = [sys.executable, "-c", RESCORE, "eval", "--rescore", "--json", "--set", "run_dir=run"]
    command += ["--set", "eval.bootstrap_draws=200"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "False"
    assert json.loads(done.stdout) == json.loads(whole["results.json"])
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == whole


def test_scoring_again_sees_what_was_changed(whole: dict[str, bytes], folder: Path, medqa: Medqa) -> None:
    path = folder / "run/eval/samples.jsonl"
    try:
        samples = samples_of(whole["samples.jsonl"])
        changed = [{**own, "answer": own["references"][0]} if own["model"] == "base" else own for own in samples]
        path.write_text("".join(json.dumps(own) + "\n" for own in changed), encoding="utf-8")
        figures = json.loads(medqa("eval", "--json", "--rescore").out)
        assert figures["models"]["base"]["rougeL"]["value"] == pytest.approx(1)
        assert figures["differences"]["adapter-base"]["rougeL"]["better"] is False
        only = json.loads(medqa("eval", "--json", "--rescore", "--model", "base").out)
        assert list(only["models"]) == ["base"]
        missing = medqa("eval", "--rescore", "--model", "merged")
        assert missing.code == 2
        assert "holds no samples of merged" in missing.err
    finally:
        for name, content in whole.items():
            (folder / "run/eval" / name).write_bytes(content)


def test_rescore_without_json_prints_every_table(whole: dict[str, bytes], folder: Path, medqa: Medqa) -> None:
    shown = medqa("eval", "--rescore")
    assert shown.code == 0, shown.err
    for expected in (
        "ROUGE-L",
        "baseline: wrong_topic",
        "topic words covered",
        "quiz: 20",
        "majority",
        "adapter - base",
    ):
        assert expected in shown.out, expected
    assert "differences smaller than" in shown.out
    assert "report.html" in shown.out


def test_likelihood_alone_generates_nothing(
    whole: dict[str, bytes], folder: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medqa_cli.answering.decode.decode_batch", None)
    before = json.loads(whole["results.json"])
    try:
        outcome = medqa("eval", "--json", "--set", "eval.metrics=[nll]", "--set", "eval.multiple_choice=[]")
        assert outcome.code == 0, outcome.err
        results = json.loads(outcome.out)
        assert {name: list(own) for name, own in results["models"].items()} == {"adapter": ["nll"], "base": ["nll"]}
        assert list(results["floors"]) == ["unigram"]
        assert results["models"]["base"]["nll"]["value"] == pytest.approx(before["models"]["base"]["nll"]["value"])
    finally:
        for name, content in whole.items():
            (folder / "run/eval" / name).write_bytes(content)


MEASURE = """
import sys
from medqa_cli.cli.program import main
sys.argv = ["medqa", "eval", "--json", *sys.argv[1:]]
main()
"""


def leaves(value: Any, place: str = "") -> dict[str, Any]:
    """Every number and text of a nested value, by its place."""
    if not isinstance(value, dict | list):
        return {place: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {key: leaf for name, own in items for key, leaf in leaves(own, f"{place}/{name}").items()}


def test_two_ranks_measure_as_one_process(whole: dict[str, bytes], folder: Path, starter: Starter) -> None:
    shutil.copytree("run/adapter", "two/adapter")
    for name in ("config.yaml", "environment.json"):
        shutil.copy(f"run/{name}", "two")
    done, other_rank = starter.run_ranks(MEASURE, "--set", "run_dir=two")
    assert (done.returncode, other_rank.returncode) == (0, 0), done.stderr + other_rank.stderr
    written = {path.name: path.read_bytes() for path in Path("two/eval").iterdir()}
    # Nothing of the second rank's own work is left, and rank 0 alone speaks.
    assert written.keys() == FILES
    assert (other_rank.stdout, other_rank.stderr) == ("", "")
    assert json.loads(done.stdout) == json.loads(written["results.json"])
    for name in ("samples.jsonl", "floors.jsonl"):
        found, expected = samples_of(written[name]), samples_of(whole[name])
        assert len(found) == len(expected)
        for own, other in zip(found, expected, strict=True):
            scored = other["nll_sum"] is not None
            nll_sum = pytest.approx(other["nll_sum"], rel=1e-5) if scored else None
            assert own == {**other, "nll_sum": nll_sum}, name
    assert any(row["nll_sum"] is not None for row in samples_of(whole["samples.jsonl"]))
    expected_results, found_results = (json.loads(files["results.json"]) for files in (whole, written))
    assert (expected_results.pop("options"), found_results.pop("options")) == ([], ["--set", "run_dir=two"])
    expected_leaves, found_leaves = leaves(expected_results), leaves(found_results)
    assert found_leaves.keys() == expected_leaves.keys()
    for place, value in expected_leaves.items():
        assert found_leaves[place] == (
            pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value
        ), place


# Each rank says which files it put in place.
WATCHED = """
import json, os, sys
renamed = []
sys.addaudithook(lambda event, values: renamed.append(os.path.basename(values[1])) if event == "os.rename" else None)
from medqa_cli.cli.program import main
rank = os.environ["RANK"]
sys.argv = ["medqa", "eval", *sys.argv[1:]]
try:
    main()
finally:
    open(f"renamed-{rank}.json", "w").write(json.dumps(renamed))
"""


@pytest.mark.parametrize(
    "options", [["--rescore"], ["--set", "eval.metrics=[nll]", "--set", "eval.multiple_choice=[]"]]
)
def test_one_of_two_ranks_writes(
    whole: dict[str, bytes], folder: Path, tmp_path: Path, starter: Starter, options: list[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree("run", run)
    done = starter.run_ranks(WATCHED, *options, "--set", f"run_dir={run}")
    assert [process.returncode for process in done] == [0, 0], done
    main, other = (json.loads((folder / f"renamed-{rank}.json").read_text()) for rank in range(2))
    assert main.count("results.json") == main.count("report.html") == 1
    assert [name for name in other if not name.startswith("progress")] == []
    assert (done[1].stdout, done[1].stderr) == ("", "")
    if options == ["--rescore"]:
        assert {path.name: path.read_bytes() for path in (run / "eval").iterdir()} == whole
