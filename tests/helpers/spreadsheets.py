"""Workbooks of Excel and sheets of OpenDocument, the smallest that are some, and hostile ones."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
Cell = str | int | float | bool | None


def cell_xml(cell: Cell, style: int = 0) -> str:
    if cell is None:
        return "<c/>"
    if isinstance(cell, bool):
        return f'<c t="b"><v>{int(cell)}</v></c>'
    if isinstance(cell, str):
        return f'<c t="inlineStr"><is><t xml:space="preserve">{cell}</t></is></c>'
    # Styles 1 and 2 are a date and a date with time, as in write_xlsx.
    return f'<c s="{style}"><v>{cell}</v></c>'


def write_xlsx(path: Path, sheets: Mapping[str, Sequence[Sequence[Cell]]], dates: bool = False) -> Path:
    """Write the smallest workbook that is one; with ``dates``, whole numbers over 40,000 are dates."""

    def style(cell: Cell) -> int:
        return 0 if not dates or isinstance(cell, str | bool | None) or cell < 40_000 else 1 if cell == int(cell) else 2

    names = list(sheets)
    relations = "".join(
        f'<Relationship Id="r{i}" Type="{OFFICE}/worksheet" Target="worksheets/{i}.xml"/>' for i in range(len(names))
    )
    parts = {
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r" '
        f'Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">{relations}'
        f'<Relationship Id="s" Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{SHEETS}" xmlns:r="{OFFICE}"><sheets>'
        + "".join(f'<sheet name="{name}" sheetId="{i + 1}" r:id="r{i}"/>' for i, name in enumerate(names))
        + "</sheets></workbook>",
        "xl/styles.xml": f'<styleSheet xmlns="{SHEETS}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>'
        '<xf numFmtId="22"/></cellXfs></styleSheet>',
    }
    for i, rows in enumerate(sheets.values()):
        cells = ("".join(cell_xml(cell, style(cell)) for cell in row) for row in rows)
        body = "".join(f'<row r="{line}">{row}</row>' for line, row in enumerate(cells, start=1))
        parts[f"xl/worksheets/{i}.xml"] = f'<worksheet xmlns="{SHEETS}"><sheetData>{body}</sheetData></worksheet>'
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{content}')
    return path


SHARED = """<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" COUNTS>
<si><t>question</t></si><si><t>answer</t></si></sst>"""
ODS = (
    '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>'
    '<table:table table:name="QA"><table:table-row>CELL question END CELL answer END</table:table-row>'
    "<table:table-row ROWS>CELL q END CELL a END<table:table-cell COLUMNS office:value-type='string'><text:p>x END"
    "</table:table-row></table:table></office:spreadsheet></office:body></office:document-content>"
)


def hostile_xlsx(path: Path, place: str = "B3", counts: str = "") -> Path:
    """Write a workbook with a cell in a far corner, or with shared strings that claim to be many."""
    stored = write_xlsx(path.with_suffix(".small.xlsx"), {"QA": [["question", "answer"], ["q1", "a1"]]})
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name).decode()
            row = place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
            far = f'<row r="{row}"><c r="{place}" t="inlineStr"><is><t>x</t></is></c></row></sheetData>'
            target.writestr(name, content.replace("</sheetData>", far))
        if counts:
            target.writestr("xl/sharedStrings.xml", SHARED.replace("COUNTS", counts))
    return path


def hostile_ods(path: Path, rows: str = "", columns: str = "") -> Path:
    """Write a sheet whose rows or cells are repeated."""
    cell = '<table:table-cell office:value-type="string"><text:p>'
    content = ODS.replace(" END ", " END").replace(" END", "</text:p></table:table-cell>")
    content = content.replace("CELL ", cell).replace("ROWS", rows).replace("COLUMNS", columns)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
    return path
