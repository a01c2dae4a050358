"""``medqa review make``: what it writes, for whom, and that no page says whose answer is whose."""

import base64
import hashlib
import html
import json
import re
import shutil
import stat
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome
from helpers.reviews import MODELS, SAYS, given_back, make, measured_run, samples_of
from medqa_cli.config.schema import Config, ReviewConfig
from medqa_cli.errors import InputError
from medqa_cli.evaluation.samples import read_samples, write_samples
from medqa_cli.files import RunFolder
from medqa_cli.review.criteria import load_form
from medqa_cli.review.judgments import read_judgments, read_key
from medqa_cli.review.make import Request, make_page, make_review
from medqa_cli.review.returned import check_of
from medqa_cli.review.workbook import ShownPair, sheet_cells


def pages_of(made: dict[str, Any]) -> list[Path]:
    return [Path(file) for own in made["raters"].values() for file in own["files"]]


def test_questions_are_shared_out_and_the_doubles_go_to_all(tmp_path: Path) -> None:
    key, made = make(measured_run(tmp_path), num_questions=20, raters=("anna", "ben", "carl"), num_shared=5)
    assert (made["questions"], made["shared"]) == (20, 5)
    asked = Counter(pair.question_id for pair in key.pairs)
    assert sorted(asked.values()) == [1] * 15 + [3] * 5
    shared = {pair.question_id for pair in key.pairs if pair.shared}
    assert shared == {question for question, count in asked.items() if count == 3}
    for question in shared:
        # The same two models, whichever side they stand on.
        assert len({frozenset((pair.x, pair.y)) for pair in key.pairs if pair.question_id == question}) == 1
    assert len({pair.topic for pair in key.pairs}) == 10
    assert len({pair.id for pair in key.pairs}) == len(key.pairs) == 30


def test_a_key_holds_the_answers_that_its_samples_have(tmp_path: Path) -> None:
    key, _ = make(measured_run(tmp_path))
    for pair in key.pairs:
        for model in (pair.x, pair.y):
            assert key.samples[pair.question_id][model] == f"Of {pair.topic}: {SAYS[model]}"
    assert key.models == MODELS


def test_a_single_rater_has_no_doubles(tmp_path: Path) -> None:
    key, made = make(measured_run(tmp_path), raters=("anna",))
    assert made["shared"] == 0
    assert not any(pair.shared for pair in key.pairs)


def test_rows_that_ask_the_same_are_asked_once(tmp_path: Path) -> None:
    config = measured_run(tmp_path, questions=["What is pain?", "What is pain?", "what is  pain"])
    key, _ = make(config, num_questions=40)
    assert len({pair.question_id for pair in key.pairs}) == 31


def test_the_same_options_make_the_same_review_and_leave_returned_files_alone(tmp_path: Path) -> None:
    config = measured_run(tmp_path)
    key, made = make(config, spreadsheets=True)
    before = {path: path.read_bytes() for path in [*pages_of(made), Path(made["key"])]}
    returned = Path(made["folder"]) / "review-anna.json"
    returned.write_text(json.dumps(given_back(key, "anna")))
    again, made_again = make(config, spreadsheets=True)
    assert again == key
    assert {path: path.read_bytes() for path in before} == before
    assert made_again["moved"] is None
    assert len(read_judgments([returned], again)[0]) == len(key.pairs_of("anna"))


@pytest.mark.parametrize(
    "changes",
    [{"num_questions": 11}, {"raters": ("anna", "eve")}, {"num_shared": 5}, {"models": ("adapter", "base")}],
)
def test_another_review_is_refused_and_forced_aside_with_its_key(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = measured_run(tmp_path)
    key, made = make(config)
    with pytest.raises(InputError, match=f"holds the review {key.review} of 'anna', 'ben'") as caught:
        make(config, **changes)
    assert "--force" in caught.value.hint
    assert read_key(Path(made["key"])) == key
    other, forced = make(config, **changes, force=True)
    assert other.review != key.review
    assert read_key(Path(forced["moved"]) / "key.json") == key
    assert len(list(Path(forced["folder"]).iterdir())) == len(pages_of(forced)) + 1


def test_other_answers_or_another_seed_make_another_review(tmp_path: Path) -> None:
    config = measured_run(tmp_path)
    key, _ = make(config)
    with pytest.raises(InputError, match="holds the review"):
        make(Config(run_dir=config.run_dir, seed=7))
    samples = Path(config.run_dir) / "eval" / "samples.jsonl"
    samples.write_text(samples.read_text().replace("Rest and fluids", "Rest and tea"))
    assert make(config, force=True)[0].review != key.review


def test_a_review_that_draws_other_sides_has_another_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what was saved on a page would be read with the sides of another one."""
    config = measured_run(tmp_path)
    key, _ = make(config)
    monkeypatch.setattr("medqa_cli.review.make.sides", lambda drawn, *_: [contest[::-1] for contest in drawn])
    turned, _ = make(config, force=True)
    assert turned.review != key.review
    assert not {pair.id for pair in turned.pairs} & {pair.id for pair in key.pairs}


def test_a_damaged_key_is_not_overwritten(tmp_path: Path) -> None:
    config = measured_run(tmp_path)
    _, made = make(config)
    Path(made["key"]).write_text("{")
    with pytest.raises(InputError, match="whose key cannot be read"):
        make(config)
    assert Path(make(config, force=True)[1]["moved"]).name == "review-damaged"


def test_only_the_owner_may_read_what_is_written(tmp_path: Path) -> None:
    _, made = make(measured_run(tmp_path), spreadsheets=True)
    folder = Path(made["folder"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert len(files) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_folder_that_all_may_read_is_closed(tmp_path: Path) -> None:
    config = measured_run(tmp_path)
    folder = Path(config.run_dir) / "review"
    folder.mkdir(mode=0o755)
    make(config)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_x_and_y_of_the_key_are_x_and_y_of_the_page_and_of_the_spreadsheet(tmp_path: Path) -> None:
    key, made = make(measured_run(tmp_path), spreadsheets=True)
    page, sheet = (Path(file) for file in made["raters"]["anna"]["files"])
    sections = page.read_text(encoding="utf-8").split('<section class="pair" data-id="')[1:]
    column = [row[1] for row in sheet_cells(sheet)]
    starts = [place for place, text in enumerate(column) if re.fullmatch(r"Question \d+ of 8", text)]
    assert len(sections) == len(starts) == 8
    for pair, section, start in zip(key.pairs_of("anna"), sections, starts, strict=True):
        assert section.startswith(pair.id)
        said = [f"Of {pair.topic}: {SAYS[model]}" for model in (pair.x, pair.y)]
        assert re.findall(r'<section class="answer" data-side="(\w)"', section) == ["x", "y"]
        assert re.findall(r'<div class="text"[^>]*>([^<]*)</div>', section) == said
        rows = column[start:][:20]
        assert [rows[rows.index(f"Answer {side}") + 1] for side in "XY"] == said


def visible(page: Path) -> str:
    """What stands in a page, or in all parts of a spreadsheet, without its policy (``base-uri``)."""
    if page.suffix == ".html":
        return re.sub(r"<meta http-equiv.*", "", page.read_text(encoding="utf-8"))
    import zipfile

    with zipfile.ZipFile(page) as archive:
        return "".join(archive.read(name).decode() for name in archive.namelist())


def test_no_page_names_a_model_a_path_a_figure_or_a_question_of_the_data(tmp_path: Path) -> None:
    config = measured_run(tmp_path)
    lines = [json.loads(line) for line in (Path(config.run_dir) / "eval/samples.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {"nll_sum": 123.456, "answer_tokens": 7890}
    (Path(config.run_dir) / "eval/samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    key, made = make(config, spreadsheets=True)
    forbidden = ["adapter", "base", "merged", "reference", "medqa_cli", "lora", "rouge", "nll", "123.456", "7890"]
    forbidden += [config.run_dir, str(tmp_path), "samples.jsonl", "key.json", "row-", "finish_reason"]
    for page in pages_of(made):
        text = visible(page)
        own = key.pairs_of(page.stem.removeprefix("review-"))
        assert all(pair.id in text and pair.question in text for pair in own)
        found = [word for word in forbidden if re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)]
        assert found == [], page.name
        assert not any(pair.id in text for pair in key.pairs if pair.rater not in page.name)


def test_a_planted_name_is_found_by_the_search(tmp_path: Path) -> None:
    _, made = make(measured_run(tmp_path, answers={"adapter": "I am the adapter."}))
    assert any(re.search(r"\badapter\b", visible(page)) for page in pages_of(made))


def test_answers_that_were_not_generated_name_the_command(tmp_path: Path) -> None:
    config = measured_run(tmp_path)
    path = Path(config.run_dir) / "eval" / "samples.jsonl"
    path.write_text(re.sub(r'"answer": "[^"]*"', '"answer": null', path.read_text()))
    with pytest.raises(InputError, match=r"no answers of 'adapter': only likelihoods") as caught:
        make(config)
    assert caught.value.hint.startswith("generate them: medqa eval --model adapter,base --set eval.metrics=all")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("adapter", "merged")}, "holds no answers of 'merged', but of 'adapter', 'base', 'reference'"),
        ({"models": ("adapter", "bose")}, r"'bose', .*did you mean 'base'\?"),
        ({"models": ("adapter",)}, "--models must name two or more"),
        ({"models": ("adapter", "base", "base")}, "--models must name two or more models, each once"),
        ({"raters": ()}, "--raters must name one or more"),
        ({"raters": ("anna", "Anna")}, "--raters must name one or more raters, each once"),
        ({"raters": ("../anna",)}, r"'../anna' cannot be part of a file name"),
        ({"raters": ("a" * 41,)}, "cannot be part of a file name"),
        ({"num_shared": 13}, "--double 13: more than the 12 of --questions"),
    ],
)
def test_a_wrong_option_has_its_message(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = measured_run(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        make(config, **changes)
    assert caught.value.hint
    assert not (Path(config.run_dir) / "review").exists()


def test_without_samples_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no answers in") as caught:
        make_review(Config(run_dir=str(tmp_path)), Request(12, ("anna",), MODELS))
    assert caught.value.hint == "generate them: medqa eval --model adapter,base --set eval.metrics=all --limit 24"


def test_criteria_of_a_file_stand_on_the_page_and_in_the_key(tmp_path: Path) -> None:
    config = measured_run(tmp_path)
    form = tmp_path / "form.yaml"
    form.write_text(
        "language: de\ncriteria: [{id: richtig, text: 'Ist sie <richtig>?', good: true}]\n"
        "words: {title: Begutachtung, answer_yes: Ja, answer_no: Nein}\n",
        encoding="utf-8",
    )
    config = Config(run_dir=config.run_dir, review=ReviewConfig(criteria=str(form)))
    key, made = make(config)
    assert [criterion.id for criterion in key.form.criteria] == ["richtig"]
    text = pages_of(made)[0].read_text(encoding="utf-8")
    assert '<html lang="de" dir="ltr">' in text
    assert text.count("Ist sie &lt;richtig&gt;?") == 2 * len(key.pairs_of("anna"))
    assert text.count("> Ja<") + text.count(">Ja<") == 2 * len(key.pairs_of("anna"))


def test_the_command_writes_a_review_and_says_what_to_do(tmp_path: Path, medqa: Callable[..., Outcome]) -> None:
    config = measured_run(tmp_path)
    write_samples(
        Path(config.run_dir) / "eval" / "samples.jsonl",
        [own for name in ("adapter", "base") for own in samples_of(name)],
    )
    done = medqa("review", "make", "--raters", "anna, ben", "--questions", "50", "--set", f"run_dir={config.run_dir}")
    assert done.code == 0, done.err
    assert "50 questions were asked for, and there are 30" in done.err
    assert "review-anna.html: 20 questions for anna" in done.out
    assert "30 questions, 10 of them for all raters; answers of adapter, base, reference" in done.out
    assert "medqa review score" in done.out
    refused = medqa("review", "make", "--raters", "anna", "--set", f"run_dir={config.run_dir}")
    assert refused.code == 2
    assert "--force" in refused.err
    as_json = medqa("review", "make", "--raters", "anna", "--force", "--json", "--set", f"run_dir={config.run_dir}")
    assert json.loads(as_json.out)["raters"]["anna"]["questions"] == 30


@pytest.mark.parametrize("has_answers", [True, False])
def test_of_a_model_with_sources_the_answers_with_sources_are_judged_by_default(
    tmp_path: Path, medqa: Callable[..., Outcome], has_answers: bool
) -> None:
    config = measured_run(tmp_path)
    names = ("adapter", "adapter_open_book", "base", "base_open_book")
    said = {name: f"{name.replace('_', ' ')} says so." for name in names}
    samples = [sample for name in names for sample in samples_of(name, answers=said)]
    if not has_answers:
        samples = [replace(one, answer=None) if one.model.endswith("_open_book") else one for one in samples]
    write_samples(Path(config.run_dir) / "eval" / "samples.jsonl", samples)
    made = medqa("review", "make", "--set", f"run_dir={config.run_dir}")
    assert made.code == 0, made.err
    key = read_key(Path(config.run_dir) / "review" / "key.json")
    assert key.models == (("adapter_open_book", "base_open_book", "reference") if has_answers else MODELS)
    assert ("(_open_book: with sources" in made.out) == has_answers
    if has_answers:
        texts = {text for answers in key.samples.values() for text in answers.values()}
        assert any("adapter open book says" in text for text in texts)
        assert not any("adapter says" in text for text in texts)
        returned = tmp_path / "review-rater-1.json"
        returned.write_text(json.dumps(given_back(key, "rater-1")))
        gate = "adapter_open_book-base_open_book.win_rate < 0"
        scored = medqa("review", "score", str(returned), "--fail-on", gate, "--set", f"run_dir={config.run_dir}")
        assert scored.code == 0, scored.err
    chosen = medqa("review", "make", "--force", "--models", "adapter,reference", "--set", f"run_dir={config.run_dir}")
    assert "answers of adapter, reference\n" in chosen.out


def test_the_command_for_missing_answers_with_sources_names_the_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no answers of 'adapter_open_book'") as caught:
        make(measured_run(tmp_path), models=("adapter_open_book", "base"))
    assert caught.value.hint.startswith("measure it: medqa eval --model adapter,base --set eval.metrics=all")


def test_questions_that_follow_on_others_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = measured_run(tmp_path)
    path = RunFolder(Path(config.run_dir)).eval_dir / "samples.jsonl"
    following = {"row-0", "row-5"}
    samples = [
        replace(sample, earlier=("What is gout?", "A disease."), context="A man.") if sample.id in following else sample
        for model in ("adapter", "base")
        for sample in samples_of(model)
    ]
    write_samples(path, samples)
    assert [sample for of_model in read_samples(path).values() for sample in of_model] == samples
    key, _ = make(config, num_questions=30)
    assert not following & {pair.question_id for pair in key.pairs}
    assert "2 of 30 questions follow on earlier turns or have a context" in capsys.readouterr().err
    write_samples(path, [sample for sample in samples if sample.id in following])
    with pytest.raises(InputError, match="no question stands alone"):
        make(config)


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
    shown = [ShownPair(f"p{number}", text, text, text) for number, text in enumerate(texts)]
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
    page = Page(make_page("0123456789abcdef", "anna", [ShownPair("p0", "a?", "b", "c")], form))
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
