"""medqa as Windows would run it: without the modules, functions and signals that only POSIX systems have.

A stand-in on this system: medqa's own modules, and no others, get an ``os``, ``signal`` and ``sys`` that have only what
Windows has, and cannot import what is not there. Files that are open or mapped cannot be renamed, replaced or removed,
nor folders that hold such, and a rename replaces nothing. Texts are read and written in the code page of the machine
where nobody says otherwise; here that is ASCII.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AS_ON_WINDOWS = """
import builtins, json, os, signal, sys, types

NO_MODULES = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "crypt", "spwd", "nis", "readline"}
# https://docs.python.org/3/library/os.html and signal.html, "Availability: Unix"
NOT_THERE = {
    "os": (
        "chown chroot confstr ctermid fchdir fchmod fchown fork forkpty getegid geteuid getgid getgroups getloadavg "
        "getpgid getpgrp getpriority getresgid getresuid getsid getuid initgroups killpg lchown lockf major mkfifo "
        "mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread preadv pwrite pwritev "
        "sched_getaffinity sched_setaffinity sched_yield sendfile setegid seteuid setgid setpgid setpriority setsid "
        "setuid statvfs fstatvfs sync sysconf tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid getxattr "
        "memfd_create eventfd O_DIRECTORY O_NOFOLLOW O_CLOEXEC O_SYNC O_ASYNC O_DSYNC O_TMPFILE O_PATH "
        "WEXITSTATUS WIFSIGNALED WNOHANG"
    ).split(),
    "signal": (
        "SIGHUP SIGKILL SIGALRM SIGUSR1 SIGUSR2 SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGCHLD SIGCONT SIGIO SIGWINCH SIGXCPU "
        "alarm setitimer pause sigwait sigtimedwait pthread_kill pthread_sigmask siginterrupt set_wakeup"
    ).split(),
    "sys": ["getdlopenflags", "setdlopenflags", "abiflags"],
}
CHANGED = {"os": {"name": "nt"}, "signal": {}, "sys": {"platform": "win32"}}


class AsOnWindows(types.ModuleType):
    def __getattribute__(self, name):
        own = object.__getattribute__(self, "__dict__")
        if name in own["changed"]:
            return own["changed"][name]
        if name in own["not_there"]:
            raise AttributeError(f"module {own['whole'].__name__!r} has no attribute {name!r} on Windows")
        return getattr(own["whole"], name)

    def __setattr__(self, name, value):
        setattr(object.__getattribute__(self, "__dict__")["whole"], name, value)


def stand_in(whole):
    module = AsOnWindows(whole.__name__)
    vars = object.__getattribute__(module, "__dict__")
    vars.update(whole=whole, changed=CHANGED[whole.__name__], not_there=set(NOT_THERE[whole.__name__]))
    return module


STAND_INS = {module.__name__: stand_in(module) for module in (os, signal, sys)}
own_import = builtins.__import__


def import_as_on_windows(name, globals=None, locals=None, fromlist=(), level=0):
    if str((globals or {}).get("__name__", "")).startswith("medqa_cli"):
        if name.partition(".")[0] in NO_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in STAND_INS:
            return STAND_INS[name]
    return own_import(name, globals, locals, fromlist, level)


builtins.__import__ = import_as_on_windows

WORKSPACE = os.getcwd() + os.sep


def in_use(path):
    # What of a path, or below it, this process has open or mapped; only in the workspace.
    path = os.path.abspath(path)
    if not path.startswith(WORKSPACE):
        return None
    names = [os.readlink(f"/proc/self/fd/{number}") for number in map(str, range(256))
             if os.path.lexists(f"/proc/self/fd/{number}")]
    with open("/proc/self/maps", encoding="utf-8") as maps:
        names += [line.split(maxsplit=5)[5].strip() for line in maps if line.count("/")]
    # Folders that are open are locks of POSIX systems, which Windows has not.
    return next((n for n in names if (n == path or n.startswith(path + os.sep)) and not os.path.isdir(n)), None)


def as_windows_does(function, looks_at, replaces):
    def call(source, *more, **options):
        for path in (source, *more)[:looks_at]:
            if isinstance(path, (str, os.PathLike)) and options.get("dir_fd") is None and (name := in_use(path)):
                raise PermissionError(13, f"[WinError 32] in use: {name}", os.fspath(path))
        if not replaces and more and os.path.lexists(more[0]):
            raise FileExistsError(17, "[WinError 183] it exists", os.fspath(more[0]))
        return function(source, *more, **options)

    return call


os.rename = as_windows_does(os.rename, 1, False)
os.replace = as_windows_does(os.replace, 2, True)
os.unlink = os.remove = as_windows_does(os.unlink, 1, True)

from medqa_cli.cli.program import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["medqa", *arguments]
    try:
        main()
        code = 0
    except SystemExit as ending:
        code = ending.code
    print("ended with", code, flush=True)
"""

CONFIG = """
data: {{source: qa.csv, dir: data, validation_fraction: 0.2, test_fraction: 0.2}}
run_dir: run
prompt: {{template: chat}}
model: {{name_or_path: {model}, max_length: 96, compute_dtype: float32}}
lora: {{r: 2}}
train: {{max_steps: 2, save_steps: 1, save_total_limit: 1, logging_steps: 1}}
generate: {{max_new_tokens: 4}}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the real thing is at hand")
def test_the_commands_run_without_what_windows_lacks(tmp_path: Path, tiny_model_dir: Path) -> None:
    rows = [f"What is disease {i}é?,Disease {i} is number {i * 7} µg and it is long." for i in range(30)]
    (tmp_path / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "medqa.yaml").write_text(CONFIG.format(model=tiny_model_dir), encoding="utf-8")
    again = ["train", "--restart"]
    shared = ["convert", "--workers", "2"]
    commands = [["--help"], ["convert"], shared, ["train"], again, ["ask", "What is disease 3?"], ["merge"]]
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", AS_ON_WINDOWS, json.dumps(commands)],
        cwd=tmp_path,
        # A code page without the letters of the data.
        env={**os.environ, "OMP_NUM_THREADS": "1", "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    ended = [line for line in done.stdout.splitlines() if line.startswith("ended with")]
    assert ended == ["ended with 0"] * len(commands), done.stderr
    summary = json.loads((tmp_path / "run/train.json").read_text(encoding="utf-8"))
    assert summary["status"] == "completed"
    assert summary["peak_memory_bytes"] > 1 << 26
