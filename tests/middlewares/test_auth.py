"""Authentication: which keys are accepted, and how the others are refused."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from middlewares import AuthMiddleware, Exchange, Principal
from middlewares.asgi import ASGIApp, Message, Receive, Scope, Send
from middlewares.stores import Grant, Key, KeyDirectory, MemoryKeyStore, StoreUnavailable, digest
from tests.asgi import Call, Recorded, http_scope, request
from tests.middlewares.stores.samples import new_key, new_team

NOW = 1_000_000.0


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


@pytest.fixture
def store() -> MemoryKeyStore:
    return MemoryKeyStore()


@pytest.fixture
async def directory(store: MemoryKeyStore) -> AsyncIterator[KeyDirectory]:
    directory = KeyDirectory(store)
    await directory.start()
    yield directory
    await directory.aclose()


@pytest.fixture
def app(directory: KeyDirectory) -> AuthMiddleware:
    return AuthMiddleware(inner, keys=directory, clock=lambda: NOW)


async def put(store: MemoryKeyStore, **fields: Any) -> tuple[Key, str]:
    key, secret = new_key(**fields)
    return await store.insert(key), secret


async def ask(
    app: ASGIApp, *headers: tuple[str, str | bytes], endpoint: str = "", client: str = ""
) -> tuple[Recorded, Exchange]:
    """The answer, and what the exchange says after it; twice, as the second time is cached."""
    answers = []
    for _ in range(2):
        scope = http_scope("POST", "/v1/chat/completions", headers=headers)
        exchange = Exchange.of(scope)
        exchange.endpoint, exchange.client = endpoint, client
        async with Call(app, scope) as call:
            answers.append((await call.done(), exchange))
    assert answers[0][0].body == answers[1][0].body
    assert answers[0][1].reason == answers[1][1].reason
    return answers[0]


def code(answer: Recorded) -> tuple[int, str]:
    return answer.status, answer.json()["error"]["code"]


async def test_a_key_makes_a_principal(app: AuthMiddleware, store: MemoryKeyStore) -> None:
    key, secret = await put(
        store, name="laptop", owner="ann", plan="pro", models=("a",), endpoints=("chat",)
    )
    answer, exchange = await ask(app, ("authorization", f"Bearer {secret}"), endpoint="chat")
    assert answer.body == b"in"
    assert exchange.principal == Principal(
        id=key.id,
        owner="ann",
        name="laptop",
        plan="pro",
        models=frozenset({"a"}),
        endpoints=frozenset({"chat"}),
    )


@pytest.mark.parametrize(
    "shape",
    [
        [("authorization", "Bearer {}")],
        [("authorization", "bearer {}")],
        [("authorization", "BEARER   {}  ")],
        [("x-api-key", "{}")],
        [("x-api-key", " {} ")],
        [("x-api-key", "{}"), ("authorization", "Bearer {}")],
        [("x-api-key", ""), ("authorization", "Bearer {}")],
        [("x-api-key", "  "), ("authorization", "Bearer {}")],
        [("x-api-key", "{}"), ("authorization", "Bearer ")],
        [("x-api-key", "{}"), ("authorization", "Bearer")],
        [("x-api-key", "{}"), ("authorization", "")],
        [("x-api-key", "{}"), ("authorization", "Basic YTpi")],
    ],
)
async def test_ways_to_send_a_key(
    app: AuthMiddleware, store: MemoryKeyStore, shape: list[tuple[str, str]]
) -> None:
    key, secret = await put(store)
    answer, exchange = await ask(app, *((name, value.format(secret)) for name, value in shape))
    assert answer.status == 200
    assert exchange.principal is not None
    assert exchange.principal.id == key.id


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer ")],
        [("x-api-key", " ")],
        [("x-api-key", ""), ("authorization", "Bearer  ")],
        [("authorization", "Basic YTpi")],
        [("cookie", "key=x"), ("api-key", "x"), ("proxy-authorization", "Bearer x")],
    ],
)
async def test_no_key(app: AuthMiddleware, headers: list[tuple[str, str]]) -> None:
    answer, exchange = await ask(app, *headers)
    assert code(answer) == (401, "missing_key")
    assert exchange.principal is None
    assert exchange.outcome == "refused"


async def test_two_different_keys_are_refused_even_when_both_are_good(
    app: AuthMiddleware, store: MemoryKeyStore
) -> None:
    (_, one), (_, two) = await put(store), await put(store)
    for headers in (
        [("x-api-key", one), ("authorization", f"Bearer {two}")],
        [("authorization", f"Bearer {one}"), ("x-api-key", two)],
        [("x-api-key", one), ("x-api-key", two)],
        [("authorization", f"Bearer {one}"), ("authorization", f"Bearer {two}")],
    ):
        answer, exchange = await ask(app, *headers)
        assert code(answer) == (401, "invalid_key")
        assert exchange.reason == "two different keys"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"disabled": True}, "is disabled"),
        ({"revoked_at": NOW - 1}, "is revoked"),
        ({"revoked_at": NOW + 1e6}, "is revoked"),
        ({"expires_at": NOW}, "is expired"),
        ({"expires_at": NOW - 0.001}, "is expired"),
        ({"networks": ("10.0.0.0/8",)}, "may not be used from '127.0.0.1'"),
    ],
)
async def test_whatever_is_wrong_the_caller_reads_the_same(
    app: AuthMiddleware, store: MemoryKeyStore, fields: dict[str, Any], reason: str
) -> None:
    stranger, exchange = await ask(app, ("x-api-key", "sk-unknown"))
    assert code(stranger) == (401, "invalid_key")
    assert exchange.reason == "no such key"
    key, secret = await put(store, **fields)
    answer, exchange = await ask(app, ("x-api-key", secret))
    assert (answer.status, answer.headers, answer.body) == (401, stranger.headers, stranger.body)
    assert exchange.reason.startswith(f"key {key.id} ")
    assert reason in exchange.reason
    assert exchange.principal is None


async def test_key_of_a_disabled_team_reads_as_any_wrong_key(
    app: AuthMiddleware, store: MemoryKeyStore
) -> None:
    stranger, _ = await ask(app, ("x-api-key", "sk-unknown"))
    team = await store.teams.insert(new_team(disabled=True))
    key, secret = await put(store, team=team.id)
    answer, exchange = await ask(app, ("x-api-key", secret))
    assert (answer.status, answer.headers, answer.body) == (401, stranger.headers, stranger.body)
    assert exchange.reason == f"key {key.id} is of team {team.id}, which is disabled"


async def test_principal_of_a_key_has_its_team(app: AuthMiddleware, store: MemoryKeyStore) -> None:
    team = await store.teams.insert(new_team(name="Search"))
    _, secret = await put(store, team=team.id)
    _, exchange = await ask(app, ("x-api-key", secret))
    assert exchange.principal is not None and exchange.principal.team is not None
    assert (exchange.principal.team.id, exchange.principal.team.name) == (team.id, "Search")


async def test_a_key_works_until_its_expiry(app: AuthMiddleware, store: MemoryKeyStore) -> None:
    _, secret = await put(store, expires_at=NOW + 0.001)
    assert (await ask(app, ("x-api-key", secret)))[0].status == 200


async def test_the_secret_before_the_rotation_works_for_its_grace(store: MemoryKeyStore) -> None:
    directory = KeyDirectory(store)
    await directory.start()
    now = NOW
    app = AuthMiddleware(inner, keys=directory, clock=lambda: now)
    old = "sk-old"
    _, new = await put(store, previous_digest=digest(old), previous_until=NOW + 60)
    for secret in (old, new):
        assert (await ask(app, ("x-api-key", secret)))[0].status == 200
    now = NOW + 60
    answer, exchange = await ask(app, ("x-api-key", old))
    assert code(answer) == (401, "invalid_key")
    assert exchange.reason.endswith("is rotated")
    assert (await ask(app, ("x-api-key", new)))[0].status == 200
    await directory.aclose()


@pytest.mark.parametrize(
    ("networks", "client", "status"),
    [
        (("10.0.0.0/8",), "10.1.2.3", 200),
        (("10.0.0.0/8",), "11.1.2.3", 401),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", 200),
        (("10.0.0.0/8",), "::ffff:11.1.2.3", 401),
        (("10.0.0.0/8",), "::1", 401),
        (("2001:db8::/32", "192.0.2.7/32"), "2001:db8::9", 200),
        (("2001:db8::/32", "192.0.2.7/32"), "192.0.2.7", 200),
        (("2001:db8::/32", "192.0.2.7/32"), "192.0.2.8", 401),
        (("0.0.0.0/0",), "nonsense", 401),
        (("127.0.0.0/8",), "", 200),  # without an address of the router: the socket's own
        (("127.0.0.0/8",), "8.8.8.8", 401),
    ],
)
async def test_networks(
    app: AuthMiddleware, store: MemoryKeyStore, networks: tuple[str], client: str, status: int
) -> None:
    _, secret = await put(store, networks=networks)
    answer, _ = await ask(app, ("x-api-key", secret), client=client)
    assert answer.status == status


async def test_no_address_is_in_no_network(app: AuthMiddleware, store: MemoryKeyStore) -> None:
    _, secret = await put(store, networks=("0.0.0.0/0", "::/0"))
    assert (await request(app, headers={"x-api-key": secret}, client=None)).status == 401


@pytest.mark.parametrize(
    ("endpoints", "endpoint", "status"),
    [
        (None, "files", 200),
        (("chat", "files"), "files", 200),
        (("chat",), "files", 403),
        (("chat",), "", 403),
        ((), "chat", 403),
    ],
)
async def test_endpoints(
    app: AuthMiddleware,
    store: MemoryKeyStore,
    endpoints: tuple[str, ...] | None,
    endpoint: str,
    status: int,
) -> None:
    _, secret = await put(store, endpoints=endpoints)
    answer, exchange = await ask(app, ("x-api-key", secret), endpoint=endpoint)
    assert answer.status == status
    if status == 403:
        assert code(answer) == (403, "endpoint_not_allowed")
        assert exchange.principal is None


async def test_edited_key_is_in_force_at_once_where_the_directory_hears_of_it(
    app: AuthMiddleware, store: MemoryKeyStore, directory: KeyDirectory
) -> None:
    key, secret = await put(store)
    assert (await ask(app, ("x-api-key", secret)))[0].status == 200
    await store.update(key.id, lambda key: msgspec.structs.replace(key, endpoints=("files",)))
    await directory.refresh()
    assert (await ask(app, ("x-api-key", secret), endpoint="chat"))[0].status == 403


async def test_a_huge_key_is_refused_unread(
    app: AuthMiddleware, directory: KeyDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    peek = KeyDirectory.peek

    def watch(self: KeyDirectory, digest: bytes) -> Grant | None:
        asked.append(digest)
        return peek(self, digest)

    monkeypatch.setattr(KeyDirectory, "peek", watch)
    answer, exchange = await ask(app, ("x-api-key", "k" * (1 << 20)))
    assert code(answer) == (401, "invalid_key")
    assert "1048576 bytes" in exchange.reason
    assert asked == []
    await ask(app, ("x-api-key", "k" * 256))
    assert set(asked) == {digest("k" * 256)}


async def test_a_store_that_does_not_answer_is_not_the_keys_fault(store: MemoryKeyStore) -> None:
    directory = KeyDirectory(store)
    await directory.start()
    app = AuthMiddleware(inner, keys=directory)

    async def gone() -> int:
        raise StoreUnavailable("gone")

    store.revision = gone  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await directory.refresh()
    for dialect, status in (("openai", 503), ("anthropic", 529)):
        scope = http_scope(headers={"x-api-key": "sk-x"})
        Exchange.of(scope).dialect = dialect  # type: ignore[assignment]
        async with Call(app, scope) as call:
            record = await call.done()
        assert record.status == status
        assert record.header("retry-after") == "1"
    await directory.aclose()


@pytest.mark.parametrize(
    ("client", "worked_out", "expected"),
    [
        (("192.0.2.1", 5), "", "192.0.2.1"),
        (("192.0.2.1", 5), "198.51.100.7", "198.51.100.7"),
        (None, "", "unknown"),
    ],
)
async def test_without_keys_the_address_is_the_principal(
    client: tuple[str, int] | None, worked_out: str, expected: str
) -> None:
    app = AuthMiddleware(inner, mode="none")
    for headers in ({}, {"x-api-key": "anything"}, {"authorization": "Bearer other"}):
        scope = http_scope(headers=headers, client=client)
        exchange = Exchange.of(scope)
        exchange.client = worked_out
        async with Call(app, scope) as call:
            assert (await call.done()).status == 200
        assert exchange.principal == Principal(expected)


@pytest.mark.parametrize("mode", ["keys", "none"])
async def test_a_websocket_is_closed(mode: Any, directory: KeyDirectory) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    app = AuthMiddleware(inner, keys=directory, mode=mode)
    await app({"type": "websocket", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
    with pytest.raises(RuntimeError, match="'carrier-pigeon'"):
        await app({"type": "carrier-pigeon", "headers": []}, receive, send)
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        ("/static/a/b.css", 200),
        ("/static/", 200),
        ("/health/", 401),
        ("/healthz", 401),
        ("/static", 401),
        ("/", 401),
        ("/static/../admin", 401),
        ("/static/./x", 401),
        ("/static//x", 401),
        ("/static/..", 401),
        ("/static/..\\admin", 401),
    ],
)
async def test_exempt_paths_need_no_key(directory: KeyDirectory, path: str, status: int) -> None:
    app = AuthMiddleware(inner, keys=directory, exempt=["/health", "/static/*"])
    scope = http_scope("GET", path, headers=[("host", "x/health")])
    async with Call(app, scope) as call:
        answer = await call.done()
    assert answer.status == status
    assert Exchange.of(scope).principal is None


async def test_a_websocket_at_an_exempt_path_is_closed(directory: KeyDirectory) -> None:
    app = AuthMiddleware(inner, keys=directory, exempt=["/health"])
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/health", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize("exempt", ["/health", ["health"], [""]])
def test_exempt_that_is_no_list_of_paths_is_refused(directory: KeyDirectory, exempt: Any) -> None:
    with pytest.raises(ValueError, match="expected paths such as '/health'"):
        AuthMiddleware(inner, keys=directory, exempt=exempt)


def test_a_wrong_configuration_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"mode 'off': expected 'keys' or 'none'"):
        AuthMiddleware(inner, mode="off")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"keys None: expected a KeyDirectory"):
        AuthMiddleware(inner)


@pytest.mark.parametrize(
    ("address", "principal"),
    [
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::2:3", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
async def test_without_keys_an_ipv6_caller_is_its_network(address: str, principal: str) -> None:
    """A /64 has more addresses than can be counted one by one."""
    _, exchange = await ask(AuthMiddleware(inner, mode="none"), client=address)
    assert exchange.principal == Principal(principal)
