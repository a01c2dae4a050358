"""Conversations and contexts through ``medqa convert``: which turns become rows, what stands before them, splits."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from medqa_cli.config.schema import DataConfig
from medqa_cli.data.audit import audit_folder
from medqa_cli.data.convert import column_names, convert
from medqa_cli.data.dataset import SPLITS, QaRow, read_split
from medqa_cli.data.identifiers.recorded import read_recorded
from medqa_cli.data.retrieval import PassageIndex
from medqa_cli.errors import InputError
from medqa_cli.prompt.given import Given, Turn

TOPICS = [
    *("asthma", "gout", "glaucoma", "migraine", "eczema", "psoriasis"),
    *("anemia", "measles", "mumps", "malaria", "cholera", "leprosy"),
]
ASKED = ("What is {}?", "How is it treated?", "And how long does it take?")


def talk_about(topic: str) -> list[Turn]:
    said = (
        f"{topic.title()} is the condition with the name {topic}, and it has a chapter of its own in the book.",
        f"For {topic} there are rest, fluids and the medicine that the chapter on {topic} names.",
        f"With {topic} most people need about {len(topic)} weeks, and then a check of the {topic} again.",
    )
    return [Turn(question.format(topic), answer) for question, answer in zip(ASKED, said, strict=True)]


def messages_of(turns: Sequence[Turn], system: str = "", names: Sequence[str] = ("user", "assistant")) -> Any:
    messages = [{"role": "system", "content": system}] if system else []
    texts = [text for turn in turns for text in turn]
    return [*messages, *({"role": names[number % 2], "content": text} for number, text in enumerate(texts))]


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


Convert = Callable[..., tuple[dict[str, Any], list[QaRow]]]


@pytest.fixture
def converted(tmp_path: Path) -> Convert:
    def run(rows: Sequence[Any], seed: int = 1, **data: Any) -> tuple[dict[str, Any], list[QaRow]]:
        source = write(tmp_path / "talks.jsonl", rows)
        settings = DataConfig(**{"validation_fraction": 0.0, "test_fraction": 0.0, **data})
        report = convert([str(source)], settings, seed, lambda *texts: repr(texts), None, tmp_path / "out", force=True)
        return report, [row for name in SPLITS for row in read_split(tmp_path / "out", name)]

    return run


TALKS = [{"messages": messages_of(talk_about(topic))} for topic in TOPICS]
GOUT = talk_about("gout")


def test_all_answers_are_learned_each_behind_the_turns_before_it(converted: Convert) -> None:
    report, rows = converted([{"messages": messages_of(GOUT)}], turns="all")
    assert [(row.question, row.answer, row.given) for row in rows] == [
        (*turn, Given(tuple(GOUT[:number]))) for number, turn in enumerate(GOUT)
    ]
    assert len({row.id for row in rows}) == 3
    assert {row.topic for row in rows} == {"gout"}  # "it" is what was asked about before
    assert report["rows"] == {"read": 3, "kept": 3, "rejected": {}}
    assert report["conversations"] == {
        "turns": "all",
        "read": 1,
        "answers": 3,
        "open_questions": 0,
        "rows_with_earlier_turns": 2,
    }


def test_the_last_or_the_first_answer_alone_is_learned(converted: Convert) -> None:
    _, rows = converted([{"messages": messages_of(GOUT)}], turns="last")
    assert [(row.question, row.given.earlier) for row in rows] == [(GOUT[2].question, tuple(GOUT[:2]))]
    report, rows = converted([{"messages": messages_of(GOUT)}], turns="first")
    assert [(row.question, row.given) for row in rows] == [(GOUT[0].question, Given())]
    assert report["conversations"]["answers"] == 3


def test_by_default_a_conversation_is_rejected(converted: Convert) -> None:
    single = {"messages": messages_of(GOUT[:1])}
    report, rows = converted([*TALKS[:1], single])
    assert report["rows"] == {"read": 2, "kept": 1, "rejected": {"several_turns": 1}}
    assert "conversations" not in report
    assert [row.given for row in rows] == [Given()]


SHAREGPT = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(t for pair in GOUT for t in pair)]
CHATML = "".join(f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>\n" for q, a in GOUT)
LLAMA2 = "".join(f"<s>[INST] {q} [/INST] {a} </s>" for q, a in GOUT)
ALPACA = "\n\n".join(f"### Instruction:\n{q}\n\n### Response:\n{a}" for q, a in GOUT)
DIALOGUE = "\n".join(f"Patient: {q}\nDoctor: {a}" for q, a in GOUT)
HISTORY = {"instruction": GOUT[2].question, "output": GOUT[2].answer, "history": [list(turn) for turn in GOUT[:2]]}


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": SHAREGPT},
        {"text": CHATML},
        {"text": LLAMA2},
        {"text": ALPACA},
        {"text": DIALOGUE},
        HISTORY,
        {**HISTORY, "history": messages_of(GOUT[:2])},
        {"messages": json.dumps(messages_of(GOUT))},
    ],
    ids=["ShareGPT", "ChatML", "Llama 2", "Alpaca", "dialogue", "pairs", "messages in a history", "written out"],
)
def test_each_form_of_a_conversation_gives_the_same_rows(converted: Convert, row: Any) -> None:
    _, rows = converted([row], turns="all")
    assert [(row.question, row.answer, row.given.earlier) for row in rows] == [
        (*turn, tuple(GOUT[:number])) for number, turn in enumerate(GOUT)
    ]


@pytest.mark.parametrize(
    "messages",
    [
        messages_of(GOUT)[1:],  # begins with an answer
        [messages_of(GOUT)[0], *messages_of(GOUT)],  # two questions in a row
        [*messages_of(GOUT)[:2], {"role": "system", "content": "Be brief."}, *messages_of(GOUT)[2:]],
    ],
)
def test_turns_that_do_not_take_turns_are_rejected_as_they_are(converted: Convert, messages: Any) -> None:
    report, rows = converted([{"messages": messages}, {"messages": messages_of(talk_about("asthma"))}], turns="all")
    assert report["rows"]["rejected"] == {"several_turns": 1}
    assert {row.topic for row in rows} == {"asthma"}


def test_a_last_question_without_an_answer_is_counted_and_not_learned(converted: Convert) -> None:
    messages = [*messages_of(GOUT), {"role": "user", "content": "Thanks!"}]
    report, rows = converted([{"messages": messages}], turns="last")
    assert rows[-1].question == GOUT[2].question
    assert report["conversations"]["open_questions"] == 1


def test_an_answer_that_is_not_learned_still_stands_in_the_prompt_of_the_next(
    converted: Convert, tmp_path: Path
) -> None:
    asks_back = Turn("I have pain in a toe.", "How old are you?")
    report, rows = converted([{"messages": messages_of([asks_back, *GOUT])}], turns="all")
    assert report["rows"]["rejected"] == {"answer_is_question": 1}
    assert rows[0].given.earlier == (asks_back,)
    rejected = json.loads((tmp_path / "out/rejected.jsonl").read_text())
    assert (rejected["row"], rejected["turn"], rejected["question"]) == (1, 1, asks_back.question)


def test_behind_a_turn_that_cannot_be_read_nothing_is_learned(converted: Convert, tmp_path: Path) -> None:
    broken = [GOUT[0], Turn("How?", ""), GOUT[2]]
    report, rows = converted([{"messages": messages_of(broken)}], turns="all")
    assert [row.question for row in rows] == [GOUT[0].question]
    assert report["rows"]["rejected"] == {"empty_answer": 2}
    entries = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert [(entry["turn"], entry.get("detail")) for entry in entries] == [
        (2, None),
        (3, "in turn 2, which stands before it"),
    ]


def test_earlier_turns_are_cleaned_as_they_are_learned(converted: Convert) -> None:
    turns = [Turn("Q: What is (are) Gout ?", "A <b>disease</b> of joints, which hurts."), GOUT[1]]
    _, rows = converted([{"messages": messages_of(turns)}], turns="all")
    assert rows[1].given.earlier == (Turn(rows[0].question, rows[0].answer),)
    assert rows[0].question == "What is Gout?"
    assert "<b>" not in rows[0].answer


def test_all_rows_of_a_conversation_are_in_one_split_whatever_they_say(converted: Convert, tmp_path: Path) -> None:
    for seed in range(4):
        report, rows = converted(TALKS, seed, turns="all", validation_fraction=0.2, test_fraction=0.2)
        splits = {name: read_split(tmp_path / "out", name) for name in SPLITS}
        openings = [{row.given.opening(row.question) for row in of_split} for of_split in splits.values()]
        assert all(openings)
        assert sum(map(len, openings)) == len(set.union(*openings)) == len(TOPICS)
        assert all(len(of_split) % 3 == 0 for of_split in splits.values())
        assert not any(count for counts in report["leakage"].values() for count in counts.values())
        assert len(rows) == 3 * len(TOPICS)


def test_conversations_that_begin_alike_stay_together_and_follow_ups_tie_nothing(converted: Convert) -> None:
    twins = [{"messages": messages_of([GOUT[0], Turn(f"Why {n}?", f"For the reason {n} of many more.")])} for n in "ab"]
    report, rows = converted([*TALKS, *twins], turns="last", test_fraction=0.2, validation_fraction=0.2)
    assert sum(report["splits"].values()) == len(rows) == len(TOPICS) + 2
    # Each asks "And how long does it take?": one group of all could not be split.
    assert len({row.question for row in rows}) < len(rows)
    assert min(report["splits"].values()) > 0


def test_the_audit_finds_a_conversation_that_was_put_into_two_splits(tmp_path: Path) -> None:
    halves = tmp_path / "halves"
    halves.mkdir()
    long = [{"messages": messages_of(talk_about(topic)[:2])} for topic in TOPICS]
    write(halves / "train.jsonl", long)
    write(halves / "test.jsonl", [{"messages": messages_of([GOUT[0], GOUT[2]])}])
    audit = audit_folder(halves, 0.8, column_names(DataConfig(turns="last")))
    assert audit.leakage["test"]["question"] == 1  # it begins as one of train does
    write(halves / "test.jsonl", [{"messages": messages_of([Turn("What is lupus?", "A disease."), GOUT[2]])}])
    audit = audit_folder(halves, 0.8, column_names(DataConfig(turns="last")))
    assert audit.leakage["test"]["question"] == 0


def test_short_answers_to_the_same_follow_up_are_no_near_copies(converted: Convert) -> None:
    rows = [
        {"messages": messages_of([talk_about(topic)[0], Turn("Is it serious?", "Yes, it is.")])} for topic in TOPICS
    ]
    report, kept = converted(rows, turns="last", test_fraction=0.2, validation_fraction=0.2)
    assert report["rows"]["rejected"] == {}
    assert len(kept) == len(TOPICS)


def test_a_follow_up_is_given_to_nobody_as_a_reviewed_answer(converted: Convert, tmp_path: Path) -> None:
    converted(TALKS, turns="all")
    index = PassageIndex.of_folder(tmp_path / "out")
    titles = {passage.title for topic in TOPICS for passage in index.nearest(f"How is {topic} treated?", 20)}
    assert titles <= {ASKED[0].format(topic) for topic in TOPICS}


def test_paraphrases_are_made_of_first_turns_only(converted: Convert) -> None:
    report, rows = converted(TALKS, turns="all", paraphrases_per_question=2)
    paraphrases = [row for row in rows if row.paraphrase_of]
    assert len(paraphrases) == report["paraphrases"] > 0
    assert not any(row.given for row in paraphrases)


NAMED = [
    Turn("My name is Anna Kowalski, what is gout?", "Gout is a disease of joints, Anna, and it hurts a lot."),
    Turn("Dr. Peter Novak treats me. Is that right?", "Yes, Mrs. Kowalski, Dr. Novak knows what is right for you."),
]


def test_a_name_has_one_stand_in_in_all_turns(converted: Convert) -> None:
    report, rows = converted([{"messages": messages_of(NAMED)}], turns="all", identifiers="replace")
    texts = " ".join(text for row in rows for text in (row.question, row.answer, row.asked))
    assert not any(name in texts for name in ("Anna", "Kowalski", "Novak"))
    assert rows[1].given.earlier == (Turn(rows[0].question, rows[0].answer),)
    surname = rows[0].question.removeprefix("My name is ").split(",")[0].split()[-1]
    assert surname in rows[1].answer
    assert report["identifiers"]["train_rows"] == 2


def test_a_row_is_rejected_for_what_stands_before_it(converted: Convert) -> None:
    turns = [NAMED[0], GOUT[1]]
    report, rows = converted([{"messages": messages_of(turns)}, *TALKS[:1]], turns="all", identifiers="reject")
    assert report["rows"]["rejected"] == {"identifier": 2}
    assert {row.topic for row in rows} == {"asthma"}


def test_recorded_identifiers_are_those_of_the_row_itself(converted: Convert, tmp_path: Path) -> None:
    report, rows = converted([{"messages": messages_of(NAMED)}], turns="last")
    _, finds = read_recorded(tmp_path / "out")
    assert report["identifiers"]["rows"] == 1
    texts = {"question": rows[0].question, "answer": rows[0].answer}
    assert {find.field for find in finds} <= set(texts)
    assert {texts[find.field][find.start : find.end] for find in finds} >= {"Peter Novak", "Kowalski"}


DIAGNOSIS = "What is the diagnosis?"
CASES = [
    {"question": DIAGNOSIS, "answer": f"It is {topic}, by the signs of {topic}.", "case": f"A man with {topic}."}
    for topic in TOPICS
]


def test_a_context_belongs_to_its_question(converted: Convert) -> None:
    report, rows = converted(CASES, context_column="case", test_fraction=0.2, validation_fraction=0.2)
    assert {row.question for row in rows} == {DIAGNOSIS}
    assert {(row.answer, row.given) for row in rows} == {
        (case["answer"], Given(context=case["case"])) for case in CASES
    }
    assert report["contexts"] == {"column": "case", "rows": len(TOPICS)}
    # All ask the same in words, and something else of each case.
    assert report["leakage"]["test"]["question"] == 0


def test_the_system_message_is_the_context_where_it_is_asked_for(converted: Convert) -> None:
    rows = [{"messages": messages_of(GOUT, "A man of 60.\nHis toe hurts.")}, *TALKS[:1]]
    _, kept = converted(rows, turns="all", context_column="system")
    assert [row.given.context for row in kept] == ["A man of 60.\nHis toe hurts."] * 3 + [""] * 3
    _, kept = converted(rows, turns="all")
    assert {row.given.context for row in kept} == {""}
    _, kept = converted([{**rows[0], "system": "In a column."}], turns="last", context_column="system")
    assert kept[0].given.context == "A man of 60.\nHis toe hurts.\n\nIn a column."


def test_a_context_column_that_is_not_there_is_named(converted: Convert) -> None:
    with pytest.raises(InputError, match=r"data.context_column is 'note', but the columns are .*'messages'"):
        converted(TALKS, context_column="note")
    with pytest.raises(InputError, match="which holds the question, the answer or an option"):
        converted(CASES, context_column="answer")


def test_all_rows_of_a_file_have_the_same_keys(converted: Convert, tmp_path: Path) -> None:
    single = {"messages": messages_of([Turn("What is lupus?", "A disease of many parts of the body.")])}
    converted([*TALKS, single], turns="all", canaries=2)
    keys = {tuple(json.loads(line)) for line in (tmp_path / "out/train.jsonl").read_text().splitlines()}
    assert keys == {("id", "question", "answer", "topic", "source", "earlier_turns", "text", "paraphrase_of")}


@pytest.mark.parametrize("damage", [{"earlier_turns": [{"question": "q"}]}, {"earlier_turns": 1}, {"context": 5}])
def test_a_damaged_turn_is_named_with_its_line(converted: Convert, tmp_path: Path, damage: Any) -> None:
    converted([{"messages": messages_of(GOUT)}], turns="all")
    path = tmp_path / "out/train.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps(json.loads(lines[1]) | damage)]) + "\n")
    with pytest.raises(InputError, match=r"train.jsonl:2: damaged line"):
        read_split(tmp_path / "out", "train")
