"""The page of ``medqa serve`` in a real browser: asked by keyboard, streamed, in both schemes and both widths.

``MEDQA_SCREENSHOTS=FOLDER`` keeps a picture of each.
"""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

import uvicorn

from helpers.chromium import Chromium, find_chromium
from helpers.page_checks import FAINT, OVERFLOWING, requested, told
from helpers.serving import NAME, write_rows
from medqa_cli.answering.ask import AskOptions
from medqa_cli.answering.emergencies import emergency_notices
from medqa_cli.answering.generate import NOTICE
from medqa_cli.config.schema import Config, GenerateConfig, ModelConfig, PromptConfig, SourcesConfig
from medqa_cli.files import RunFolder
from medqa_cli.model.load import load_model
from medqa_cli.review.judgments import key_beside, read_judgments, read_key
from medqa_cli.serving.app import Server
from medqa_cli.serving.feedback import Feedback
from medqa_cli.serving.prometheus import Metrics
from medqa_cli.serving.run import listen
from medqa_cli.serving.service import Service

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")

HOSTILE = "Who gets asthma <script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>?"
EMERGENCY = "My father's face is drooping, what now?"
ROWS = [
    ("r1", "How to treat gout?", "Gout is treated with <b>rest</b> and medicines.\n\nSee a doctor.", "gout"),
    ("r2", "What is asthma?", "Asthma is a disease of the airways.", "asthma"),
]
WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
PATIENCE = 60.0


@dataclass(frozen=True)
class Page:
    """A browser, the address of the page, and the file of its readers' verdicts."""

    browser: Chromium
    url: str
    verdicts: Path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, talking_model_dir: Path) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    write_rows(folder / "data", ROWS)
    config = Config(generate=GenerateConfig(max_new_tokens=40), sources=SourcesConfig(reviewed_first=True))
    config = replace(config, data=replace(config.data, dir=str(folder / "data")))
    model = ModelConfig(quantization="none", compute_dtype="float32")
    answerer = load_model(str(talking_model_dir), RunFolder(folder), model, PromptConfig(template="chat"))
    service = Service(config, "base", answerer, AskOptions(sources=2))
    feedback = Feedback(folder / "wrong.json", "base", answerer.encoder.contract)
    app = Server(service, config, NAME, Metrics(), feedback=feedback).app
    listening = listen("127.0.0.1", 0)
    served = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=served.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    program = find_chromium()
    assert program is not None
    with Chromium(program, folder / "profile") as browser:
        yield Page(browser, f"http://127.0.0.1:{listening.getsockname()[1]}/", folder / "wrong.json")
    served.should_exit = True
    thread.join(30)
    service.close()


def wait_for(page: Page, expression: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := page.browser.run(expression)):
        assert time.monotonic() < deadline, f"{expression} did not come; {page.browser.run('document.body.innerText')}"
        time.sleep(0.05)
    return found


def ask(page: Page, question: str) -> str:
    """Type a question and press Enter; return what the page says when the answer has ended."""
    page.browser.run("document.getElementById('question').focus(), document.getElementById('question').value = ''")
    page.browser.send("Input.insertText", text=question)
    page.browser.press("Enter")
    wait_for(page, "document.getElementById('asked').textContent !== '' && running === null")
    return str(page.browser.run("document.body.innerText"))


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("MEDQA_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.browser.screenshot(Path(folder) / f"serve-{name}.png")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_answer_is_asked_for_by_keyboard_and_fits_the_window(page: Page, width: int, scheme: str) -> None:
    browser = page.browser
    browser.open(page.url, width, scheme)
    assert browser.run("document.activeElement.id") == "question"
    assert "<script>window.hacked = 1</script>" in ask(page, HOSTILE)  # as text
    assert browser.run("window.hacked === undefined")
    text = ask(page, "Who gets asthma?")
    assert " tokens, " in text
    assert "[1] What is asthma?" in text
    assert NOTICE in text
    # The keyboard reaches what comes after the answer.
    reached = set()
    for _ in range(13):
        browser.press("Tab")
        reached.add(browser.run("document.activeElement.id || document.activeElement.tagName"))
    assert {"ask", "wrong", "remark", "correction", "send"} <= reached
    assert browser.run(OVERFLOWING) == []
    assert browser.run(FAINT) == []
    assert told(browser) == []
    assert {url for url in requested(browser) if not url.startswith("data:")} <= {
        page.url,
        page.url + "v1/chat/completions",
    }
    keep(page, f"answer-{width}-{scheme}")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_notice_of_an_emergency_stands_above_the_answer(page: Page, width: int, scheme: str) -> None:
    browser = page.browser
    browser.open(page.url, width, scheme)
    text = ask(page, EMERGENCY)
    (notice,) = emergency_notices(EMERGENCY)
    assert text.index(notice) < text.index("Answer")
    assert browser.run("document.getElementById('emergency').getAttribute('role')") == "alert"
    assert browser.run(OVERFLOWING) == []
    assert browser.run(FAINT) == []
    keep(page, f"emergency-{width}-{scheme}")


def test_a_reviewed_answer_names_its_row_and_the_model_answers_on_demand(page: Page) -> None:
    browser = page.browser
    browser.open(page.url, 390, "light")
    text = ask(page, "How do you treat gout?")
    assert "Gout is treated with <b>rest</b> and medicines." in text
    assert "reviewed answer from the data, word for word" in text
    keep(page, "reviewed-390-light")
    browser.run("document.getElementById('again').focus()")
    browser.press("Enter")
    wait_for(page, "running === null && last !== null && last.model !== null")
    text = browser.run("document.body.innerText")
    places = [text.index(said) for said in ("word for word: How to treat gout?", ROWS[0][2], "nobody has reviewed:")]
    assert places == sorted(places)  # which of the two texts is which
    assert "The model ended" in text or "The answer was cut" in text
    keep(page, "also-model-390-light")


def test_nothing_near_is_said_and_not_answered(page: Page) -> None:
    page.browser.open(page.url, 1280, "dark")
    text = ask(page, "zzz qqq?")
    assert "Nothing in the training rows or documents is near this question" in text
    assert page.browser.run("document.getElementById('answer').hidden")
    keep(page, "nothing-near-1280-dark")


def test_a_verdict_by_keyboard_is_written_to_the_file(page: Page) -> None:
    browser = page.browser
    browser.open(page.url, 1280, "light")
    ask(page, "How do you treat gout?")
    browser.run("document.getElementById('wrong').focus()")
    browser.press(" ")
    browser.run("document.getElementById('remark').focus()")
    browser.send("Input.insertText", text="The dose is missing.")
    browser.run("document.getElementById('correction').focus()")
    browser.send("Input.insertText", text="Gout is treated with 50 mg.")
    browser.run("document.getElementById('send').focus()")
    browser.press("Enter")
    wait_for(page, "document.getElementById('reported').textContent.startsWith('Written')")
    key = read_key(key_beside(page.verdicts))
    ((judgment,), problems) = read_judgments([page.verdicts], key)
    pair = judgment.pair
    assert problems == []
    # The row's own answer was shown: no model wrote it.
    assert (pair.question, pair.x, judgment.x["correct"], judgment.better) == (
        "How do you treat gout?", "reference", False, "y"
    )  # fmt: skip
    assert key.samples[pair.question_id] == {"reference": ROWS[0][2], "correction": "Gout is treated with 50 mg."}
    assert judgment.remark == "The dose is missing."
    keep(page, "reported-1280-light")
