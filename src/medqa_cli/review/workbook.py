"""A review as a spreadsheet, for those who may not open a web page, and such a spreadsheet filled in.

The .xlsx is written here, so that nothing more has to be installed: texts only, no formula; all cells but those to be
filled in are locked, without a password. It is read by python-calamine in a process of its own.
"""

import re
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from medqa_cli import confined
from medqa_cli.errors import InputError
from medqa_cli.review.criteria import ReviewForm

SHEET_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods")
_MARK = "medqa review 1"
_SAVE_AGAIN = "open it and save it again as .xlsx"
_MOST_UNPACKED = 256 << 20
# No program makes a row higher by itself when it opens the file, and Excel shows at most 409 points of one.
_LINE_WIDTH, _LINE_POINTS, _MOST_LINES = 90, 15, 24
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
# XML 1.0 has no such characters, and Excel takes _x000A_ in a text for one of them.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPED = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")
# Numbers of the styles below: locked text, locked and bold, to be filled in. 0 is that of all other cells.
_PLAIN, _BOLD, _OPEN = 1, 2, 3
_STYLES = f"""<styleSheet xmlns="{_SHEETS}">
<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/><name val="Calibri"/></font>
</fonts><fills count="3"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>
<fill><patternFill patternType="solid"><fgColor rgb="FFFFF3C4"/><bgColor indexed="64"/></patternFill></fill></fills>
<borders count="2"><border><left/><right/><top/><bottom/><diagonal/></border><border><left style="thin"/>
<right style="thin"/><top style="thin"/><bottom style="thin"/><diagonal/></border></borders>
<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>
<cellXfs count="4"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>
<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyAlignment="1">
<alignment vertical="top" wrapText="1"/></xf>
<xf numFmtId="49" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1" applyAlignment="1">
<alignment vertical="top" wrapText="1"/></xf>
<xf numFmtId="49" fontId="0" fillId="2" borderId="1" xfId="0" applyFill="1" applyBorder="1" applyAlignment="1"
 applyProtection="1"><alignment vertical="top" wrapText="1"/><protection locked="0"/></xf></cellXfs>
<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>"""


@dataclass(frozen=True)
class ShownPair:
    """What a rater sees of a pair; ``id``: that of the pair."""

    id: str
    question: str
    x: str
    y: str


@dataclass(frozen=True)
class _Row:
    """Three cells and their style: what the line is, a text, and the cell to be filled in (None: no such cell)."""

    code: str
    text: str
    style: int = _PLAIN
    choices: str | None = None


def write_workbook(path: Path, review: str, rater: str, shown: Sequence[ShownPair], form: ReviewForm) -> None:
    """Write the spreadsheet of one rater.

    Args:
        path: the .xlsx to write.
        review: id of the review.
        rater: whose it is.
        shown: what to judge, in order.
        form: what is asked.
    """
    rows = list(_rows(review, rater, shown, form))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_TYPES}.styles+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPES}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" '
        f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" '
        f'Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" '
        f'Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_SHEETS}" xmlns:r="{_OFFICE}"><sheets>'
        '<sheet name="Review" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/styles.xml": _STYLES,
        "xl/worksheets/sheet1.xml": _sheet(rows),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            # A fixed time: the same review is the same file.
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{content}')


def _rows(review: str, rater: str, shown: Sequence[ShownPair], form: ReviewForm) -> Iterator[_Row]:
    words = form.words
    yield _Row(_MARK, words["title"], _BOLD)
    yield _Row(f"review {review}", f"{words['rater']} {rater}")
    yield _Row(f"rater {rater}", words["for_sheet"])
    for name in ("how_1", "how_2", "how_4"):
        yield _Row("", words[name])
    yes_or_no = f"{words['answer_yes']},{words['answer_no']}"
    for number, pair in enumerate(shown, start=1):
        yield _Row("", "")
        yield _Row("", words["question_of"].replace("{n}", str(number)).replace("{all}", str(len(shown))), _BOLD)
        yield from (_Row("", piece) for piece in _pieces(pair.question))
        for side, answer in (("x", pair.x), ("y", pair.y)):
            yield _Row("", words[f"answer_{side}"], _BOLD)
            yield from (_Row("", piece) for piece in _pieces(answer if answer.strip() else words["empty"]))
            for criterion in form.criteria:
                yield _Row(f"{pair.id} {side}.{criterion.id}", criterion.text, choices=yes_or_no)
        yield _Row(f"{pair.id} better", words["better"], _BOLD, "X,Y,equal,cannot")
        yield _Row(f"{pair.id} remark", words["remark"], choices="")


def _pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces that a row can show, cut at the ends of lines, else between words, else anywhere."""
    piece = ""
    for line in text.split("\n"):
        while num_lines(line) > _MOST_LINES:
            if piece:
                yield piece
                piece = ""
            # Half of it where a letter may take two places.
            longest = _LINE_WIDTH * _MOST_LINES // (1 if line.isascii() else 2)
            cut = line.rfind(" ", 1, longest) + 1 or longest
            yield line[:cut]
            line = line[cut:]
        joined = f"{piece}\n{line}" if piece else line
        if num_lines(joined) > _MOST_LINES:
            yield piece
            joined = line
        piece = joined
    yield piece


def num_lines(text: str) -> int:
    """Return how many lines a text takes in the second column; letters such as the Chinese ones take two places."""
    widths = (sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in line) for line in text.split("\n"))
    return sum(max(1, -(-width // _LINE_WIDTH)) for width in widths)


def _sheet(rows: Sequence[_Row]) -> str:
    lists: dict[str, list[str]] = {}
    body = []
    for line, row in enumerate(rows, start=1):
        cells = [_cell(f"A{line}", row.code, _PLAIN), _cell(f"B{line}", row.text, row.style)]
        if row.choices is not None:
            cells.append(f'<c r="C{line}" s="{_OPEN}"/>')
            if row.choices:
                lists.setdefault(row.choices, []).append(f"C{line}")
        height = _LINE_POINTS * num_lines(row.text)
        body.append(f'<row r="{line}" ht="{height}" customHeight="1">{"".join(cells)}</row>')
    checks = "".join(
        f'<dataValidation type="list" allowBlank="1" showErrorMessage="1" sqref="{" ".join(cells)}">'
        f"<formula1>{escape(chr(34) + choices + chr(34))}</formula1></dataValidation>"
        for choices, cells in lists.items()
    )
    return (
        f'<worksheet xmlns="{_SHEETS}"><sheetPr><pageSetUpPr fitToPage="1"/></sheetPr>'
        '<sheetViews><sheetView workbookViewId="0" showGridLines="0"/></sheetViews>'
        '<cols><col min="1" max="1" width="3" customWidth="1" hidden="1"/>'
        '<col min="2" max="2" width="100" customWidth="1"/><col min="3" max="3" width="30" customWidth="1"/></cols>'
        f"<sheetData>{''.join(body)}</sheetData>"
        '<sheetProtection sheet="1" objects="1" scenarios="1" formatColumns="0" formatRows="0"/>'
        f'<dataValidations count="{len(lists)}">{checks}</dataValidations>'
        '<pageSetup orientation="landscape" fitToHeight="0"/></worksheet>'
    )


def _cell(name: str, text: str, style: int) -> str:
    if not text:
        return f'<c r="{name}" s="{style}"/>'
    shown = escape(_ESCAPED.sub("_x005F_", _NO_XML.sub("\ufffd", text)))
    return f'<c r="{name}" s="{style}" t="inlineStr"><is><t xml:space="preserve">{shown}</t></is></c>'


def read_workbook(path: Path, form: ReviewForm, problems: list[str]) -> dict[str, Any]:
    """Read a filled in spreadsheet into the form of what the page saves.

    Args:
        path: the file.
        form: what was asked.
        problems: gets a sentence for each cell that cannot be used.

    Raises:
        InputError: it cannot be read, or is no spreadsheet of a review.
    """
    limits = confined.Limits(30.0, 1 << 30)
    cells = confined.call(sheet_cells, path, what=str(path), hint=_SAVE_AGAIN, limits=limits)
    rows = [(*row, "", "", "")[:3] for row in cells]
    codes = {code for code, _, _ in rows}
    facts = dict(code.split(" ", 1) for code in codes if code.startswith(("review ", "rater ")))
    if _MARK not in codes or facts.keys() != {"review", "rater"}:
        raise InputError(
            f"{path} is no spreadsheet of a review: its first column lacks '{_MARK}', the review or the rater",
            "give the file that `medqa review make --xlsx` wrote, filled in",
        )
    pairs: dict[str, dict[str, Any]] = {}
    filled: set[str] = set()
    texts = {criterion.id: criterion.text for criterion in form.criteria}
    for line, (code, text, value) in enumerate(rows, start=1):
        name, _, field = code.partition(" ")
        side, _, criterion = field.partition(".")
        location = f"{path}, row {line}"
        if not value:
            continue
        is_entry = field in ("better", "remark") or (side in ("x", "y") and criterion)
        if not is_entry:
            problems.append(f"{location}: {ascii(value)[:40]} stands where nothing is asked: not counted")
            continue
        if code in filled:
            problems.append(f"{location}: a second row of '{field}' of the same pair: not counted")
            continue
        filled.add(code)
        if criterion in texts and text != texts[criterion]:
            problems.append(f"{location}: the first column does not belong to this question: not counted")
            continue
        pair = pairs.setdefault(name, {"id": name, "x": {}, "y": {}, "better": None, "cannot_judge": False})
        if field == "remark":
            pair["remark"] = value
        elif field == "better":
            _better(value, pair, location, form, problems)
        else:
            pair[side][criterion] = _yes_or_no(value, location, form, problems)
    return {"format_version": 1, **facts, "pairs": list(pairs.values())}


def _better(value: str, pair: dict[str, Any], location: str, form: ReviewForm, problems: list[str]) -> None:
    given = value.casefold().strip()
    known = {form.words[name].casefold(): name[0] for name in ("x_better", "y_better")}
    known |= {form.words["equal"].casefold(): "equal", "x": "x", "y": "y", "equal": "equal", "=": "equal"}
    if given in ("cannot", form.words["cannot"].casefold()):
        pair["cannot_judge"] = True
    elif given in known:
        pair["better"] = known[given]
    else:
        problems.append(f"{location}: {ascii(value)[:40]} is none of X, Y, equal and cannot: not counted")


def _yes_or_no(value: str, location: str, form: ReviewForm, problems: list[str]) -> bool | None:
    given = value.casefold().strip()
    if given in ("yes", "y", "true", "1", form.words["answer_yes"].casefold()):
        return True
    if given in ("no", "n", "false", "0", form.words["answer_no"].casefold()):
        return False
    problems.append(f"{location}: {ascii(value)[:40]} is neither yes nor no: not counted")
    return None


def sheet_cells(path: Path) -> list[list[str]]:
    """Return the cells of the sheet that begins as one of a review does, else of the first; runs in a child.

    Raises:
        InputError: it is no spreadsheet, is protected by a password, or unpacks to far more than a review has.
    """
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            if sum(info.file_size for info in packed.infolist()) > _MOST_UNPACKED:
                raise InputError(f"{path} unpacks to over {_MOST_UNPACKED >> 20} MiB", "a review has some kilobytes")
    try:
        workbook = CalamineWorkbook.from_path(path)
        cells: list[list[str]] = []
        for name in workbook.sheet_names:
            rows = [[_text(cell) for cell in row] for row in workbook.get_sheet_by_name(name).iter_rows()]
            cells = cells or rows
            if any(row[:1] == [_MARK] for row in rows):
                return rows
    except PasswordError as error:
        raise InputError(f"{path} is protected by a password", "save it without one") from error
    except (CalamineError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a spreadsheet: {error}", _SAVE_AGAIN) from error
    return cells


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
