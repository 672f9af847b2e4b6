"""Files of the simulated vendors, and their ids in requests."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from edge.upstreams import Request
from edge.upstreams.simulator import Controls, SimulatorServer, answer
from edge.upstreams.simulator.account import Account
from tests.edge.upstreams.simulated import connect, read_answer, until, whole, wire
from tests.edge.upstreams.simulator.media.forms import form

FILES = b"/v1/files"
ANTHROPIC = (b"anthropic-version", b"2026-10-21")
DATA = bytes(range(256)) * 3

TOO_SOON: dict[str, Any] = {"purpose": "user_data", "expires_after[seconds]": 5}
WITHOUT_ANCHOR: dict[str, Any] = {**TOO_SOON, "expires_after[seconds]": 3600}

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def now() -> list[int]:
    """The time, which a test may change."""
    return [1_800_000_000]


@pytest.fixture
def account(now: list[int]) -> Account:
    return Account(clock=lambda: now[0])


@pytest.fixture
def ask(account: Account) -> Ask:
    """Sends a request to one account; returns the status, and the JSON or the bytes."""

    def asked(request: Request, *headers: tuple[bytes, bytes]) -> tuple[int, Any]:
        assert isinstance(request.body, bytes)
        sent = (*request.headers, *headers)
        found = answer(request.method, request.target, sent, request.body, Controls(), account)
        body = whole(found)
        is_json = (b"content-type", b"application/json") in found.headers
        return found.status, json.loads(body) if is_json else body

    return asked


def get(target: bytes, method: bytes = b"GET") -> Request:
    return Request(method, target, (), b"")


def upload(data: bytes = DATA, name: str = "a.bin", **fields: Any) -> Request:
    return form(FILES, fields, [("file", name, "application/octet-stream", data)])


def test_openai_file_is_kept_listed_and_deleted(ask: Ask) -> None:
    status, made = ask(upload(purpose="user_data"))
    assert status == 200
    assert (made["object"], made["bytes"], made["status"]) == ("file", 768, "processed")
    path = b"/v1/files/" + made["id"].encode()
    assert ask(get(path)) == (200, made)
    assert ask(get(path + b"/content")) == (200, DATA)
    assert ask(get(FILES))[1]["data"] == [made]
    assert ask(get(path), ANTHROPIC)[0] == 404
    assert ask(get(path, b"DELETE"))[1] == {"id": made["id"], "object": "file", "deleted": True}
    assert ask(get(path))[0] == ask(get(path + b"/content"))[0] == 404


def test_anthropic_file_has_its_shape_and_is_not_downloadable(ask: Ask) -> None:
    status, made = ask(upload(expires_in_seconds=3600), ANTHROPIC)
    assert status == 200
    assert (made["type"], made["size_bytes"], made["downloadable"]) == ("file", 768, False)
    assert (made["created_at"], made["expires_at"]) == (
        "2027-01-15T08:00:00Z",
        "2027-01-15T09:00:00Z",
    )
    path = b"/v1/files/" + made["id"].encode()
    assert ask(get(path + b"/content"), ANTHROPIC)[0] == 400
    assert ask(get(FILES), ANTHROPIC)[1] == {"data": [made], "next_page": None}
    assert ask(get(path, b"DELETE"), ANTHROPIC)[1] == {"id": made["id"], "type": "file_deleted"}


@pytest.mark.parametrize("headers", [(), (ANTHROPIC,)])
def test_a_list_comes_in_pages(ask: Ask, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    ids = [ask(upload(purpose="user_data"), *headers)[1]["id"] for _ in range(5)]
    found: list[str] = []
    query = "limit=2"
    while query:
        page = ask(get(FILES + b"?" + query.encode()), *headers)[1]
        found += [file["id"] for file in page["data"]]
        if headers:
            query = f"limit=2&page={page['next_page']}" if page["next_page"] else ""
        else:
            query = f"limit=2&after={page['last_id']}" if page["has_more"] else ""
    assert found == ids[::-1]


def test_an_expired_file_is_gone(ask: Ask, now: list[int]) -> None:
    fields: dict[str, Any] = {"expires_after[anchor]": "created_at", "expires_after[seconds]": 3600}
    made = ask(upload(purpose="user_data", **fields))[1]
    assert made["expires_at"] == 1_800_003_600
    now[0] = 1_800_003_601
    assert ask(get(b"/v1/files/" + made["id"].encode()))[0] == 404


@pytest.mark.parametrize(
    "request_",
    [
        upload(b"", purpose="user_data"),
        upload(purpose="fun"),
        upload(),
        form(FILES, {"purpose": "user_data"}, []),
        upload(**TOO_SOON),
        upload(**WITHOUT_ANCHOR),
    ],
)
def test_a_bad_upload_is_refused(ask: Ask, request_: Request) -> None:
    assert ask(request_)[0] == 400


def bodies(file_id: str) -> list[tuple[bytes, dict[str, Any], tuple[tuple[bytes, bytes], ...]]]:
    see = {"type": "text", "text": "What is it? [[sim see]]"}
    chat = [see, {"type": "file", "file": {"file_id": file_id}}]
    responses = [
        {**see, "type": "input_text"},
        {"type": "input_file", "file_id": file_id},
    ]
    messages = [see, {"type": "document", "source": {"type": "file", "file_id": file_id}}]
    named = {"model": "sim-1"}
    return [
        (
            b"/v1/chat/completions",
            {**named, "messages": [{"role": "user", "content": chat}]},
            (),
        ),
        (b"/v1/responses", {**named, "input": [{"role": "user", "content": responses}]}, ()),
        (
            b"/v1/messages",
            {**named, "max_tokens": 99, "messages": [{"role": "user", "content": messages}]},
            (ANTHROPIC,),
        ),
    ]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_file_id_in_a_request_is_seen_and_an_unknown_one_is_refused(ask: Ask, which: int) -> None:
    made = ask(upload(purpose="user_data"))[1]
    target, body, headers = bodies(made["id"])[which]
    status, found = ask(Request(b"POST", target, headers, json.dumps(body).encode()))
    assert status == 200
    assert "document application/octet-stream 768 bytes sha256 " in json.dumps(found)
    target, body, headers = bodies("file-of-another")[which]
    status, found = ask(Request(b"POST", target, headers, json.dumps(body).encode()))
    assert status == 400
    assert "file-of-another" in found["error"]["message"]


async def test_large_upload_is_counted_and_its_bytes_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.upstreams.simulator.form.KEPT", 1 << 20)
    async with SimulatorServer() as server:
        async with connect(server) as (reader, writer):
            writer.write(wire(upload(bytes(3 << 20), purpose="user_data")))
            status, body, _ = await read_answer(reader)
        assert status == 200
        made = json.loads(body)
        assert made["bytes"] == 3 << 20 == server.stats.upload_bytes
        assert server.account.files[made["id"]].data is None
        assert server.stats.uploads == 1
        assert not server.recent
        await until(lambda: server.stats.connections == 0)
