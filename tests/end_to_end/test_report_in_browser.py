"""``report.html`` in a real browser: quiet, alone, inside its window, readable, and usable without a mouse.

``MEDQA_SCREENSHOTS=FOLDER`` keeps a picture of each size and scheme.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.chromium import Chromium, find_chromium
from helpers.page_checks import FAINT, OVERFLOWING, requested, told
from medqa_cli.config.schema import EvalConfig
from medqa_cli.evaluation.arms import ARMS
from medqa_cli.evaluation.metrics import METRICS
from medqa_cli.evaluation.results import REPORT_NAME, ChoiceResults, make_results, write_all
from medqa_cli.evaluation.samples import Sample
from medqa_cli.files import RunFolder

NAMES = ["glaucoma", "asthma", "gout", "angina pectoris", "anemia", "eczema", "migraine with aura", "mumps"]
KINDS = ("What is {}?", "How to treat {}?", "What causes {}?")
REFERENCE = (
    "{} is a disease that is found in people of every age.\n\nIt is treated by rest, by medicines that a doctor "
    "prescribes, and sometimes by surgery. See your doctor if it lasts longer than three weeks, or if there is pain."
)
LONG_WORD = "Pneumonoultramicroscopicsilicovolcanoconiosis" * 9
RTL = "ما هو الربو؟ هو مرض مزمن يصيب الشعب الهوائية"
# Shown from right to left and never closed, which Arabic or Hebrew may well be.
EMBEDDED = "Take \u202b50 mg twice, from here on"
# What a model or a data file may hold; each is looked for as text in the page.
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</div></details></script><script>window.hacked = 2</script>",
    '<img src="https://example.invalid/x.png" onerror="window.hacked = 3">',
    '" onmouseover="window.hacked = 4" autofocus onfocus=\'window.hacked = 5\'',
    "<style>*{display:none}</style><link rel=stylesheet href=//example.invalid/x.css>",
    "<!-- ${title} $title &lt;b&gt; -->",
    RTL,
    EMBEDDED,
    LONG_WORD,
)
CONTROL = "bell\x07 escape\x1b[31m nul\x00 next\x85 delete\x7f \u202emg 05\u202c"
SHOWN_CONTROL = "bell\ufffd escape\ufffd[31m nul\ufffd next\ufffd delete\ufffd \ufffdmg 05\u202c"


def samples_of(model: str) -> list[Sample]:
    found = [
        _sample(model, len(KINDS) * place + number, name, kind.format(name))
        for place, name in enumerate(NAMES)
        for number, kind in enumerate(KINDS)
    ]
    found += [
        _sample(model, len(found) + number, text, f"What of {text}?", answer=f"{text} is {model}.")
        for number, text in enumerate((*HOSTILE, CONTROL))
    ]
    return found


def _sample(model: str, number: int, topic: str, question: str, answer: str | None = None) -> Sample:
    reference = REFERENCE.format(topic)
    words = reference.split(" ")
    if answer is None:
        loop = "This is a disease of the eye. " * 6
        answer = {"adapter": " ".join(words[: 12 + number]), "base": loop}.get(model, reference.replace("rest", "tea"))
    return Sample(
        id=str(number),
        topic=topic,
        model=model,
        question=question,
        references=(reference, "Rest.") if number % 5 == 0 else (reference,),
        swap_reference=REFERENCE.format("Another disease"),
        nll_sum=len(words) * (2.0 + number % 7 / 10 - (model == "adapter") * 0.8),
        answer_tokens=len(words),
        answer_bytes=len(reference.encode()),
        answer=answer,
        finish_reason="length" if model == "base" else "stop",
        generated_tokens=len(answer.split()),
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page as ``medqa eval`` writes it: three models, one also with sources, floors, choices of which some stand in
    the training data, and what was memorized.
    """
    run = RunFolder(tmp_path_factory.mktemp("report") / "run")
    run.eval_dir.mkdir(parents=True)
    samples = {model: samples_of(model) for model in ("adapter", "base", "merged")}
    floors = {name: samples_of(name) for name in ("random_answer", "nearest_question", "wrong_topic")}
    gold = tuple(number % 3 for number in range(60))
    predicted = {"adapter": [number % 4 % 3 for number in range(60)], "base": [0] * 60}
    ids = tuple(map(str, range(60)))
    choices = {"pubmedqa": ChoiceResults(("yes", "no", "maybe"), gold, predicted, ids, frozenset(ids[:20]))}
    metrics = tuple(name for name in METRICS if name not in ("accuracy", "macro_f1"))
    config = EvalConfig(metrics=metrics, bootstrap_draws=200)  # type: ignore[arg-type]
    results = make_results(samples, floors, choices, config, 1, {"max_length": 512})
    own = results["models"]["adapter"]
    results["models"] |= {f"adapter{arm}": own | {"decline_rate": own["loop_rate"]} for arm in ARMS}
    results["memorization"] = {"sentences": {"adapter": ["Whoever gets adapter can ask nothing out of it" * 3]}}
    write_all(run, samples, floors, results)
    return run.eval_dir / REPORT_NAME


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    with Chromium(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


# Cells of the tables whose text was broken into more than two lines.
BROKEN = """[...document.querySelectorAll("th, td")].filter((cell) => cell.clientHeight > 3 * 1.5 * 14)
  .map((cell) => cell.textContent)"""
OPEN_ALL = "document.querySelectorAll('details').forEach((item) => { item.open = true; })"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_quiet_alone_and_fits(browser: Chromium, report: Path, width: int, scheme: str) -> None:
    browser.open(report, width, scheme)
    for opened in (False, True):
        if opened:
            browser.run(OPEN_ALL)
        if folder := os.environ.get("MEDQA_SCREENSHOTS"):
            browser.screenshot(Path(folder) / f"{width}-{scheme}-{'open' if opened else 'closed'}.png")
        assert browser.run(OVERFLOWING) == []
        assert browser.run(FAINT) == []
        assert browser.run(BROKEN) == []
    # The answer comes before everything else, and at once.
    lines = browser.run("[...document.querySelectorAll('h1 + .answer dt')].map((own) => own.innerText)")
    assert (len(lines), lines[3]) == (5, "Can I use it?")
    assert browser.run("document.querySelector('.answer dd').getBoundingClientRect().top + scrollY") < 200
    assert browser.run("document.querySelectorAll('#sources tbody tr').length") == 1 + len(ARMS)
    assert told(browser) == []
    assert [url for url in requested(browser) if not url.startswith("data:")] == [report.as_uri()]
    is_dark = browser.run("getComputedStyle(document.body).backgroundColor") != "rgb(252, 252, 251)"
    assert is_dark == (scheme == "dark")


def test_hostile_text_is_shown_as_text(browser: Chromium, report: Path) -> None:
    browser.open(report, 1280, "light")
    browser.run(OPEN_ALL)
    page: dict[str, Any] = browser.run("""(() => ({
      hacked: typeof window.hacked,
      scripts: document.scripts.length,
      foreign: document.querySelectorAll("img, iframe, object, [onerror], [onmouseover], [onfocus], body link").length,
      styles: document.querySelectorAll("style").length,
      questions: [...document.querySelectorAll("summary")].map((item) => item.innerText),
      answers: [...document.querySelectorAll(".text")].map((item) => item.textContent),
    }))()""")
    assert (page["hacked"], page["scripts"], page["foreign"], page["styles"]) == ("undefined", 1, 0, 1)
    assert len(page["questions"]) == len(NAMES) * len(KINDS) + len(HOSTILE) + 1
    for text in (*HOSTILE, SHOWN_CONTROL):
        for model in ("adapter", "base", "merged"):
            assert f"{text} is {model}." in page["answers"], text
        assert sum(own.startswith(f"What of {text}?") for own in page["questions"]) == 1, text
    # Looking for hostile text finds its question.
    for text in HOSTILE:
        browser.run(f"document.getElementById('search').value = {json.dumps(text)}")
        browser.run("document.getElementById('search').dispatchEvent(new Event('input'))")
        assert browser.run("document.getElementById('count').textContent") == "1 shown", text
    assert told(browser) == []


# Where "score" and the last digits after it are drawn, in the line below the question that holds a text.
SCORE = """((text) => {
  const item = [...document.querySelectorAll("summary")].find((own) => own.textContent.includes(text));
  const behind = item.querySelector("small").lastChild;
  const place = (start, end) => {
    const range = document.createRange();
    range.setStart(behind, start); range.setEnd(behind, end);
    return range.getBoundingClientRect();
  };
  const word = behind.data.indexOf("score"), end = behind.data.length;
  return [place(word, word + 5).right, place(end - 3, end).left];
})"""


def test_what_a_text_turns_round_stays_in_it(browser: Chromium, report: Path) -> None:
    browser.open(report, 1280, "light")
    for text in (EMBEDDED, RTL):
        word, digits = browser.run(f"{SCORE}({json.dumps(text)})")
        assert word <= digits


def test_a_keyboard_is_enough(browser: Chromium, report: Path) -> None:
    browser.open(report, 390, "dark")
    focused = "document.activeElement"
    browser.press("Tab")
    assert browser.run(f"{focused}.className") == "skip"
    box = browser.run(f"JSON.parse(JSON.stringify({focused}.getBoundingClientRect()))")
    assert box["left"] >= 0
    assert box["width"] > 0
    assert browser.run(f"getComputedStyle({focused}).outlineStyle") == "solid"
    browser.press("Enter")
    assert browser.run("location.hash") == "#questions"
    seen = []
    for _ in range(5):
        browser.press("Tab")
        seen.append(browser.run(f"{focused}.id || {focused}.tagName"))
    # A page that starts at its questions goes on with what filters them.
    assert seen == ["search", "order", "flagged", "SUMMARY", "SUMMARY"]
    browser.press("Enter")
    assert browser.run(f"{focused}.parentElement.open") is True
    assert browser.run("document.getAnimations().length") == 0
