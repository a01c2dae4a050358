"""The page for people: one document that holds its style and its script, and the policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import re

from medqa_cli.answering.generate import NOTICE
from medqa_cli.resources import template_environment
from medqa_cli.serving.guard import CLOSED


class Page:
    """The page and its Content-Security-Policy.

    Args:
        model: the name of the one that answers.
        has_feedback: whether readers can call an answer wrong or harmful.
        needs_key: whether the page has to ask for the key.
    """

    def __init__(self, model: str, *, has_feedback: bool, needs_key: bool) -> None:
        template = template_environment(lambda value: value, autoescape=True).get_template("serve.html.j2")
        self.text = template.render(model=model, notice=NOTICE, has_feedback=has_feedback, needs_key=needs_key)
        sources = {
            f"{kind}-src": " ".join(map(_hash_of, re.findall(rf"<{kind}>(.*?)</{kind}>", self.text, re.DOTALL)))
            for kind in ("script", "style")
        }
        allowed = "; ".join(f"{name} {hashes}" for name, hashes in sources.items())
        self.policy = f"{CLOSED}; connect-src 'self'; img-src data:; {allowed}"


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
