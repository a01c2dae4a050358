"""Nothing is asked of the network that the config does not name: every command against a hub that counts."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

NAMES = ("glaucoma", "asthma", "gout", "anemia", "eczema", "malaria", "measles", "mumps", "rabies", "scurvy", "sepsis")
ROWS = "".join(
    f"What is {name}?,{name.capitalize()} is a disease. It is treated with medicines of kind {number}.\n"
    for number, name in enumerate(NAMES)
)


class Hub(BaseHTTPRequestHandler):
    """A hub that knows no repository and writes down what it was asked for."""

    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    class Counting(Hub):
        asked: ClassVar[list[str]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Counting.asked
    server.shutdown()


# All commands in one process: importing takes longest. One command a line, and for each its code and what it said.
RUN_ALL = """
import contextlib, io, json, sys
from medqa_cli.cli.program import main
for line in sys.stdin:
    sys.argv = ["medqa", *json.loads(line)]
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
            code = 0
        except SystemExit as ending:
            code = ending.code or 0
    print(json.dumps([code, err.getvalue()]), flush=True)
"""


@pytest.fixture
def run(hub: tuple[str, list[str]], tmp_path: Path) -> Iterator[Any]:
    """Run commands online, one after the other, with the counting server as the hub and as every proxy."""
    environment = {**os.environ, "HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    environment |= {"http_proxy": hub[0], "https_proxy": hub[0], "no_proxy": "127.0.0.1"}
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        environment.pop(name, None)

    with subprocess.Popen(
        [sys.executable, "-c", RUN_ALL],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def medqa(*commands: list[str]) -> list[tuple[int, str]]:
            assert process.stdin is not None
            assert process.stdout is not None
            done = []
            for command in commands:
                print(json.dumps(command), file=process.stdin, flush=True)
                code, said = json.loads(process.stdout.readline())
                done.append((code, said))
            return done

        yield medqa


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}), encoding="utf-8")


@pytest.fixture
def base(tmp_path: Path, tiny_model_dir: Path) -> Path:
    """A base in a folder whose files name repositories in every place that a library looks at."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model_dir, folder)
    change(
        folder / "config.json",
        _name_or_path="evil/config",
        model_type="llama",
        transformers_version="4.30.0",
        base_model="evil/base",
    )
    change(folder / "generation_config.json", _from_model_config=True, assistant_model="evil/assistant")
    change(
        folder / "tokenizer_config.json",
        name_or_path="evil/tokenizer",
        tokenizer_file="evil/tokenizer-file",
        processor_class="EvilProcessor",
    )
    (folder / "processor_config.json").write_text('{"processor_class": "Evil", "_name_or_path": "evil/processor"}')
    (folder / "special_tokens_map.json").write_text('{"_name_or_path": "evil/map"}')
    return folder


def test_no_command_asks_the_hub_for_what_the_config_does_not_name(
    run: Any, hub: tuple[str, list[str]], base: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("question,answer\n" + ROWS, encoding="utf-8")
    (tmp_path / "medqa.yaml").write_text(
        "run_dir: run\ndata: {source: rows.csv, dir: data, validation_fraction: 0.2, test_fraction: 0.2}\n"
        "prompt: {template: chat}\n"
        "model: {name_or_path: base, quantization: none, max_length: 128}\n"
        "lora: {r: 2, target_modules: all-linear}\n"
        "train: {max_steps: 2, logging_steps: 1}\ngenerate: {max_new_tokens: 3}\n",
        encoding="utf-8",
    )
    commands = (["--help"], ["config", "show"], ["convert"], ["train"], ["ask", "What is gout?"],
                ["eval", "--limit", "2"], ["merge"], ["ask", "--model", "merged", "What is gout?"])  # fmt: skip
    for code, said in run(*commands):
        assert code == 0, said
    assert hub[1] == []
    # An adapter from elsewhere names another base, in a repository.
    change(tmp_path / "run/adapter/adapter_config.json", base_model_name_or_path="evil/base", revision="main")
    kernels = tmp_path / "kernels"
    shutil.copytree(base, kernels)
    change(kernels / "config.json", _attn_implementation="kernels-community/flash-attn3")
    *foreign, attention = run(
        ["ask", "What is gout?"],
        ["eval", "--limit", "2"],
        ["merge", "--out", "other"],
        ["ask", "--model", "kernels", "What is gout?"],
    )
    for code, said in foreign:
        assert code == 2, said
        assert "model.name_or_path: evil/base" in said
    assert attention[0] == 2
    assert "kernels-community/flash-attn3" in attention[1]
    assert "take _attn_implementation out of the file" in attention[1]
    assert hub[1] == []
    # Named in the config, it is asked for, and nothing else is.
    ((code, _),) = run(["ask", "--set", "model.name_or_path=evil/base", "What is gout?"])
    assert (code, bool(hub[1])) == (2, True)
    assert [path for path in hub[1] if "/evil/base" not in path] == []
