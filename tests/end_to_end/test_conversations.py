"""Conversations with a context: convert -> train -> ask (with /follow) -> serve -> eval -> merge on a tiny model.

Each asks with the token ids that the training had.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome
from medqa_cli.answering import ask as asking
from medqa_cli.answering import engines
from medqa_cli.answering.ask import AskOptions
from medqa_cli.answering.repl import Conversation
from medqa_cli.config.load import load
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import QaRow, encode_rows, read_split
from medqa_cli.model.load import LoadedModel
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.prompt.encoder import IGNORE_INDEX
from medqa_cli.prompt.given import Turn
from medqa_cli.serving.requests import parse
from medqa_cli.serving.service import Service

TOPICS = ("glaucoma", "asthma", "gout", "angina", "anemia", "eczema", "migraine", "mumps", "measles", "malaria")
LONGEST = 160  # tokens: so the last turns of the long conversations are cut


def talk(number: int, topic: str) -> dict[str, Any]:
    texts = [
        f"What is {topic}?",
        f"{topic.title()} is condition {number}.\nIt has a chapter.",
        "How is it treated?",
        f"For {topic}: plan {number}.\n- rest\n- water",
        "And for how long?",
        f"Some {number + 2} weeks of {topic}.",
    ]
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    if number % 2:
        messages.insert(0, {"role": "system", "content": f"Patient {number}:\n{topic}?"})
    return {"messages": messages}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("talks")
    lines = [json.dumps(talk(number, topic)) for number, topic in enumerate(TOPICS)]
    (folder / "talks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        f"""
run_dir: runs/tiny
data: {{source: talks.jsonl, dir: data, turns: all, context_column: system, validation_fraction: 0.1,
        test_fraction: 0.2}}
prompt: {{template: chat}}
model: {{name_or_path: {tiny_model_dir}, max_length: {LONGEST}, quantization: none, compute_dtype: float32}}
lora: {{r: 4, target_modules: all-linear}}
train: {{max_steps: 2, learning_rate: 1e-3, save_steps: 2, gradient_checkpointing: false}}
generate: {{max_new_tokens: 8, engine: transformers}}
eval: {{bootstrap_draws: 100}}
""",
        encoding="utf-8",
    )
    return folder


def prompt_ids_of_training(rows: Sequence[QaRow], answerer: LoadedModel) -> list[list[int]]:
    examples = encode_rows(rows, answerer.encoder, LONGEST).examples
    assert len(examples) == len(rows)
    return [one.input_ids[: one.labels.count(IGNORE_INDEX)] for one in examples]


def test_each_command_asks_with_the_ids_of_the_training(
    workspace: Path, medqa: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    check_convert(medqa("convert", "--json"), workspace)
    asks = ("data.turns=reject", "data.context_column=null", "prompt.sources=2")
    refused = medqa("train", *(word for setting in asks for word in ("--set", setting)))
    assert refused.code == 2
    assert "holds questions with earlier turns or a context, and prompt.sources is 2" in refused.err
    planned = medqa("train", "--plan")
    assert planned.code == 0, planned.err
    trained = medqa("train", "--json")
    assert trained.code == 0, trained.err
    assert "rows lose earlier turns" in trained.err
    contract = PromptContract.load(workspace / "runs/tiny/adapter")
    assert contract.text.context
    assert contract.text.earlier is not None
    assert contract.text.earlier.max_tokens == LONGEST // 2
    config = load(Path("medqa.yaml"), ()).config
    answerer = engines.load_answerer(config, "adapter")
    assert isinstance(answerer, LoadedModel)
    rows = read_split(workspace / "data", "train")
    expected = prompt_ids_of_training(rows, answerer)
    check_follow(rows, expected, answerer, config, monkeypatch)
    check_serve(rows, expected, answerer, config)
    check_ask(medqa, workspace)
    check_merge(medqa("merge", "--json"), workspace)
    check_eval(medqa("eval", "--json", "--model", "adapter"), workspace)


def check_convert(outcome: Outcome, workspace: Path) -> None:
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["rows"] == {"read": 30, "kept": 30, "rejected": {}}
    assert report["conversations"]["rows_with_earlier_turns"] == 20
    assert report["contexts"]["rows"] == 15
    assert report["tokens"]["rows_cut_at_turns"] > 0
    rows = [json.loads(line) for line in (workspace / "data/train.jsonl").read_text().splitlines()]
    whole = [row for row in rows if row["earlier_turns"] and "What is" in row["text"]]
    assert whole
    for row in whole[:1]:
        first = row["earlier_turns"][0]
        context = f"{row['context']}\n\n" if row["context"] else ""
        assert row["text"].startswith(
            f"<|im_start|>system\nAnswer the Question<|im_end|>\n<|im_start|>user\n{context}{first['question']}"
            f"<|im_end|>\n<|im_start|>assistant\n{first['answer']}<|im_end|>\n<|im_start|>user\n"
        )


def check_follow(
    rows: Sequence[QaRow],
    expected: Sequence[list[int]],
    answerer: LoadedModel,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Type the questions of each conversation; the model's answers are replaced by those of the data."""
    seen: list[list[int]] = []

    def decode(_: Any, prompts: Sequence[list[int]], states: Sequence[Any], *more: Any) -> None:
        seen.extend(prompts)
        for state in states:
            state.finish_reason = "stop"

    talks: list[Conversation] = []
    with monkeypatch.context() as patched:
        patched.setattr(engines, "decode", decode)
        patched.setattr(engines, "load_answerer", lambda *_, **__: answerer)
        run = Conversation.run
        patched.setattr(Conversation, "run", lambda conversation: talks.append(conversation))
        asking.converse(config, "adapter", AskOptions(), lambda key, value: config.generate)
        (conversation,) = talks
        assert conversation.follows
        for row, ids in zip(rows, expected, strict=True):
            seen.clear()
            conversation.said = [turn._asdict() for turn in row.given.earlier]
            typed = iter([f"/context {row.given.context}".strip(), row.question, "/exit"])
            run(conversation, lambda _, typed=typed: next(typed))  # type: ignore[misc]
            assert seen == [ids]


def check_serve(rows: Sequence[QaRow], expected: Sequence[list[int]], answerer: LoadedModel, config: Config) -> None:
    service = Service(config, "adapter", answerer, AskOptions())
    try:
        for row, ids in zip(rows, expected, strict=True):
            messages = [{"role": "system", "content": row.given.context}] if row.given.context else []
            for turn in (*row.given.earlier, Turn(row.question, "")):
                messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
            body = {"model": "tiny", "messages": messages[:-1]}
            asked = parse(body, config, "tiny", service.prompt, is_chat=True)
            prepared = asyncio.run(service.prepare(asked))
            assert prepared.prompted is not None
            assert prepared.prompted.ids == ids
            assert asked.ignored == ()
            kept = answerer.encoder.fitted(row.question, row.given)
            assert prepared.turns_left_out == len(row.given.earlier) - len(kept.earlier)
    finally:
        service.close()


def check_ask(medqa: Callable[..., Outcome], workspace: Path) -> None:
    row = next(row for row in read_split(workspace / "data", "train") if row.given.context and not row.given.earlier)
    one = json.loads(medqa("ask", "--json", "--context", row.given.context, row.question).out)
    alone = json.loads(medqa("ask", "--json", row.question).out)
    assert one["prompt_tokens"] > alone["prompt_tokens"]
    urgent = "My father's face is drooping and he can't lift his arm."
    told = medqa("ask", "--context", urgent, "What should I do?")
    assert told.out.startswith("Call your local emergency number now."), told.err
    assert len(json.loads(medqa("ask", "--json", "--context", urgent, "What should I do?").out)["notices"]) == 2
    (workspace / "urgent.jsonl").write_text(json.dumps({"question": "What should I do?", "system": urgent}) + "\n")
    assert len(json.loads(medqa("ask", "--file", "urgent.jsonl").out)["notices"]) == 2
    lines = [{"question": row.question, "system": row.given.context}, {"question": row.question, "system": ""}]
    (workspace / "asked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    answered = medqa("ask", "--file", "asked.jsonl")
    assert answered.code == 0, answered.err
    found = [json.loads(line) for line in answered.out.splitlines()]
    assert [answer["prompt_tokens"] for answer in found] == [one["prompt_tokens"], alone["prompt_tokens"]]
    assert [answer["answer"] for answer in found] == [one["answer"], alone["answer"]]


def check_merge(outcome: Outcome, workspace: Path) -> None:
    assert outcome.code == 0, outcome.err
    assert PromptContract.load(workspace / "runs/tiny/merged").text.earlier is not None


def check_eval(outcome: Outcome, workspace: Path) -> None:
    assert outcome.code == 0, outcome.err
    held_out = {row.id: row for row in read_split(workspace / "data", "test")}
    samples = [json.loads(line) for line in (workspace / "runs/tiny/eval/samples.jsonl").read_text().splitlines()]
    of_adapter = [sample for sample in samples if sample["model"] == "adapter"]
    assert {sample["id"] for sample in of_adapter} == set(held_out)
    for sample in of_adapter:
        given = held_out[sample["id"]].given
        assert sample.get("earlier", []) == [text for turn in given.earlier for text in turn]
        assert sample.get("context", "") == given.context
