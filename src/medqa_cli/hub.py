"""Limits requests to the Hugging Face hub to repositories that the user named.

Libraries request more by themselves: the base that an adapter names, tags of a tokenizer's repository, a list of
programs that may run them.
"""

import sys
from functools import cache
from typing import Any

# In the path of a request, between slashes: owner/name, or name alone.
_named: set[str] = set()
# Where the hub redirected a request for a named repository to: renamed ones, and the servers that hold the files.
_redirected: set[str] = set()


def name_repository(repository: str | None) -> None:
    """Allow requests for ``repository``, which the user named in the config or on the command line."""
    if repository:
        _named.add(repository)


def is_named(repository: str) -> bool:
    """Tell whether the user named it."""
    return repository in _named


def forbid_kernels() -> None:
    """Keep the package ``kernels`` from being imported: it downloads programs from the hub and runs them.

    bitsandbytes imports it on some CPUs (backends/cpu/ops.py, 0.50), so call this before bitsandbytes is imported.
    """
    sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]  # None: "not to be imported"


@cache
def ask_only_what_is_named() -> None:
    """Stop all other requests of ``huggingface_hub`` in this process, as if the machine were offline for them.

    Transformers, PEFT and the hub's client all use it. Call this before any of them loads something.
    """
    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.errors import OfflineModeIsEnabled

    def refuse_unnamed(request: Any) -> None:
        path = f"{request.url.path}/"
        if str(request.url) not in _redirected and not any(f"/{repository}/" in path for repository in _named):
            raise OfflineModeIsEnabled(f"{request.url.path} was not asked for: the config does not name it")

    def follow_redirect(response: Any) -> None:
        if location := response.headers.get("location"):
            _redirected.add(str(response.request.url.join(location)))

    usual = get_session()  # its hooks stay
    hooks: dict[str, list[Any]] = {
        "request": [refuse_unnamed, *usual.event_hooks["request"]],
        "response": [*usual.event_hooks["response"], follow_redirect],
    }
    make, timeout, follow_redirects = type(usual), usual.timeout, usual.follow_redirects
    set_client_factory(lambda: make(event_hooks=hooks, timeout=timeout, follow_redirects=follow_redirects))
