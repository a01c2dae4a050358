"""Text and Markdown as parts: headings, lines that belong together, what marks up a line, places."""

import pytest

from medqa_cli.data.cleaning.rules import clean
from medqa_cli.data.documents.sections import Document, document_of
from medqa_cli.data.documents.text import read_text


def read(text: str, is_markdown: bool = True) -> Document:
    rules = ("embedded_pictures", "html") if is_markdown else ()
    title, parts = read_text(text, is_markdown, lambda line: clean("", line, rules).answer)
    return document_of(parts, title, "the_file")


def sections_of(text: str, is_markdown: bool = True) -> list[tuple[tuple[str, ...], str, str]]:
    return [(one.headings, one.text, one.place_at(0)) for one in read(text, is_markdown).sections]


def test_headings_of_markdown_become_the_title_and_the_path_above_each_section() -> None:
    text = "# Gout\n\nLead.\n\n## Treatment\n### Drugs ##\n\nAllopurinol.\n\n## Food\nLess beer.\n\n# Notes\nEnd.\n"
    assert read(text).title == "Gout"
    assert sections_of(text) == [
        ((), "Lead.", "line 3"),
        (("Treatment", "Drugs"), "Allopurinol.", "line 8"),
        (("Food",), "Less beer.", "line 11"),
        (("Notes",), "End.", "line 14"),
    ]


def test_underlined_headings_and_rules_are_told_apart() -> None:
    text = "Gout\n====\n\nCauses\n------\nUric acid.\n\n---\n\nMore.\n"
    assert read(text).title == "Gout"
    assert sections_of(text) == [(("Causes",), "Uric acid.\n\nMore.", "line 6")]


def test_a_heading_without_text_is_kept_as_text() -> None:
    text = "# Gout\n\n## Call 112 if you faint\n\n## Treatment\n\n### Drugs\n\nRest.\n\n## Ask your doctor\n"
    assert sections_of(text) == [
        ((), "Call 112 if you faint", "line 3"),
        (("Treatment", "Drugs"), "Rest.", "line 9"),
        ((), "Ask your doctor", "line 11"),
    ]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Living with gout\n\nText.", "Living with gout"),
        ("What is gout?\nGout is a disease.", "What is gout?"),
        ("Drink water.\n\nText.", "the_file"),
        ("A single line", "the_file"),
        ("- drink water\n\nText.", "the_file"),
        ("| a | b |\n\nText.", "the_file"),
        (f"{'long ' * 20}\n\nText.", "the_file"),
        ("Text before.\n\n## Causes\nUric acid.", "the_file"),
        ("Text before.\n\n# Gout\nUric acid.", "Gout"),
        ("---\ntitle: 'All on gout'\ndate: x\n---\n## Causes\nUric acid.", "All on gout"),
        ("---\ntitle: All on gout\n---\n# Gout\nUric acid.", "Gout"),
        (f"# {'word ' * 40}\n\nText.", "the_file"),
    ],
)
def test_the_title_is_a_heading_or_a_short_first_line_else_the_name(text: str, title: str) -> None:
    document = read(text)
    assert document.title == title
    assert "Text." in text or document.sections


def test_a_title_line_is_not_repeated_in_the_text() -> None:
    assert sections_of("Living with gout\n\nText.", is_markdown=False) == [((), "Text.", "line 3")]


def test_lines_that_were_broken_for_want_of_room_are_joined_and_others_stay() -> None:
    text = (
        "Gout is a painful kind of arthritis. It starts when the\nblood holds too much uric acid, with a long-\n"
        "lasting effect.\nWhat you can do:\n- drink water, which\n  helps\n- rest\n\nEye Clinic\nHigh Street 12\n"
    )
    assert sections_of(text, is_markdown=False) == [
        (
            (),
            "Gout is a painful kind of arthritis. It starts when the blood holds too much uric acid, with a long-"
            "lasting effect.\nWhat you can do:\n- drink water, which helps\n- rest\n\nEye Clinic\nHigh Street 12",
            "line 1",
        )
    ]


def test_each_line_keeps_its_place_within_a_section() -> None:
    (section,) = read("One two three four\nfive six.\n\nSeven.").sections
    assert section.text == "One two three four five six.\n\nSeven."
    assert [section.place_at(section.text.index(word)) for word in ("One", "four", "five", "six", "Seven")] == [
        "line 1", "line 1", "line 2", "line 2", "line 4"
    ]  # fmt: skip


def test_markup_within_lines_of_markdown_goes_and_comparisons_stay() -> None:
    text = (
        "See [the page](https://example.org/a) of **Ann** and __Bob__ ![logo](x.png)<br>p < 0.05 &amp; a<b and c>d\n"
        "> quoted\n<!-- not\nshown --> but this, a_b__c, 2**3**4 and data:image/png;base64,QUJD\n"
    )
    (section,) = read(text).sections
    assert section.text == (
        "See the page of Ann and Bob p < 0.05 & a<b and c>d quoted\n\nbut this, a_b__c, 2**3**4 and"
    )


def test_plain_text_is_taken_as_it_stands() -> None:
    text = "Take **one** tablet <daily>, see [1](a) &amp; <!-- this -->.\n\nMore."
    assert sections_of(text, is_markdown=False) == [((), text, "line 1")]


def test_a_table_of_markdown_keeps_its_rows() -> None:
    text = "The doses are these, as far as known.\n\n| drug | dose |\n|---|:-:|\n| A | 1 |\n| b | 2 |\n"
    assert sections_of(text)[0][1].endswith("\n\n| drug | dose |\n| A | 1 |\n| b | 2 |")


def test_a_fenced_block_holds_no_headings() -> None:
    text = "# Gout\n\n```\n# no heading\n~~~\n```\n\n## Causes\nUric acid.\n"
    assert sections_of(text) == [((), "# no heading\n~~~", "line 4"), (("Causes",), "Uric acid.", "line 9")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_any_system_give_the_same_text(end: str) -> None:
    assert sections_of(f"# Gout{end}{end}One.{end}{end}Two.{end}") == [((), "One.\n\nTwo.", "line 3")]


@pytest.mark.parametrize("text", ["", "\n\n", "   \n\t", "---\n", "```\n```\n", "<!-- all -->"])
def test_a_text_without_words_has_no_sections(text: str) -> None:
    document = read(text)
    assert (document.title, document.sections) == ("the_file", ())


def test_a_comment_that_does_not_end_stays() -> None:
    assert sections_of("One.\n\n<!-- Two.\n")[0][1] == "One.\n\n<!-- Two."
