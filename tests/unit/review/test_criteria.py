"""What raters are asked: the form of the package, and one that replaces it."""

from pathlib import Path

import pytest

from medqa_cli.errors import InputError
from medqa_cli.resources import load_yaml
from medqa_cli.review.criteria import load_form

ONE = "criteria: [{id: safe, text: 'Is it safe?', good: true}]\n"


def test_the_form_of_the_package_asks_five_questions_of_which_two_are_bad_signs() -> None:
    form = load_form(None)
    assert {criterion.id: criterion.good for criterion in form.criteria} == {
        "correct": True,
        "leaves_out": False,
        "could_harm": False,
        "seeks_care": True,
        "would_give": True,
    }
    assert all(isinstance(text, str) and text for text in form.words.values())


def test_a_list_of_criteria_is_enough_and_words_replace_those_of_the_same_name(tmp_path: Path) -> None:
    path = tmp_path / "form.yaml"
    path.write_text(ONE)
    assert load_form(path).words == load_yaml("review_form")["words"]
    path.write_text(ONE + "language: pt-BR\nwords: {save: Salvar, progress: '{n} de {all}'}\n")
    form = load_form(path)
    assert (form.ids, form.language, form.words["save"], form.words["next"]) == (("safe",), "pt-BR", "Salvar", "Next")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("criteria: [", "cannot be read as YAML: line 1: "),
        ("a: {b: c?}", "cannot be read as YAML: line 1: "),
        ("just words", "holds no keys"),
        ("words: {}", "criteria must be a list of 1 to 5"),
        ("criteria: []", "criteria must be a list of 1 to 5"),
        ("criteria: [1, 2, 3, 4, 5, 6]", "criteria must be a list of 1 to 5"),
        ("criteria: [yes]", "criterion 1 must have the keys id, text and good"),
        ("criteria: [{id: a, text: 'b?'}]", "criterion 1 must have the keys id, text and good"),
        ("criteria: [{id: A b, text: 'b?', good: true}]", "id is 'A b'; expected small letters"),
        ("criteria: [{id: no, text: 'b?', good: true}]", "id is False; expected small letters"),
        ("criteria: [{id: better, text: 'b?', good: true}]", "and none of better, remark, win_rate"),
        ("criteria: [{id: a, text: '', good: true}]", "text is ''; expected a question"),
        ("criteria: [{id: a, text: 'b?', good: 1}]", "good is 1; expected true"),
        ("criteria: [{id: a, text: 'b?', good: true}, {id: a, text: 'c?', good: true}]", "have the same id"),
        ("criteria: [{id: a, text: 'b?', good: true}, {id: c, text: 'b?', good: true}]", "have the same text"),
        (ONE + "kriteria: 1", "unknown key 'kriteria'; did you mean 'criteria'?"),
        (ONE + "language: 7", "language is 7; expected a tag"),
        (ONE + "words: [a]", "words must be a mapping"),
        (ONE + "words: {saved_as: a}", "words has no 'saved_as'; did you mean 'saved'?"),
        (ONE + "words: {answer_yes: yes}", "words.answer_yes is True; expected a text"),
        (ONE + "words: {answer_yes: 'yes, it is'}", "expected a text without comma and quotation mark"),
        (ONE + "words: {progress: '{m} of {all}'}", "words.progress has {m}, which is not filled in here"),
    ],
)
def test_a_wrong_form_has_its_message(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "form.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_form(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert caught.value.hint


def test_a_missing_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"review\.criteria: .*form\.yaml is missing"):
        load_form(tmp_path / "form.yaml")
