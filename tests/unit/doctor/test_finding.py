"""A check ends in one line: a figure within its bound, what is wrong, or why nothing was checked."""

import json
import math

import pytest

from medqa_cli.doctor.finding import Finding, Measured, NotChecked, examine
from medqa_cli.errors import InputError


def found(measured: Measured, **more: bool) -> Finding:
    return examine("a = b", "it", lambda: measured, **more)


def test_a_figure_within_its_bound_is_ok_and_both_are_shown() -> None:
    finding = found(Measured(2e-7, 1e-4, "apart"))
    assert (finding.status, finding.fails) == ("ok", False)
    assert finding.line() == "ok           a = b (it): 2e-07 apart (at most 0.0001)"


@pytest.mark.parametrize("figure", [2e-4, math.nan, math.inf])
def test_a_figure_beyond_its_bound_or_none_at_all_is_wrong(figure: float) -> None:
    finding = found(Measured(figure, 1e-4, "apart"))
    assert (finding.status, finding.fails) == ("wrong", True)
    assert "please report this line" in finding.line()
    json.dumps(finding.as_json(), allow_nan=False)


def test_what_medqa_makes_good_by_itself_is_told_and_fails_nothing() -> None:
    finding = found(Measured(1e-7, 1e-4, "apart", "a kernel is off", "takes one example at a time"))
    assert (finding.status, finding.fails) == ("slower", False)
    assert "a kernel is off" in finding.line()
    assert "medqa takes one example at a time" in finding.line()


def test_a_fault_that_remains_fails_whatever_medqa_does_instead() -> None:
    assert found(Measured(1.0, 1e-4, "apart", "a kernel is off", "takes one example at a time")).fails


def test_what_the_config_does_not_use_is_wrong_and_fails_nothing() -> None:
    finding = found(Measured(1.0, 1e-4, "apart"), needed=False)
    assert (finding.status, finding.fails) == ("wrong", False)
    assert "your config does not use it" in finding.line()


def refuse() -> Measured:
    raise InputError("no such file", "make one")


def crash() -> Measured:
    raise RuntimeError("CUDA error: an illegal instruction\nand more")


def skip() -> Measured:
    raise NotChecked("there is no GPU")


def test_whatever_a_check_raises_is_a_finding() -> None:
    ended = [examine("a = b", "", check) for check in (refuse, crash, skip)]
    assert [finding.status for finding in ended] == ["wrong", "wrong", "not checked"]
    assert [finding.fails for finding in ended] == [True, True, False]
    assert "it fails: CUDA error: an illegal instruction" in ended[1].text
    assert ended[2].line() == "not checked  a = b: there is no GPU"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error: out of memory")])
def test_where_memory_runs_out_nothing_was_checked(error: Exception) -> None:
    def check() -> Measured:
        raise error

    finding = examine("a = b", "", check)
    assert (finding.status, finding.fails) == ("not checked", False)
    assert finding.text.startswith("memory ran out")
