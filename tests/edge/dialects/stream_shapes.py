"""Streams as servers write them: the shapes that a relay meets, by dialect and server.

Each shape is a function from pieces of generated text to the events of a whole stream.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]
Write = Callable[[Json], str]

MODEL = "vendor-model-2026"
DONE = b"data: [DONE]\n\n"
WORDS = ("Hello", " world", ",", " this", " is", " a", " longer", " piece", " of", " text")
ESCAPED = ("\n", ' "q"', " C:\\dir", "\n\n", '"', "\t-", '",', "\\", ' {"a":', " \\n")
FAR = ("é", "你好", "ß", " 日本", "ü", "ñ", "…", " ¿", "ö", "ä")


class Shape(NamedTuple):
    """A stream of one server. dialect: "chat", "messages" or "responses"."""

    dialect: str
    events: Callable[[Sequence[str]], list[bytes]]
    words: Sequence[str] = WORDS


def compact(value: Json) -> str:
    """JSON as most servers write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def spaced(value: Json) -> str:
    """JSON as `json.dumps` of Python writes it, with characters themselves."""
    return json.dumps(value, ensure_ascii=False)


def ascii_only(value: Json) -> str:
    """Compact JSON with characters outside ASCII as escapes."""
    return json.dumps(value, separators=(",", ":"))


def _chunks(
    words: Sequence[str],
    delta: Callable[[str], Json],
    *,
    write: Write = compact,
    top: Callable[[int, int], Json] = lambda at, end: {},
    choice: Json | None = None,
    first: Json | None = None,
    comments: bytes = b"",
    usage: Json | None = None,
) -> list[bytes]:
    """A Chat stream. top: members of chunk `at` of `end`. choice: further members of choices."""
    end = len(words) + 1
    deltas: list[tuple[Json, Any]] = [(first or {"role": "assistant", "content": ""}, None)]
    deltas += [(delta(word), None) for word in words]
    deltas.append(({}, "stop"))
    out = [comments] if comments else []
    for at, (each, reason) in enumerate(deltas):
        one = {"index": 0, "delta": each, **(choice or {}), "finish_reason": reason}
        body = {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion.chunk",
            "created": 1741569952,
            "model": MODEL,
            "choices": [one],
            **top(at, end),
        }
        out.append(f"data: {write(body)}\n\n".encode())
    if usage is not None:
        body = {"id": "chatcmpl-B9MB", "object": "chat.completion.chunk", "model": MODEL}
        last = {**body, "choices": [], "usage": usage}
        out.append(f"data: {write(last)}\n\n".encode())
    return [*out, DONE]


def _usage(prompt: int, completion: int) -> Json:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _content(text: str) -> Json:
    return {"content": text}


def plain(words: Sequence[str], write: Write = compact) -> list[bytes]:
    """The least that a Chat server writes."""
    return _chunks(words, _content, write=write, usage=_usage(9, len(words)))


def openai(words: Sequence[str]) -> list[bytes]:
    """OpenAI: a member of changing length, a fingerprint, `usage: null`."""

    def top(at: int, end: int) -> Json:
        return {
            "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb",
            "usage": None,
            "obfuscation": "aB3dE5gH7jK9"[: 1 + at % 12],
        }

    return _chunks(words, _content, top=top, choice={"logprobs": None}, usage=_usage(9, 9))


def vllm(words: Sequence[str]) -> list[bytes]:
    """vLLM."""
    choice = {"logprobs": None, "token_ids": None}
    return _chunks(words, _content, choice=choice, usage=_usage(9, len(words)))


def vllm_usage(words: Sequence[str]) -> list[bytes]:
    """vLLM with `continuous_usage_stats`."""
    return _chunks(
        words,
        _content,
        choice={"logprobs": None},
        top=lambda at, end: {"usage": _usage(9, at)},
    )


def llama_cpp(words: Sequence[str]) -> list[bytes]:
    """llama.cpp: the finish reason first, `created` of each second."""
    out = [*_chunks(words, _content, first={"role": "assistant", "content": None})]
    for at, event in enumerate(out[:-1]):
        body = json.loads(event[6:])
        [choice] = body.pop("choices")
        body["choices"] = [
            {"finish_reason": choice["finish_reason"], "index": 0, "delta": choice["delta"]}
        ]
        body["created"] += at // 4
        body = {"choices": body.pop("choices"), **body, "system_fingerprint": "b6000-abcdef"}
        out[at] = f"data: {compact(body)}\n\n".encode()
    return out


def deepseek(words: Sequence[str]) -> list[bytes]:
    """DeepSeek: reasoning, then text."""
    half = len(words) // 2
    delta = [{"content": None, "reasoning_content": word} for word in words[:half]]
    delta += [{"content": word, "reasoning_content": None} for word in words[half:]]
    given = iter(delta)
    return _chunks(
        words,
        lambda word: next(given),
        first={"role": "assistant", "content": None, "reasoning_content": ""},
        top=lambda at, end: {
            "system_fingerprint": "fp_ffc7281d48_prod0820",
            "usage": _usage(9, end) if at == end else None,
        },
        choice={"logprobs": None},
    )


def groq(words: Sequence[str]) -> list[bytes]:
    """Groq: `x_groq` in the first and the last chunk."""

    def top(at: int, end: int) -> Json:
        mark: Json = {"system_fingerprint": "fp_179b0f92c9"}
        if at in (0, end):
            mark["x_groq"] = {"id": "req_01j", "usage": _usage(9, end) if at else None}
        return mark

    return _chunks(words, _content, top=top, choice={"logprobs": None}, usage=_usage(9, 9))


def openrouter(words: Sequence[str]) -> list[bytes]:
    """OpenRouter: comments, the provider's name, text in every chunk."""
    out = _chunks(
        words,
        lambda word: {"role": "assistant", "content": word},
        top=lambda at, end: {"provider": "VendorInc", "usage": None},
        choice={"native_finish_reason": None, "logprobs": None},
        comments=b": OPENROUTER PROCESSING\n\n",
    )
    return [event.replace(b"chatcmpl-", b"gen-") for event in out]


def openrouter_reasoning(words: Sequence[str]) -> list[bytes]:
    """OpenRouter: reasoning twice in each chunk."""

    def delta(word: str) -> Json:
        details = {"type": "reasoning.text", "text": word, "format": "unknown", "index": 0}
        return {
            "role": "assistant",
            "content": "",
            "reasoning": word,
            "reasoning_details": [details],
        }

    return _chunks(
        words,
        delta,
        top=lambda at, end: {"provider": "VendorInc"},
        choice={"native_finish_reason": None, "logprobs": None},
        comments=b": OPENROUTER PROCESSING\n\n",
    )


def python_server(words: Sequence[str]) -> list[bytes]:
    """A server in Python: JSON with spaces, `usage: null`."""
    top: Callable[[int, int], Json] = lambda at, end: {"usage": None}  # noqa: E731
    return _chunks(words, _content, write=spaced, top=top, choice={"logprobs": None})


def tool_arguments(words: Sequence[str]) -> list[bytes]:
    """Arguments of a tool call in pieces."""
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "write_file", "arguments": ""},
    }

    def delta(word: str) -> Json:
        return {"tool_calls": [{"index": 0, "function": {"arguments": word}}]}

    out = _chunks(
        words,
        delta,
        first={"role": "assistant", "content": None, "tool_calls": [call]},
        choice={"logprobs": None},
        top=lambda at, end: {"system_fingerprint": "fp_44709d6fcb"},
    )
    return [event.replace(b'"stop"', b'"tool_calls"') for event in out]


def _named(members: Json, write: Write = compact) -> bytes:
    return f"event: {members['type']}\ndata: {write(members)}\n\n".encode()


def _message(
    block: Json, deltas: Iterable[Json], *, write: Write = compact, pings: int = 0, stop: str
) -> list[bytes]:
    message: Json = {
        "id": "msg_01AbC",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    out: list[Json] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
    ]
    for at, delta in enumerate(deltas):
        if pings and at % pings == 0:
            out.append({"type": "ping"})
        out.append({"type": "content_block_delta", "index": 0, "delta": delta})
    out += [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ]
    return [_named(each, write) for each in out]


def anthropic_text(words: Sequence[str], write: Write = compact, pings: int = 0) -> list[bytes]:
    """Text of Anthropic."""
    deltas = [{"type": "text_delta", "text": word} for word in words]
    block = {"type": "text", "text": ""}
    return _message(block, deltas, write=write, pings=pings, stop="end_turn")


def anthropic_thinking(words: Sequence[str], write: Write = compact) -> list[bytes]:
    """Thinking of Anthropic."""
    deltas: list[Json] = [{"type": "thinking_delta", "thinking": word} for word in words]
    deltas.append({"type": "signature_delta", "signature": "c2VjcmV0"})
    block = {"type": "thinking", "thinking": "", "signature": ""}
    return _message(block, deltas, write=write, stop="end_turn")


def anthropic_input(words: Sequence[str]) -> list[bytes]:
    """Arguments of a tool call of Anthropic."""
    deltas = [{"type": "input_json_delta", "partial_json": word} for word in words]
    block = {"type": "tool_use", "id": "toolu_01", "name": "write_file", "input": {}}
    return _message(block, deltas, stop="tool_use")


def _response(
    words: Sequence[str], kind: str, item: Json, place: Json, *, obfuscated: bool, write: Write
) -> list[bytes]:
    head = {"id": "resp_01", "object": "response", "model": MODEL, "output": []}
    started = {**head, "status": "in_progress"}
    events: list[Json] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
    ]
    where = {"item_id": item["id"], "output_index": 0, **place}
    for at, word in enumerate(words):
        hidden = {"obfuscation": "aB3dE5gH7jK9"[: 1 + at % 12]} if obfuscated else {}
        events.append({"type": f"response.{kind}.delta", **where, "delta": word, **hidden})
    whole = "".join(words)
    done = dict(item)
    if item["type"] == "message":
        part = {"type": "output_text", "text": whole, "annotations": []}
        done |= {"status": "completed", "content": [part]}
    elif item["type"] == "reasoning":
        done |= {"summary": [{"type": "summary_text", "text": whole}]}
    else:
        done |= {"status": "completed", "arguments": whole}
    usage = {"input_tokens": 9, "output_tokens": 7, "total_tokens": 16}
    finished = {**head, "status": "completed", "output": [done], "usage": usage}
    events += [
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": finished},
    ]
    return [
        _named({"type": each.pop("type"), "sequence_number": at, **each}, write)
        for at, each in enumerate(events)
    ]


def responses_text(
    words: Sequence[str], write: Write = compact, obfuscated: bool = True
) -> list[bytes]:
    """Text of Responses."""
    item = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant"}
    place = {"content_index": 0}
    item["content"] = []  # type: ignore[assignment]
    return _response(words, "output_text", item, place, obfuscated=obfuscated, write=write)


def responses_arguments(words: Sequence[str]) -> list[bytes]:
    """Arguments of a tool call of Responses."""
    item = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "write_file"}
    item["arguments"] = ""
    return _response(words, "function_call_arguments", item, {}, obfuscated=True, write=compact)


def responses_reasoning(words: Sequence[str]) -> list[bytes]:
    """A summary of the reasoning of Responses."""
    item: Json = {"id": "rs_1", "type": "reasoning", "summary": []}
    place = {"summary_index": 0}
    return _response(words, "reasoning_summary_text", item, place, obfuscated=True, write=compact)


SHAPES = {
    "chat: compact": Shape("chat", plain),
    "chat: OpenAI": Shape("chat", openai),
    "chat: OpenAI, escapes": Shape("chat", openai, ESCAPED),
    "chat: vLLM": Shape("chat", vllm),
    "chat: vLLM, usage in every chunk": Shape("chat", vllm_usage),
    "chat: llama.cpp": Shape("chat", llama_cpp),
    "chat: DeepSeek, reasoning and text": Shape("chat", deepseek),
    "chat: Groq": Shape("chat", groq),
    "chat: OpenRouter": Shape("chat", openrouter),
    "chat: OpenRouter, reasoning": Shape("chat", openrouter_reasoning),
    "chat: with spaces": Shape("chat", python_server),
    "chat: escapes": Shape("chat", plain, ESCAPED),
    "chat: escapes of characters": Shape("chat", lambda words: plain(words, ascii_only), FAR),
    "chat: tool arguments": Shape("chat", tool_arguments, ESCAPED),
    "messages: text": Shape("messages", anthropic_text),
    "messages: text, with spaces": Shape("messages", lambda words: anthropic_text(words, spaced)),
    "messages: escapes": Shape("messages", anthropic_text, ESCAPED),
    "messages: thinking": Shape("messages", anthropic_thinking),
    "messages: thinking, with spaces": Shape(
        "messages", lambda words: anthropic_thinking(words, spaced)
    ),
    "messages: tool arguments": Shape("messages", anthropic_input, ESCAPED),
    "messages: a ping each four": Shape("messages", lambda words: anthropic_text(words, pings=4)),
    "responses: text": Shape("responses", responses_text),
    "responses: escapes": Shape("responses", responses_text, ESCAPED),
    "responses: text, with spaces": Shape(
        "responses", lambda words: responses_text(words, spaced, obfuscated=False)
    ),
    "responses: tool arguments": Shape("responses", responses_arguments, ESCAPED),
    "responses: reasoning": Shape("responses", responses_reasoning),
}
