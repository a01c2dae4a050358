"""The tables under ``resources``: that each holds what its reader expects."""

import codecs
import re
import unicodedata

import pytest

from medqa_cli.answering.emergencies import kinds
from medqa_cli.data.encodings.code_pages import known_pages
from medqa_cli.data.encodings.plausibility import JUDGES
from medqa_cli.data.languages import language_of, latin_languages
from medqa_cli.data.normalize import without_accents
from medqa_cli.data.ranking import SMALL
from medqa_cli.data.reading.cells import parse_exchange
from medqa_cli.data.speakers import ASSISTANT, SYSTEM, USER, marks, persons, role_of
from medqa_cli.resources import compiled, load_pattern, load_yaml


def test_languages_have_lower_case_letters_and_words_of_their_own() -> None:
    languages = latin_languages()
    assert len(languages) == 26
    for code, (letters, words) in languages.items():
        assert len(code) == 2
        assert len(words) > 20
        assert len(set(letters)) == len(letters)
        assert letters.isascii() == (letters == "")
        for sign in (*letters, *words):
            assert sign == unicodedata.normalize("NFC", sign).lower()
        assert {letter for word in words for letter in word if letter > "\x7f"} <= {*letters}, code
        assert any(
            len(holders) == 1
            for holders in ([each for each in languages if word in languages[each].words] for word in words)
        )


def test_scripts_are_in_order_and_letters_that_tell_kin_apart_are_of_their_script() -> None:
    table = load_yaml("languages")
    starts = [start for start, _ in table["scripts"]]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    for script, kin in table["by_letters"].items():
        assert script in {language for _, language in table["scripts"]}
        for language, letters in kin:
            assert language_of(f"{letters} {letters}") == language


def test_each_encoding_is_a_codec_of_a_script_that_has_a_judge() -> None:
    for codec, page in known_pages().items():
        assert codecs.lookup(codec).name.replace("-", "_") == codec
        assert page.script in JUDGES
    assert len({page.name for page in known_pages().values()}) == len(known_pages()) == 51
    assert [page.is_rare for page in known_pages().values()] == [False] * 26 + [True] * 25


def test_each_speaker_has_one_role_and_is_found_by_its_folded_name() -> None:
    table = load_yaml("speakers")
    names = {role: [*table[role]["words"].split(), *table[role]["phrases"]] for role in (USER, ASSISTANT, SYSTEM)}
    for role, all_names in names.items():
        for name in all_names:
            assert role_of(f" {name.upper()} ") in (role, ""), name  # "ß", "ı": not each name has one upper case
            assert role_of(name) == role
    greek = parse_exchange("Ασθενής: Έχω βήχα.\nΓιατρός: Να πίνετε τσάι.")
    assert (greek.question, greek.answer) == ("Έχω βήχα.", "Να πίνετε τσάι.")
    assert set(table["alpaca"]) == {"input", "instruction", "response"}
    left_out = {*table["texts"].split(), *table["text_phrases"], *table["headings"].split()}
    assert left_out <= {*names[USER], *names[ASSISTANT]}
    assert (
        {"médico", "paciente", "환자"}
        <= {*persons(USER), *persons(ASSISTANT)}
        <= {*marks(USER), *marks(ASSISTANT)} | left_out
    )


def test_paraphrases_hold_their_topic_once_and_are_of_kinds_that_questions_have() -> None:
    table = load_yaml("paraphrases")
    assert set(table) < set(load_yaml("question_types")["forms"])
    for kind, wordings in table.items():
        assert set(wordings) == {"general", "illness"}, kind
        for text in wordings["general"] + wordings["illness"]:
            assert text.count("{topic}") + text.count("{lower}") == text.count("{") == 1, text


def test_question_types_hold_their_topic_once_and_only_known_pieces() -> None:
    table = load_yaml("question_types")
    assert set(table) == {"pieces", "with_own_space", "forms", "pointing", "clause"}
    pieces = table["pieces"]
    assert set(table["with_own_space"]) < set(pieces)
    assert all(re.fullmatch(pieces[name], "") is not None for name in set(table["with_own_space"]) - {"NAME"})
    assert [*table["forms"]][-1] == "information"
    for kind, forms in table["forms"].items():
        for form in forms:
            assert form.count("TOPIC") == 1, form
            assert set(re.findall(r"\b[A-Z]{3,}\b", form)) <= set(pieces), form
            assert "(" not in re.sub(r"\(\?:|\\\(", "", form), f"{kind}: only the topic is a group: {form}"


def test_medical_terms_are_words_and_patterns_that_match_no_empty_text() -> None:
    table = load_yaml("medical_terms")
    patterns = {"name_of_illness", "not_of_an_adult"}
    assert set(table) == {"relations", "no_illnesses", "complaints", "illnesses", "means"} | patterns
    for name in ("relations", "no_illnesses"):
        words = table[name].split()
        assert words == [word.lower() for word in words]
        assert len(set(words)) == len(words)
    for name in ("complaints", "illnesses", "means"):
        assert len(set(table[name])) == len(table[name])
        assert not any(re.fullmatch(pattern, "") for pattern in table[name])


def test_topic_words_are_capitalized_and_in_one_list_only() -> None:
    names, ordinary = (load_yaml("topic_words")[name].split() for name in ("names", "ordinary"))
    assert all(re.fullmatch("[A-Z][a-z]+", word) for word in names + ordinary)
    assert len(set(names + ordinary)) == len(names + ordinary)


def test_lost_letters_repair_words_that_lack_letters_or_marks_only() -> None:
    table = load_yaml("lost_letters")
    assert set(table) == {"words", "phrases", "owners", "owned", "contractions"}
    for damaged, repair in {**table["words"], **table["phrases"]}.items():
        kept = [letter for letter in repair if letter.isascii()]
        rest = iter(repair)
        assert all(letter in rest for letter in damaged), damaged
        assert len(damaged) >= len([letter for letter in kept if letter.isalpha()]) - 1, damaged
    assert all(name.endswith("s") for name in table["owners"].split())


def test_reasons_and_non_answers_have_the_fields_that_their_readers_expect() -> None:
    for name, reason in load_yaml("reasons").items():
        assert set(reason) <= {"doc", "enabled", "fixed"}, name
        assert isinstance(reason["doc"], str)
        assert reason.get("enabled", True) in (True, False)
    table = load_yaml("non_answers")
    assert set(table) == {"headings", "missing", "pointer", "link_heading", "asks_where"}
    texts = table["headings"] + table["missing"]
    assert texts == [text.casefold().strip(" .:;!?\"'") for text in texts]


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        (
            "clarifying_questions",
            {"greetings", "asks_back", "asks_back_in_english", "asks_back_in_signs", "which_first", "says", "asked_for"}
            | {"tells", "tells_in_english", "tells_in_signs", "to_oneself"},
        ),
        ("speakers", {"speech", "examples"}),
    ],
)
def test_patterns_of_a_table_compile_and_match_no_empty_text(name: str, tables: set[str]) -> None:
    table = load_yaml(name)
    others = {"words", "question_words"} if name == "clarifying_questions" else set(table) - tables
    assert set(table) == tables | others
    used = "".join(pattern for part in tables for pattern in table[part].values())
    assert set(re.findall(r"<(\w+)>", used)) == set(table.get("words", ()))
    for part in tables:
        for key, pattern in table[part].items():
            assert "||" not in pattern.replace("\n", ""), (part, key)
        assert load_pattern(name, part).search("") is None, part
    words = table.get("question_words", "").split()
    assert words == sorted(set(words))


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("topic_phrases", {"words", "any_illness"}),
        ("question_types", {"pieces", "with_own_space", "forms"}),
        ("medical_terms", {"relations", "no_illnesses", "complaints", "illnesses", "means"}),
        ("topic_words", {"names", "ordinary"}),
        ("non_answers", {"headings", "missing"}),
        ("web_boilerplate", {"words", "signs_of_pointers"}),
    ],
)
def test_patterns_have_no_alternative_that_is_empty_by_a_slip(name: str, others: set[str]) -> None:
    tables = set(load_yaml(name)) - others
    assert len(tables) > 1
    for table in tables:
        pattern = load_pattern(name, table).pattern
        assert not re.search(r"\|\||\(\||\|\)|:\||^\||\|$|<\w+>", pattern.replace("::", "")), table


def test_each_name_of_a_tag_stands_in_one_table_and_those_that_need_no_end_are_among_them() -> None:
    table = {name: words.split() for name, words in load_yaml("markup").items()}
    assert set(table) == {"lines", "paragraphs", "inline", "hidden", "void", "alone", "latex"}
    names = [*table["lines"], *table["paragraphs"], *table["inline"]]
    assert len(set(names)) == len(names)
    assert names == [name.casefold() for name in names]
    assert set(table["alone"]) < set(names)
    # What has no end hides nothing that could follow it.
    assert not set(table["hidden"]) & set(table["void"])
    # Only after these letters is a backslash taken for a line break or a tab.
    assert all(command[0] in "nt" for command in table["latex"])


def test_letters_of_a_script_are_of_its_code_points_and_either_common_or_rare() -> None:
    scripts = load_yaml("encodings")["scripts"]
    assert set(scripts) < set(JUDGES)
    for name, table in scripts.items():
        assert set(table) == {"first", "last", "common", "rare"}, name
        letters = [*table["common"], *table["rare"]]
        assert all(table["first"] <= ord(letter) <= table["last"] for letter in letters), name
        assert len(set(letters)) == len(letters), name


def test_encodings_of_damaged_texts_are_known_and_their_languages_have_letters() -> None:
    table = load_yaml("encodings")["mojibake"]
    assert set(table) == {"decoded_as", "written_in", "pages_of_languages"}
    assert table["decoded_as"][0] == "cp1252"
    assert all(codecs.lookup(codec) for codec in table["decoded_as"])
    assert {*table["written_in"].split(), *table["pages_of_languages"]} <= set(known_pages())
    assert all(latin_languages()[code].letters for codes in table["pages_of_languages"].values() for code in codes)


def test_question_words_are_of_kinds_that_questions_have_and_without_accents() -> None:
    tables = load_yaml("question_words")
    assert [*tables] == ["en", "es", "fr", "it", "pt", "de"]
    kinds = set(load_yaml("question_types")["forms"]) | {"support groups", "stages"}
    for language, table in tables.items():
        assert {*table} - {SMALL} <= kinds, language
        assert (SMALL in table) == (language != "en")  # those of English are STOP_WORDS
        words = {kind: text.split() for kind, text in table.items()}
        assert all(len(set(each)) == len(each) for each in words.values()), language
        if language != "en":
            assert words[SMALL] == sorted(words[SMALL]), language
            known = {without_accents(word) for word in latin_languages()[language].words}
            telling = [word for kind, each in words.items() if kind != SMALL for word in each]
            assert len(set(telling)) == len(telling), language
            assert not {*words[SMALL]} & ({*telling} | known), language
            assert all(re.fullmatch("[a-zß]+", word) for word in words[SMALL] + telling), language


def test_word_endings_are_of_languages_that_have_question_words() -> None:
    table = load_yaml("word_endings")
    assert {*table} == {*load_yaml("question_words")} - {"en"}
    for endings in table.values():
        assert len(set(endings.split())) == len(endings.split())
        assert all(re.fullmatch("[a-z]{1,7}", ending) for ending in endings.split())


def test_emergency_patterns_compile_and_name_only_words_of_their_table() -> None:
    table = load_yaml("emergencies")
    assert set(table) == {"call", "words", "rules", "kinds"}
    assert set(table["rules"]) == {"now", "someone", "topic", "excuses", "pressing", "habit", "negation"}
    signs = [sign for kind in table["kinds"] for sign in kind["signs"]]
    assert {name for sign in signs for name in re.findall(r"<(\w+)>", sign)} == set(table["words"])
    assert len({kind["name"] for kind in table["kinds"]}) == len(table["kinds"])
    for kind in table["kinds"]:
        assert set(kind) == {"name", "advice", "signs"}
        assert kind["advice"].endswith(".")
    # No pattern matches the empty text: it would find a sign in every question.
    assert not any(sign.search("") for kind in kinds() for sign in kind.signs)


def test_abbreviations_are_small_words_without_their_last_full_stop() -> None:
    table = load_yaml("abbreviations")
    assert table.keys() == {"anywhere", "before_a_number", "before_an_ordinal"}
    for words in table.values():
        assert len(words.split()) > 20
        for word in words.split():
            assert word == unicodedata.normalize("NFC", word).lower()
            assert not word.endswith(".")


def test_a_name_in_an_expression_stands_for_the_words_of_its_table_the_longer_ones_first() -> None:
    pattern = compiled("identifiers", "<digits_in_words>")
    assert [found[0] for found in pattern.finditer("seventeen one")] == ["seventeen", "one"]
    assert pattern.fullmatch("eleventeen") is None
