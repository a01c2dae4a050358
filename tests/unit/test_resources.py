"""The tables under ``resources``: that each holds what its reader expects, and that the package carries them."""

from __future__ import annotations

import codecs
import tomllib
import unicodedata
from fnmatch import fnmatch
from pathlib import Path

import medqa_cli
from medqa_cli.data.encodings.code_pages import code_pages
from medqa_cli.data.encodings.plausibility import JUDGES
from medqa_cli.data.languages import language_of, latin_languages
from medqa_cli.data.reading.chat_formats import ASSISTANT, SYSTEM, USER, parse_exchange, role_of
from medqa_cli.resources import load_yaml

RESOURCES = Path(medqa_cli.__file__).parent / "resources"


def test_each_file_of_resources_is_packed_into_the_wheel() -> None:
    project = tomllib.loads((RESOURCES.parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["medqa_cli"]
    files = [path for path in RESOURCES.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert len(files) > 8
    names = [path.relative_to(RESOURCES.parent).as_posix() for path in files]
    assert [name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)] == []


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
    for codec, page in code_pages().items():
        assert codecs.lookup(codec).name.replace("-", "_") == codec
        assert page.script in JUDGES
    assert len({page.name for page in code_pages().values()}) == len(code_pages()) == 51
    assert [page.is_rare for page in code_pages().values()] == [False] * 26 + [True] * 25


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
