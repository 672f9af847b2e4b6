"""An upstream that takes any body and gives a short fixed answer: a process of its own.

`python -m tests.e2e.hostile.sink` prints its URL. Unlike the simulator it looks at nothing but the
path and whether a stream is wanted, so that what a hostile request costs is the gateway's cost.
"""

import asyncio
import json

_USAGE = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}


def _json(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _chat(stream: bool) -> bytes:
    about: dict[str, object] = {"id": "c", "created": 1, "model": "far-model"}
    if not stream:
        message = {"role": "assistant", "content": "ok"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        whole = {**about, "object": "chat.completion", "choices": choices, "usage": _USAGE}
        return _json(whole)
    about["object"] = "chat.completion.chunk"
    delta = {"role": "assistant", "content": "ok"}
    frames = (
        {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**about, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**about, "choices": [], "usage": _USAGE},
    )
    return b"".join(b"data: " + _json(one) + b"\n\n" for one in frames) + b"data: [DONE]\n\n"


def _messages(stream: bool) -> bytes:
    about: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "far-model",
    }
    usage = {"input_tokens": 5, "output_tokens": 1}
    if not stream:
        content = [{"type": "text", "text": "ok"}]
        end = {"stop_reason": "end_turn", "stop_sequence": None}
        return _json({**about, "content": content, **end, "usage": usage})
    start: dict[str, object] = {
        **about,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": "ok"}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    events: tuple[dict[str, object], ...] = (
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    )
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (str(e["type"]).encode(), _json(e)) for e in events
    )


def _responses(stream: bool) -> bytes:
    part = {"type": "output_text", "text": "ok", "annotations": []}
    item = {"id": "m", "type": "message", "role": "assistant"}
    done = {**item, "status": "completed", "content": [part]}
    begun = {**item, "status": "in_progress", "content": []}
    usage = {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6}
    about: dict[str, object] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "far-model",
    }
    whole = {**about, "status": "completed", "output": [done], "usage": usage}
    if not stream:
        return _json(whole)
    at = {"output_index": 0, "item_id": "m", "content_index": 0}
    none = {**part, "text": ""}
    start = {**about, "status": "in_progress", "output": []}
    events: tuple[dict[str, object], ...] = (
        {"type": "response.created", "response": start},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.content_part.added", **at, "part": none},
        {"type": "response.output_text.delta", **at, "delta": "ok"},
        {"type": "response.output_text.done", **at, "text": "ok"},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": whole},
    )
    numbered = ({**event, "sequence_number": n} for n, event in enumerate(events))
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (str(e["type"]).encode(), _json(e)) for e in numbered
    )


def _embeddings(stream: bool) -> bytes:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return _json({"object": "list", "model": "far-model", "data": data, "usage": usage})


_ANSWERS = {
    b"/v1/chat/completions": _chat,
    b"/v1/messages": _messages,
    b"/v1/messages/count_tokens": lambda _stream: b'{"input_tokens":5}',
    b"/v1/responses": _responses,
    b"/v1/embeddings": _embeddings,
}


class Sink(asyncio.Protocol):
    """One connection, request after request."""

    def __init__(self) -> None:
        self._got = bytearray()
        self._left = -1
        self._path = b""
        self._stream = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._left < 0:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._got[:end]).lower()
            self._path = bytes(self._got[:end]).split(b" ", 2)[1].partition(b"?")[0]
            at = head.find(b"\r\ncontent-length:")
            self._left = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            del self._got[: end + 4]
            self._stream = False
        if not self._stream:
            self._stream = b'"stream":true' in self._got
        if self._left > 64 and len(self._got) > 64 and self._left > len(self._got):
            self._left -= len(self._got) - 64  # what may be the half of a word stays
            del self._got[:-64]
        if len(self._got) >= self._left:
            del self._got[: self._left]
            self._left = -1
            self._answer()

    def _answer(self) -> None:
        made = _ANSWERS.get(self._path)
        if made is None:
            self._out.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        body = made(self._stream)
        kind = b"text/event-stream" if self._stream else b"application/json"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
        self._out.write(head % (kind, len(body)) + body)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"ready http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
