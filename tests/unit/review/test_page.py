"""The page of a rater: its policy, its data, and the checksum that its script computes."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest

from medqa_cli.review.criteria import load_form
from medqa_cli.review.page import make_page
from medqa_cli.review.returned import check_of
from medqa_cli.review.workbook import Shown

END = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and the texts of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[tuple[str, str]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style"):
            self.inline.append((self._open, data))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def page_of(*texts: str, rater: str = "anna") -> str:
    shown = [Shown(f"p{number}", text, text, text) for number, text in enumerate(texts)]
    return make_page("0123456789abcdef", rater, shown, load_form(None))


def test_the_policy_allows_this_script_and_this_style_and_nothing_else() -> None:
    page = Page(page_of("What is gout?", END))
    policies = [own["content"] for tag, own in page.tags if own.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    policy = dict(part.strip().split(" ", 1) for part in (policies[0] or "").split(";"))
    (style,) = [text for kind, text in page.inline if kind == "style"]
    data, script = [text for kind, text in page.inline if kind == "script"]
    hashes = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in (("script-src", script), ("style-src", style))
    }
    assert policy == {
        "default-src": "'none'",
        **{kind: f"'sha256-{value}'" for kind, value in hashes.items()},
        "img-src": "data:",
        "form-action": "'none'",
        "base-uri": "'none'",
    }
    assert json.loads(data)["criteria"] == list(load_form(None).ids)
    # The policy would block these anyway; the page has none.
    assert not [own for _, own in page.tags if any(name.startswith("on") or name == "style" for name in own)]
    addresses = {own.get(name) for _, own in page.tags for name in ("src", "href", "action") if own.get(name)}
    assert addresses == {"data:,", "#questions"}


def test_a_text_that_ends_the_script_ends_nothing() -> None:
    text = page_of(END, '"><img src=x>')
    tags = [tag for tag, _ in Page(text).tags]
    assert (tags.count("script"), tags.count("img")) == (2, 0)
    assert text.count("&lt;/script&gt;&lt;script&gt;alert(1)") == 3


def test_a_word_that_ends_the_script_ends_nothing() -> None:
    form = load_form(None)
    form = replace(form, words={**form.words, "copied": END})
    page = Page(make_page("0123456789abcdef", "anna", [Shown("p0", "a?", "b", "c")], form))
    assert [tag for tag, _ in page.tags].count("script") == 2
    data = json.loads(next(text for kind, text in page.inline if kind == "script"))
    assert data["words"]["copied"] == END


def test_what_no_reader_sees_is_shown_as_a_mark() -> None:
    page = page_of("bell\x07 \u202emg 05")
    assert page.count("bell\ufffd \ufffdmg 05") == 3
    assert "\x07" not in page
    assert "\u202e" not in page


def test_a_page_has_a_section_for_each_question_and_only_the_first_is_open() -> None:
    page = Page(page_of("a?", "b?", "c?"))
    sections = [own for tag, own in page.tags if tag == "section" and own.get("class") == "pair"]
    assert [own["data-id"] for own in sections] == ["p0", "p1", "p2"]
    assert ["hidden" in own for own in sections] == [False, True, True]
    radios = [own["name"] for tag, own in page.tags if tag == "input" and own.get("type") == "radio"]
    assert len(radios) == 3 * (2 * 5 * 2 + 4)
    assert len(set(radios)) == 3 * (2 * 5 + 1)


def test_words_that_the_script_takes_are_given_to_it() -> None:
    data = json.loads(next(text for kind, text in Page(page_of("a?")).inline if kind == "script"))
    script = resources.files("medqa_cli.resources").joinpath("review.js.j2").read_text(encoding="utf-8")
    used = set(re.findall(r"data\.words\.(\w+)", script)) | {"is_rated", "is_begun", "is_open"}
    assert set(data["words"]) == used
    template = resources.files("medqa_cli.resources").joinpath("review.html.j2").read_text(encoding="utf-8")
    everywhere = used | set(re.findall(r"words\.(\w+)", template)) | {"answer_x", "answer_y", "for_sheet"}
    assert set(load_form(None).words) == everywhere


def test_each_word_of_the_form_stands_on_the_page() -> None:
    page = page_of("a?", " ")
    data = json.loads(next(text for kind, text in Page(page).inline if kind == "script"))
    plain = "\n".join([html.unescape(page), *data["words"].values()])
    for name, text in load_form(None).words.items():
        if name != "for_sheet":
            assert max(re.split(r"\{\w+\}", text), key=len).strip() in plain, name
    assert "built-in" not in page


def test_the_page_computes_the_checksum_that_the_reader_expects() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    script = resources.files("medqa_cli.resources").joinpath("review.js.j2").read_text(encoding="utf-8")
    function = script[script.index("function checked") : script.index("function result")]
    answers: dict[str, Any] = {"b": True, "a": None, "c": False}
    entries: list[dict[str, Any]] = [
        {"id": "0", "x": answers, "y": {}, "better": "x", "cannot_judge": False, "remark": ""},
        {"id": "1", "x": {}, "y": answers, "better": None, "cannot_judge": True, "remark": 'ä "quoted"\n| \U0001f9ea'},
    ]
    call = f"{function};console.log(JSON.stringify({json.dumps(entries)}.map(checked)))"
    done = subprocess.run([node, "--eval", call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [check_of(entry) for entry in entries]
