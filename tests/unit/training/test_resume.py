"""What a checkpoint is bound to where a run has sources: the index, and whether there were any."""

import json
from pathlib import Path
from typing import Any

import pytest

from medqa_cli.environment import INDEX_SHA256, TRAIN_SHA256
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.training.resume import check_fits

WITH_SOURCES = {TRAIN_SHA256: "a" * 64, "prompt.sources": 2, "sources.gold": 0.8, INDEX_SHA256: "b" * 64}


def run_that_recorded(folder: Path, settings: dict[str, Any]) -> RunFolder:
    run = RunFolder(folder)
    run.environment_path.write_text(json.dumps({"trained_with": settings}), encoding="utf-8")
    return run


def test_the_same_settings_fit(tmp_path: Path) -> None:
    check_fits(run_that_recorded(tmp_path, WITH_SOURCES), WITH_SOURCES)


def test_documents_that_changed_are_data_that_were_converted_again(tmp_path: Path) -> None:
    run = run_that_recorded(tmp_path, WITH_SOURCES)
    with pytest.raises(InputError, match="the data was converted again") as caught:
        check_fits(run, {**WITH_SOURCES, INDEX_SHA256: "c" * 64})
    assert "--restart" in str(caught.value.hint)


def test_a_run_of_before_there_were_sources_had_none(tmp_path: Path) -> None:
    run = run_that_recorded(tmp_path, {TRAIN_SHA256: "a" * 64, "lora.r": 4})
    check_fits(run, {TRAIN_SHA256: "a" * 64, "lora.r": 4, "prompt.sources": 0})
    with pytest.raises(InputError, match=r"prompt\.sources was 0, is 2"):
        check_fits(run, {**WITH_SOURCES, "lora.r": 4})
