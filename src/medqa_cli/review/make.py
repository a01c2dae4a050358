"""The work of ``medqa review make``: draw questions, hide whose answer is whose, write the pages and the key.

The page of a rater is one file without any network request, which holds texts and no name of who wrote them.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from markupsafe import Markup

from medqa_cli import console
from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError
from medqa_cli.files import atomic_file, atomic_path, read_json, sha256_of_text, write_json
from medqa_cli.prompt.contract import PROMPT_FILE_NAME
from medqa_cli.resources import policy_hash, template_environment
from medqa_cli.review.criteria import ReviewForm, load_form
from medqa_cli.review.draw import Contest, Question, contests, deal, order, questions_with_answers, sides
from medqa_cli.review.judgments import KEY_NAME, Key, Pair, read_key
from medqa_cli.review.returned import FORMAT_VERSION
from medqa_cli.review.workbook import ShownPair, write_workbook
from medqa_cli.spelling import listed

_FROM_THE_RIGHT = ("ar", "dv", "fa", "he", "ku", "ps", "ur", "yi")
# Words that the script fills in while the page is used.
_OF_SCRIPT = ("progress", "last", "saved", "copied", "went_on", "other_file", "is_rated", "is_begun", "is_open")
_DEFAULT_SHARED = 10
_NAME = re.compile(r"\w[\w-]{0,39}")
_ID_LENGTH = 16
_PAIR_ID_LENGTH = 12


def make_page(review: str, rater: str, shown: Sequence[ShownPair], form: ReviewForm) -> str:
    """Return the page as text.

    Args:
        review: id of the review.
        rater: whose page it is.
        shown: what to judge, in order.
        form: what is asked.
    """
    file = f"review-{rater}.json"
    data = {
        "format_version": FORMAT_VERSION,
        "review": review,
        "rater": rater,
        "file": file,
        "criteria": form.ids,
        "words": {name: form.words[name] for name in _OF_SCRIPT},
    }
    # What no reader sees (a zero byte, an escape) is U+FFFD.
    environment = template_environment(
        lambda value: console.printable(value) if type(value) is str else value, autoescape=True
    )
    environment.globals |= {"filled": _filled, "policy_hash": policy_hash}
    return environment.get_template("review.html.j2").render(
        language=form.language,
        direction="rtl" if form.language.partition("-")[0] in _FROM_THE_RIGHT else "ltr",
        # Not as a mapping: `words.copy` would be its method.
        words=SimpleNamespace(**form.words),
        rater=rater,
        file=file,
        pairs=shown,
        criteria=form.criteria,
        # An end tag in a text would end the script's element.
        data=Markup(json.dumps(data).replace("<", "\\u003c")),
    )


def _filled(text: str, **values: object) -> str:
    """Fill the gaps ``{name}`` of a text; others stay."""
    return re.sub(r"\{(\w+)\}", lambda gap: str(values.get(gap[1], gap[0])), text)


@dataclass(frozen=True)
class Request:
    """What to make; ``num_shared``: questions that all raters are asked, None: ten, or all where there are fewer."""

    num_questions: int
    raters: tuple[str, ...]
    models: tuple[str, ...]
    num_shared: int | None = None
    spreadsheets: bool = False
    force: bool = False


def make_review(config: Config, request: Request) -> dict[str, Any]:
    """Write the pages and ``key.json`` into ``run_dir/review/``, for the owner only; return what was written.

    Raises:
        InputError: an option, the criteria or the answers are not as they should be, or another review is there.
    """
    _check(request)
    run = config.run
    form = load_form(None if config.review.criteria is None else Path(config.review.criteria))
    questions = questions_with_answers(config, request.models, request.num_questions)
    if len(questions) < request.num_questions:
        console.warn(f"{request.num_questions} questions were asked for, and there are {len(questions)}: all are taken")
    prompt_path = run.adapter_dir / PROMPT_FILE_NAME
    prompt = read_json(prompt_path) if prompt_path.is_file() else {}
    key = make_key(questions, request, form, config.seed, prompt if isinstance(prompt, dict) else {})
    folder = run.review_dir
    moved = _make_room(folder, key, request.force)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    written = {rater: _write_pages(folder, key, rater, request.spreadsheets) for rater in key.raters}
    write_json(folder / KEY_NAME, key.as_json(), private=True)
    same = sum(len(set(answers.values())) < len(answers) for answers in key.samples.values())
    if same:
        console.note(f"{same} of {len(questions)} questions show the same answer twice: two models gave it")
    return {
        "folder": str(folder),
        "review": key.review,
        "questions": len(questions),
        "shared": len({pair.question_id for pair in key.pairs if pair.shared}),
        "models": list(key.models),
        "raters": {
            rater: {"questions": len(key.pairs_of(rater)), "files": [str(path) for path in written[rater]]}
            for rater in key.raters
        },
        "key": str(folder / KEY_NAME),
        "moved": None if moved is None else str(moved),
    }


def _check(request: Request) -> None:
    for rater in request.raters:
        if not _NAME.fullmatch(rater):
            expected = "letters, digits, _ and -, at most 40"
            raise InputError(f"--raters: {rater!r} cannot be part of a file name", f"give names of {expected}")
    folded = [unicodedata.normalize("NFKC", rater).casefold() for rater in request.raters]
    if not request.raters or len(set(folded)) < len(folded):
        raise InputError("--raters must name one or more raters, each once", "such as --raters anna,ben")
    if len(set(request.models)) < max(2, len(request.models)):
        raise InputError("--models must name two or more models, each once", "such as --models adapter,base,reference")
    if request.num_shared is not None and request.num_shared > request.num_questions:
        raise InputError(
            f"--double {request.num_shared}: more than the {request.num_questions} of --questions",
            "lower --double, or raise --questions",
        )


def make_key(
    questions: Sequence[Question], request: Request, form: ReviewForm, seed: int, prompt: Mapping[str, Any]
) -> Key:
    """Return who is asked what, and whose answer stands on which side.

    Args:
        questions: in the order of their draw.
        request: what to make.
        form: what is asked about each answer.
        seed: of all draws.
        prompt: the prompt contract.
    """
    models, raters = request.models, request.raters
    num_shared = min(_DEFAULT_SHARED if request.num_shared is None else request.num_shared, len(questions))
    num_shared = num_shared if len(raters) > 1 else 0
    shared, alone = deal(questions, raters, num_shared)
    of_all = contests(models, len(shared), seed, "all")
    asked: list[tuple[str, Question, Contest, bool]] = []
    for rater in raters:
        of_rater = [*shared, *alone[rater]]
        drawn = sides([*of_all, *contests(models, len(alone[rater]), seed, rater)], seed, rater)
        asked += [(rater, of_rater[i], drawn[i], i < len(shared)) for i in order(len(of_rater), seed, rater)]
    # All that the pages and the key say: what was saved on a page fits no key but its own.
    facts: list[Any] = [[asdict(criterion) for criterion in form.criteria], models, raters]
    facts += [[rater, asdict(question), contest, is_shared] for rater, question, contest, is_shared in asked]
    review = sha256_of_text(json.dumps(facts))[:_ID_LENGTH]
    samples: dict[str, dict[str, str]] = {}
    pairs: list[Pair] = []
    for rater, question, (x, y), is_shared in asked:
        name = sha256_of_text(f"{review}/{rater}/{question.id}")[:_PAIR_ID_LENGTH]
        pairs.append(Pair(name, rater, question.id, question.text, question.topic, x, y, is_shared))
        samples.setdefault(question.id, {}).update({x: question.answers[x], y: question.answers[y]})
    return Key(review, form, models, raters, tuple(pairs), samples, prompt)


def _make_room(folder: Path, key: Key, force: bool) -> Path | None:
    """Move another review out of the way if ``force``; return where it is now.

    Raises:
        InputError: another review is there, and what its raters give back could not be scored without its key.
    """
    if not (folder / KEY_NAME).exists():
        return None
    try:
        earlier = read_key(folder / KEY_NAME)
        if earlier.review == key.review:
            return None
        name = earlier.review
        description = f"the review {name} of {listed(earlier.raters)}"
    except InputError as error:
        name, description = "damaged", f"a review whose key cannot be read ({error.message})"
    if not force:
        raise InputError(
            f"{folder} holds {description}, made from other answers or with other options",
            "score it first; then --force moves that folder aside and makes a new one",
        )
    numbers = ("", *(f"-{number}" for number in range(2, 1000)))
    moved = next(path for number in numbers if not (path := folder.with_name(f"{folder.name}-{name}{number}")).exists())
    folder.rename(moved)
    return moved


def _write_pages(folder: Path, key: Key, rater: str, spreadsheets: bool) -> list[Path]:
    shown = [
        ShownPair(pair.id, pair.question, key.samples[pair.question_id][pair.x], key.samples[pair.question_id][pair.y])
        for pair in key.pairs_of(rater)
    ]
    path = folder / f"review-{rater}.html"
    with atomic_file(path, private=True) as file:
        file.write(make_page(key.review, rater, shown, key.form))
    if not spreadsheets:
        return [path]
    sheet = path.with_suffix(".xlsx")
    with atomic_path(sheet, private=True) as temporary:
        write_workbook(temporary, key.review, rater, shown, key.form)
    return [path, sheet]
