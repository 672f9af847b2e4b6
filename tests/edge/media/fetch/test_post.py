"""Webhooks through the guarded fetcher: only to public addresses, and without redirects."""

from typing import Any

import pytest

from edge.media.fetch.fetcher import Fetcher
from edge.media.fetch.rules import FetchRules
from middlewares.problem import Problem
from tests.edge.upstreams.fake import Fake, answer, answering

from .bypasses import ALL, NAMES
from .conftest import PUBLIC, Internet, Trap

URL = "https://hooks.example/jobs?x=1"


async def post(fetcher: Fetcher, url: str = URL) -> int:
    return await fetcher.post(url, {"webhook-id": "evt_1"}, b'{"a":1}', "key-1")


async def test_webhook_is_posted_with_its_headers(internet: Internet) -> None:
    async with Fake(answering(answer(b"ok")), tls=internet.tls("hooks.example")) as server:
        internet.names["hooks.example"] = (PUBLIC,)
        internet.servers[PUBLIC] = server.port
        async with internet.fetcher() as fetcher:
            assert await post(fetcher) == 200
        (request,) = server.requests
    assert (request.method, request.target, request.body) == (b"POST", b"/jobs?x=1", b'{"a":1}')
    assert (b"webhook-id", b"evt_1") in request.headers
    assert internet.outcomes == ["posted"]


async def test_redirect_of_a_webhook_is_an_answer(internet: Internet, trap: Trap) -> None:
    moved = answer(status=b"307 Moved", headers=b"location: https://127.0.0.1:%d/\r\n" % trap.port)
    async with Fake(answering(moved), tls=internet.tls("hooks.example")) as server:
        internet.names["hooks.example"] = (PUBLIC,)
        internet.servers[PUBLIC] = server.port
        async with internet.fetcher(FetchRules(ports=(trap.port,))) as fetcher:
            assert await post(fetcher) == 307
    assert trap.reached == 0


async def test_every_bypass_is_refused_for_webhooks_too(
    internet: Internet, trap: Trap, connects: list[Any]
) -> None:
    internet.names.update(NAMES)
    async with internet.fetcher(FetchRules(ports=(trap.port,))) as fetcher:
        for url in ALL:
            with pytest.raises(Problem):
                await post(fetcher, url.format(port=trap.port))
    assert connects == []
    assert trap.reached == 0


async def test_fetcher_that_is_off_sends_no_webhook(
    internet: Internet, connects: list[Any]
) -> None:
    async with internet.fetcher(FetchRules(enabled=False)) as fetcher:
        with pytest.raises(Problem):
            await post(fetcher)
    assert connects == []
