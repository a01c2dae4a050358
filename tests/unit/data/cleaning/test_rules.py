"""Cleaning rules and folding."""

import csv
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.paths import SHARED_DATA
from medqa_cli.data.cleaning.questions import question_mark_space
from medqa_cli.data.cleaning.reasons import enabled_reasons, unusable
from medqa_cli.data.cleaning.rules import RULES, Cleaned, clean, enabled_rules, tidy_paragraphs
from medqa_cli.data.filtering import DuplicateFilter
from medqa_cli.data.normalize import is_empty, key_of, normalize, row_keys
from medqa_cli.data.splitting import draw
from medqa_cli.data.writing import unique_id
from medqa_cli.errors import ConfigError

MEDQUAD = SHARED_DATA / "medquad/medquad_two_columns.csv"


@pytest.mark.parametrize(
    ("question", "answer", "clean_question", "clean_answer"),
    [
        ("  What is\n (are)\tflu ? ", "a", "What is (are) flu ?", "a"),
        ("q", "Key Points\r\n      - one   two \t\r\n\r\n\r\n\r\nnext\r", "q", "Key Points\n- one two\n\nnext"),
        ("q\u00a0r", "37\u00a0°C\u2003x\u202fy\u3000z", "q r", "37 °C x y z"),
        ("q", "one\u2028two\x0bthree\x85four", "q", "one\ntwo\nthree\nfour"),
        ("q", "a \n \n \n b", "q", "a\n\nb"),
    ],
)
def test_whitespace_is_collapsed_and_paragraphs_stay(
    question: str, answer: str, clean_question: str, clean_answer: str
) -> None:
    cleaned = clean(question, answer, ("whitespace",))
    assert (cleaned.question, cleaned.answer) == (clean_question, clean_answer)
    assert cleaned.changed == (() if (question, answer) == (clean_question, clean_answer) else ("whitespace",))


def test_clean_text_counts_as_unchanged() -> None:
    assert clean("What is flu?", "An infection.\n\n- fever\n- cough", ("whitespace",)).changed == ()


_ALL = tuple(RULES)
_HPO = (
    "The Human Phenotype Ontology provides the following list of signs and symptoms for Ardent syndrome. "
    "If the information is available, the table below includes how often. Look terms up in the dictionary. "
    "Signs and Symptoms Approximate number of patients (when available) {table} "
    "The Human Phenotype Ontology (HPO) has collected information on how often a sign or symptom occurs. "
    "In these cases, the sign or symptom may be rare or common."
)
_HPO_HEADER = "Signs and symptoms (approximate number of patients, when available):"


def answer_of(rule: str, answer: str, question: str = "What is flu?") -> str:
    return RULES[rule].apply(question, answer)[1]


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        ("Wash:    - one    - two.    -  three", "Wash:\n- one\n- two.\n- three"),
        ("Risks are these. - age  - smoking  -  weight", "Risks are these.\n- age\n- smoking\n- weight"),
        ("Risks may include - age  - smoking", "Risks may include - age\n- smoking"),
        ("The risks include:     - having had a stroke", "The risks include:\n- having had a stroke"),
        ("A weight of:    - 40 kg    - 50 kg or more", "A weight of:\n- 40 kg\n- 50 kg or more"),
        ("Store it:   - dry   - dark   - at  - 20 °C", "Store it:\n- dry\n- dark\n- at  - 20 °C"),
        ("Signs\n    - fever    - cough", "Signs\n    - fever\n- cough"),
        ("Signs:   - fever   - a cough       Doctors see it.", "Signs:\n- fever\n- a cough\nDoctors see it."),
        ("Dose:   - a pill   per day   - none", "Dose:\n- a pill   per day\n- none"),
    ],
)
def test_list_signs_within_a_line_become_lines(raw: str, clean_text: str) -> None:
    assert answer_of("inline_bullets", raw) == clean_text


@pytest.mark.parametrize(
    "text",
    [
        "A drug - sometimes two - is given.",
        "Take 10 - 20 mg.",
        "Take 10   - 20 mg.",
        "between -5 and  -2 degrees",
        "a dash  -  like this",
        "well-known,  self-limiting",
        "One.\n\n- two\n    - three",
        "See: - a single one",
        "Use warm  - not hot - water.",
        "at 37 degrees  - 2 tablets",
        "Keep it at  - 20 °C. The base excess was  - 6 mmol/l.",
        "Keep it at    - 20 °C or    - 80 °C.",
        "These symptoms need to be evaluated  - ask your doctor.",
    ],
)
def test_hyphens_and_ranges_are_no_list_signs(text: str) -> None:
    assert answer_of("inline_bullets", text) == text


@pytest.mark.parametrize(
    ("rule", "raw", "clean_text"),
    [
        ("question_mark_space", "What is flu ?", "What is flu?"),
        ("question_mark_space", "Who is at risk for flu? ?", "Who is at risk for flu?"),
        ("question_mark_space", "Why ??  How?", "Why?  How?"),
        ("question_mark_space", "Do you have information about flu", "Do you have information about flu"),
        ("what_is_are", "What is (are) flu ?", "What is flu ?"),
        ("what_is_are", "What is (are)  ?", "What is (are)  ?"),
        ("what_is_are", "What is (area) flu?", "What is (area) flu?"),
    ],
)
def test_the_form_of_a_question(rule: str, raw: str, clean_text: str) -> None:
    assert RULES[rule].apply(raw, "a") == (clean_text, "a")


@pytest.mark.parametrize(
    ("question", "lead"),
    [
        ("What are the symptoms of Ardent syndrome?", "What are the signs and symptoms of ardent syndrome?"),
        ("What are the treatments for Ardent cyst ?", "How might ardent cysts be treated?"),
        ("What are the treatments for Ardent syndrome type 2?", "How might Ardent syndrome (ARD) be treated?"),
        ("Is Ménière disease inherited?", "How is this condition inherited?"),
        ("How to diagnose Ardent syndrome?", "Is genetic testing available for Ardent syndrome?"),
        ("What causes Ardent syndrome?", "What causes Ardent syndrome? What genes are related to Ardent syndrome?"),
    ],
)
def test_an_echoed_question_goes(question: str, lead: str) -> None:
    assert answer_of("question_echo", f"{lead} There is no single way.", question) == "There is no single way."


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is Ardent syndrome?", "Have you ever felt dizzy? It may be Ardent syndrome."),  # rhetorical
        ("What are the treatments for flu?", "How might flu in infants be treated? With care."),  # narrower
        ("What are the treatments for flu?", "What causes flu? A virus."),  # asks for something else
        ("What are the treatments for Localized scleroderma?", "How might morphea be treated? It depends."),
        ("What causes sudden testicular pain?", "What causes pain? Many things."),  # too wide to tell
        ("How to diagnose flu?", "Is testing for flu available? Yes. Ask a doctor."),  # the yes needs its question
        ("What causes flu?", "What causes flu?"),  # nothing would be left
        ("What causes flu?", "It is viral. What causes flu? A virus."),
        ("What causes flu?", 'What causes "flu?" Most say a virus.'),
    ],
)
def test_other_leading_questions_stay(question: str, answer: str) -> None:
    assert answer_of("question_echo", answer, question) == answer


def test_a_yes_that_answers_the_question_stays_without_the_echo() -> None:
    assert answer_of("question_echo", "Is flu inherited? No. It is caught.", "Is flu inherited?") == "No. It is caught."


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        (
            "Abnormality of the foot 90% Low-set, rotated ears 7.5% 2-3 toe syndactyly 3/19 Seizures - Tremor -",
            f"{_HPO_HEADER}\n- Abnormality of the foot (90%)\n- Low-set, rotated ears (7.5%)\n"
            "- 2-3 toe syndactyly (3/19)\n- Seizures\n- Tremor",
        ),
        (
            "Myopia 3 of 4 Tremor 50% Seizures",  # the last one has no frequency: the columns are lost
            "Signs and Symptoms Approximate number of patients (when available) Myopia 3 of 4 Tremor 50% Seizures",
        ),
        (
            "Gait - unsteady 50%",
            "Signs and Symptoms Approximate number of patients (when available) Gait - unsteady 50%",
        ),
    ],
)
def test_the_phenotype_table_becomes_a_list(table: str, shown: str) -> None:
    block = _HPO.format(table=table)
    assert answer_of("hpo_block", block) == shown
    assert answer_of("hpo_block", f"It varies. {block} It is rare.") == f"It varies.\n\n{shown}\n\nIt is rare."


@pytest.mark.parametrize(
    "text",
    ["The Human Phenotype Ontology is a vocabulary.", "The Human Phenotype Ontology provides more on Ardent syndrome."],
)
def test_other_words_about_the_ontology_stay(text: str) -> None:
    assert answer_of("hpo_block", text) == text


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        ("Rest.     NIH: National Cancer Institute", "Rest."),
        ("- rest\n- drink NIH: National Heart, Lung, and Blood Institute", "- rest\n- drink"),
        ("Rest.\n\nNIH: National Institutes of Health Office of Dietary Supplements\n", "Rest."),
        ("Ask the NIH: National Cancer Institute", "Ask the NIH: National Cancer Institute"),
        ("NIH: National Cancer Institute", "NIH: National Cancer Institute"),
        ("NIH: National Cancer Institute. Rest.", "NIH: National Cancer Institute. Rest."),
        ("Funded by NIH: grant 12", "Funded by NIH: grant 12"),
    ],
)
def test_the_source_at_the_end_goes(raw: str, clean_text: str) -> None:
    assert answer_of("nih_tail", raw) == clean_text


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        ("Summary : Food gives energy.", "Food gives energy."),
        ("Key Points\n      - Flu is viral.\n- It spreads.", "- Flu is viral.\n- It spreads."),
        ("Key points - Flu is viral.", "Flu is viral."),
        ("Español\n\nFlu is viral.", "Flu is viral."),
        ("Summary of the evidence: none.", "Summary of the evidence: none."),
        ("Key points of the hip are two.", "Key points of the hip are two."),
        ("Español is a language.", "Español is a language."),
        ("In summary: rest.", "In summary: rest."),
        ("Summary:", "Summary:"),
    ],
)
def test_openers_of_summaries_and_key_points_are_taken_off(raw: str, clean_text: str) -> None:
    assert answer_of("openers", raw) == clean_text


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        (
            "Rest. (Watch the video to learn more. To enlarge the video, click the brackets. To reduce the video, "
            "press the Escape (Esc) button on your keyboard.) Drink.",
            "Rest. Drink.",
        ),
        ("Rest.\n\nSee this graphic for a quick overview of flu.\nDrink.", "Rest.\n\nDrink."),
        ("Rest. Click here to view a diagram of the eye. Click here to view this resource.", "Rest."),
        ("Rest. Please click on the link to access this resource.", "Rest."),
        ("Rest. To view the list of laboratories, click here. Drink.", "Rest. Drink."),
        ("It is a clot.\n\nThe animation below shows a clot. Click the \"start\" button to play the animation.",
         "It is a clot."),
    ],
)  # fmt: skip
def test_pointers_at_what_is_not_there_go(raw: str, clean_text: str) -> None:
    assert answer_of("media_leftovers", raw) == clean_text


@pytest.mark.parametrize(
    "text",
    [
        "Watch the child closely. Watch for fever.",
        "Rest (Watch for fever or a rash.) and drink (To start treatment early helps).",
        "You may hear a click here and there.",
        "See the doctor at once.",
        "See a doctor about the picture of the lungs.",
        "The jaw may click (see this sign).",
        "The animation below shows how a clot blocks the artery.",  # the sentence says how
        "Experts say: watch this video now.",
        "To view the retina, the doctor uses a lamp.",
        "Watch the video.",  # nothing would be left
        "Doctors can See this graphic on a screen.",
    ],
)
def test_sentences_that_only_sound_like_pointers_stay(text: str) -> None:
    assert answer_of("media_leftovers", text) == text


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        ("It doesnt hurt, and you cant see it.", "It doesn't hurt, and you can't see it."),
        ("Dont stop; theyre yours.", "Don't stop; they're yours."),
        ("Sjgren syndrome, Sjgren's eye, Mnires disease", "Sjögren syndrome, Sjögren's eye, Ménière's disease"),
        ("Guillain-Barr or Behet's", "Guillain-Barré or Behçet's"),
        ("Alzheimers disease, Bells palsy, Downs Syndrome", "Alzheimer's disease, Bell's palsy, Down's Syndrome"),
        ("the bodys cells (your childs)", "the body's cells (your child's)"),
        ("Cant syndrome, caf-au-lait spots", "Cantú syndrome, café-au-lait spots"),
    ],
)
def test_lost_letters_are_put_back(raw: str, clean_text: str) -> None:
    assert RULES["lost_letters"].apply(raw, raw) == (clean_text, clean_text)


@pytest.mark.parametrize(
    "text",
    [
        "wont well were its hell ill shell id lets mans persons doctors",
        "Epstein-Barr virus, Guillain-Barré syndrome, Graves disease",
        "The Bells and the Kennedys met Downs.",
        "www.alzheimers.gov/Alzheimers www.x.org https://a.org/bodys?Parkinsons-Sjgren Alzheimers.org a@Crohns.org",
        "une maladie dont la cause est inconnue",
        "the occlusal cant, a cant of two degrees",
        "significant parents and Childs",
        "the Alzheimers' home",
        "Doctor Cant said so.",
    ],
)
def test_what_may_be_right_is_not_repaired(text: str) -> None:
    assert RULES["lost_letters"].apply(text, text) == (text, text)


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        ("at full term.The baby", "at full term. The baby"),
        ("is it treated?More often (rarely).Then", "is it treated? More often (rarely).Then"),
        ("well-being.A and more.In, all", "well-being. A and more. In, all"),
        ("see asp.Net, www.my.Site and http://a.b/term.The", "see asp.Net, www.my.Site and http://a.b/term.The"),
        ("E.coli, p.Arg12, B.The, p53.Mutant, U.S.A", "E.coli, p.Arg12, B.The, p53.Mutant, U.S.A"),
        ("cells.NMO", "cells.NMO"),
        (f"{'x' * 60}.The", f"{'x' * 60}.The"),
    ],
)
def test_glued_sentences_get_a_space_and_words_with_dots_do_not(raw: str, clean_text: str) -> None:
    assert RULES["glued_sentences"].apply(raw, raw) == (clean_text, clean_text)


_ADDRESSES = [
    "https://a.org/why-dont-you?Really.The+x",
    "HTTP://A.ORG/dont",
    "www.a.org/doesnt/x.The",
    "a.org/what-dont-know",
    "praxis.de/cant-x",
    "dont-reply@clinic.org",
    "john.dont@a.b.org",
    "10.1000/x-dont.The",
    "https://a.org/search??q=dont",
]


@pytest.mark.parametrize("word", ["x" * 100_000 + ".b", "x." * 50_000, "x-" * 50_000 + ".b", "www." * 25_000])
def test_a_word_of_100_000_characters_is_left_alone_at_once(word: str) -> None:
    # The pattern of an address takes quadratic time: hours for such a word.
    cleaned = clean("What is it ?", f"It doesnt {word} and it doesnt end.", enabled_rules({}))
    assert cleaned.answer == f"It doesn't {word} and it doesn't end."


@pytest.mark.parametrize("address", _ADDRESSES)
def test_no_rule_changes_an_address(address: str) -> None:
    question, answer = (
        f"Is it true that it doesnt help as {address} says ??",
        f"It doesnt ({address}).The rest, {address}",
    )
    cleaned = clean(question, answer, enabled_rules({}))
    assert cleaned.question == f"Is it true that it doesn't help as {address} says?"
    assert cleaned.answer == f"It doesn't ({address}).The rest, {address}"


def test_all_rules_together() -> None:
    cleaned = clean(
        "What are the symptoms of Sjgren syndrome ? ?",
        "What are the signs and symptoms of Sjgren syndrome?  Summary : It doesnt hurt.    - dry eyes    - thirst"
        "   (Watch the video.)    NIH: National Eye Institute",
        enabled_rules({}),
    )
    assert cleaned.question == "What are the symptoms of Sjögren syndrome?"
    assert cleaned.answer == "It doesn't hurt.\n- dry eyes\n- thirst"
    assert cleaned.changed == (
        "inline_bullets",
        "whitespace",
        "lost_letters",
        "question_mark_space",
        "media_leftovers",
        "nih_tail",
        "openers",
        "question_echo",
    )


_PIECES = [
    *" \n\t.?!:;,-()'\"",
    *(
        "    - ",
        "  - ",
        "  -  ",
        " - ",
        "\n\n",
        "\n- ",
        "90% ",
        "3/4 ",
        "10",
        "a",
        "Word ",
        "é",
        "\u00a0",
        "\x1c",
        "\r\n",
    ),
    *("What is (are) ", "What are the symptoms of flu?", "How is this condition treated? ", "symptoms of flu", "Yes. "),
    *(
        "Summary : ",
        "Key Points\n",
        "Espaol\n",
        "NIH: National Eye Institute",
        "NIH: ",
        "National ",
        "(Watch the video.)",
    ),
    *(
        "See this graphic of flu.",
        "Click here to view this resource.",
        "The animation below shows it.",
        "To see it, click here.",
    ),
    *(
        "doesnt ",
        "dont ",
        "Bells",
        " palsy",
        "Sjgren",
        "Cant",
        " syndrome",
        "Caf",
        " au lait",
        "www.",
        "http://",
        "end.The ",
    ),
    "The Human Phenotype Ontology provides the following list of signs and symptoms for ",
    "Signs and Symptoms Approximate number of patients (when available) ",
    "The Human Phenotype Ontology (HPO) has collected information on how often",
    "In these cases, the sign or symptom may be rare or common.",
]
_TEXTS = st.lists(st.sampled_from(_PIECES) | st.text(max_size=4), max_size=14).map("".join)


@given(question=_TEXTS, answer=_TEXTS)
def test_cleaning_twice_changes_no_more_than_once(question: str, answer: str) -> None:
    once = clean(question, answer, _ALL)
    assert clean(once.question, once.answer, _ALL) == Cleaned(once.question, once.answer, ())


@given(question=_TEXTS, answer=_TEXTS, rule=st.sampled_from(_ALL))
def test_every_rule_is_idempotent(question: str, answer: str, rule: str) -> None:
    once = RULES[rule].apply(question, answer)
    assert RULES[rule].apply(*once) == once


@given(question=_TEXTS, answer=_TEXTS, chosen=st.sets(st.sampled_from(_ALL)))
def test_any_choice_of_rules_can_be_made(question: str, answer: str, chosen: set[str]) -> None:
    enabled = enabled_rules({name: name in chosen for name in RULES})
    once = clean(question, answer, enabled)
    assert set(once.changed) <= chosen
    assert clean(once.question, once.answer, enabled).changed == ()


@pytest.mark.parametrize(
    "piece",
    [" ", "\n", "?", " ?", "  - ", "- ", "(Watch ", "(", "To access ", "NIH: National A ", "Summary : ", "cant ", "a.A",
     "What causes flu? ", "http://", _HPO.format(table="A -"), "x 90% ", "www.Sjgren "],
)  # fmt: skip
def test_long_texts_of_one_kind_come_through(piece: str) -> None:
    long = "Start" + piece * (100_000 // len(piece)) + "end"
    cleaned = clean(f"What causes flu?{long}", long, _ALL)
    assert cleaned.answer.startswith("Start")
    assert cleaned.answer.endswith("end")


def test_rules_are_chosen_by_name() -> None:
    assert enabled_rules({}) == _ALL
    assert enabled_rules({name: name == "whitespace" for name in RULES}) == ("whitespace",)
    assert clean(" q ", " a ", ()).question == " q "
    with pytest.raises(ConfigError) as caught:
        enabled_rules({"whitespce": True, "zzz": False})
    assert caught.value.problems == [
        "data.cleaning.whitespce: no such cleaning rule; did you mean 'whitespace'?",
        "data.cleaning.zzz: no such cleaning rule",
    ]


@pytest.mark.skipif(not MEDQUAD.exists(), reason=f"no file {MEDQUAD}")
def test_medquad_is_changed_by_exact_counts_and_once_is_enough() -> None:
    """Exact counts: a rule that begins to see more or less than it did has to be looked at, row by row."""
    changed: Counter[str] = Counter()
    words_before = words_after = 0
    for question, answer in medquad_rows():
        cleaned = clean(question, answer, _ALL)
        assert clean(cleaned.question, cleaned.answer, _ALL) == Cleaned(cleaned.question, cleaned.answer, ())
        changed.update(cleaned.changed)
        words_before += len(answer.split())
        words_after += len(cleaned.answer.split())
    assert changed == {
        "inline_bullets": 3237,
        "whitespace": 6280,
        "glued_sentences": 103,
        "lost_letters": 926,
        "question_mark_space": 16090,
        "what_is_are": 4229,
        "hpo_block": 2243,
        "media_leftovers": 158,
        "nih_tail": 504,
        "openers": 603,
        "question_echo": 3829,
    }
    assert round(1 - words_after / words_before, 3) == 0.146


def medquad_rows() -> Iterator[tuple[str, str]]:
    with open(MEDQUAD, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["question"], row["answer"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is (are) Flu ?", "what is are flu"),
        ("ﬁne STRASSE", "fine straße"),
        ("Cafe\u0301", "CAFÉ"),
        ("a_b", "a b"),
    ],
)
def test_fold_ignores_case_punctuation_and_forms(one: str, other: str) -> None:
    assert normalize(one) == normalize(other) != ""


@pytest.mark.parametrize(("one", "other"), [("+", "-"), ("की", "का"), ("vitamin B1", "vitamin B2"), ("ab c", "a bc")])
def test_fold_keeps_different_texts_apart(one: str, other: str) -> None:
    assert normalize(one) != normalize(other)


def test_keys_are_the_same_on_every_platform_and_version() -> None:
    assert key_of("what is flu", "an infection").hex() == "6fab6f4ae2a618eee599ed6889d438c6"
    assert key_of("a b", "c") != key_of("a", "b c")


@pytest.mark.parametrize("text", ["", " \t", "nan", "NaN", " NULL ", "\u200b", "\ufeff \u00a0"])
def test_cells_of_blanks_and_null_words_are_empty(text: str) -> None:
    assert is_empty(text)
    assert unusable("q", text) == "empty_answer"
    assert unusable(text, "a") == "empty_question"


def test_none_is_an_answer_but_no_question() -> None:
    assert unusable("q", "None") is None
    assert unusable("None", "a") == "empty_question"


@pytest.mark.parametrize("text", ["none", "Nan bread", "NULL hypothesis", "-", "0", "None."])
def test_cells_that_only_look_empty(text: str) -> None:
    assert not is_empty(text)
    assert unusable("q", text) is None


def test_screen_rejects_duplicates_and_surplus_copies() -> None:
    duplicates = DuplicateFilter(2, enabled_reasons({}))
    pairs = [("q1", "A!"), ("Q1?", "a"), ("q2", "a"), ("q3", "a"), ("q1", "b"), ("q3", "a")]
    assert [duplicates.reason(row_keys(pair, [*map(normalize, pair)], [])) for pair in pairs] == [
        None,
        "exact_duplicate",
        None,
        "over_copy_limit",
        None,
        "over_copy_limit",
    ]


def test_what_cannot_be_written_is_unusable() -> None:
    assert unusable("q\0", "a") == "nul_byte"
    assert unusable("q", "a\ud800") == "invalid_unicode"
    assert unusable("q", "a", "topic\0") == "nul_byte"


def test_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    keys = [key_of(str(i)) for i in range(200)]

    def chosen(keys: list[bytes], seed: int) -> set[bytes]:
        return {key for key, drawn in zip(keys, draw(keys, 50, seed), strict=True) if drawn}

    assert len(chosen(keys, 1)) == 50
    assert chosen(keys, 1) == chosen(keys[::-1], 1) != chosen(keys, 2)
    assert all(draw(keys, None, 1))
    assert all(draw(keys, 200, 1))


def test_equal_short_ids_get_a_suffix() -> None:
    taken: Counter[str] = Counter()
    pairs = [bytes(8) + bytes([last] * 8) for last in (1, 2, 3)] + [bytes([9] * 16)]
    assert [unique_id(pair, taken) for pair in pairs] == ["0" * 16, "0" * 16 + "-2", "0" * 16 + "-3", "09" * 8]


@given(st.text(alphabet="ab \n\t\r\v\f\x1c\x1d\x1e\x1f-", max_size=30))
def test_tidy_paragraphs_of_ascii_text_gives_what_the_way_for_other_texts_gives(text: str) -> None:
    other = tidy_paragraphs(f"é{text}x")
    assert tidy_paragraphs(f"e{text}x") == f"e{other[1:]}"
    assert tidy_paragraphs(other) == other


def test_a_space_that_does_not_break_before_a_question_mark_stays_in_french_and_goes_in_english() -> None:
    assert question_mark_space("Ai-je besoin d'antibiotiques\u202f?") == "Ai-je besoin d'antibiotiques\u202f?"
    assert question_mark_space("Fièvre\u00a0?") == "Fièvre\u00a0?"
    assert question_mark_space("What is gout\u00a0?") == "What is gout?"


@pytest.mark.parametrize(
    ("question", "answer", "cleaned"),
    [
        ("Toux ?", "Sirop.", "Toux ?"),
        ("Toux ?", "Prenez du sirop et buvez de l'eau chaude.", "Toux ?"),
        ("Fièvre ?", "Paracétamol.", "Fièvre ?"),
        ("Quelle est la cause de la toux ?", "Un virus.", "Quelle est la cause de la toux ?"),
        ("Asthma ?", "A disease of the airways.", "Asthma?"),
        ("What is flu ? ?", "Grippe.", "What is flu?"),
    ],
)
def test_a_plain_space_before_a_question_mark_goes_only_in_english(question: str, answer: str, cleaned: str) -> None:
    assert clean(question, answer, enabled_rules({})).question == cleaned


@pytest.mark.parametrize(
    ("answer", "cleaned"),
    [
        ("Right eye - 2.25", "Right eye - 2.25"),
        ("Right eye    - 2.25    Left eye    - 1.50", "Right eye - 2.25 Left eye - 1.50"),
        ("The glasses:    - 2.25 right    - 3,50 left", "The glasses: - 2.25 right - 3,50 left"),
        ("Doses:    - 0.25 mg    - 0.50 mg twice", "Doses:\n- 0.25 mg\n- 0.50 mg twice"),
        ("Signs:    - fever    - cough", "Signs:\n- fever\n- cough"),
    ],
)
def test_the_minus_of_a_refraction_opens_no_list(answer: str, cleaned: str) -> None:
    assert clean("What is it?", answer, enabled_rules({})).answer == cleaned


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ('The French word "dont" means of which.', 'The French word "dont" means of which.'),
        (
            'He wrote "les enfants dont je parle", it doesnt help',
            'He wrote "les enfants dont je parle", it doesn\'t help',
        ),
        ('She said "I dont know what it is" and left.', 'She said "I don\'t know what it is" and left.'),
        ("The 'dont' on the chart is French.", "The 'dont' on the chart is French."),
        ("They dont know.", "They don't know."),
    ],
)
def test_a_quoted_word_of_another_language_stays(text: str, repaired: str) -> None:
    assert RULES["lost_letters"].apply(text, "") == (repaired, "")
