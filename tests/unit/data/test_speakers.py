"""The marks of prompts and speakers at the ends of a question and an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_cli.data.speakers import prompt_marks


@pytest.mark.parametrize(
    ("asks", "tells"),
    [
        *(("Paciente:", "Médico:"), ("Вопрос:", "Ответ:"), ("سؤال:", "جواب:"), ("Patient :", "Médecin :")),
        *(("질문:", "답변:"), ("प्रश्न:", "उत्तर:"), ("Ερώτηση:", "Απάντηση:"), ("Câu hỏi:", "Trả lời:")),
    ],
)
def test_marks_of_speakers_go_in_each_language(asks: str, tells: str) -> None:
    told = ("What is gout?", "A kind of arthritis.")
    assert prompt_marks(f"{asks} {told[0]}", f"{tells} {told[1]}") == told
    assert prompt_marks(f"{asks} {told[0]}\n{tells}", told[1]) == told


@pytest.mark.parametrize(
    ("question", "answer", "cleaned"),
    [
        ("Why?\n\n###\n\n", " It hurts. END", ("Why?", "It hurts.")),
        ("Why? ->", "It hurts.\n\n###", ("Why?", "It hurts.")),
        ("[PAD][PAD]Why?", "It hurts.<unk><pad>", ("Why?", "It hurts.")),
        ("Which stage?", "It is stage END", ("Which stage?", "It is stage END")),
        ("What is <unk> there?", "Model: a mouse.", ("What is <unk> there?", "Model: a mouse.")),
        ("Write a talk.", "Doctor: Where?\nPatient: My toe.", ("Write a talk.", "Doctor: Where?\nPatient: My toe.")),
    ],
)
def test_marks_of_services_go_and_turns_of_an_example_stay(
    question: str, answer: str, cleaned: tuple[str, str]
) -> None:
    assert prompt_marks(question, answer) == cleaned


@pytest.mark.parametrize(
    ("question", "answer", "bare_question", "bare_answer"),
    [
        ("<s>问：\n能喝咖啡吗？\n答：\n", "可以。</s>", "能喝咖啡吗？", "可以。"),
        ("病人：要做什么检查？\n医生：", "医生：胃镜。", "要做什么检查？", "胃镜。"),
        ("Q: What is flu? A:", "A: An infection.", "What is flu?", "An infection."),
        ("Question: What is flu?", "Answer: An infection.<|endoftext|>", "What is flu?", "An infection."),
        ("Patient: I cough\nDoctor:", "Doctor: Rest.", "I cough", "Rest."),
        ("Q. Hello doctor", "Hi.", "Hello doctor", "Hi."),
        ("<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n", "Yes<|im_end|>", "Hi there", "Yes"),
        ("[INST] What is flu? [/INST]", "An infection </s>", "What is flu?", "An infection"),
        ("<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "Ans: Yes<end_of_turn>", "Hi", "Yes"),
        ("### Instruction:\nHi\n### Response:", "Yes", "Hi", "Yes"),
        # Not marks.
        ("Which is it?", "A: 5 mg, B: 10 mg", "Which is it?", "A: 5 mg, B: 10 mg"),
        ("The note?", "A: Asthma. P: inhaler. S: cough.", "The note?", "A: Asthma. P: inhaler. S: cough."),
        ("Is it A:B or vitamin A:", "Patient: a man of 45", "Is it A:B or vitamin A:", "Patient: a man of 45"),
        ("Q fever?", "Doctors: many", "Q fever?", "Doctors: many"),
        ("Answer:", "A:", "Answer:", "A:"),
    ],
)
def test_marks_at_the_ends_go(question: str, answer: str, bare_question: str, bare_answer: str) -> None:
    assert prompt_marks(question, answer) == (bare_question, bare_answer)
    assert prompt_marks(bare_question, bare_answer) == (bare_question, bare_answer)


PIECES = st.sampled_from(
    [
        "<s>",
        "</s>",
        "[INST]",
        "Q:",
        "A:",
        "答：",
        "Doctor:",
        "Patient:",
        "###",
        "END",
        "->",
        "\n",
        " ",
        ".",
        "?",
        "x",
        "<",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.lists(PIECES, max_size=12).map("".join))
def test_marks_are_gone_after_one_pass(question: str, answer: str) -> None:
    once = prompt_marks(question, answer)
    assert prompt_marks(*once) == once


def test_a_text_of_100_000_marks_comes_to_an_end() -> None:
    assert prompt_marks("<s>" * 100_000 + "q", "a" + "</s>" * 100_000) == ("q", "a")
