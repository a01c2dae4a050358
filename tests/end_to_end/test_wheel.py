"""The wheel: what is in it, and that the program starts from it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from helpers.paths import ROOT, SAMPLE
from medqa_cli import __version__

PACKAGE = ROOT / "src/medqa_cli"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it from a copy: setuptools writes beside the sources."""
    copy = tmp_path_factory.mktemp("repository")
    shutil.copytree(PACKAGE, copy / "src/medqa_cli", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (built,) = (copy / "dist").iterdir()
    return built


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that has the wheel's files, before those of the repository."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site")}


def test_it_holds_each_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    files = {path.relative_to(PACKAGE.parent).as_posix(): path for path in PACKAGE.rglob("*") if path.is_file()}
    files = {name: path for name, path in files.items() if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert packed == set(files)
        assert [name for name, path in files.items() if archive.read(name) != path.read_bytes()] == []


def test_it_starts_as_a_program_and_as_a_module(wheel: Path, installed: dict[str, str], tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (archive.read(name) for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert b"medqa = medqa_cli.cli.program:main" in entry_points
    for code in (["-m", "medqa_cli"], ["-c", "import medqa_cli.cli.program as p; print(p.__file__); p.main()"]):
        done = subprocess.run([sys.executable, *code, "--version"], cwd=tmp_path, env=installed, capture_output=True)
        assert done.returncode == 0, done.stderr
        *place, version = done.stdout.decode().splitlines()
        assert version == f"medqa {__version__}"
        assert all(path.startswith(str(tmp_path / "site")) for path in place)


def test_its_quickstart_brings_the_sample_and_ends_as_a_step_that_fails(
    installed: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "medqa_cli", "quickstart", "--set", "data.source=none.csv"]
    done = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True)
    assert done.returncode == 2
    assert "none.csv" in done.stderr
    assert "$ medqa convert" in done.stdout
    assert "medqa train" not in done.stdout
    written = tmp_path / "quickstart"
    names = [path.relative_to(SAMPLE) for path in SAMPLE.rglob("*") if path.is_file()]
    assert len(names) == 6
    assert sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file()) == sorted(names)
    assert [name for name in names if (written / name).read_bytes() != (SAMPLE / name).read_bytes()] == []
