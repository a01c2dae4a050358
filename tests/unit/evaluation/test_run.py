"""What an evaluation says before any model is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from medqa_cli.config.schema import Config, DataConfig, EvalConfig
from medqa_cli.errors import InputError
from medqa_cli.evaluation.run import evaluate, what_is_set_aside


@pytest.mark.parametrize(("metrics", "warns"), [("all", True), (("rougeL",), True), (("chrf", "nll"), False)])
def test_references_that_rouge_cannot_read_are_counted_in_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metrics: tuple[str, ...], warns: bool
) -> None:
    """Otherwise ROUGE of Russian answers is 0 without a word."""
    answers = ["Подагра — болезнь суставов.", "Gout is a disease of the joints.", "Болезнь глаз."]
    lines = [
        json.dumps({"id": str(n), "question": f"q{n}", "answer": answer, "topic": "", "source": ""})
        for n, answer in enumerate(answers)
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = Config(
        run_dir=str(tmp_path / "run"),
        data=DataConfig(dir=str(tmp_path)),
        eval=EvalConfig(metrics=metrics),  # type: ignore[arg-type]
    )
    with pytest.raises(InputError):  # there is no adapter
        evaluate(config, ["adapter"], None)
    assert ("2 of 3 reference answers have no ASCII letter or digit" in capsys.readouterr().err) == warns


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ({"likelihood/base/0": [1.0], "answers/base/8/0": [["a"]] * 8, "answers/base/8/1": [["b"]] * 2}, "10 answers"),
        ({"likelihood/base/0": [1.0, 2.0], "likelihood/base/1": [3.0]}, "2 pieces of work"),
        ({"answers/base/8/0": None}, "1 piece of work"),  # a damaged file
    ],
)
def test_what_is_set_aside_counts_answers(pieces: dict[str, Any], expected: str) -> None:
    assert what_is_set_aside(pieces).startswith(f"set aside: {expected} of an interrupted evaluation with other ")
