"""The page of one rater: one file without any network request, which holds texts and no name of who wrote them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from types import SimpleNamespace

from markupsafe import Markup

from medqa_cli import console
from medqa_cli.resources import template_environment
from medqa_cli.review.criteria import Form
from medqa_cli.review.returned import FORMAT_VERSION
from medqa_cli.review.workbook import Shown

_FROM_THE_RIGHT = ("ar", "dv", "fa", "he", "ku", "ps", "ur", "yi")
# Words that the script fills in while the page is used.
_OF_SCRIPT = ("progress", "last", "saved", "copied", "went_on", "other_file", "is_rated", "is_begun", "is_open")


def make_page(review: str, rater: str, shown: Sequence[Shown], form: Form) -> str:
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
    environment.globals |= {"filled": _filled, "sha256": _sha256}
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


def _sha256(text: str) -> str:
    """Return what a Content-Security-Policy allows an inline element by (CSP level 3, section 8.3)."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
