"""The work of ``medqa doctor``: the facts of the machine, then one check after another, each told as it is made."""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console, distributed
from medqa_cli.config.schema import Config
from medqa_cli.doctor import adapters, kernels, machine, steps
from medqa_cli.doctor.finding import Finding, Measured, NotChecked, examine
from medqa_cli.doctor.subject import Subject, own_subject, tiny_subject
from medqa_cli.errors import InputError
from medqa_cli.model import devices
from medqa_cli.model.devices import free_unused_memory

# Without --full no check begins later after the first. The longest takes a few seconds, and loading, which may take
# long on a busy machine and is not counted, some 5 on an idle one: all of it is to take less than 40.
MOST_SECONDS = 27.0


@dataclass(frozen=True)
class Check:
    """A check that is to be made: its name, what it compares, whether the config needs what it checks."""

    name: str
    measure: Callable[[Subject], Measured]
    needed: bool = True


def diagnose(
    config: Config,
    *,
    full: bool = False,
    started: float | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Check this machine, for this config.

    Args:
        config: its model section says what is needed here, and whose architecture is tried.
        full: measure speeds and memory as well, and stop at no time.
        started: when the command was given, by ``time.monotonic``, for ``seconds``; None: now.
        tell: gets each line as soon as it is known.

    Returns:
        What ``--json`` prints: ``machine``, ``checks``, ``fails``, ``seconds``.

    Raises:
        InputError: a launcher started several processes.
    """
    if distributed.world_size() > 1:
        raise InputError("medqa doctor is one process", "start it without torchrun and accelerate launch")
    started = time.monotonic() if started is None else started
    findings: list[Finding] = []

    def add(finding: Finding) -> None:
        findings.append(finding)
        tell(finding.line())

    with quiet():
        device = _device(add)
        dtype = devices.pick_compute_dtype(config.model.compute_dtype, device)
        facts = machine.describe(device, dtype, Path(config.run_dir))
    tell("machine")
    for line in machine.lines(facts):
        tell(f"  {line}")
    tell("checks")
    deadline = None if full else time.monotonic() + MOST_SECONDS
    with tempfile.TemporaryDirectory(prefix="medqa-doctor-", ignore_cleanup_errors=True) as folder, quiet():
        for finding in _findings(config, Path(folder), device, dtype, deadline, full=full):
            add(finding)
    return {
        "machine": facts,
        "checks": [finding.as_json() for finding in findings],
        "fails": any(finding.fails for finding in findings),
        "seconds": round(time.monotonic() - started, 1),
    }


def _device(add: Callable[[Finding], None]) -> torch.device:
    try:
        return devices.pick_device()
    except InputError as error:  # a GPU that this PyTorch has no kernels for
        add(Finding("device", "", "wrong", True, f"{error.message}; to do: {error.hint}"))
        return torch.device("cpu")


def _findings(
    config: Config, folder: Path, device: torch.device, dtype: torch.dtype, deadline: float | None, *, full: bool
) -> Iterator[Finding]:
    console.doing("making small models to try ...")
    tiny = tiny_subject(config, folder / "tiny", device, dtype)
    try:
        own: Subject | None = own_subject(config, folder / "own", device, dtype)
    except NotChecked as reason:
        own = None
        yield Finding("own architecture", "", "not checked", True, str(reason))
    rounds = [(tiny, checks_of_the_device(config, device)), (tiny, checks_of_a_model())]
    if own is not None:
        rounds.insert(1, (own, checks_of_a_model()))
    for subject, checks in rounds:
        for check in checks:
            if deadline is not None and time.monotonic() > deadline:
                late = "its time was over; --full takes the time that it needs"
                yield Finding(check.name, subject.name, "not checked", check.needed, late)
                continue
            console.doing(f"{check.name}: {subject.name} ...")
            yield examine(check.name, subject.name, partial(check.measure, subject), needed=check.needed)
            free_unused_memory(device)
    if full:
        subject = own or tiny
        console.doing("speed of products ...")
        yield from machine.products(device, dtype)
        console.doing("speed and memory of a training ...")
        run = machine.Run(subject)
        memory = examine("memory = plan", subject.name, run.memory)
        if memory.status != "wrong":
            yield run.speed()
        yield memory
        console.doing("two ranks ...")
        yield examine("two ranks = one", subject.name, run.two_ranks)


def checks_of_the_device(config: Config, device: torch.device) -> list[Check]:
    """Return the checks of what does not depend on the architecture."""
    quantization, double = config.model.quantization, config.model.double_quantization
    kind = "nf4" if quantization == "none" else quantization
    is_float16 = devices.pick_compute_dtype(config.model.compute_dtype, device) == torch.float16
    return [
        Check(
            f"{kind.upper()} there and back",
            partial(kernels.weights_come_back, kind=kind, double=double),
            quantization != "none",
        ),
        Check("optimizer = AdamW", lambda subject: kernels.optimizer_is_adamw(config, device)),
        Check("paged optimizer", partial(kernels.paged_is_adamw, config=config), "paged" in config.train.optim),
        Check("float16 scaling", steps.float16_is_scaled, is_float16),
        Check("flash = softmax", kernels.flash_is_plain),
    ]


def checks_of_a_model() -> list[Check]:
    """Return the checks of one model."""
    return [
        Check("packed = alone", steps.packed_is_alone),
        Check("attention = softmax", kernels.attention_is_plain),
        Check("step = the CPU's in float32", steps.step_is_that_of_the_cpu),
        Check("recomputed = kept", steps.recomputed_is_kept),
        Check("answers batched = alone", adapters.batched_is_alone),
        Check("merge = PEFT's", adapters.merge_is_peft),
    ]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep notes and bars of the work that is tried off the screen: they are about models that nobody has."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def show(report: dict[str, Any]) -> None:
    """Print the last line: how many checks there were, and how they ended."""
    ended = [check["status"] for check in report["checks"]]
    counts = ", ".join(f"{ended.count(status)} {status}" for status in dict.fromkeys(ended))
    console.line(f"{counts}, in {report['seconds']:.0f} s")
    if report["fails"]:
        console.line("something that your config needs is wrong here: do not trust a training on this machine yet")
