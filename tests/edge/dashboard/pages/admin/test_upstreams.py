"""The page of upstreams: breakers, failures of the last minutes, and the probe."""

from typing import Any

import pytest

from edge.upstreams import ConnectFailed, Request, TimedOut
from edge.upstreams.http1.transport import Transport
from edge.upstreams.provider import Provider
from middlewares import Target
from middlewares.stores.health.breakers import Breakers
from middlewares.stores.ledger.base import AttemptRecord
from tests.edge.dashboard.visits import Site
from tests.middlewares.stores.entries import use

from .administrator import ACTOR, administrator, with_parts


class Answering:
    """An upstream that answers each request with one status, or raises."""

    def __init__(self, answer: int | Exception) -> None:
        self.answer = answer
        self.asked: list[Request] = []
        self.closed = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = 0

    async def open(self, request: Request) -> Any:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        self.status = self.answer
        return self

    async def read(self) -> bytes:
        raise AssertionError("the answer of a probe is not read")

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        return


def provider(upstream: Answering) -> Provider:
    return Provider(
        name="sim",
        upstream=upstream,
        dialects=frozenset(("openai",)),
        base_path=b"/v1",
        headers=((b"authorization", b"Bearer canary"), (b"content-type", b"application/json")),
    )


@pytest.mark.parametrize(
    ("answer", "said", "good"),
    [
        (200, "It answered with status 200", True),
        (404, "it may have no list of models", True),
        (401, "It refused our credentials: status 401.", False),
        (503, "It answered with status 503", False),
        (ConnectFailed("10.0.0.9 refused"), "It cannot be reached: ConnectFailed.", False),
        (TimedOut("first_byte", 1.0), "It did not answer in time.", False),
    ],
)
async def test_probe_says_how_the_upstream_answered(
    site: Site, answer: int | Exception, said: str, good: bool
) -> None:
    upstream = Answering(answer)
    with_parts(site, providers={"sim": provider(upstream)})
    browser = await administrator(site)
    page = await browser.post("/app/admin/upstreams/sim/probe", {})
    assert page.status == 200
    assert said in page.text
    assert f'class="alert {"good" if good else "bad"}"' in page.text
    assert "10.0.0.9" not in page.text and "canary" not in page.text
    (asked,) = upstream.asked
    assert (asked.method, asked.target, asked.body) == (b"GET", b"/v1/models", None)
    assert asked.headers == ((b"authorization", b"Bearer canary"),)
    assert upstream.closed == isinstance(answer, int)
    ((row),) = await site.parts.audit.page(subject="sim")
    assert (row.actor, row.action) == (ACTOR, "upstream.probe")


async def test_probe_asks_nothing_but_configured_upstreams(site: Site) -> None:
    """CVE-2026-42271: a probe whose address the form gives reaches the operator's network."""
    upstream = Answering(200)
    with_parts(site, providers={"sim": provider(upstream)})
    browser = await administrator(site)
    for name in ("other", "http:%2F%2F169.254.169.254", "sim%20"):
        page = await browser.post(
            f"/app/admin/upstreams/{name}/probe", {}, url="http://169.254.169.254"
        )
        assert page.status == 404
    assert (await browser.get("/app/admin/upstreams/sim/probe")).status == 405
    await browser.post(
        "/app/admin/upstreams/sim/probe", {}, url="http://169.254.169.254", target="/x"
    )
    assert [asked.target for asked in upstream.asked] == [b"/v1/models"]


async def test_page_shows_breakers_and_failures(site: Site) -> None:
    health = Breakers()
    target = Target("sim", "m1")
    for _ in range(20):
        health.ended(target, "bad", health.began(target))
    with_parts(site, health=health)
    tried = [
        AttemptRecord("sim", "m1", 502, "m1", "upstream_error", 120.0, "secret words of it"),
        AttemptRecord("sim", "m1", 400, "m1", "invalid_request", 80.0),
    ]
    await site.ledger.append(
        [use(account=site.key.id, at=site.clock() - 9, attempts=tried, first_content_ms=70)]
    )
    browser = await administrator(site)
    page = await browser.get("/app/admin/upstreams")
    assert "open" in page.text
    assert "2, 50 % failed" in page.text
    assert "upstream_error, status 502" in page.text
    assert "secret words" not in page.text
    assert "invalid_request" not in page.text
    overview = await browser.get("/app/admin")
    assert "<strong>sim/m1</strong> is open" in overview.text


class Busy(Transport):
    """A pool with these figures, without connections."""

    connections = 5
    idle = 2
    waiting = 1


async def test_page_shows_the_connections_of_this_worker(site: Site) -> None:
    upstream = Busy("http://127.0.0.1:9")
    with_parts(site, providers={"sim": Provider("sim", upstream, frozenset())})
    browser = await administrator(site)
    page = await browser.get("/app/admin/upstreams")
    assert "3 busy, 2 idle; 1 request waiting for one" in page.text
