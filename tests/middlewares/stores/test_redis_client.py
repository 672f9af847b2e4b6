"""The connection to Redis, against a real one, and against peers that misbehave."""

import asyncio
import logging
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
import trustme

from middlewares.stores.errors import AnswerLost, CountersUnavailable
from middlewares.stores.redis_client import RedisLink, bulk, script_call
from tests.waiting import DEADLINE, until

from .cutting import Cutting, tcp
from .redis_server import RedisServer


@asynccontextmanager
async def linked(url: str, **options: Any) -> AsyncIterator[RedisLink]:
    made = RedisLink(url, **{"timeout": 10.0, "connect_timeout": 10.0, **options})
    await made.start()
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of one test's own, to be stopped and frozen."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    server = RedisServer(folder, password="wörd:/@")
    yield server
    server.thaw()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def passing_on(
    path: str,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """To the Redis at this socket."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        try:
            await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
        finally:
            inner_writer.close()

    return serve


async def test_calls_on_a_broken_connection_run_again_on_the_next(
    redis_server: RedisServer, redis_url: str
) -> None:
    cutting = Cutting(redis_server.path)
    async with tcp(cutting.serve) as port, linked(f"redis://127.0.0.1:{port}") as link:
        await link.call("SET", "key", "before")
        cutting.word = b"after"
        assert link.send("SET", "sent", "after")
        asked = link.call("SET", "key", "after", "GET")
        assert await asked == b"after"  # it had run already
        assert await link.call("MGET", "key", "sent") == [b"after", b"after"]
    assert cutting.cuts == 1


async def test_a_call_that_must_not_run_twice_does_not(
    redis_server: RedisServer, redis_url: str
) -> None:
    count = b"return redis.call('INCR', KEYS[1])"
    cutting = Cutting(redis_server.path)
    async with tcp(cutting.serve) as port:
        url = f"redis://127.0.0.1:{port}"
        async with linked(url, once=(count,), identified=True) as link:
            cutting.word = b"counted"
            with pytest.raises(AnswerLost):
                await link.call(b"EVAL", count, 1, "counted")
            assert await link.call(b"EVAL", count, 1, "counted") == 2  # waits for a connection


async def test_a_call_is_not_asked_a_third_time(redis_server: RedisServer, redis_url: str) -> None:
    """What Redis, or a proxy, ends each connection for."""
    cutting = Cutting(redis_server.path)
    async with tcp(cutting.serve) as port, linked(f"redis://127.0.0.1:{port}") as link:
        cutting.word, cutting.times = b"poison", 2
        with pytest.raises(CountersUnavailable):
            await link.call("ECHO", "poison")
        assert await link.call("ECHO", "poison") == b"poison"
    assert cutting.cuts == 2


async def test_calls_are_not_repeated_on_another_redis(
    redis_server: RedisServer, redis_url: str
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    other = RedisServer(folder)
    cutting = Cutting(redis_server.path, other.path)
    try:
        async with (
            tcp(cutting.serve) as port,
            linked(f"redis://127.0.0.1:{port}", identified=True) as link,
        ):
            before = link.run
            cutting.word = b"value"
            with pytest.raises(AnswerLost):
                await link.call("SET", "key", "value")
            assert link.up and link.run != before != b""
            assert await link.call("GET", "key") is None
    finally:
        other.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def test_answers_come_in_order(redis_url: str) -> None:
    async with linked(redis_url) as link:
        assert link.up
        assert await link.call("SET", "key", "välue") == b"OK"
        big = b"x" * 1_000_000
        calls = [link.call(b"ECHO", str(n)) for n in range(1000)]
        calls.insert(500, link.call("ECHO", big))
        answers = await asyncio.gather(*calls)
        assert answers.pop(500) == big
        assert answers == [str(n).encode() for n in range(1000)]
        assert await link.call("GET", "key") == "välue".encode()
        assert await link.call("GET", "no key") is None
        assert await link.call("INCRBY", "number", 0) == 0


async def test_commands_without_a_waiter_run_in_order(redis_url: str) -> None:
    async with linked(redis_url) as link:
        for n in range(100):
            assert link.send("RPUSH", "list", n)
        last = link.call("LRANGE", "list", 0, -1)
        assert await last == [str(n).encode() for n in range(100)]
        assert link.send("RPUSH", "list", "at the end")
    async with linked(redis_url) as link:
        assert await link.call("LINDEX", "list", -1) == b"at the end"


async def test_databases_are_apart(redis_server: RedisServer) -> None:
    redis_server.flush()
    async with linked(redis_server.url(3)) as third, linked(redis_server.url(0)) as first:
        await third.call("SET", "key", 3)
        assert await first.call("GET", "key") is None
    async with linked(redis_server.url(3)) as third:
        assert await third.call("GET", "key") == b"3"


async def test_password(server: RedisServer) -> None:
    right = f"unix://:w%C3%B6rd%3A%2F%40@{server.path}?db=2"
    async with linked(right) as link:
        assert await link.call("PING") == b"PONG"
    named = f"unix://default:w%C3%B6rd%3A%2F%40@{server.path}"
    async with linked(named) as link:
        assert await link.call("PING") == b"PONG"
    for url in (f"unix://{server.path}", f"unix://:wrong@{server.path}"):
        async with linked(url) as link:
            assert not link.up
            with pytest.raises(CountersUnavailable, match=r"NOAUTH|WRONGPASS"):
                link.call("PING")
            assert not link.send("PING")


async def test_tcp_and_tls(redis_server: RedisServer) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    serve = passing_on(redis_server.path)
    async with tcp(serve) as port, tcp(serve, context) as safe_port:
        async with linked(f"redis://127.0.0.1:{port}/1") as link:
            assert await link.call("PING") == b"PONG"
        with authority.cert_pem.tempfile() as trusted:
            url = f"rediss://localhost:{safe_port}/1?ssl_ca_certs={trusted}"
            async with linked(url) as link:
                assert await link.call("PING") == b"PONG"
            wrong_name = f"rediss://127.0.0.1:{safe_port}/1?ssl_ca_certs={trusted}"
            async with linked(wrong_name) as link:
                assert not link.up
        async with linked(f"rediss://localhost:{safe_port}/1") as link:
            assert not link.up
            with pytest.raises(CountersUnavailable, match="certificate"):
                link.call("PING")
        async with linked(f"rediss://localhost:{safe_port}/1?ssl_cert_reqs=none") as link:
            assert await link.call("PING") == b"PONG"


async def test_a_refused_command(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with linked(redis_url) as link:
        await link.call("SET", "key", "text")
        with pytest.raises(CountersUnavailable, match="WRONGTYPE"):
            await link.call("LPUSH", "key", "x")
        for _ in range(5):
            link.send("LPUSH", "key", "x")
        assert await link.call("GET", "key") == b"text"
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and "WRONGTYPE" in lines[0]


async def test_call_whose_waiter_left_disturbs_no_other(redis_url: str) -> None:
    async with linked(redis_url) as link:
        call = link.call("ECHO", "one")
        call.cancel()
        assert await link.call("ECHO", "two") == b"two"


async def test_a_stopped_server(server: RedisServer) -> None:
    async with linked(server.url()) as link:
        server.freeze()
        waiting = [link.call("PING") for _ in range(10)]
        server.stop()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(answer, CountersUnavailable) for answer in answers)
        assert not link.up
        with pytest.raises(CountersUnavailable):
            link.call("PING")
        assert not link.send("PING")
        server.start()
        await until(lambda: link.up)
        assert await link.call("PING") == b"PONG"


async def test_a_frozen_server(server: RedisServer) -> None:
    """After one late answer no call waits any longer; a connection that is accepted by the kernel
    alone is none."""
    url = server.url()
    async with linked(url, timeout=1.0, connect_timeout=1.0) as link:
        server.freeze()
        first = link.call("PING")
        link.send("PING")
        second = link.call("PING")
        for call in (first, second):
            with pytest.raises(CountersUnavailable, match="late"):
                await call
        with pytest.raises(CountersUnavailable):
            link.call("PING")
        server.thaw()
        await until(lambda: link.up)
        assert await link.call("ECHO", "back") == b"back"


async def test_a_new_connection_that_freezes(server: RedisServer) -> None:
    """Patience with a connection that is being made ends when it is: it was that of the calls too,
    for as long as it would have lasted."""
    async with linked(server.url(), timeout=1.0, connect_timeout=600.0) as link:
        server.freeze()
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(CountersUnavailable, match="late"):
                await link.call("PING")
        server.thaw()


async def test_closing_while_frozen_is_bounded(server: RedisServer) -> None:
    url = server.url()
    async with linked(url, timeout=1.0, connect_timeout=1.0) as link:
        server.freeze()
        call = link.call("PING")
    with pytest.raises(CountersUnavailable):
        await call


async def test_too_many_calls(server: RedisServer) -> None:
    url = server.url()
    async with linked(url, most=10) as link:
        server.freeze()
        calls = [link.call("ECHO", n) for n in range(10)]
        with pytest.raises(CountersUnavailable, match="too many"):
            link.call("PING")
        assert not link.send("PING")
        server.thaw()
        assert await asyncio.gather(*calls) == [str(n).encode() for n in range(10)]


async def test_what_is_no_redis(caplog: pytest.LogCaptureFixture) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with tcp(speak) as port, linked(f"redis://127.0.0.1:{port}") as link:
        assert not link.up
        with pytest.raises(CountersUnavailable, match="understood"):
            link.call("PING")


async def test_a_server_that_repeats_the_password(caplog: pytest.LogCaptureFixture) -> None:
    """Where AUTH is renamed or unknown, Redis answers with all it was given."""
    said = b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2' \r\n"

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            writer.write(said * 20)

    async with tcp(speak) as port, linked(f"redis://:hunter2@127.0.0.1:{port}/0") as link:
        with pytest.raises(CountersUnavailable, match="unknown command 'AUTH'") as raised:
            await link.call(b"PING")
    assert "hunter2" not in str(raised.value) + caplog.text


async def test_unexpected_answers_end_the_connection() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"+PONG\r\n+PONG\r\n")
        await reader.read()

    async with tcp(speak) as port, linked(f"redis://127.0.0.1:{port}") as link:
        await until(lambda: not link.up)


async def test_a_replica_is_left(redis_server: RedisServer) -> None:
    """After a failover elsewhere its name leads to the new primary."""
    async with linked(redis_server.url()) as link:
        with redis_server.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            with pytest.raises(CountersUnavailable, match="READONLY"):
                await link.call("SET", "key", 1)
            assert not link.up
        finally:
            with redis_server.client() as client:
                client.execute_command("REPLICAOF", "NO", "ONE")
        await until(lambda: link.up)
        assert await link.call("SET", "key", 1) == b"OK"


async def test_redis_that_loads_its_data_is_not_connected_to_yet(
    redis_server: RedisServer, redis_url: str
) -> None:
    loading = asyncio.Event()
    real = passing_on(redis_server.path)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if loading.is_set():
            return await real(reader, writer)
        while await reader.read(1024):
            writer.write(b"-LOADING Redis is loading the dataset in memory\r\n" * 5)

    async with (
        tcp(speak) as port,
        linked(f"redis://127.0.0.1:{port}", scripts={b"x": b"return 1"}) as link,
    ):
        assert not link.up
        with pytest.raises(CountersUnavailable, match="LOADING"):
            link.call("PING")
        loading.set()
        await until(lambda: link.up)
        assert await link.call("PING") == b"PONG"


async def test_it_says_when_it_is_connected(server: RedisServer) -> None:
    url = server.url()
    times: list[bool] = []
    link = RedisLink(url, timeout=10.0, connected=lambda: times.append(link.up))
    await link.start()
    assert times == [True]
    server.stop()
    await until(lambda: not link.up)
    server.start()
    await until(lambda: link.up)
    assert times == [True, True]
    await link.aclose()
    await link.aclose()


async def test_no_line_is_logged_for_a_connection(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """States are for the failover to tell."""
    url = server.url()
    async with linked(url) as link:
        server.stop()
        await until(lambda: not link.up)
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
    server.start()


async def test_a_script_that_redis_forgot_runs_from_its_source(redis_url: str) -> None:
    source = b"return {KEYS[1], ARGV[1]}"
    digest = sha1(source).hexdigest().encode()
    async with linked(redis_url, scripts={digest: source}) as link:
        for _ in range(2):
            await link.call("SCRIPT", "FLUSH")
            first = link.call(b"EVALSHA", digest, 1, "EVALSHA", b"\r\n$40\r\n" + digest)
            second = link.call("GET", "no key")
            assert await first == [b"EVALSHA", b"\r\n$40\r\n" + digest]
            assert await second is None
        packed = b"*4\r\n%b$1\r\n0\r\n%b" % (script_call(b"0" * 40), bulk(b"x"))
        with pytest.raises(CountersUnavailable, match="NOSCRIPT"):
            await link.call_packed(b"0" * 40, packed)
