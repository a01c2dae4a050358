"""Seeded changes of good content: bytes, text, and values of JSON."""

import copy
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Known = dict[str, list[Any]]

# Stand for lists and objects that are nested deeper than Python's writer of JSON goes.
_DEEP_LIST, _DEEP_OBJECT = "\ue000deep list", "\ue000deep object"
# fmt: off
ODD_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 7, 2**15, 2**31, 2**31 - 1, 2**40, 2**63, 10**30, 10**400, -(2**31),
    0.0, 0.5, 1.5, -0.5, 1e308, 1e-300, 5e-324, float("nan"), float("inf"), float("-inf"),
    "", " ", "x", "null", "1", "nan", "\0", "\x1b[2J", "\u202e", "\ud800", "../..", "/etc/passwd", "{{ 1 }}", "(a+)+$",
    "auto", "float16", "int8", "meta", "a" * 100_000, "a b " * 20_000,
    [], {}, [None], [[]], [0], [1, 2, 3], ["x"], ["a", 1], {"": ""}, {"a": None}, {"a": 1}, {"a": {"b": []}}, [{}] * 3,
    [""] * 1000, list(range(5000)), _DEEP_LIST, _DEEP_OBJECT,
]
ODD_TEXTS = [
    "", " ", "\0", "\ufeff", '"', "'", "\\", "\r", "\u2028", "\x1b[2J", "a" * 70_000, "[" * 20_000, '{"a":' * 5000,
]
ODD_NUMBERS = [
    "-1", "0", "1", "2147483648", "4294967295", "9223372036854775808", "1e400", "NaN", "9" * 400, "x", "1.5",
]
ODD_FILES = [
    b"", b"\0" * 100, b"[" * 200_000, b'{"a":' * 100_000, b" " * 10**7, b"\xff\xfe{}", b"null", b"[]", b"{}",
]
# fmt: on
ODD_SIZES = [0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]


def odd_value(rng: random.Random) -> Any:
    """A value of JSON that is seldom wanted."""
    return copy.deepcopy(rng.choice(ODD_VALUES))


def dumped(value: Any) -> str:
    """JSON, with the values that stand for deep ones put in."""
    text = json.dumps(value)
    text = text.replace(json.dumps(_DEEP_LIST), "[" * 3000 + "]" * 3000)
    return text.replace(json.dumps(_DEEP_OBJECT), '{"a": ' * 50_000 + "1" + "}" * 50_000)


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, double, overwrite or insert bytes and lengths, or give other content altogether."""
    if rng.random() < 0.1:
        return rng.choice([*ODD_FILES, content + content])
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at, size = rng.randrange(len(data) + 1), rng.choice([1, 2, 8, 100, 1000])
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + size]
        elif kind == 2:
            data[at:at] = data[at : at + size] * rng.choice([1, 2, 1000])
        elif kind == 3:
            data[at : at + size] = rng.randbytes(size)
        elif kind == 4:
            data[at:at] = rng.choice([rng.choice(ODD_TEXTS).encode(), b"\xff", b"\xef\xbb\xbf", b"[]"])
        elif kind == 5 and len(data) > 16:
            start = rng.randrange(min(len(data) - 8, 4000))
            data[start : start + 8] = struct.pack("<Q", rng.choice(ODD_SIZES))
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def change_text(text: str, rng: random.Random) -> str:
    """Change numbers, cut, double or insert text, or make one piece of it very long."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        at, size = rng.randrange(len(text) + 1), rng.choice([1, 5, 50, 500])
        kind = rng.randrange(8)
        digits = [place for place, letter in enumerate(text) if letter.isdigit()]
        if kind <= 1 and digits:
            place = rng.choice(digits)
            text = text[:place] + rng.choice(ODD_NUMBERS) + text[place + 1 :]
        elif kind == 2:
            text = text[:at] + text[at + size :]
        elif kind == 3:
            text = text[:at] + text[at : at + size] * rng.choice([2, 3, 2000]) + text[at + size :]
        elif kind == 4:
            text = text[:at] + rng.choice(ODD_TEXTS) + text[at:]
        elif kind == 5 and rng.random() < 0.1:
            text = text[:at] + rng.choice('a ,\n"<[') * 6_000_000 + text[at:]
        elif kind == 6:
            other = rng.randrange(len(text) + 1)
            text = text[:at] + text[other : other + size] + text[at:]
        elif rng.random() < 0.3:
            text = text[:at]
    return text


def change_value(good: Any, rng: random.Random, known: Known | None = None) -> Any:
    """Change one to three places of a value of JSON: types, sizes, names, copies, nesting.

    ``known``: keys of its top level with values that are known to be hostile; nearly half of the changes are to them.
    """
    if rng.random() < 0.03:
        return odd_value(rng)
    value = copy.deepcopy(good)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_places(value))
        if known and isinstance(value, dict) and rng.random() < 0.45:
            key = rng.choice(list(known))
            value[key] = copy.deepcopy(rng.choice(known[key])) if rng.random() < 0.6 else odd_value(rng)
        elif places:
            _change_place(*rng.choice(places), rng)
    return value


def change_json_file(path: Path, rng: random.Random, known: Known | None = None) -> None:
    """Change a file of JSON in place, one time in eight its bytes; a missing one is made."""
    content = path.read_bytes() if path.is_file() else b"{}"
    if rng.random() < 0.12:
        path.write_bytes(change_bytes(content, rng))
    else:
        value = change_value(json.loads(content), rng, known)
        path.write_text(dumped(value), encoding="utf-8", errors="surrogatepass")


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Every container in a value of JSON, with each of its keys; of long lists the first 40."""
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 40)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        if depth < 12:
            yield from _places(value[key], depth + 1)


def _change_place(holder: Any, key: Any, rng: random.Random) -> None:
    old = holder[key]
    kind = rng.randrange(9)
    if kind <= 3:
        holder[key] = odd_value(rng)
    elif kind == 4:
        del holder[key]
    elif kind == 5 and isinstance(old, int | float):
        near = [old + 1, old - 1, old * 2, -old, old // 2 if old else 5, str(old), [old], old * 10**6]
        holder[key] = rng.choice(near)
    elif kind == 5:
        holder[key] = rng.choice([[old], {"a": old}, str(old)])
    elif kind == 6 and isinstance(old, list) and old:
        holder[key] = rng.choice([old * 2, old[:-1], old[1:], [*old, rng.choice(old)], [old[0]] * 1000])
    elif kind == 6 and isinstance(holder, dict):
        holder[rng.choice(["", "\ud800", key.upper(), f"{key}_", "__class__"])] = holder.pop(key)
    elif kind == 7:
        other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        holder[key], holder[other] = holder[other], holder[key]
    else:
        for _ in range(rng.choice([5, 50])):
            old = [old] if rng.random() < 0.5 else {"a": old}
        holder[key] = old
