"""Fetching over real sockets and real TLS, and the refusals, none of which opens a connection.

vllm-project/vllm#57157, #43117, #55539, confident-ai/deepeval#3012.
"""

import asyncio
import re
from collections.abc import Iterator
from inspect import signature
from ipaddress import ip_network
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge.media.fetch.fetcher import Fetcher
from edge.media.fetch.rules import FetchLimits, FetchRules
from edge.upstreams.tls import tls_context
from middlewares.problem import Problem
from tests.edge.upstreams.fake import Fake, Peer, answer, answering, chunked

from .bypasses import ALL, LITERALS, NAMES
from .conftest import PUBLIC, Internet, Trap

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"
PARAM = "messages[0].content[1].image_url.url"
URL = "https://cdn.example/cat.png?sig=SECRET"
REFUSAL = (
    f"The file at `{PARAM}` could not be fetched: expected an https URL of a public host that "
    "answers in time."
)


async def fetched(fetcher: Fetcher, url: str = URL, **changed: Any) -> bytes:
    options = {"param": PARAM, "kinds": ("image",), "limit": 1000, "owner": "key-1", **changed}
    download = await fetcher.fetch(url, **options)
    return await download.read()


async def refused(fetcher: Fetcher, url: str = URL, **changed: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        await fetched(fetcher, url, **changed)
    assert raised.value.param == PARAM
    return raised.value


def behind(internet: Internet, server: Fake, name: str = "cdn.example") -> None:
    """Make `server` what is behind a public address."""
    internet.names[name] = (PUBLIC,)
    internet.servers[PUBLIC] = server.port


def test_there_are_more_than_sixty_bypasses() -> None:
    assert len(set(ALL)) > 120


async def test_the_trap_works(internet: Internet, trap: Trap, connects: list[Any]) -> None:
    """Without the rule for addresses both the trap and the watch of connections would notice."""
    rules = FetchRules(http=True, ports=(trap.port,), allowed=(ip_network("127.0.0.0/8"),))
    async with internet.fetcher(rules) as fetcher:
        url = f"http://127.0.0.1:{trap.port}/"
        assert await fetched(fetcher, url, kinds=("document",)) == b"secret"
    assert trap.reached == 1
    assert connects == [("127.0.0.1", trap.port)]


async def test_every_bypass_is_refused_and_no_connection_is_attempted(
    internet: Internet, trap: Trap, connects: list[Any]
) -> None:
    internet.names.update(NAMES)
    async with internet.fetcher(FetchRules(ports=(trap.port,))) as fetcher:
        for url in ALL:
            with capture_logs() as logs:
                problem = await refused(fetcher, url.format(port=trap.port))
            assert problem.kind == "invalid_request"
            assert problem.message == REFUSAL, url
            assert problem.reason
            assert [(line["event"], line["reason"]) for line in logs] == [
                ("fetch refused", problem.reason)
            ]
    assert internet.outcomes.count("refused") + internet.outcomes.count("unresolved") == len(ALL)
    assert connects == []
    assert trap.reached == 0


async def test_addresses_are_refused_with_plain_http_and_every_port_too(
    internet: Internet, trap: Trap, connects: list[Any]
) -> None:
    rules = FetchRules(http=True, ports=(80, trap.port))
    async with internet.fetcher(rules) as fetcher:
        for url in LITERALS:
            await refused(fetcher, url.format(port=trap.port).replace("https:", "http:"))
    assert connects == []


async def test_no_address_that_is_written_oddly_reaches_the_name_server(
    internet: Internet, trap: Trap
) -> None:
    async with internet.fetcher(FetchRules(ports=(trap.port,))) as fetcher:
        for url in ALL:
            await refused(fetcher, url.format(port=trap.port))
    assert set(internet.lookups) <= {*NAMES, "example.com"}


async def test_every_bypass_is_refused_behind_a_redirect(
    internet: Internet, trap: Trap, connects: list[Any]
) -> None:
    """A few, such as `https:/x`, are a path of the same host there, which has no such file."""
    internet.names.update(NAMES)
    locations = [url.format(port=trap.port) for url in ALL]
    locations = [one for one in locations if one.isprintable()]  # others are no header

    async def script(peer: Peer) -> None:
        target = (await peer.request()).target
        if not re.fullmatch(rb"/start/\d+", target):
            return await peer.send(answer(status=b"404 Not Found"))
        location = locations[int(target[7:])].encode()
        await peer.send(answer(status=b"302 Found", headers=b"location: %b\r\n" % location))

    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher(FetchRules(ports=(trap.port,))) as fetcher:
            for n in range(len(locations)):
                problem = await refused(fetcher, f"https://cdn.example/start/{n}")
                assert problem.message == REFUSAL
        assert set(connects) == {("127.0.0.1", server.port)}
        assert len(server.requests) >= len(locations) > 100
    assert trap.reached == 0


async def test_a_name_that_changes_its_address_is_connected_where_it_was_checked(
    internet: Internet, trap: Trap, connects: list[Any]
) -> None:
    def rebinding() -> Iterator[tuple[str, ...]]:
        yield (PUBLIC,)
        while True:
            yield ("127.0.0.1",)

    answers = rebinding()
    internet.names["rebind.example"] = lambda: next(answers)
    async with Fake(answering(answer(PNG)), tls=internet.tls("rebind.example")) as server:
        internet.servers[PUBLIC] = server.port
        async with internet.fetcher(FetchRules(ports=(trap.port,))) as fetcher:
            assert await fetched(fetcher, "https://rebind.example/a") == PNG
            assert internet.lookups == ["rebind.example"]
            internet.now += 3600  # the answer of the name server is not fresh any more
            problem = await refused(fetcher, f"https://rebind.example:{trap.port}/b")
            assert "127.0.0.1 is not public (loopback)" in problem.reason
        assert connects == [("127.0.0.1", server.port)]
    assert trap.reached == 0


async def test_a_redirect_to_its_own_name_is_checked_again(
    internet: Internet, connects: list[Any]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        internet.names["cdn.example"] = ("169.254.169.254",)
        internet.now += 3600
        await peer.send(answer(status=b"307 Temporary Redirect", headers=b"location: /b\r\n"))

    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher() as fetcher:
            problem = await refused(fetcher)
        assert "169.254.169.254 is not public (link-local)" in problem.reason
        assert connects == [("127.0.0.1", server.port)]


async def test_a_file_is_fetched_over_tls_with_the_name_of_the_url(internet: Internet) -> None:
    seen: list[str | None] = []
    tls = internet.tls("cdn.example")
    tls.sni_callback = lambda _socket, name, _context: seen.append(name)
    async with Fake(answering(answer(PNG)), tls=tls) as server:
        behind(internet, server)
        async with internet.fetcher() as fetcher:
            download = await fetcher.fetch(
                URL, param=PARAM, kinds=("image",), limit=1000, owner="key-1"
            )
        assert await download.read() == PNG
        assert (download.kind, download.name) == ("image/png", "cat.png")
        (request,) = server.requests
    assert seen == ["cdn.example"]
    assert (request.method, request.target) == (b"GET", b"/cat.png?sig=SECRET")
    assert dict(request.headers) == {
        b"host": b"cdn.example",
        b"user-agent": b"Penstock-media-fetcher",
        b"accept": b"*/*",
        b"accept-encoding": b"identity",
        b"connection": b"close",
    }
    assert internet.outcomes == ["fetched"]


async def test_nothing_of_the_environment_is_used(
    internet: Internet, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / ".netrc").write_text("machine cdn.example login me password mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Fake(answering(answer(PNG)), tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher() as fetcher:
            assert await fetched(fetcher) == PNG
        assert server.requests[0].header(b"authorization") is None
        assert server.requests[0].header(b"cookie") is None


@pytest.mark.parametrize("names", [("other.example",), ("127.0.0.1",), (PUBLIC,)])
async def test_a_certificate_for_another_name_is_refused(
    internet: Internet, names: tuple[str, ...]
) -> None:
    async with Fake(answering(answer(PNG)), tls=internet.tls(*names)) as server:
        behind(internet, server)
        async with internet.fetcher() as fetcher:
            problem = await refused(fetcher)
        assert problem.message == REFUSAL
        assert not server.requests
    assert internet.outcomes == ["unreachable"]


async def test_redirects_are_followed_three_times(internet: Internet) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        n = int(request.target.rpartition(b"/")[2])
        moved = answer(status=b"301 Moved", headers=b"location: /%d\r\n" % (n - 1))
        await peer.send(moved if n else answer(PNG))

    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher() as fetcher:
            assert await fetched(fetcher, "https://cdn.example/3") == PNG
            problem = await refused(fetcher, "https://cdn.example/4")
        assert problem.reason == "cdn.example: more than 3 redirects"
        assert len(server.requests) == 8


async def test_a_redirect_from_https_to_http_is_refused(internet: Internet) -> None:
    moved = answer(status=b"302 Found", headers=b"location: http://cdn.example/\r\n")
    async with Fake(answering(moved), tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher(FetchRules(http=True)) as fetcher:
            problem = await refused(fetcher)
        assert "from https to http" in problem.reason
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (answer(PNG, status=b"404 Not Found"), "status"),
        (answer(PNG, status=b"206 Partial Content"), "status"),
        (answer(PNG, headers=b"content-encoding: gzip\r\n"), "status"),
        (answer(b""), "status"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n" + PNG, "unreachable"),
        (b"SSH-2.0-OpenSSH\r\n", "status"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "refused"),
    ],
)
async def test_an_answer_without_a_file_has_the_same_message(
    internet: Internet, data: bytes, outcome: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)

    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher() as fetcher:
            problem = await refused(fetcher)
    assert (problem.kind, problem.message) == ("invalid_request", REFUSAL)
    assert "SECRET" not in problem.reason
    assert internet.outcomes == [outcome]


@pytest.mark.parametrize(
    "data",
    [
        answer(PNG + b"x" * 2000),
        chunked(PNG, b"x" * 600, b"x" * 600),
        b"HTTP/1.1 200 OK\r\n\r\n" + PNG + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    ],
)
async def test_a_file_over_the_limit_is_not_read(internet: Internet, data: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        await peer.gone()

    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher() as fetcher:
            problem = await refused(fetcher)
    assert problem.kind == "invalid_request"
    assert internet.outcomes in (["too_large"], ["status"])


async def test_a_file_of_another_kind_is_refused(internet: Internet) -> None:
    async with Fake(answering(answer(b"<html>no</html>")), tls=internet.tls("cdn.example")) as page:
        behind(internet, page)
        async with internet.fetcher() as fetcher:
            problem = await refused(fetcher)
            assert problem.kind == "invalid_media"
            assert await fetched(fetcher, kinds=("image", "document")) == b"<html>no</html>"
        assert len(page.requests) == 1
    assert internet.outcomes == ["fetched", "wrong_kind", "cached"]


@pytest.mark.parametrize("limits", [FetchLimits(first_byte=0.05), FetchLimits(total=0.05)])
async def test_a_silent_server_has_the_same_message(
    internet: Internet, limits: FetchLimits
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher(limits=limits) as fetcher:
            problem = await refused(fetcher)
    assert problem.message == REFUSAL
    assert internet.outcomes == ["timeout"]


async def test_a_slow_body_ends_at_the_total_limit(internet: Internet) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.01)

    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        limits = FetchLimits(total=0.5)
        async with internet.fetcher(limits=limits) as fetcher:
            await refused(fetcher, limit=1 << 30)
    assert internet.outcomes == ["timeout"]


async def test_a_refused_connection_has_the_same_message(internet: Internet) -> None:
    async with Fake(answering(b""), tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
    async with internet.fetcher() as fetcher:
        problem = await refused(fetcher)
    assert problem.message == REFUSAL
    assert internet.outcomes == ["unreachable"]


async def test_results_are_used_again_by_the_same_owner_for_ten_minutes(internet: Internet) -> None:
    async with Fake(answering(answer(PNG)), tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher() as fetcher:
            for owner in ("key-1", "key-1", "key-2"):
                assert await fetched(fetcher, owner=owner) == PNG
            assert len(server.requests) == 2
            internet.now += 601
            await fetched(fetcher)
            assert len(server.requests) == 3
            message = (await refused(fetcher, limit=10)).message
            assert message == f"The file at `{PARAM}` is larger than 10 bytes."
            fetcher.adopt(FetchRules(denied=(ip_network(f"{PUBLIC}/32"),)))
            assert "denied network" in (await refused(fetcher)).reason
            fetcher.adopt(FetchRules(enabled=False))
            assert (await refused(fetcher)).message == REFUSAL
            assert len(server.requests) == 3


async def test_equal_fetches_at_once_are_one(internet: Internet) -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        await peer.send(answer(PNG))

    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher() as fetcher:
            tasks = [asyncio.create_task(fetched(fetcher)) for _ in range(20)]
            await server.until(lambda: server.requests)
            tasks[0].cancel()  # the others still get the file
            release.set()
            assert await asyncio.gather(*tasks[1:]) == [PNG] * 19
        assert len(server.requests) == 1


async def test_a_request_an_owner_and_a_worker_have_so_many_slots(internet: Internet) -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        await peer.send(answer(PNG))

    limits = FetchLimits(per_request=2, per_owner=3, per_worker=4)

    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher(limits=limits) as fetcher:
            tasks = []
            for n in range(20):
                tasks += [
                    asyncio.create_task(
                        fetched(
                            fetcher,
                            f"https://cdn.example/{n}/{m}",
                            owner=f"key-{n % 2}",
                            request=f"request-{n}",
                        )
                    )
                    for m in range(3)
                ]
            await server.until(lambda: len(server.requests) == 4)
            assert server.open == 4
            owners = [request.target.split(b"/")[1] for request in server.requests]
            assert max(owners.count(n) for n in owners) <= 2
            release.set()
            assert len(await asyncio.gather(*tasks)) == 60
        assert len(server.requests) == 60


async def test_without_a_free_slot_a_fetch_is_refused_in_time(internet: Internet) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    limits = FetchLimits(per_owner=1, wait=0.05)
    async with Fake(script, tls=internet.tls("cdn.example")) as server:
        behind(internet, server)
        async with internet.fetcher(limits=limits) as fetcher:
            first = asyncio.create_task(fetched(fetcher))
            await server.until(lambda: server.requests)
            problem = await refused(fetcher, "https://cdn.example/2")
            assert problem.message == REFUSAL
            assert internet.outcomes == ["busy"]
            await fetcher.aclose()
            with pytest.raises(Problem):
                await first


def test_by_default_addresses_are_connected_as_they_were_checked() -> None:
    """The seam of these tests is a parameter, and no setting."""
    parameters = signature(Fetcher).parameters
    given = [(PUBLIC, 443)]
    assert parameters["route"].default(given) is given
    assert parameters["context"].default is tls_context
    assert not {"route", "lookup", "context"} & set(FetchRules.__struct_fields__)
