"""Web pages as parts: what is read of them, headings, lists, tables, places, pages that would hang the parser."""

import pytest

from medqa_cli.data.documents.html_page import Tags, parts_of_page, read_page
from medqa_cli.data.documents.sections import document_of
from medqa_cli.data.reading.shapes import Caps
from medqa_cli.errors import InputError
from medqa_cli.resources import load_words

TAGS = Tags(*(load_words("markup", kind) for kind in Tags._fields))


def parts(page: str) -> list[tuple[str, int]]:
    return [(part.text, part.level) for part in parts_of_page(page, TAGS)[1]]


def text_of(page: str) -> str:
    """The text of a page, as its passages show it."""
    return "".join(part.gap + part.text for part in parts_of_page(page, TAGS)[1]).strip()


def test_title_headings_and_paragraphs_are_read_and_the_rest_of_a_site_is_not() -> None:
    page = """<!doctype html><html><head><title>Gout |
      Clinic</title><style>p { color: red }</style><script>var a = "<p>no</p>";</script></head><body>
      <header>Clinic<h1>Gout</h1></header><nav><ul><li>Home</li></ul></nav>
      <!-- no --><p>It <b>hurts</b>,&nbsp;and
      how&hellip;</p><aside>Related</aside><div role="navigation">Menu</div><h2>Causes</h2>Uric acid.
      <noscript>No script</noscript><template><p>no</p></template><footer>&copy; Clinic</footer></body></html>"""
    title, found, endless = parts_of_page(page, TAGS)
    assert title == "Gout | Clinic"
    assert [(part.text, part.level, part.place) for part in found] == [
        ("Gout", 1, "line 3"),
        ("It hurts, and how…", 0, "line 4"),
        ("Causes", 2, "line 5"),
        ("Uric acid.", 0, "line 5"),
    ]
    assert endless == []
    assert document_of(found, title, "name").title == "Gout"
    assert document_of(found[1:], title, "name").title == "Gout | Clinic"


def test_only_the_main_part_is_read_where_the_page_marks_it() -> None:
    page = (
        "<p>Menu</p><main>Bare text<h2>Gout</h2><aside>Never stop the drops!</aside><p>It hurts.</p></main><p>Ads</p>"
    )
    assert parts(page) == [("Bare text", 0), ("Gout", 2), ("Never stop the drops!", 0), ("It hurts.", 0)]


def test_lists_and_tables_become_lines() -> None:
    page = """<p>Do this:</p><ol><li>Wash<ul><li>hands<li>face</ul><li><p>Dry</p></li></ol>
      <table><tr><th>drug<th>dose<tr><td><p>A</p><td><p>1</p><br>mg</table><dl><dt>Gout<dd>It hurts.</dl>one<br>two"""
    assert text_of(page) == (
        "Do this:\n\n1. Wash\n- hands\n- face\n2. Dry\n\ndrug | dose\nA | 1 mg\n\nGout\nIt hurts.\n\none\ntwo"
    )


def test_raised_digits_stay_apart_from_the_number_before_them() -> None:
    page = "<p>10<sup>9</sup>/l, Na<sup>+</sup>, 10<sup>-3</sup>, the 5<sup>th</sup>, H<sub>2</sub>O, m<sup>2</p>"
    assert text_of(page) == "10⁹/l, Na⁺, 10⁻³, the 5th, H2O, m2"


def test_a_heading_may_hold_breaks_and_one_without_an_end_loses_nothing() -> None:
    assert parts("<h1>Living<br>with <div>gout</div></h1><p>Text.</p>") == [("Living with gout", 1), ("Text.", 0)]
    page = f"<h2>Gout<p>{'It hurts. ' * 20}</p><p>More.</p>"
    assert text_of(page) == f"Gout {('It hurts. ' * 20).strip()} More."


def test_forged_markup_is_text() -> None:
    page = (
        "<p>&lt;h1&gt;Forged&lt;/h1&gt; &lt;script&gt;alert(1)&lt;/script&gt; a &lt; b, &amp;lt; [1] &#0; &#xD800;</p>"
    )
    assert text_of(page) == "<h1>Forged</h1> <script>alert(1)</script> a < b, &lt; [1] \ufffd \ufffd"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("<p>one<p>two", "one\n\ntwo"),
        ("</p></div></ul>text</li>", "text"),
        ("<![if !IE]><p>one</p><![endif]>two<![CDATA[three]]>", "one\n\ntwo"),
        ("<p>a<![b", "a<! [b"),
        ("<p>x</p><", "x\n\n<"),
        ("<unknown-tag>one <x-y>two</x-y></unknown-tag>", "one two"),
        ("<p hidden>answer</p>", "answer"),
    ],
)
def test_odd_pages_are_read_as_far_as_they_go(page: str, text: str) -> None:
    assert text_of(page) == text


@pytest.mark.parametrize("page", ["<p>one</p><nav><p>two</p>", "<body><p>one</p><nav><p>two</p></body>"])
def test_a_hidden_part_that_does_not_end_is_told(page: str) -> None:
    title, found, warnings = read_page(page, "a.html", Caps())
    assert (title, [part.text for part in found]) == ("", ["one"])
    assert warnings == ["a.html: what follows <nav> is not read, as its end is missing"]


def test_deep_nesting_is_no_recursion() -> None:
    page = f"{'<div><ul><li>' * 20_000}deep{'</li></ul></div>' * 20_000}<p>end</p>"
    assert [part.text for part in read_page(page, "a.html", Caps())[1]] == ["- deep", "end"]


def test_a_page_that_hangs_the_parser_is_refused() -> None:
    with pytest.raises(InputError, match=r"a\.html cannot be read: nothing came out of it in 0\.5 seconds"):
        read_page("<a " * 300_000, "a.html", Caps(reader_seconds=0.5))


@pytest.mark.parametrize(("entity", "text"), [(f"&{'a' * 100_000};", None), (f"&#x{'f' * 100_000};", "\ufffd")])
def test_a_huge_entity_is_one_sign_or_text(entity: str, text: str | None) -> None:
    (part,) = read_page(f"<p>one {entity} two</p>", "a.html", Caps())[1]
    assert part.text == f"one {text or entity} two"


def test_a_number_that_python_does_not_read_is_one_message() -> None:
    with pytest.raises(InputError, match=r"a\.html cannot be read: ValueError: Exceeds the limit"):
        read_page(f"<p>one &#{'9' * 100_000}; two</p>", "a.html", Caps())


def test_line_ends_of_any_system_count_alike() -> None:
    for end in ("\n", "\r\n", "\r"):
        (part,) = read_page(f"<p>{end}{end}one{end}two</p>", "a.html", Caps())[1]
        assert (part.text, part.place) == ("one two", "line 3")
