"""Multiple-choice questions: the options as they stand in one column or several, and which of them an answer names."""

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medqa_cli.data.reading.cells import cell_text, parsed, read_cell
from medqa_cli.data.reading.shapes import CellRow, Columns

FEWEST_TIMES_MORE = 10  # how many times more numbers say one thing than the other, where both are said
_LABEL_KEYS = ("label", "key", "letter", "id", "aid", "option_id", "idx")
_TEXT_KEYS = ("text", "value", "atext", "content", "option", "option_text", "choice")
# "A. rest", "(B) iron", "c) bed", "D：铁": a label, and what follows it.
_LABELED = re.compile(r"\s*[(（\[]?\s*([A-Za-z]|\d{1,2})\s*(?:[)）\].:：、,]+\s*|\s+-\s+)(?=\S)")
_LABEL_IN_LINE = re.compile(r"(?:^|(?<=[\s;,|，；。]))[(（\[]?([A-H])(?:[)）\].:：、]+\s*|\s+(?=\S))")
_NAMED = re.compile(
    r"(?:the )?(?:correct )?(?:(?:option|answer|choice|opt|op)[ _.:]*(?:is )?)?"
    r"[(（\[]?\s*([a-h]|\d{1,2})\s*[)）\].:：]?",
    re.I,
)
_SEVERAL = re.compile(r"[A-H](?:(?:\s*[,，、;/&+|]\s*|\s+(?:and\s+)?)?[A-H])+")
_SEVERAL_NUMBERS = re.compile(r"\d{1,2}(?:(?:\s*[,，、;/&+|]\s*|\s+(?:and\s+)?)\d{1,2})+")
_WHOLE = re.compile(r"-?\d+(?:\.0+)?")


@dataclass(frozen=True)
class Option:
    """One option: its label, as shown and as an answer may name it, and its text."""

    label: str
    text: str


def read_options(cells: Sequence[object], names: Sequence[str]) -> list[Option] | None:
    """Return the options with a text of a row, in their order; None where a cell cannot be taken apart.

    ``cells``: the one cell that holds all, or one cell for each; ``names``: those of their columns.
    """
    if len(cells) == 1:
        return _in_one(cells[0])
    texts = [read_cell(cell).texts for cell in cells]
    if any(len(text) != 1 for text in texts):
        return None
    # The label is the letter or the number that the name of the column ends with.
    return _filled((name.strip()[-1].upper(), text[0]) for name, text in zip(names, texts, strict=True))


def choices_in(columns: Columns, column: int, rows: Sequence[CellRow]) -> list[tuple[object, list[Option]]]:
    """Return the cell of a column that may tell the right option, and the options, of those rows that have options."""
    names = [columns.names[index] for index in columns.options]
    choices = [
        (row.cells[column], read_options([row.cells[index] for index in columns.options], names))
        for row in (rows if names else ())
    ]
    return [(answer, options) for answer, options in choices if options]


def asked_with(question: str, options: Sequence[Option]) -> str:
    """Return the question followed by its options, a line each; as it is where it holds their texts already."""
    if all(re.search(rf"(?<!\w){re.escape(option.text)}(?!\w)", question) for option in options):
        return question
    return "\n".join([question, *(f"({option.label}) {option.text}" for option in options)])


def first_number(rows: Iterable[tuple[object, Sequence[Option]]]) -> int | None:
    """Tell whether numbers in the answers count the options from 0 or from 1.

    Args:
        rows: answer and options of as many rows as are known.

    Returns:
        0 or 1 (1 where no answer is a number, or each is a label); None where numbers are texts of options.

    Raises:
        ValueError: that cannot be told: no row has a 0 or the number of its options, or many have one and many the
            other.
    """
    numbers: Counter[int] = Counter()
    lasts = texts = labels = num_options = 0
    for cell, options in rows:
        items = told_by(cell)
        if _is_mask(items, options):
            continue
        for number in (number for item in items for number in _numbers(item) if number >= 0):
            numbers[number] += 1
            lasts += number == _places(options)
            texts += any(_folded(option.text) == str(number) for option in options)
            labels += any(option.label == str(number) for option in options)
            num_options = max(num_options, _places(options))
    if texts == numbers.total():
        return None if texts else 1
    less, more = sorted((numbers[0], lasts))
    if labels == numbers.total() and not less:
        return 1
    if more < FEWEST_TIMES_MORE * less or not more:
        raise ValueError(f"the numbers are {min(numbers)} to {max(numbers)}, of {num_options} options")
    return 0 if numbers[0] == more else 1


def told_by(cell: object) -> list[object]:
    """Return what a cell tells: the items of a list, also of one written as text, or the cell alone."""
    value = parsed(cell) if isinstance(cell, str) else cell
    if isinstance(value, list | tuple | set):
        return [text for item in value for text in told_by(item)] or [""]
    return list(read_cell(value).texts) if isinstance(value, Mapping) else [cell]


def resolve(answer: object, options: Sequence[Option], first: int | None) -> str | None:
    """Return the text of the option that an answer names, by its label, its number or its text.

    Args:
        answer: the cell; a list names several options, or tells of each whether it is right.
        options: the options of its row.
        first: the number of the first option; None: numbers are texts.

    Returns:
        the text, several with ``; `` between where it names several; the answer itself where it is an answer in words;
        None where it is a sign for an option that there is not, or a list that holds anything else than options.
    """
    items = told_by(answer)
    if _is_mask(items, options):
        marked = zip(options, map(cell_text, items), strict=True)
        return "; ".join(option.text for option, mark in marked if _folded(mark or "") in ("1", "true")) or None
    if len(items) == 1:
        return _resolve_one(items[0], options, first)
    names = [_resolve_one(item, options, first) for item in items]
    texts = {option.text for option in options}
    if not names or any(text not in texts for text in names):
        return None
    return "; ".join(dict.fromkeys(text for text in names if text is not None))


def _is_mask(items: Sequence[object], options: Sequence[Option]) -> bool:
    """Tell whether a list tells of each option whether it is right; [0, 1] of two options may name both."""
    signs = {_folded(cell_text(item) or "") for item in items}
    return len(items) == len(options) > 1 and (signs <= {"true", "false"} or (signs <= {"0", "1"} and len(items) > 2))


def _resolve_one(answer: object, options: Sequence[Option], first: int | None) -> str | None:
    """Return what ``resolve`` returns for an answer that is no list.

    A sign alone ("2", "option B") names an option or nothing. Anything else is taken as words where it names none.
    """
    text = (cell_text(answer) or "").strip()
    by_text = {_folded(option.text): option.text for option in options}
    by_label = {option.label.casefold(): option.text for option in options}
    with_this_text = by_text.get(_folded(text))
    # "2": a label, a place or a text. Where options are counted from 0, labels from 1 are no places.
    number = _number(answer)
    if number is not None:
        counts_otherwise = first == 0 and "0" not in by_label
        with_this_label = None if counts_otherwise else by_label.get(str(number))
        if first is None:
            return with_this_label if with_this_text is None else with_this_text
        return with_this_label or _at(number - first, options) or with_this_text
    # "b", "option B", "(2)": a label or a place.
    if match := _NAMED.fullmatch(text):
        sign = match[1].casefold()
        index = int(sign) - (first or 0) if sign.isdigit() else string.ascii_lowercase.index(sign)
        return by_label.get(sign) or _at(index, options) or with_this_text
    # "Rest": the text of an option.
    if with_this_text is not None:
        return with_this_text
    # "A, C", "ACD": several labels.
    letters = [letter.casefold() for letter in re.findall("[A-H]", text)]
    if _SEVERAL.fullmatch(text) and all(letter in by_label for letter in letters):
        return "; ".join(by_label[letter] for letter in letters)
    # "1, 3": several numbers.
    if first is not None and (numbers := _numbers(answer)):
        named = [by_label.get(str(number), _at(number - first, options)) for number in numbers]
        return None if None in named else "; ".join(text for text in named if text is not None)
    # "B. rest", "(B) rest": a label, and the text of an option.
    if (label := _LABELED.match(text)) and _folded(text[label.end() :]) in by_text:
        return by_text[_folded(text[label.end() :])]
    return text


def names_an_option(answer: object, options: Sequence[Option]) -> bool:
    """Tell whether an answer names one of the options, by a sign or its text, and is no answer in words of its own."""
    resolved = resolve(answer, options, 0)
    text = (cell_text(answer) or "").strip()
    return resolved is not None and (resolved != text or any(option.text == resolved for option in options))


def names_by_sign(answer: object, options: Sequence[Option]) -> bool:
    """Tell whether an answer names one of the options by its letter or its number."""
    texts = {_folded(option.text) for option in options}
    named = [_folded(cell_text(item) or "") for item in told_by(answer)]
    return names_an_option(answer, options) and not texts.issuperset(named)


def is_sign(answer: object) -> bool:
    """Tell whether an answer is nothing but a label or a number, which says nothing without its options."""
    text = (cell_text(answer) or "").strip()
    return bool(re.fullmatch(r"[(\[]?[A-Ha-h][)\].]?", text)) or bool(_SEVERAL.fullmatch(text) and len(text) < 10)


def _at(index: int, options: Sequence[Option]) -> str | None:
    """Return the text of the option at a place, counted from 0; an option without a text has a place, too."""
    for labels in (string.ascii_uppercase, [str(number) for number in range(1, 1 + _places(options))]):
        if all(option.label.upper() in labels for option in options):
            by_label = {option.label.upper(): option.text for option in options}
            return by_label.get(labels[index]) if 0 <= index < len(labels) else None
    return options[index].text if 0 <= index < len(options) else None


def _places(options: Sequence[Option]) -> int:
    """Return how many options there are, those without a text between others included."""
    last = options[-1].label.upper()
    if len(last) == 1 and last in string.ascii_uppercase:
        return string.ascii_uppercase.index(last) + 1
    return int(last) if last.isdecimal() and len(last) < 3 else len(options)


def _number(answer: object) -> int | None:
    if isinstance(answer, bool):
        return None
    text = (cell_text(answer) or "").strip()
    return int(float(text)) if len(text) < 10 and _WHOLE.fullmatch(text) else None


def _numbers(answer: object) -> list[int]:
    """Return the numbers that an answer is made of: of ``2``, of ``1, 3``; none where it holds anything else."""
    number = _number(answer)
    if number is not None:
        return [number]
    text = (cell_text(answer) or "").strip()
    return [int(digits) for digits in re.findall(r"\d+", text)] if _SEVERAL_NUMBERS.fullmatch(text) else []


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")


def _filled(labeled: Iterable[tuple[str, str]]) -> list[Option]:
    return [Option(label.strip(), text.strip()) for label, text in labeled if text.strip()]


def _in_one(cell: object) -> list[Option] | None:
    if isinstance(cell, str):
        value = parsed(cell)
        return _of_text(cell) if isinstance(value, str) else _in_one(value)
    if isinstance(cell, Mapping):
        texts, labels = (next((cell[key] for key in keys if key in cell), None) for keys in (_TEXT_KEYS, _LABEL_KEYS))
        if isinstance(texts, list | tuple) and isinstance(labels, list | tuple) and len(texts) == len(labels):
            return _filled((str(label), str(text)) for label, text in zip(labels, texts, strict=True))
        pairs = [(str(key), cell_text(value)) for key, value in cell.items()]
        return None if any(text is None for _, text in pairs) else _filled((key, text or "") for key, text in pairs)
    if not isinstance(cell, list | tuple):
        return [] if cell_text(cell) == "" else None
    if all(isinstance(item, str) for item in cell):
        texts = [str(item) for item in cell]
        labels = [_LABELED.match(text) for text in texts]
        expected = list(string.ascii_uppercase[: len(texts)])
        if texts and [label and label[1].upper() for label in labels] == expected:
            texts = [text[label.end() :] for text, label in zip(texts, labels, strict=True) if label]
        return _filled(zip(string.ascii_uppercase, texts, strict=False))
    labeled: list[tuple[str, str]] = []
    for letter, item in zip(string.ascii_uppercase, cell, strict=False):
        if not isinstance(item, Mapping):
            return None
        text = next((item[key] for key in _TEXT_KEYS if key in item), None)
        if not isinstance(text, str):
            return None
        labeled.append((str(next((item[key] for key in _LABEL_KEYS if key in item), letter)), text))
    return _filled(labeled)


def _of_text(text: str) -> list[Option] | None:
    """Take ``A. rest B. iron`` or such lines apart; None where the labels are not A, B, ... in order."""
    if not text.strip():
        return []
    signs: list[re.Match[str]] = []
    for label in _LABEL_IN_LINE.finditer(text):
        if label[1] == string.ascii_uppercase[len(signs)]:
            signs.append(label)
    if len(signs) < 2 or text[: signs[0].start()].strip(" ([（"):
        return None
    ends = [label.start() for label in signs[1:]] + [len(text)]
    return _filled(
        (label[1], text[label.end() : end].strip(" \n\t;|，；")) for label, end in zip(signs, ends, strict=True)
    )
