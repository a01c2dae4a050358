"""What one check found: a figure with its bound, what is wrong, or why nothing could be checked."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from medqa_cli.errors import MedqaError, first_line, out_of_memory

Status = Literal["ok", "slower", "wrong", "not checked"]
_MARKS: dict[Status, str] = {"ok": "ok", "slower": "slower", "wrong": "WRONG", "not checked": "not checked"}


class NotChecked(Exception):
    """There is nothing to check here; the text says why."""


@dataclass(frozen=True)
class Measured:
    """The outcome of a comparison.

    ``figure``: how far apart two ways of computing the same are; ``bound``: the most that rounding explains;
    ``what``: what the figure is, as it stands behind it; ``problem``: what else is wrong; ``instead``: what medqa does
    by itself about that problem, so that the figure is right all the same; empty: nothing.
    """

    figure: float
    bound: float
    what: str
    problem: str = ""
    instead: str = ""

    @property
    def status(self) -> Status:
        """``ok`` if the figure is within its bound (NaN is not), ``slower`` if medqa had to see to that."""
        if not self.figure <= self.bound or (self.problem and not self.instead):
            return "wrong"
        return "slower" if self.problem else "ok"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    ``model``: which one was tried, empty where none was; ``needed``: the config needs it; ``text``: the figure in
    words, what is wrong, or why it was not checked; ``instead``: as of ``Measured``.
    """

    check: str
    model: str
    status: Status
    needed: bool
    text: str
    figure: float | None = None
    bound: float | None = None
    instead: str = ""

    @property
    def fails(self) -> bool:
        """Whether something that the config needs is wrong."""
        return self.status == "wrong" and self.needed

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints; a figure that is no number is null."""
        found = {**asdict(self), "fails": self.fails}
        for key in ("figure", "bound"):
            found[key] = found[key] if found[key] is not None and math.isfinite(found[key]) else None
        return found

    def line(self) -> str:
        """Return the line that is shown."""
        name = f"{self.check} ({self.model})" if self.model else self.check
        head = f"{_MARKS[self.status]:<11}  {name}: {self.text}"
        if self.status not in ("slower", "wrong"):
            return head
        then = f"; medqa {self.instead}" if self.instead else ""
        unneeded = "" if self.needed else "; your config does not use it"
        return f"{head}{then}{unneeded}; please report this line with what stands under 'machine' above"


def examine(check: str, model: str, measure: Callable[[], Measured], *, needed: bool = True) -> Finding:
    """Run a check; whatever it raises is something wrong, but where memory runs out nothing is checked.

    Args:
        check: its name.
        model: the one that is tried.
        measure: compares.
        needed: the config needs what is checked.
    """
    try:
        measured = measure()
    except NotChecked as reason:
        return Finding(check, model, "not checked", needed, str(reason))
    except MedqaError as error:
        return Finding(check, model, "wrong", needed, error.message)
    except Exception as error:  # a kernel, a driver, a library: what is broken here is what the check is for
        if (cause := out_of_memory(error)) is not None:
            return Finding(check, model, "not checked", needed, f"memory ran out: {first_line(cause)}")
        return Finding(check, model, "wrong", needed, f"it fails: {first_line(error)}")
    compared = f"{measured.figure:.2g} {measured.what} (at most {measured.bound:.2g})"
    text = "; ".join(filter(None, [measured.problem, compared]))
    return Finding(check, model, measured.status, needed, text, measured.figure, measured.bound, measured.instead)
