"""A caller who lies in every member of a request: bodies as bytes, the same for the same seed."""

import base64
import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

from .surfaces import MODELS, SURFACES, Wish

_ODD = (
    "-1", "0", "1", "16", '"40"', '"many"', "1e30", "NaN", "-Infinity", "null", "[1]", '{"n":1}',
    "true", str(2**63), str(10**40), "12.5", "1e400",
)  # fmt: skip
_NUMBERS = ("1", "16", "17.0", "4000", "100000", "60000", "null")
_BOUNDS = (
    "max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict", "max_new_tokens",
    "min_tokens", "MAX_TOKENS", "Max_Tokens", "maxTokens", "max_to\u212aens", "num_predict",
)  # fmt: skip
_OTHERS = (
    ("n", _ODD),
    ("best_of", _ODD),
    ("N", ("128",)),
    ("Model", ('"another"',)),
    ("Stream", ("true", "false")),
    ("service_tier", ('"priority"', '"flex"', '"auto"', "7", "null")),
    ("speed", ('"fast"', '"slow"')),
    ("inference_geo", ('"us"',)),
    ("cache_control", ('{"type":"ephemeral","ttl":"1h"}', '{"type":"ephemeral"}', "7")),
    ("thinking", ('{"type":"enabled","budget_tokens":1000000}', '{"type":"adaptive"}')),
    ("reasoning", ('{"max_tokens":1000000}', '{"effort":"high"}')),
    ("reasoning_effort", ('"high"', '"default"')),
    ("context_management", ('{"edits":[{"type":"compact_20260112"}]}',)),
    ("options", ('{"num_predict":-1}',)),
    ("stop", ('""', '["x"]', "7")),
    ("temperature", _ODD),
    ("metadata", ("[" * 200 + "]" * 200, '{"deep":' + "[" * 3000 + "]" * 3000 + "}", '{"a":"b"}')),
    ("web_search_options", ("{}",)),
    ("tools", ('[{"type":"web_search"}]', '[{"type":"mcp","server_url":"https://example.com"}]')),
    ("previous_response_id", ('"resp_none"', "null")),
    ("user", (json.dumps("u" * 5000), '"\\u0000"', '"\\ud800"')),
)


def _png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return base64.b64encode(head + bytes(2000)).decode()


def _parts(dice: random.Random) -> list[dict[str, Any]]:
    """Content of a kind that the surface knows or not, and whose size is a lie."""
    size = dice.choice(((1, 1), (0, 0), (2**31, 2**31), (4000, 4000)))
    url = f"data:image/png;base64,{_png(*size)}"
    source = {"type": "base64", "media_type": "image/png", "data": _png(*size)}
    return [
        dice.choice(
            (
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "image", "source": source},
                {"type": "input_image", "image_url": url},
                {"type": "file", "file": {"file_data": "https://example.com/a.pdf"}},
                {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
                {"type": "input_file", "file_url": "https://example.com/a.pdf"},
                {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {"type": "unheard_of"},
            )
        )
    ]


class Lie:
    """One request: a path, headers, and the bytes of a body."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes, surface: str) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.surface = surface


def lies(seed: int, number: int, who: str) -> Iterator[Lie]:
    """So many requests, over all surfaces and upstreams, plain and streamed, to the models whose
    names begin with `who`."""
    dice = random.Random(seed)
    ways = [(surface, model) for surface in SURFACES for model in MODELS.values()]
    for at in range(number):
        text = f"{at} {dice.choice(('Hi', 'x' * 900, '0x7f ' * 300, 'слово ' * 200))}"
        if at % 25 == 24:
            body: dict[str, Any] = {
                "model": f"{who}-embed",
                "input": dice.choice((text, [text] * 9)),
            }
            yield Lie("/v1/embeddings", {}, _spelled(dice, body, ()), "embeddings")
            continue
        surface, model = ways[at % len(ways)]
        by = SURFACES[surface]
        limit = dice.choice((None, 16, 40, 4000))
        wish = Wish(tools=dice.random() < 0.2, limit=limit)
        body = by.body(text, f"{who}-{model}", bool(dice.getrandbits(1)), wish)
        if dice.random() < 0.15:
            _attach(body, text, _parts(dice))
        path = by.path
        if surface == "responses" and dice.random() < 0.1:
            path += "/compact"
        odd = _ODD if dice.random() < 0.3 else _NUMBERS
        added = [(dice.choice(_BOUNDS), dice.choice(odd)) for _ in range(dice.choice((0, 1, 2)))]
        for name, values in dice.sample(_OTHERS, dice.choice((0, 0, 1, 2))):
            added.append((name, dice.choice(values)))
        yield Lie(path, dict(by.headers), _spelled(dice, body, added), surface)


def _attach(body: dict[str, Any], text: str, parts: list[dict[str, Any]]) -> None:
    kind = "input_text" if "input" in body else "text"
    content = [{"type": kind, "text": text}, *parts]
    if "messages" in body:
        body["messages"] = [{"role": "user", "content": content}]
    elif "input" in body:
        body["input"] = [{"role": "user", "content": content}]


def _spelled(dice: random.Random, body: dict[str, Any], added: Any) -> bytes:
    """As JSON in which a name may stand twice, and in any order."""
    members = [(name, json.dumps(value)) for name, value in body.items()]
    members += added
    if dice.random() < 0.3:
        shuffle: Callable[[list[Any]], None] = dice.shuffle
        shuffle(members)
    spelled = ",".join(f"{json.dumps(name)}:{value}" for name, value in members)
    return ("{" + spelled + "}").encode()
