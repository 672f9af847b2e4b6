"""Clients that have large answers made and do not read them take neither memory nor the loop."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from edge.proxy.answer_memory import MAX_ANSWER, MAX_VECTORS

from .program import Gateway, peak_rss, until
from .scripted_upstream import Answer, ScriptedUpstream, scripted_upstream
from .wire import CHAT

pytestmark = pytest.mark.timeout(600)

MiB = 1 << 20
VECTOR = b'{"object":"embedding","index":0,"embedding":[%s]}' % b",".join([b"-0.0069292834"] * 1536)
COUNT = 1500
"""Vectors of an answer, which then has 32 MB."""
MOST_RSS = 400 * MiB
IDLE = 4
"""Clients that read nothing: 128 MB, several times as much while it is worked on."""


def vectors(count: int) -> list[bytes]:
    usage = b'"usage":{"prompt_tokens":5,"total_tokens":5}}'
    return [
        b'{"object":"list","model":"far-model","data":[',
        *[VECTOR + b","] * (count - 1),
        VECTOR + b"]," + usage,
    ]


def padded(begin: bytes, end: bytes, size: int) -> list[bytes]:
    """An answer of exactly `size` bytes, most of which are one string."""
    whole, rest = divmod(size - len(begin) - len(end), MiB)
    return [begin, *[b"A" * MiB] * whole, b"A" * rest, end]


def text(size: int) -> list[bytes]:
    return padded(
        b'{"id":"c","object":"chat.completion","created":1,"model":"far-model","choices":[{"index":'
        b'0,"finish_reason":"stop","message":{"role":"assistant","content":"',
        b'"}}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}',
        size,
    )


def one_vector(size: int) -> list[bytes]:
    return padded(
        b'{"object":"list","model":"far-model","data":[{"object":"embedding","index":0,'
        b'"embedding":"',
        b'"}],"usage":{"prompt_tokens":5,"total_tokens":5}}',
        size,
    )


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    scripts = {
        "large": [Answer(wire="embeddings", pieces=vectors(COUNT))],
        "huge": [Answer(wire="embeddings", pieces=vectors(3 * COUNT))],
        "within": [
            Answer(wire="chat", pieces=text(MAX_ANSWER)),
            Answer(wire="embeddings", pieces=one_vector(MAX_VECTORS)),
        ],
        "beyond": [
            Answer(wire="chat", pieces=text(MAX_ANSWER + 1)),
            Answer(wire="embeddings", pieces=one_vector(MAX_VECTORS + 1)),
        ],
    }
    with scripted_upstream(scripts) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream
) -> Iterator[Gateway]:
    far = {"name": "far", "dialect": "openai", "base_url": upstream.url, "api_key": "k"}
    price = {"input": 3, "output": 15}
    document = {
        "server": {"workers": 1},
        "upstreams": [far],
        "models": [
            {"id": name, "targets": [f"far/{name}"], "price": price}
            for name in ("large", "huge", "within", "beyond")
        ],
    }
    program = Gateway(tmp_path_factory.mktemp("large"), document)
    try:
        yield program
        assert program.stop() == 0, program.stderr
        assert not [line for line in program.log if "exception" in line]
    finally:
        program.kill()


def asking(gateway: Gateway) -> socket.socket:
    """A connection on which a large answer was asked for, and of which little is ever read."""
    body = json.dumps({"model": "large", "input": ["a"] * COUNT}).encode()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", gateway.port))
    client.sendall(
        b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (gateway.key.encode(), len(body), body)
    )
    return client


def test_unread_large_answers_make_room_for_one_that_is_read(gateway: Gateway) -> None:
    (worker,) = gateway.workers
    idle = [asking(gateway) for _ in range(IDLE)]
    try:
        assert idle[0].recv(12) == b"HTTP/1.1 200"
        got = gateway.post("/v1/embeddings", {"model": "large", "input": ["a"] * COUNT})
        assert len(got.json()["data"]) == COUNT
        started = time.perf_counter()
        assert gateway.get("/livez").status_code == 200
        assert time.perf_counter() - started < 10  # it was 5 s on a machine with nothing to do
        assert peak_rss(worker.pid) < MOST_RSS
    finally:
        for client in idle:
            client.close()
    until(lambda: gateway.in_flight() == 0, what="no request in flight")


def test_vectors_over_the_bound_are_refused_by_name_and_charged(gateway: Gateway) -> None:
    refused = gateway.post("/v1/embeddings", {"model": "huge", "input": ["a" * 40] * COUNT})
    assert refused.status_code == 413
    assert "encoding_format" in refused.json()["error"]["message"]
    one = gateway.get(f"/v1/requests/{refused.headers['x-request-id']}", headers=gateway.bearer)
    assert float(one.json()["credits"]) > 0
    (worker,) = gateway.workers
    assert peak_rss(worker.pid) < MOST_RSS


def test_answer_within_the_bound_is_served_and_beyond_counts_as_failed(gateway: Gateway) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    served = gateway.post(CHAT, {"model": "within", **asked})
    assert served.status_code == 200
    assert served.content.endswith(b'A"' + text(MAX_ANSWER)[-1][1:])
    refused = gateway.post(CHAT, {"model": "beyond", **asked})
    assert refused.status_code == 502, refused.text
    said = gateway.request_line(refused.headers["x-request-id"])
    assert f"larger than {MAX_ANSWER} bytes" in json.dumps(said)


def test_vectors_within_the_bound_are_served_and_beyond_are_refused_by_name(
    gateway: Gateway,
) -> None:
    served = gateway.post("/v1/embeddings", {"model": "within", "input": "a"})
    assert served.status_code == 200
    assert MAX_VECTORS - 100 < len(served.content) < MAX_VECTORS + 100
    refused = gateway.post("/v1/embeddings", {"model": "beyond", "input": "a"})
    assert refused.status_code == 413
    assert f"larger than {MAX_VECTORS} bytes" in refused.json()["error"]["message"]
    (worker,) = gateway.workers
    assert peak_rss(worker.pid) < MOST_RSS
