"""The cleaning rules for HTML, pictures and written line breaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_cli.data.cleaning.markup import embedded_pictures, markup, written_breaks

# HTML, and what it says.
PAGES = {
    "<p>Rest.</p><p>Don&#39;t take &gt;3&nbsp;g &micro;<br></p>": "Rest.\n\nDon't take >3\u00a0g µ",
    "Try:<ul><li>rest</li><li><p>drink</p></li></ul>then<ol><li>one<li>two</ol>end": (
        "Try:\n- rest\n- drink\n\nthen\n1. one\n2. two\n\nend"
    ),
    "<table><tr><th>Drug</th><th>Dose</th></tr><tr><td>A</td><td>5 mg</td></tr></table>": "Drug | Dose\nA | 5 mg",
    'See <a href="http://x.org/?a=1&amp;b=2" target=_blank>the page</a>.': "See the page.",
    "<DIV class=a>One</DIV><div>Two</div>three<br/>four<BR />five": "One\nTwo\nthree\nfour\nfive",
    "10<sup>9</sup>/L, m<sup>2</sup>, 1<sup>st</sup>, H<sub>2</sub>O, 10<sup>-3</sup>": ("10⁹/L, m², 1st, H2O, 10⁻³"),
    "a &amp;nbsp; b &amp;lt;5 mg, &lt;p&gt;next&lt;/p&gt;": "a \u00a0 b <5 mg,\n\nnext",
    "<!-- note --><script>var a = 1 < 2;</script><style>p {}</style>Rest<o:p></o:p>": "Rest",
    "A line\nthat was wrapped.<br>Next\nItem": "A line that was wrapped.\nNext\nItem",
    "weeks<p>Rest<p>Sleep": "weeks\n\nRest\n\nSleep",
    "<b>Bold</b> and a<b>c": "Bold and a<b>c",
    "<font color='red' size=2>Hi</font>": "Hi",
    "<a href=http://x.org/?a=1>it</a><![if !lists]>, <?xml:namespace prefix = o />5&nbsp g": "it, 5\u00a0 g",
}
NO_MARKUP = [
    "p < 0.05, <5 mg, >38 °C",
    "a<b and c>d",
    "x < y > z",
    "if a<b>c then n<i>m",
    "n<p>0.05",
    "a <name> and <john@x.org> and <http://x.org>",
    "AT&T, R&D, &foo; &copy &amp http://a.org/?x=1&copy=2",
    "1 <2> 3 <- 4 -> 5 <= 6",
    "Dear <title>, come at <time> to <address>",
    "<s>a prompt",
    "the end</s>",
]


@pytest.mark.parametrize(("page", "text"), PAGES.items())
def test_html_becomes_text(page: str, text: str) -> None:
    assert markup(page) == text
    assert markup(text) == text


@pytest.mark.parametrize("text", NO_MARKUP)
def test_what_is_no_html_stays(text: str) -> None:
    assert markup(text) == text


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ('Look: <img alt="x" src="data:image/png;base64,iVBO+/R0KG==" width=3> here', "Look: \n here"),
        ("Look: ![skin](data:image/jpeg;base64,iVBOR0KG) here", "Look: \n here"),
        ("Look: data:image/gif;base64,R0lGODlh here", "Look: \n here"),
        ("It is in base64, or data:image/png", "It is in base64, or data:image/png"),
    ],
)
def test_pictures_in_a_text_go(text: str, without: str) -> None:
    assert embedded_pictures(text) == without


def test_long_texts_of_marks_come_to_an_end() -> None:
    assert embedded_pictures(f'<img src="data:image/png;base64,{"A" * 1_000_000}">') == "\n"
    for piece in ("<p <b <i <img ", "<script>", "<!--", "</script><script>", "data:image/png;base64,"):
        text = piece * 20_000
        assert isinstance(markup(embedded_pictures(text)), str)
    assert markup("<br>" + " " * 200_000 + "x") == "x"


# Words, patterns and paths in which the n after a backslash is a letter, or that talk of the sign.
NO_BREAKS = [
    "\\nothing helps",
    "causes \\nausea and \\nothing",
    "it causes nausea\\nothing",
    "one\\ntwo",
    "\\névralgie",
    "match \\d+\\n here",
    "rate \\d{2,3}\\n5",
    "\\s*\\n\\s*",
    "[^\\n]+ or (\\r|\\n)",
    "^\\n$ or \\n{2,}",
    "open C:\\new\\table.txt and D:\\Temp\\notes now",
    "folder\\notes\\table",
    "the \\n character, split on \\n and \\t",
    "print('a\\nb') writes '\\n'",
]


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("胃疼要做什么检查？\\n医生：", "胃疼要做什么检查？\n医生："),
        ("Rest.\\nDrink.\\n\\nSleep.\\r\\nEnd", "Rest.\nDrink.\n\nSleep.\nEnd"),
        ("- rest\\n- drink\\n- 5\\tmg", "- rest\n- drink\n- 5 mg"),
        ("see C:\\new\\notes.txt and \\\\server\\team", "see C:\\new\\notes.txt and \\\\server\\team"),
        ("h\\nu, 3 \\times 4, \\tau, \\text{mg}, \\neq", "h\\nu, 3 \\times 4, \\tau, \\text{mg}, \\neq"),
        ("$\\alpha$ and one\\ntwo", "$\\alpha$ and one\\ntwo"),
        ("$\\alpha$ it is.\\nNext", "$\\alpha$ it is.\nNext"),
        ("no break", "no break"),
        ("Rest. \\n Drink, or rest\\n", "Rest. \n Drink, or rest\n"),
        ("Rest.\\nDrink.\\nsleep well", "Rest.\nDrink.\nsleep well"),
        ("Take:\\n1. a\\n2. b", "Take:\n1. a\n2. b"),
        ("боль\\nсильная", "боль\nсильная"),
        *((text, text) for text in NO_BREAKS),
    ],
)
def test_a_written_line_break_becomes_one_where_that_is_certain(text: str, broken: str) -> None:
    assert written_breaks(text) == broken
    assert written_breaks(broken) == broken


PIECES = st.sampled_from(
    [
        *(
            "<p>",
            "</p>",
            "<b>",
            "</b>",
            "<",
            ">",
            "&lt;",
            "&amp;",
            "amp;",
            "lt;",
            "&#60;",
            "\\n",
            "\\",
            "n",
            "\n",
            "Q:",
        ),
        *("A:", " ", "答：", "<s>", "</s>", "<li>", "<td>", "p", "5", "x", "<br>", "<ul>", "Doctor:", ".", "[INST]"),
        *("<!--", "-->", "<script>", "</script>"),
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_each_rule_applied_twice_is_as_applied_once(text: str) -> None:
    for rule in (embedded_pictures, markup, written_breaks):
        assert rule(rule(text)) == rule(text)
