"""A review is made, given back, and read: what was said of X belongs to the model that stood there."""

import json
from pathlib import Path

from helpers.reviews import given_back, make, measured_run
from medqa_cli.review.judgments import read_judgments


def test_judgments_of_two_raters_come_back_with_their_pairs(tmp_path: Path) -> None:
    key, _ = make(measured_run(tmp_path))
    files = []
    for rater in key.raters:
        files.append(tmp_path / f"review-{rater}.json")
        files[-1].write_text(json.dumps(given_back(key, rater)))
    judgments, problems = read_judgments(files, key)
    assert problems == []
    assert [own.pair for own in judgments] == [*key.pairs_of("anna"), *key.pairs_of("ben")]
    assert {own.better for own in judgments} == {"x"}
    assert all(set(own.x.values()) == {True} and set(own.y.values()) == {False} for own in judgments)
