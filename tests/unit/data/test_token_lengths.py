"""Token lengths of the rows: the figures of the report, the sentence of advice, the picture."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from medqa_cli.data.token_lengths import BATCH_ROWS, TokenLengths, _edges, draw_lengths, percentile


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def measured(answer_words: Sequence[int], max_length: int, special_tokens: int = 0) -> TokenLengths:
    """Answers of so many words; each text has two more."""
    lengths = TokenLengths(count_words, max_length, special_tokens)
    for words in answer_words:
        answer = " ".join(["word"] * words)
        lengths.add(answer, f"The prompt {answer}")
    return lengths


def test_the_summary_has_nearest_rank_percentiles_and_the_number_too_long() -> None:
    assert measured(range(1, 101), 60).summary() == {
        "answer": {"p50": 50, "p90": 90, "p99": 99, "max": 100},
        "longer_than_max_length": 42,
    }
    assert percentile([3, 8], 0.5) == 3
    assert percentile([3, 8], 0.51) == 8


def test_special_tokens_count_in_examples_and_not_in_answers() -> None:
    assert measured([6], 8).summary()["longer_than_max_length"] == 0
    summary = measured([6], 8, special_tokens=1).summary()
    assert summary == {"answer": {"p50": 6, "p90": 6, "p99": 6, "max": 6}, "longer_than_max_length": 1}


def test_sources_make_examples_longer_and_hide_the_rest_of_a_long_answer() -> None:
    lengths = TokenLengths(count_words, 75, 1, sources=2, source_tokens=10)
    for words in (5, 10, 40):
        answer = " ".join(["word"] * words)
        lengths.add(answer, f"The prompt {answer}")
    # 2 + 5 + 1 + 2 * (10 + 16) = 60, then 65; of the longest answer 10 words are shown: 65 too.
    assert lengths.summary()["longer_than_max_length"] == 0
    assert lengths.advice().startswith("each of the 3 rows fits model.max_length = 75, sources included (estimated)")
    assert "(the longest: 65 tokens)" in lengths.advice()


def test_passages_that_are_shown_in_part_are_counted_and_told() -> None:
    lengths = TokenLengths(count_words, 75, 1, sources=2, source_tokens=3)
    lengths.add("an answer", "a question and an answer")
    assert "passages" not in lengths.advice()
    lengths.add_passages(["one two three", "one two three four", "one two three four five"])
    assert lengths.summary()["passages_longer_than_source_tokens"] == 2
    assert lengths.advice().splitlines()[1:] == [
        "2 of 3 passages of the documents are longer than prompt.source_tokens = 3: a model is shown only their "
        "beginning (the longest: 5 tokens)"
    ]
    without = TokenLengths(count_words, 75, 1)
    without.add("an answer", "a question and an answer")
    without.add_passages(["one two three"])
    assert "passages" not in without.advice()
    assert "passages_longer_than_source_tokens" not in without.summary()


def test_rows_of_several_batches_are_counted_once() -> None:
    calls: list[int] = []

    def counting(texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        return count_words(texts)

    lengths = TokenLengths(counting, 3)
    for i in range(2 * BATCH_ROWS + 5):
        lengths.add("one", "one" if i % 2 else "one two three four")
    assert lengths.summary() == lengths.summary()
    assert lengths.summary()["longer_than_max_length"] == BATCH_ROWS + 3
    # Answers and texts, batch by batch; what was counted is not counted again.
    assert calls == [BATCH_ROWS] * 4 + [5] * 2


def test_advice_counts_the_rows_that_max_length_cuts() -> None:
    assert measured([1] * 96 + [1500] * 4, 512).advice() == (
        "4 of 100 rows (4.0 %) are longer than model.max_length = 512: training cuts their answers at a sentence end, "
        "without end token; raise model.max_length to keep more (p99 of an example: 1,502 tokens)"
    )
    assert measured([1] * 1999 + [1500], 1024).advice() == (
        "1 of 2,000 rows (0.1 %) is longer than model.max_length = 1,024: training cuts its answer at a sentence end, "
        "without end token; raise model.max_length to keep more (the longest: 1,502 tokens)"
    )
    assert measured([1] * 1999 + [1500], 1502).advice() == (
        "each of the 2,000 rows fits model.max_length = 1,502 (the longest: 1,502 tokens)"
    )


def test_the_picture_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    """In another process too, with other settings of matplotlib and another hash seed."""
    measured(range(1, 400), 200).draw(tmp_path / "here.png")
    picture = (tmp_path / "here.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert b"Software" not in picture
    assert b"matplotlib" not in picture.lower()
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\n")
    script = f"""
from pathlib import Path
from medqa_cli.data.token_lengths import draw_lengths
draw_lengths(range(1, 400), range(3, 402), 200, Path({str(tmp_path / "there.png")!r}))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=240)
    assert (tmp_path / "there.png").read_bytes() == picture
    measured(range(1, 401), 200).draw(tmp_path / "other.png")
    assert (tmp_path / "other.png").read_bytes() != picture


@pytest.mark.parametrize(
    ("answers", "examples", "max_length"),
    [([1], [1], 1), ([0, 0], [2, 3], 512), ([5], [9], 4), ([7], [200_000], 512), ([9] * 3, [12] * 3, 12)],
)
def test_odd_lengths_can_be_drawn(tmp_path: Path, answers: list[int], examples: list[int], max_length: int) -> None:
    draw_lengths(answers, examples, max_length, tmp_path / "lengths.png")
    assert len((tmp_path / "lengths.png").read_bytes()) > 10_000


@pytest.mark.parametrize(("shortest", "longest", "max_length"), [(1, 1, 1), (1, 6000, 512), (30, 40, 512), (9, 300, 4)])
def test_bins_hold_every_length_and_part_at_the_limit(shortest: int, longest: int, max_length: int) -> None:
    edges = _edges(shortest, longest, max_length)
    assert edges[0] < min(shortest, max_length) <= max(longest, max_length) < edges[-1]
    assert max_length + 0.5 in edges
    assert all(edge % 1 == 0.5 for edge in edges)
    assert list(edges) == sorted(set(edges))
    assert 2 <= len(edges) <= 70
