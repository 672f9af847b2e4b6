"""Hostile bodies: each kind of thing of which a caller can send too much."""

from collections.abc import Callable
from typing import Any

import msgspec

encode = msgspec.json.Encoder().encode
Raw = msgspec.Raw

MiB = 1 << 20
WHOLE = 31 * MiB
"""Bytes of the largest bodies here; a body may have 32 MiB."""


def repeated(piece: bytes, size: int) -> bytes:
    """A JSON array of as many of `piece` as fit into `size` bytes."""
    return b"[" + b",".join([piece] * max(1, size // (len(piece) + 1))) + b"]"


def array(piece: bytes, count: int) -> bytes:
    """A JSON array of `count` times `piece`."""
    return b"[" + b",".join([piece] * count) + b"]"


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]", inner: bytes = b"") -> bytes:
    """`levels` of arrays, or of whatever opens and closes, in one another."""
    return opening * levels + inner + closing * levels


def doubled(levels: int) -> dict[str, Any]:
    """A schema in which each definition names the next one twice: 2 ** levels nodes."""
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for n in range(1, levels + 1):
        ref = {"$ref": f"#/$defs/d{n - 1}"}
        definitions[f"d{n}"] = {
            "type": "object",
            "properties": {"a": ref, "b": ref},
            "required": ["a", "b"],
            "additionalProperties": False,
        }
    return {**definitions[f"d{levels}"], "$defs": definitions}


def wide(properties: int) -> dict[str, Any]:
    """A schema with so many properties, all required."""
    names = [f"p{n}" for n in range(properties)]
    kind = {"type": "string"}
    return {
        "type": "object",
        "properties": dict.fromkeys(names, kind),
        "required": names,
        "additionalProperties": False,
    }


def deep_schema(levels: int) -> Raw:
    """An object in an object in an object."""
    opening = b'{"type":"object","properties":{"a":'
    return Raw(nested(levels, opening, b"}}", b'{"type":"string"}'))


class Dialect:
    """How one of the callers' dialects writes the parts of a request."""

    path: str
    message: bytes
    part: bytes

    def body(self, model: str, said: str = "Hi", /, **more: Any) -> bytes:
        raise NotImplementedError

    def messages(self, model: str, raw: bytes) -> bytes:
        raise NotImplementedError

    def parts(self, model: str, raw: bytes) -> bytes:
        raise NotImplementedError

    def tool(self, name: str, schema: Any, *, strict: bool = False) -> dict[str, Any]:
        raise NotImplementedError

    def formatted(self, schema: Any) -> dict[str, Any]:
        """The member that asks for an answer of that schema."""
        raise NotImplementedError

    def stops(self, stops: Any) -> dict[str, Any]:
        raise NotImplementedError


class Chat(Dialect):
    path = "/v1/chat/completions"
    message = b'{"role":"user","content":"a"}'
    part = b'{"type":"text","text":"a"}'

    def body(self, model: str, said: str = "Hi", /, **more: Any) -> bytes:
        messages = [{"role": "user", "content": said}]
        return encode({"model": model, "messages": messages, **more})

    def messages(self, model: str, raw: bytes) -> bytes:
        return encode({"model": model, "messages": Raw(raw)})

    def parts(self, model: str, raw: bytes) -> bytes:
        return self.messages(model, b'[{"role":"user","content":%s}]' % raw)

    def tool(self, name: str, schema: Any, *, strict: bool = False) -> dict[str, Any]:
        function = {"name": name, "parameters": schema}
        return {
            "type": "function",
            "function": {**function, "strict": True} if strict else function,
        }

    def formatted(self, schema: Any) -> dict[str, Any]:
        made = {"name": "s", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": made}}

    def stops(self, stops: Any) -> dict[str, Any]:
        return {"stop": stops}


class Messages(Dialect):
    path = "/v1/messages"
    message = b'{"role":"user","content":"a"}'
    part = b'{"type":"text","text":"a"}'

    def body(self, model: str, said: str = "Hi", /, **more: Any) -> bytes:
        messages = [{"role": "user", "content": said}]
        return encode({"model": model, "max_tokens": 9, "messages": messages, **more})

    def messages(self, model: str, raw: bytes) -> bytes:
        return encode({"model": model, "max_tokens": 9, "messages": Raw(raw)})

    def parts(self, model: str, raw: bytes) -> bytes:
        return self.messages(model, b'[{"role":"user","content":%s}]' % raw)

    def tool(self, name: str, schema: Any, *, strict: bool = False) -> dict[str, Any]:
        made = {"name": name, "input_schema": schema}
        return {**made, "strict": True} if strict else made

    def formatted(self, schema: Any) -> dict[str, Any]:
        return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}

    def stops(self, stops: Any) -> dict[str, Any]:
        return {"stop_sequences": stops}


class Responses(Dialect):
    path = "/v1/responses"
    message = b'{"role":"user","content":"a"}'
    part = b'{"type":"input_text","text":"a"}'

    def body(self, model: str, said: str = "Hi", /, **more: Any) -> bytes:
        return encode({"model": model, "store": False, "input": said, **more})

    def messages(self, model: str, raw: bytes) -> bytes:
        return encode({"model": model, "store": False, "input": Raw(raw)})

    def parts(self, model: str, raw: bytes) -> bytes:
        return self.messages(model, b'[{"role":"user","content":%s}]' % raw)

    def tool(self, name: str, schema: Any, *, strict: bool = False) -> dict[str, Any]:
        return {"type": "function", "name": name, "parameters": schema, "strict": strict}

    def formatted(self, schema: Any) -> dict[str, Any]:
        made = {"type": "json_schema", "name": "s", "schema": schema, "strict": True}
        return {"text": {"format": made}}

    def stops(self, stops: Any) -> dict[str, Any]:
        return {}  # this dialect has none


DIALECTS: dict[str, Dialect] = {"chat": Chat(), "claude": Messages(), "resp": Responses()}
"""By the name of the model that speaks it, too: `chat`, `claude`, `resp`."""


def streamed(body: bytes) -> bytes:
    """The same request, with a stream wanted."""
    return b'{"stream":true,' + body[1:]


Kind = Callable[[Dialect, str], bytes]


def _stops(count: int) -> Kind:
    return lambda d, model: d.body(model, **d.stops([f"stop{n}x" for n in range(count)]))


def _tools(count: int) -> Kind:
    return lambda d, model: d.body(
        model, tools=[d.tool(f"t{n}", {"type": "object"}) for n in range(count)]
    )


def _one_tool(schema: Callable[[], Any], *, strict: bool = False) -> Kind:
    return lambda d, model: d.body(model, tools=[d.tool("t", schema(), strict=strict)])


def _format(schema: Callable[[], Any]) -> Kind:
    return lambda d, model: d.body(model, **d.formatted(schema()))


def _text(raw: bytes) -> Kind:
    return lambda d, model: d.messages(model, b'[{"role":"user","content":"%s"}]' % raw)


def _member(raw: bytes) -> Kind:
    return lambda d, model: d.body(model, metadata=Raw(raw))


def _numbers(dialect: Dialect, raw: bytes, model: str) -> bytes:
    """Numbers in the schema of a tool, which is decoded where a request is translated."""
    return dialect.body(model, tools=[dialect.tool("t", {"type": "object", "default": Raw(raw)})])


def kinds(whole: int) -> dict[str, Kind]:
    """Every kind by its name; those that are long have `whole` bytes or so."""
    size = f"{whole / MiB:.0f} MB"
    made: dict[str, Kind] = {
        f"{size} of one-word messages": lambda d, m: d.messages(m, repeated(d.message, whole)),
        f"{size} of one-letter parts": lambda d, m: d.parts(m, repeated(d.part, whole)),
        f"{size} of empty objects as messages": lambda d, m: d.messages(m, repeated(b"{}", whole)),
        f"{size} of numbers as messages": lambda d, m: d.messages(m, repeated(b"1", whole)),
        f"{size} of nulls as parts": lambda d, m: d.parts(m, repeated(b"null", whole)),
        "20,000 stop strings": _stops(20_000),
        "200,000 tools": _tools(200_000),
        "20,000 tools": _tools(20_000),
        "40,000 required properties": _one_tool(lambda: wide(40_000)),
        "40,000 required properties, strict": _one_tool(lambda: wide(40_000), strict=True),
        "40,000 properties in a format": _format(lambda: wide(40_000)),
        "9,000 required properties, strict": _one_tool(lambda: wide(9_000), strict=True),
        "doubled refs, 18 levels, strict tool": _one_tool(lambda: doubled(18), strict=True),
        "doubled refs, 18 levels, tool": _one_tool(lambda: doubled(18)),
        "doubled refs, 18 levels, format": _format(lambda: doubled(18)),
        "schema of 1,000 levels": _one_tool(lambda: deep_schema(1_000), strict=True),
        "schema of 100 levels": _one_tool(lambda: deep_schema(100), strict=True),
        "format of 400 levels": _format(lambda: deep_schema(400)),
        "member of 1,000 levels": _member(nested(1_000)),
        "member of 100,000 levels": _member(nested(100_000)),
        "objects of 100,000 levels": _member(nested(100_000, b'{"a":', b"}", b"1")),
        "content of 100,000 levels": lambda d, m: d.messages(m, nested(100_000)),
        f"{size} in one string": _text(b"a" * whole),
        f"{size} of quotes": _text(rb"\"" * (whole // 2)),
        f"{size} of backslashes": _text(rb"\\" * (whole // 2)),
        f"{size} of escapes": _text(rb"\u00e9" * (whole // 6)),
        f"{size} of newlines": _text(rb"\n" * (whole // 2)),
        f"{size} of four-byte letters": _text("\U0001f600".encode() * (whole // 4)),
        f"{size} of half pairs": _text(rb"\ud83d" * (whole // 6)),
        "number of 1,000,000 digits": _member(b"1" * 1_000_000),
        "number of 1,000,000 digits in a tool": lambda d, m: _numbers(d, b"1" * 1_000_000, m),
        f"{size} of long numbers": _member(repeated(b"1e308", whole)),
        "50,000 long numbers in a tool": lambda d, m: _numbers(d, array(b"1e308", 50_000), m),
        "9,000 long numbers in a tool": lambda d, m: _numbers(d, array(b"1e308", 9_000), m),
        f"{size} of objects in metadata": _member(repeated(b'{"a":1}', whole)),
        "300,000 members of one name": lambda d, m: (
            b"{" + b",".join([b'"user":"x"'] * 300_000) + b"," + d.body(m)[1:]
        ),
        f"{size} of other members": lambda d, m: (
            b"{"
            + b",".join(b'"m%d":"%s"' % (n, b"a" * (whole // 900)) for n in range(900))
            + b","
            + d.body(m)[1:]
        ),
        "1,000,000 members of metadata": lambda d, m: d.body(
            m, metadata=Raw(b"{" + b",".join(b'"m%d":""' % n for n in range(1_000_000)) + b"}")
        ),
        f"{size} of white space": lambda d, m: d.body(m)[:-1] + b" " * whole + b"}",
        f"{size} that is cut off": lambda d, m: d.messages(m, repeated(d.message, whole))[:-7],
        f"{size} in a data URL": lambda d, m: d.body(m, _PICTURE + "A" * whole),
    }
    return made


_PICTURE = "data:image/png;base64,"

KINDS = kinds(WHOLE)


def elsewhere(whole: int) -> dict[str, tuple[str, bytes]]:
    """Bodies for the endpoints beside the three conversations: path and body by name."""
    embed, size = "/v1/embeddings", f"{whole / MiB:.0f} MB"
    text = encode("a" * whole)
    chat, claude, resp = (DIALECTS[name] for name in ("chat", "claude", "resp"))
    return {
        "1,000,000 texts to embed": (embed, _of("embed", input=array(b'"a"', 1_000_000))),
        "1,000,000 tokens to embed": (embed, _of("embed", input=array(b"1", 1_000_000))),
        f"{size} to embed": (embed, _of("embed", input=text)),
        "100,000 prompts": ("/v1/completions", _of("chat", prompt=array(b'"a"', 100_000))),
        f"{size} of messages to count": (
            "/v1/messages/count_tokens",
            claude.messages("claude", repeated(claude.message, whole)),
        ),
        f"{size} to count": ("/v1/messages/count_tokens", claude.body("chat", "a" * whole)),
        f"{size} of items to count": (
            "/v1/responses/input_tokens",
            resp.messages("chat", repeated(resp.message, whole)),
        ),
        "100,000 models": (
            chat.path,
            chat.body("chat", models=[f"m{n}" for n in range(100_000)]),
        ),
        "name of 1 MB": (chat.path, chat.body("c" * MiB)),
    }


def _of(model: str, **raw: bytes) -> bytes:
    return encode({"model": model, **{name: Raw(value) for name, value in raw.items()}})
