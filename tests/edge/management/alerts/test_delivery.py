"""How alerts are sent: retries, age, and receivers that do not behave."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from edge.management.alerts import delivery
from edge.management.alerts.delivery import (
    LAST_PAUSE,
    MAX_AGE,
    PAUSES,
    AlertSender,
    HttpPoster,
    NotDelivered,
    Receiver,
)
from middlewares.stores.alerts.base import Alert
from middlewares.stores.alerts.sql import SqlAlertStore
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database
from middlewares.webhooks import secret_text
from tests.middlewares.stores.sqlite_files import new_sqlite

NOW = 1_800_000_000.0
URL = "https://ops.example.com/hook?token=canary-7f"


class ScriptedPoster:
    """Takes what comes, or refuses it while `refuses` is set."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, str], bytes]] = []
        self.refuses = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        self.sent.append((url, dict(headers), body))
        if self.refuses:
            raise NotDelivered("status 500")


class Bench:
    """Two processes that share a store and a receiver."""

    def __init__(self, database: Database) -> None:
        self.now = NOW
        self.store = SqlAlertStore(database)
        self.secrets = SqlSecretStore(database)
        self.poster = ScriptedPoster()
        self.results: list[str] = []
        self.senders = [self.sender(), self.sender()]

    def sender(self) -> AlertSender:
        sender = AlertSender(
            self.store,
            self.secrets,
            self.poster,
            count=self.results.append,
            clock=lambda: self.now,
        )
        sender.receiver = Receiver(URL)
        return sender

    async def add(self, count: int = 1) -> None:
        rows = [_alert(f"evt_{number}", share=number + 1) for number in range(count)]
        assert len(await self.store.add(rows)) == count

    async def sweep(self) -> None:
        await asyncio.gather(*(sender.sweep() for sender in self.senders))


def _alert(alert_id: str, share: int) -> Alert:
    return Alert(
        account="key_1",
        name="5h",
        start=NOW,
        share=share,
        id=alert_id,
        body=b'{"type":"budget.threshold"}',
        created_at=NOW,
        ends_at=NOW + 100,
        due=NOW,
    )


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = await Database.open(new_sqlite(tmp_path / "alerts.db"))
    yield Bench(database)
    await database.aclose()


async def test_alerts_are_sent_once_by_two_processes(bench: Bench) -> None:
    await bench.add(30)
    await bench.sweep()
    await bench.sweep()
    ids = sorted(headers["webhook-id"] for _, headers, _ in bench.poster.sent)
    assert ids == sorted(f"evt_{number}" for number in range(30))
    assert bench.results == ["sent"] * 30


async def test_alert_is_signed_by_the_secret_that_the_gateway_made(bench: Bench) -> None:
    await bench.add()
    await bench.sweep()
    ((url, headers, body),) = bench.poster.sent
    assert url == URL
    secret = secret_text(await bench.secrets.secret(delivery.SECRET))
    verify = openai.OpenAI(api_key="x").webhooks.verify_signature
    verify(body, headers, secret=secret, tolerance=10**10)
    bench.senders[0].receiver = bench.senders[1].receiver = Receiver(URL, bytes(24))
    await bench.store.later("evt_0", NOW, 1)
    await bench.sweep()
    _, headers, body = bench.poster.sent[1]
    verify(body, headers, secret=secret_text(bytes(24)), tolerance=10**10)


async def test_alert_that_is_refused_is_sent_again_and_given_up_after_a_day(bench: Bench) -> None:
    await bench.add()
    bench.poster.refuses = True
    at = []
    for pause in itertools.chain(PAUSES, itertools.repeat(LAST_PAUSE)):
        before = len(bench.poster.sent)
        await bench.sweep()
        if len(bench.poster.sent) == before:
            break
        at.append(bench.now - NOW)
        bench.now += pause - 0.5
        await bench.sweep()
        assert len(bench.poster.sent) == before + 1, "not before its time"
        bench.now += 0.5
    assert at[: len(PAUSES) + 1] == [0.0, *itertools.accumulate(PAUSES)]
    assert MAX_AGE - LAST_PAUSE <= at[-1] < MAX_AGE
    assert {headers["webhook-id"] for _, headers, _ in bench.poster.sent} == {"evt_0"}
    assert bench.results.count("given_up") == 1
    assert bench.results.count("failed") == len(at)


async def test_alert_is_taken_at_a_later_try(bench: Bench) -> None:
    await bench.add()
    bench.poster.refuses = True
    await bench.sweep()
    bench.poster.refuses = False
    bench.now += PAUSES[0]
    await bench.sweep()
    bench.now += MAX_AGE
    await bench.sweep()
    assert bench.results == ["failed", "sent"]


async def test_alert_of_a_process_that_died_is_sent_by_another(bench: Bench) -> None:
    await bench.add()
    assert len(await bench.store.take(NOW, NOW + 60, 8)) == 1
    await bench.sweep()
    assert not bench.poster.sent
    bench.now += 60
    await bench.sweep()
    assert bench.results == ["sent"]


async def test_receiver_that_takes_nothing_is_asked_for_a_few_alerts_only(bench: Bench) -> None:
    await bench.add(50)
    bench.poster.refuses = True
    await bench.senders[0].sweep()
    assert len(bench.poster.sent) == 8


async def test_without_a_receiver_alerts_stay(bench: Bench) -> None:
    await bench.add()
    for sender in bench.senders:
        sender.receiver = None
    await bench.sweep()
    assert not bench.poster.sent
    bench.senders[0].receiver = Receiver(URL)
    await bench.sweep()
    assert bench.results == ["sent"]


# The poster, over real sockets

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """The URL of a server that answers each connection so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()


def says(text: str) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text.encode())
        await writer.drain()

    return answer


async def post(url: str) -> None:
    poster = HttpPoster()
    try:
        await poster.post(url, {"webhook-id": "evt_1"}, b"{}")
    finally:
        await poster.aclose()


async def test_post_is_taken_with_any_2xx() -> None:
    async with serving(says("HTTP/1.1 204 No Content\r\n\r\n")) as url:
        await post(url)


async def test_post_does_not_read_a_body_without_an_end() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with serving(answer) as url, asyncio.timeout(60):
        await post(url)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", "status 500"),
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n", "status 302"),
        ("HTTP/1.1 410 Gone\r\n\r\n", "status 410"),
        ("nonsense\r\n\r\n", "RemoteProtocolError"),
        ("", "RemoteProtocolError"),
    ],
)
async def test_post_that_is_not_taken_says_why(answer: str, reason: str) -> None:
    async with serving(says(answer)) as url:
        with pytest.raises(NotDelivered, match=f"^{reason}$"):
            await post(url)


async def test_post_without_an_answer_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT", 0.3)
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client leaves
        ended.set()

    async with serving(answer) as url:
        with pytest.raises(NotDelivered, match=r"^no answer in time$"):
            await post(url)
        async with asyncio.timeout(60):
            await ended.wait()


async def test_post_to_nothing_names_no_address() -> None:
    with pytest.raises(NotDelivered, match=r"^ConnectError$"):
        await post("http://127.0.0.1:1/hook?token=canary-7f")
