"""One change, where it matters: an event, a value within JSON, a byte.

A stream of events and a JSON document are taken apart and put together again, so that most of what
comes out gets past the first decoder.
"""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    1 << 70,
    "",
    " ",
    "x",
    "\x00",
    "\ud83d",
    "é日\U0001f680",
    [],
    {},
    [[]],
    {"type": "text"},
    '{"a":',
    "x" * 3000,
)
_BYTES = (b"\n\n", b"\r\n", b"data: ", b"\x00", b"\xff", b'"', b"}", b"[DONE]", b"event: error\n")

Change = Callable[[bytes, Random, Sequence[bytes]], bytes]


def mutated(data: bytes, random: Random, pool: Sequence[bytes]) -> bytes:
    """`data` with one to four changes. pool: others to take parts from."""
    for _ in range(random.randint(1, 4)):
        data = random.choice(_CHANGES)(data, random, pool)
    return data


def _event(data: bytes, random: Random, pool: Sequence[bytes]) -> bytes:
    """Drop, repeat, move an event, or take one from elsewhere."""
    events = data.split(b"\n\n")
    at = random.randrange(len(events))
    match random.randrange(5):
        case 0:
            del events[at]
        case 1:
            events.insert(random.randrange(len(events)), events[at])
        case 2:
            events.insert(random.randrange(len(events)), events.pop(at))
        case 3:
            events.insert(at, random.choice(random.choice(pool).split(b"\n\n")))
        case 4:
            del events[at:]
    return b"\n\n".join(events)


def _value(data: bytes, random: Random, pool: Sequence[bytes]) -> bytes:
    """Another value somewhere in a JSON document, of which a stream has many."""
    lines = data.split(b"\n")
    places = [n for n, line in enumerate(lines) if line.startswith((b"data: {", b"{"))]
    if not places:
        return data
    at = random.choice(places)
    head, brace, rest = lines[at].partition(b"{")
    whole = data.startswith(b"{") and not data.startswith(b"{\n\n")
    try:
        document = json.loads(data if whole else brace + rest)
    except (ValueError, RecursionError):
        return data
    _change(document, random)
    new = json.dumps(document, ensure_ascii=random.random() < 0.2, separators=(",", ":"))
    written = new.encode("utf-8", "surrogatepass")
    if whole:
        return written
    lines[at] = head + written
    return b"\n".join(lines)


def _change(document: Any, random: Random) -> None:
    """Go down at random, and change what is there."""
    while isinstance(document, dict | list) and document:
        key = random.choice(list(document) if isinstance(document, dict) else range(len(document)))
        inner = document[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.75:
            document = inner
            continue
        match random.randrange(5):
            case 0:
                del document[key]
            case 1 if isinstance(document, list):
                document.insert(key, inner)
            case 2 if isinstance(inner, str) and inner:
                cut = random.randrange(len(inner))
                document[key] = (
                    inner[:cut] + random.choice(("", '"', "\\", "{", "\n")) + inner[cut:]
                )
            case _:
                document[key] = random.choice(_ODD)
        return


def _byte(data: bytes, random: Random, pool: Sequence[bytes]) -> bytes:
    """Bytes put in, taken out or changed."""
    at = random.randint(0, len(data))
    out = random.choice((0, 0, 1, 5, 60))
    return data[:at] + random.choice((b"", *_BYTES)) + data[at + out :]


_CHANGES: tuple[Change, ...] = (_event, _value, _value, _byte)
