"""The page of a rater in a real browser: quiet, alone, readable, and filled in by the keyboard alone.

``MEDQA_SCREENSHOTS=FOLDER`` keeps a picture of each size and scheme.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.chromium import Chromium, find_chromium
from helpers.page_checks import FAINT, OVERFLOWING, requested, told
from helpers.reviews import make, measured_run
from medqa_cli.review.judgments import Key, read_judgments

CONTROL = "bell\x07 escape\x1b[31m \u202emg 05\u202c"
SHOWN_CONTROL = "bell\ufffd escape\ufffd[31m \ufffdmg 05\u202c"
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</div></section></main></script><script>window.hacked = 2</script>",
    '<img src="https://example.invalid/x.png" onerror="window.hacked = 3">',
    '" onmouseover="window.hacked = 4" autofocus onfocus=\'window.hacked = 5\'',
    "<style>*{display:none}</style><link rel=stylesheet href=//example.invalid/x.css>",
    "<!-- {{ 7 * 7 }} ${title} &lt;b&gt; -->",
    "ما هو الربو؟ هو مرض مزمن يصيب الشعب الهوائية",
    "Take \u202b50 mg twice, from here on",
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 9,
    "First line.\n\n  Second line, indented.\n",
    CONTROL,
)
NUM_QUESTIONS = 12


@pytest.fixture(scope="module")
def program() -> str:
    found = find_chromium()
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Path]:
    """The key of a review of twelve questions, and the page of its rater."""
    config = measured_run(tmp_path_factory.mktemp("plain"))
    key, made = make(config, num_questions=NUM_QUESTIONS, raters=("anna",), num_shared=0)
    return key, Path(made["raters"]["anna"]["files"][0])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Path]:
    config = measured_run(tmp_path_factory.mktemp("hostile"), questions=HOSTILE)
    samples = Path(config.run_dir) / "eval" / "samples.jsonl"
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    for line in lines:
        line["answer"] = f"{line['question']} {line['answer']}"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    key, made = make(config, num_questions=41, raters=("anna",), num_shared=0)
    return key, Path(made["raters"]["anna"]["files"][0])


@pytest.fixture
def browser(program: str, tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(program, tmp_path / "profile") as started:
        yield started


def is_alone(browser: Chromium, page: Path) -> bool:
    others = [url for url in requested(browser) if not url.startswith(("data:", "blob:"))]
    return told(browser) == [] and others == [page.as_uri()]


def keep(browser: Chromium, name: str) -> None:
    if folder := os.environ.get("MEDQA_SCREENSHOTS"):
        browser.run("scrollTo(0, 0)")
        browser.screenshot(Path(folder) / f"{name}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_quiet_alone_and_fits(
    browser: Chromium, hostile: tuple[Key, Path], width: int, scheme: str
) -> None:
    key, page = hostile
    browser.open(page, width, scheme)
    keep(browser, f"{width}-{scheme}-begin")
    for number, pair in enumerate(key.pairs):
        if number in (1, 5) or pair.question in HOSTILE:
            browser.run(f"document.querySelectorAll('#list button')[{number}].click()")
            assert browser.run("document.querySelector('.pair:not([hidden])').dataset.id") == pair.id
            browser.press("1")
            browser.press("x")
            keep(browser, f"{width}-{scheme}-{number}")
            assert browser.run(OVERFLOWING) == []
            assert browser.run(FAINT) == []
    browser.press("s")
    browser.run("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    keep(browser, f"{width}-{scheme}-saved")
    assert browser.run(OVERFLOWING) == []
    assert browser.run(FAINT) == []
    assert is_alone(browser, page)
    is_dark = browser.run("getComputedStyle(document.body).backgroundColor") != "rgb(252, 252, 251)"
    assert is_dark == (scheme == "dark")


def test_hostile_text_is_shown_as_text(browser: Chromium, hostile: tuple[Key, Path]) -> None:
    key, page = hostile
    browser.open(page, 1280, "light")
    found: dict[str, Any] = browser.run("""(() => ({
      hacked: typeof window.hacked,
      scripts: document.scripts.length,
      foreign: document.querySelectorAll("img, iframe, object, [onerror], [onmouseover], [onfocus], body link").length,
      styles: document.querySelectorAll("style").length,
      questions: [...document.querySelectorAll(".asked")].map((item) => item.textContent),
      answers: [...document.querySelectorAll(".text")].map((item) => item.textContent),
    }))()""")
    # The other script is the data.
    assert (found["hacked"], found["scripts"], found["foreign"], found["styles"]) == ("undefined", 2, 0, 1)
    shown = [text.replace(CONTROL, SHOWN_CONTROL) for text in (pair.question for pair in key.pairs)]
    assert found["questions"] == shown
    answers = [
        key.samples[pair.question_id][model].replace(CONTROL, SHOWN_CONTROL)
        for pair in key.pairs
        for model in (pair.x, pair.y)
    ]
    assert found["answers"] == answers
    assert sum(text in found["questions"] for text in (*HOSTILE, SHOWN_CONTROL)) == len(HOSTILE)


# What the rater of the next test types at the question with a number: criteria of X and of Y, the better one.
TYPED = ("1234567890", "x"), ("112345678900", "y"), ("1122334455667788990", "e"), ("16", "c")


def expected(number: int) -> tuple[list[bool | None], list[bool | None], str | None]:
    """Return what was said by the keys of TYPED, counted by hand: once is yes, twice is no."""
    keys, better = TYPED[number % len(TYPED)]
    said = [{0: None, 1: True, 2: False}[keys.count(digit)] for digit in "1234567890"]
    return said[:5], said[5:], {"c": None, "e": "equal"}.get(better, better)


def type_in(browser: Chromium, numbers: range) -> None:
    for number in numbers:
        for key in "".join(TYPED[number % len(TYPED)]):
            browser.press(key)
        browser.press("n")


@pytest.mark.parametrize("width", [1280, 390])
def test_twelve_questions_are_rated_by_keyboard_with_the_browser_closed_in_the_middle(
    program: str, review: tuple[Key, Path], tmp_path: Path, width: int
) -> None:
    key, page = review
    with Chromium(program, tmp_path / "profile") as browser:
        browser.open(page, width, "light")
        type_in(browser, range(5))
        time.sleep(1.1)  # spent on this question before the next change, which keeps it
        # A remark: letters in it are no keys of the page, Esc leaves it.
        browser.run("document.querySelector('.pair:not([hidden]) textarea').focus()")
        for letter in "yes n 1":
            browser.press(letter)
        browser.press("Escape")
        assert browser.run("document.getElementById('progress').textContent") == "5 of 12 rated"
        assert is_alone(browser, page)
    with Chromium(program, tmp_path / "profile") as browser:
        browser.open(page, width, "dark")
        assert browser.run("document.getElementById('progress').textContent") == "5 of 12 rated"
        assert browser.run("document.querySelector('.pair:not([hidden]) h2').textContent") == "Question 6 of 12"
        assert browser.run("document.querySelector('.pair:not([hidden]) textarea').value") == "yes n 1"
        browser.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        type_in(browser, range(5, NUM_QUESTIONS))
        for key_of_page in "ps":
            browser.press(key_of_page)
        saved = tmp_path / "review-anna.json"
        deadline = time.monotonic() + 20
        while not saved.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert browser.run("document.getElementById('text').value") == saved.read_text()
        assert is_alone(browser, page)
    judgments, problems = read_judgments([saved], key)
    assert problems == []
    assert [own.pair for own in judgments] == list(key.pairs)
    for number, own in enumerate(judgments):
        assert (list(own.x.values()), list(own.y.values()), own.better) == expected(number), number
    assert [own.remark for own in judgments] == [""] * 5 + ["yes n 1"] + [""] * 6
    seconds = [own.seconds for own in judgments]
    assert all(own is not None and 0 <= own < 120 for own in seconds)
    assert (seconds[5] or 0) >= 1.1


NO_MEMORY = (
    "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
)


def test_without_a_memory_the_page_says_so_and_goes_on_from_a_saved_file(
    browser: Chromium, review: tuple[Key, Path], tmp_path: Path
) -> None:
    key, page = review
    browser.send("Page.addScriptToEvaluateOnNewDocument", source=NO_MEMORY)
    browser.open(page, 390, "light")
    assert browser.run("document.getElementById('memory').checkVisibility()") is True
    type_in(browser, range(3))
    browser.press("s")
    saved = tmp_path / "review-anna.json"
    saved.write_text(browser.run("document.getElementById('text').value"))
    browser.send("Page.navigate", url="about:blank")
    browser.open(page, 390, "light")
    progress = "document.getElementById('progress').textContent"
    assert browser.run(progress) == "0 of 12 rated"
    # What was judged here meanwhile stays.
    browser.press("c")
    node = browser.send("DOM.getDocument")["root"]["nodeId"]
    field = browser.send("DOM.querySelector", nodeId=node, selector="#file")["nodeId"]
    for name, content, told_there, count in (
        ("other.json", saved.read_text().replace(key.review, "0" * 16), "This is not a saved file of this page.", 1),
        ("damaged.json", "{", "This is not a saved file of this page.", 1),
        ("review-anna.json", saved.read_text(), "2 judgments were read from the file.", 3),
    ):
        (tmp_path / name).write_text(content)
        browser.send("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / name)])
        deadline = time.monotonic() + 20
        while browser.run("document.getElementById('status').textContent") != told_there:
            assert time.monotonic() < deadline, browser.run("document.getElementById('status').textContent")
        assert browser.run(progress) == f"{count} of 12 rated"
    browser.press("s")
    saved.write_text(browser.run("document.getElementById('text').value"))
    judgments, _ = read_judgments([saved], key)
    assert [own.pair for own in judgments] == list(key.pairs[:3])
    assert judgments[0].better is None
    for number in (1, 2):
        assert (list(judgments[number].x.values()), list(judgments[number].y.values())) == expected(number)[:2]
    assert told(browser) == []


def test_keys_go_by_their_place_where_they_write_no_latin_letter_or_digit(
    browser: Chromium, review: tuple[Key, Path]
) -> None:
    _, page = review
    browser.open(page, 1280, "light")
    checked = (
        "[...document.querySelectorAll('.pair:not([hidden]) input:checked')].map((item) => item.name + item.value)"
    )
    browser.press("&", "Digit1")  # French, without the shift key
    browser.press("\u00e0", "Digit0")
    browser.press("\u0447", "KeyX")  # Russian
    assert browser.run(checked) == ["q1x1yes", "q1y5yes", "q1betterx"]
    browser.press("y", "KeyZ")  # German: the letter counts, where it is one
    assert browser.run(checked)[-1] == "q1bettery"
    browser.run("document.getElementById('keys').click()")
    browser.press("x")
    browser.press("n")
    assert browser.run(checked)[-1] == "q1bettery"


def test_tab_reaches_everything_and_says_what_it_is(browser: Chromium, review: tuple[Key, Path]) -> None:
    key, page = review
    browser.open(page, 390, "light")
    browser.run("document.getElementById('how').open = false")
    browser.press("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    browser.press("Enter")
    seen = []
    for _ in range(2 * len(key.form.ids) + 6):
        browser.press("Tab")
        seen.append(
            browser.run("document.activeElement.name || document.activeElement.id || document.activeElement.tagName")
        )
    radios = [f"q1{side}{number}" for side in "xy" for number in range(1, 6)]
    assert seen == [*radios, "q1better", "TEXTAREA", "next", "save", "SUMMARY", "file"]
    # What a screen reader says: the name of each control, and of the group that it is in.
    tree = browser.send("Accessibility.getFullAXTree")["nodes"]
    names = [
        (node["role"]["value"], node["name"]["value"])
        for node in tree
        if not node["ignored"] and node.get("name", {}).get("value")
    ]
    groups = [name for role, name in names if role == "group"]
    for side in ("Answer X", "Answer Y"):
        assert ("region", side) in names
        assert [f"{side}: {criterion.text}" for criterion in key.form.criteria] == [
            name for name in groups if name.startswith(side)
        ]
    assert "Which answer is better?" in groups
    assert ("radio", "X is better") in names
    assert sum(own == ("radio", "Yes") for own in names) == 2 * len(key.form.criteria)
    assert ("textbox", "Remark (you need not fill it in)") in names
    assert any(role in ("progressbar", "ProgressIndicator", "progressIndicator") for role, _ in names), names
    unnamed = [node["role"]["value"] for node in tree if not node["ignored"] and is_unnamed_control(node)]
    assert unnamed == []


def is_unnamed_control(node: dict[str, Any]) -> bool:
    return node["role"]["value"] in ("button", "radio", "checkbox", "textbox") and not node["name"]["value"]
