"""The cleaning rules for the furniture of web pages in an answer: list signs, fixed blocks, openers, dead pointers.

They cut out or set apart whole pieces and leave the wording of the rest alone. The echoed question: see
``questions``.
"""

import re

from medqa_cli.resources import load_pattern, load_yaml

# A run of spaces is matched as a whole, with or without a sign behind it, so that no run is scanned twice.
_WIDE_SIGN = re.compile(r"  [^\S\n]*(-[^\S\n]+(?=\S))?")
_NARROW_SIGN = re.compile(r" -[^\S\n]+(?=\S)")
_ANY_LIST_LINE = re.compile(r"^[^\S\n]*-[^\S\n]", re.MULTILINE)
_LEADS_IN = re.compile(r"(?:[.:;]|\b(?:includ(?:e|es|ing)|are|as))\Z")
_LEAD_CHARACTERS = 12
_WIDE_ENOUGH = 4  # spaces before a single sign, or before one with a number behind it
_FEWEST_SIGNS = 2
_LIST_LINE = re.compile(r"^- .*$", re.MULTILINE)
_WIDE_GAP = re.compile(r"(?<=\S) {3,}(?=[A-Z])")

_HPO_NAME = "Human Phenotype Ontology"
_HPO_START = "The Human Phenotype Ontology provides the following list of signs and symptoms for "
_HPO_HEADER = "Signs and Symptoms Approximate number of patients (when available)"
_HPO_END = "The Human Phenotype Ontology (HPO) has collected information on how often"
_HPO_LAST_WORDS = "In these cases, the sign or symptom may be rare or common."
_HPO_INTRO_CHARACTERS = 1000  # between start and header lie three sentences and the name of a disease
_HPO_END_CHARACTERS = 1200
_HPO_LIST_HEADER = "Signs and symptoms (approximate number of patients, when available):"
_FREQUENCY = re.compile(r"-|\d{1,3}(?:\.\d+)?%|\d{1,4}/\d{1,4}")
_SYMPTOM = re.compile(r"[A-Z0-9][^%{}]{1,119}")

_NIH_TAIL = re.compile(r"NIH:\s+National [A-Z][\w ,&-]{3,120}")
_SENTENCE_END = frozenset(".!?)\"':;")
_LEADS_ON = frozenset(re.findall(r"\w+", "a an and at by contact for from in of on or see the to visit with"))

_OPENER = re.compile(
    r"\s*(?:(?:Summary|Key [Pp]oints?)[^\S\n]*(?::\s*|[–—-][^\S\n]+|\n\s*)|Espa(?:ño|o)l[^\S\n]*\n\s*)"
)


def inline_bullets(answer: str) -> str:
    """Set each list sign within a line, ``text    - one    - two``, on a line ``- one`` of its own.

    Runs of spaces, which tell a list sign from a dash, must still be there. Hyphens, ranges of numbers and minus signs
    stay as they are, and so does a dash that stands alone.
    """
    if "  -" not in answer or not _holds_list(answer):
        return answer
    answer = _WIDE_SIGN.sub(lambda run: "\n- " if _is_list_sign(answer, run, known_list=True) else run[0], answer)
    # The first item of a list often follows its heading with a single space.
    answer = _NARROW_SIGN.sub(lambda sign: "\n- " if _opens_item(sign, is_first=True) else sign[0], answer)
    # What follows the last item has to leave its line, or "- blood in the urine" would go on with "Doctors diagnose".
    return _LIST_LINE.sub(lambda line: _WIDE_GAP.sub("\n", line[0]), answer)


def _holds_list(answer: str) -> bool:
    """Tell whether signs within the lines are those of a list: at least two signs, or one far behind a colon."""
    signs = [run for run in _WIDE_SIGN.finditer(answer) if _is_list_sign(answer, run)]
    if not signs:
        return False
    if len(signs) >= _FEWEST_SIGNS and not answer[signs[0].end()].isdigit():
        return True
    wide = [run for run in signs if run.start(1) - run.start() >= _WIDE_ENOUGH]
    if not wide and all(answer[run.end()].isdigit() for run in signs) and not _ANY_LIST_LINE.search(answer):
        return False
    if any(answer[run.start() - 1] == ":" for run in wide):
        return True
    others = len(_ANY_LIST_LINE.findall(answer)) + sum(map(_opens_item, _NARROW_SIGN.finditer(answer)))
    return len(signs) + others >= _FEWEST_SIGNS


def _opens_item(sign: re.Match[str], is_first: bool = False) -> bool:
    """Tell whether a hyphen behind one space opens a list item: behind what leads it in, and before no number.

    Args:
        sign: the hyphen and the spaces around it.
        is_first: whether only a mark leads it in.
    """
    text, start = sign.string, sign.start()
    if is_first:
        is_led_in = text[start - 1] in ".:;"
    else:
        is_led_in = _LEADS_IN.search(text[max(0, start - _LEAD_CHARACTERS) : start]) is not None
    return is_led_in and not load_pattern("web_boilerplate", "below_zero").match(text, sign.end())


def _is_list_sign(text: str, run: re.Match[str], known_list: bool = False) -> bool:
    """Tell whether a hyphen after a run of spaces opens a list item, and is no dash, range or start of a line."""
    if not run[1] or run.start() == 0:
        return False
    before, after = text[run.start() - 1], text[run.end()]
    if before == "\n" or (
        after.isdigit() and (before.isdigit() or load_pattern("web_boilerplate", "below_zero").match(text, run.end()))
    ):
        return False
    return known_list or run.start(1) - run.start() >= len(run[1])


def hpo_block(answer: str) -> str:
    """Turn the table that one source copies from the Human Phenotype Ontology into a list, without its fixed frame.

    The answer has single spaces between words. Each symptom gets a line ``- Seizures (50%)``; where the flattened table
    cannot be read with certainty it stays, and only the fixed sentences around it go.
    """
    if _HPO_NAME not in answer:
        return answer
    while (start := answer.find(_HPO_START)) >= 0:
        header = answer.find(_HPO_HEADER, start, start + _HPO_INTRO_CHARACTERS)
        if header < 0:
            break
        table_start = header + len(_HPO_HEADER)
        table_end = answer.find(_HPO_END, table_start)
        if table_end < 0:
            table_end = len(answer)
        # Behind the table closing sentences follow.
        last = answer.find(_HPO_LAST_WORDS, table_end, table_end + _HPO_END_CHARACTERS)
        rest_start = table_end if last < 0 else last + len(_HPO_LAST_WORDS)
        table = answer[table_start:table_end].strip()
        items = _symptoms(table)
        shown = "\n".join([_HPO_LIST_HEADER, *items]) if items else f"{_HPO_HEADER} {table}".strip()
        parts = (answer[:start].rstrip(), shown, answer[rest_start:].lstrip())
        answer = "\n\n".join(part for part in parts if part)
    return answer


def _symptoms(table: str) -> list[str]:
    """Return the rows of the flattened table as list items; nothing if a single one is in doubt."""
    items: list[str] = []
    name: list[str] = []
    for word in table.split():
        if not _FREQUENCY.fullmatch(word):
            name.append(word)
            continue
        symptom = " ".join(name)
        if not _SYMPTOM.fullmatch(symptom):
            return []
        items.append(f"- {symptom}" if word == "-" else f"- {symptom} ({word})")
        name = []
    return [] if name else items


def nih_tail(answer: str) -> str:
    """Remove the source at the end of an answer that says more: ``NIH: National Cancer Institute``."""
    while (start := answer.rfind("NIH:")) > 0 and _NIH_TAIL.fullmatch(answer[start:].rstrip(" \n.")):
        before = answer[:start].rstrip()
        if not before or before[before.rfind(" ") + 1 :].casefold() in _LEADS_ON:
            break
        answer = before
    return answer


def openers(answer: str) -> str:
    """Remove the heading of a web page at the start of an answer that says more: ``Key Points``, ``Summary :``."""
    while (opener := _OPENER.match(answer)) and opener.end() < len(answer):
        answer = answer[opener.end() :]
    return answer


def media_leftovers(answer: str) -> str:
    """Remove sentences and parentheses that point at a video, a picture or a link that is not there.

    An answer that is nothing else stays as it is.
    """
    if not any(map(answer.__contains__, load_yaml("web_boilerplate")["signs_of_pointers"])):
        return answer
    pointer, parenthesis = (
        load_pattern("web_boilerplate", table, re.NOFLAG) for table in ("dead_pointer", "dead_parenthesis")
    )
    without = _without(pointer, _without(parenthesis, answer), only_sentences=True)
    return without if without else answer


def _without(pattern: re.Pattern[str], text: str, only_sentences: bool = False) -> str:
    """Return the text without what the pattern matches; each cut leaves the widest break that was around it."""
    kept: list[str] = []
    end = 0
    for match in pattern.finditer(text):
        start, rest = match.span()
        while start > end and text[start - 1].isspace():
            start -= 1
        gap = text[start : match.start()]
        starts_a_sentence = "\n" in gap or (gap != "" and text[start - 1] in _SENTENCE_END)
        if only_sentences and start > end and not starts_a_sentence:
            continue
        while rest < len(text) and text[rest].isspace():
            rest += 1
        breaks = text.count("\n", start, match.start()) + text.count("\n", match.end(), rest)
        kept += [text[end:start], "\n\n" if breaks > 1 else "\n" if breaks else " "]
        end = rest
    return "".join([*kept, text[end:]]).strip() if kept else text
