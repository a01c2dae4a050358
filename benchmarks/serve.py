"""How ``medqa serve`` bears load on the loopback: 1, 8 and 32 clients that ask one question after the other.

    python benchmarks/serve.py [--model FILE.gguf] [--seconds 60] [--clients 1 8 32] [--tokens 64]

Prints for each number of clients tokens/s, tokens per second of the server's processor, the seconds to the first text
(half of the requests, 99 % of them), errors, and the server's memory at the end. Each client streams, greedy; the
questions are of the sample's kind. At the end SIGTERM comes while all clients ask: answers that it loses are counted.
"""

import argparse
import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ask import FORMS, MODEL, TOPICS
from figures import add_json_option, write_figures

QUESTIONS = [form.format(topic) for form in FORMS for topic in TOPICS]


@dataclass
class Counts:
    """What the clients of one round saw."""

    first_text: list[float] = field(default_factory=list)
    tokens: int = 0
    answers: int = 0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def start(model: str, tokens: int, folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start the server; return it and its port."""
    command = [sys.executable, "-m", "medqa_cli", "serve", "--model", "base", "--port", "0"]
    for setting in (f"model.name_or_path={model}", "prompt.template=chat", f"generate.max_new_tokens={tokens}"):
        command += ["--set", setting]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"127\.0\.0\.1:(\d+)", line):
            return process, int(found[1])
    sys.exit(f"the server ended with {process.wait()}")


def ask(port: int, name: str, question: str, counts: Counts) -> None:
    """Stream one answer and count it; one that does not end as it should is an error."""
    body = {"model": name, "messages": [{"role": "user", "content": question}], "stream": True}
    began, first = time.perf_counter(), None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    last: Any = None
    for line in response:
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            choice = event["choices"][0]
            if first is None and choice["delta"].get("content"):
                first = time.perf_counter() - began
            if choice["finish_reason"]:
                last = event
    connection.close()
    with counts.lock:
        if response.status != 200 or last is None or first is None:
            counts.errors.append(f"status {response.status}, ended: {last is not None}")
        else:
            counts.first_text.append(first)
            counts.tokens += last["medqa"]["answer_tokens"]
            counts.answers += 1


def load(port: int, name: str, clients: int, seconds: float) -> tuple[Counts, list[threading.Thread], threading.Event]:
    """Start clients that ask until the event is set; an answer that has begun is waited for."""
    counts, over = Counts(), threading.Event()

    def client(number: int) -> None:
        while not over.is_set():
            try:
                ask(port, name, QUESTIONS[(number * 7 + counts.answers) % len(QUESTIONS)], counts)
            except (OSError, http.client.HTTPException) as error:
                if over.is_set() and isinstance(error, ConnectionRefusedError):
                    return  # it no longer listens
                with counts.lock:
                    counts.errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    return counts, threads, over


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=64)
    add_json_option(parser)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        process, port = start(options.model, options.tokens, Path(folder))
        server = psutil.Process(process.pid)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/v1/models")
        name = json.loads(connection.getresponse().read())["data"][0]["id"]
        ask(port, name, QUESTIONS[0], Counts())
        print(f"memory at the start: {server.memory_info().rss / 2**20:.0f} MiB", flush=True)
        for clients in options.clients:
            used, began = sum(server.cpu_times()[:2]), time.perf_counter()
            counts, threads, over = load(port, name, clients, options.seconds)
            over.set()
            for thread in threads:
                thread.join()
            took, processor = time.perf_counter() - began, sum(server.cpu_times()[:2]) - used
            times = sorted(counts.first_text)
            figures[str(clients)] = one = {
                "answers": counts.answers,
                "tokens_per_second": counts.tokens / took,
                "tokens_per_processor_second": counts.tokens / processor,
                "first_text_p50": statistics.median(times),
                "first_text_p99": times[min(len(times) - 1, int(0.99 * len(times)))],
                "errors": len(counts.errors),
                "rss_mib": server.memory_info().rss / 2**20,
            }
            print(
                f"{clients} clients: {one['answers']} answers, {one['tokens_per_second']:.1f} tokens/s "
                f"({one['tokens_per_processor_second']:.1f} per second of processor), first text p50 "
                f"{one['first_text_p50']:.2f} s, p99 {one['first_text_p99']:.2f} s, {one['errors']} errors, "
                f"{one['rss_mib']:.0f} MiB",
                *counts.errors[:3],
                flush=True,
            )
        counts, threads, over = load(port, name, options.clients[-1], min(5.0, options.seconds))
        over.set()
        before = counts.answers
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        code = process.wait(600)
    lost = len(counts.errors)
    figures["sigterm"] = {"answered_after": counts.answers - before, "lost": lost, "exit_code": code}
    print(
        f"SIGTERM: {counts.answers - before} answers ended after it, {lost} lost, exit code {code}", *counts.errors[:3]
    )
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
