"""A reviewed answer is given where the question asks what a row asks, and for none of its look-alikes."""

import pytest

from medqa_cli.answering.open_book import SAME_THING, forms_of, reviewed_row
from medqa_cli.data.retrieval import Passage, PassageIndex
from medqa_cli.data.topics.question_types import QuestionType

TITLES = (
    "What are the treatments for type 2 diabetes?",
    "What are the symptoms of asthma?",
    "What is heart failure?",
    "What causes myocardial infarction?",
    "What are the treatments for chronic obstructive pulmonary disease (COPD)?",
    "What is Crohn's Disease?",
    "How to prevent hepatitis A?",
    "What is hydroxyzine?",
    "Is Paget's Disease of Bone inherited?",
    "Can I take my tablets with milk?",
    "What are the treatments for fever above 38?",
    "What are the side effects of metformin?",
    "What is squamous cell carcinoma of the head and neck?",
)


@pytest.fixture(scope="module")
def index() -> PassageIndex:
    rows = [Passage(f"r{n}", "row", title, f"Answer {n}.", "", "") for n, title in enumerate(TITLES)]
    leaflet = Passage("d0", "document", "What is gout?", "Gout is a disease of joints.", "", "gout.txt")
    return PassageIndex([*rows, leaflet])


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("what are the treatments for type 2 diabetes", "r0"),
        ("How do doctors treat type 2 diabetes?", "r0"),
        ("Type 2 diabetes treatment", "r0"),
        ("My mum has type 2 diabetes, what treatments are there?", "r0"),
        ("Which symptoms come with asthma?", "r1"),
        ("I was just told I have heart failure. What is that?", "r2"),
        ("Why do people get a heart attack?", None),  # the wording holds an article that the bank's has not
        ("Causes of heart attack", "r3"),
        ("What is behind myocardial infarctions?", "r3"),
        ("How is chronic obstructive pulmonary disease treated?", "r4"),
        ("Tell me about Crohn disease.", "r5"),
        ("How can hepatitis A be prevented?", "r6"),
        ("Do people inherit Paget disease of bone?", "r8"),
        ("can i take my tablets with milk", "r9"),
        ("What are the side effects of metformin?", "r11"),
        ("What is head and neck squamous cell carcinoma?", "r12"),
    ],
)
def test_a_question_in_other_words_gets_the_row_that_asks_the_same(
    index: PassageIndex, question: str, row: str | None
) -> None:
    found = reviewed_row(question, index)
    assert (found.id if found else None) == row


@pytest.mark.parametrize(
    "question",
    [
        # another number, another letter
        "What are the treatments for type 1 diabetes?",
        "What are the treatments for diabetes?",
        "How to prevent hepatitis B?",
        "How to prevent hepatitis?",
        "What are the treatments for fever above 39?",
        # whose
        "What are the treatments for type 2 diabetes in children?",
        "What are the treatments for type 2 diabetes in pregnancy?",
        "What are the symptoms of asthma in adults?",
        "What are the symptoms of asthma in older men?",
        # negations
        "What are not symptoms of asthma?",
        "What are no treatments for type 2 diabetes?",
        "What are the symptoms of asthma without wheezing?",
        "What does not cause myocardial infarction?",
        "Is Paget's Disease of Bone never inherited?",
        "Can I not take my tablets with milk?",
        # one letter
        "What is hydralazine?",
        "What is hydroxizine?",
        "What are the side effects of metformim?",
        # another kind of question
        "What are the treatments for asthma?",
        "What does myocardial infarction cause?",
        "What are the symptoms and treatments of asthma?",
        "What are the side effects of the treatments for type 2 diabetes?",
        "What is the best treatment for type 2 diabetes?",
        "Can type 2 diabetes be cured?",
        "How much does the treatment of type 2 diabetes cost?",
        "What is metformin?",
        # a word more or less, another eponym
        "What is right heart failure?",
        "What is failure?",
        "What is acute heart failure?",
        "Is Paget's Disease inherited?",
        "Is Paget's Disease of Breast inherited?",
        "What is Cohn's Disease?",
        "What is squamous cell carcinoma of the neck?",
        # another thing, nothing, a document's title
        "What are the symptoms of lupus?",
        "How do I repair a bicycle?",
        "",
        "What is gout?",
    ],
)
def test_look_alikes_get_no_reviewed_answer(index: PassageIndex, question: str) -> None:
    assert reviewed_row(question, index) is None


def test_a_question_word_for_word_is_told_from_one_that_differs_in_a_sign() -> None:
    titles = ("How to treat fever >38?", "How to treat fever <38?")
    index = PassageIndex(Passage(title, "row", title, "", "", "") for title in titles)
    for title in titles:
        found = reviewed_row(title.lower(), index)
        assert found is not None
        assert found.title == title


SPANISH = (
    "¿Qué es la artritis?",
    "¿Qué hago si mi papá tiene fiebre y no baja?",
    "¿Qué hago si mi papa tiene fiebre y no baja?",
    "¿Cómo se trata el dolor de la cadera y del pie práctico?",
    "¿Cómo se trata el dolor de la cadera y del pie practicó?",
    "¿Qué vacunas tocan a los cinco años de edad?",
    "O que é a hipertensão e como é a medicação?",
    "¿Qué límite tiene la glucosa >126?",
    "cuales son los sintomas del asma",
)


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("que es la artritis", 0),
        ("Que es la artritis?", 0),
        ("¿Qué hago si mi papá tiene fiebre y no baja?", 1),
        ("¿Qué hago si mi papa tiene fiebre y no baja?", 2),
        ("que hago si mi papa tiene fiebre y no baja", None),  # of which of the two is not known
        ("que hago si mi papá tiene fiebre y no baja", None),  # who types accents means what has none
        ("como se trata el dolor de la cadera y del pie practico", None),
        ("que vacunas tocan a los cinco años de edad", 5),
        ("que vacunas tocan a los cinco anos de edad", None),  # another word
        ("o que e a hipertensao e como e a medicacao", 6),
        ("que limite tiene la glucosa >126", 7),
        ("que limite tiene la glucosa <126", None),
        ("¿Cuáles son los síntomas del asma?", 8),  # the row has none
    ],
)
def test_a_question_typed_without_accents_gets_its_row_unless_two_rows_differ_by_them(
    question: str, row: int | None
) -> None:
    index = PassageIndex([Passage(f"r{n}", "row", title, f"Answer {n}.", "", "") for n, title in enumerate(SPANISH)])
    found = reviewed_row(question, index)
    assert (found and found.title) == (None if row is None else SPANISH[row])


def test_the_threshold_is_that_all_words_of_the_topics_are_the_same(index: PassageIndex) -> None:
    question = "What is acute heart failure?"
    assert SAME_THING == 1.0
    assert reviewed_row(question, index) is None
    found = reviewed_row(question, index, same_thing=0.3)
    assert found is not None
    assert found.id == "r2"


def test_forms_of_a_question_are_those_of_the_question_types_and_of_the_paraphrase_bank() -> None:
    assert forms_of("How to treat gout?") == [QuestionType("treatment", "gout")] * 2
    assert QuestionType("causes", "Gout") in forms_of("I was just told I have Gout. What causes it?")
    assert QuestionType("causes", "gout") in forms_of("i was just told I have gout, what causes it")
    assert forms_of("Shall we go?") == []
