"""Generations: requests keep the one they began in, and its last request closes it."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.app import Gateway
from edge.config.load import Settings, parse
from edge.config.snapshot import ConfigSnapshot, SharedConfig
from edge.generation import Providers
from edge.routing.router import RouterMiddleware
from edge.server.preflight import check_store
from edge.upstreams.build import providers_of
from edge.upstreams.provider import Provider
from middlewares.exchange import Target
from middlewares.tracing.step_traces import StepTraces
from tests.asgi import Recorded, request
from tests.middlewares.stores.sqlite_files import new_sqlite
from tests.waiting import DEADLINE, until

from .scripted import JSON, Answer, Scripted

CHAT = "/v1/chat/completions"
DONE = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"content":"Hi"},'
    b'"finish_reason":"stop"}]}'
)


def body(model: str = "one") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}]}


def upstream(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "dialect": "openai", "base_url": "http://127.0.0.1:9/v1", **more}


class Closing(Scripted):
    """Counts how often it was closed."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers)
        self.closed = 0
        self.fails = False

    async def aclose(self) -> None:
        self.closed += 1
        if self.fails:
            raise OSError("no close")


class Maker:
    """Makes providers whose upstreams are scripted. made: of each name, in order."""

    def __init__(self) -> None:
        self.made: dict[str, list[Closing]] = {}
        self.answer = Answer(body=[DONE], headers=(JSON,))
        self.breaks = False
        self.files: list[bytes] = []

    def __call__(self, settings: Settings) -> Mapping[str, Provider]:
        if self.breaks:
            raise OSError("no provider")
        found = {}
        for name, provider in providers_of(settings).items():
            scripted = Closing(self.answer)
            self.made.setdefault(name, []).append(scripted)
            found[name] = Provider(
                name=name, upstream=scripted, dialects=provider.dialects, base_path=b"/v1"
            )
        self.files += [one.ca.read_bytes() for one in settings.upstreams if one.ca is not None]
        return found


class GatewaySetup:
    """A gateway in this process over scripted upstreams, and configurations for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sql = new_sqlite(folder / "p.db")
        self.maker = Maker()
        self.providers = Providers(self.maker)

    def snapshot(self, serial: int, *models: str, **document: Any) -> ConfigSnapshot:
        given = {
            "auth": {"mode": "none"},
            "limits": {"address": "100000/s"},
            "server": {"drain": "4s"},
            "store": {
                "sql": self._sql,
                "journal": f"{self._folder}/journal",
            },
            "upstreams": [upstream("up")],
            "models": [{"id": model, "targets": ["up/m"]} for model in models],
            **document,
        }
        return ConfigSnapshot.of(parse(given), serial=serial, digest=f"{serial:016x}")

    @asynccontextmanager
    async def gateway(self, first: ConfigSnapshot, **options: Any) -> AsyncIterator[Gateway]:
        await check_store(first.settings)
        gateway = Gateway(first, providers=self.providers, **options)
        await gateway.start()
        try:
            yield gateway
        finally:
            await gateway.stop()

    def closed(self, name: str = "up") -> list[int]:
        """How often each upstream of that name was closed, in the order they were made."""
        return [one.closed for one in self.maker.made[name]]


@pytest.fixture
def setup(tmp_path: Path) -> GatewaySetup:
    return GatewaySetup(tmp_path)


async def ask(gateway: Gateway, model: str = "one") -> Recorded:
    return await request(gateway, "POST", CHAT, json=body(model))


async def idle() -> None:
    """Everything that is ready has run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_adopt_requests_keep_their_generation_and_the_last_closes_it(
    setup: GatewaySetup,
) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    async with setup.gateway(setup.snapshot(1, "one")) as gateway:
        (old,) = setup.maker.made["up"]
        old.answers = [Answer(body=[DONE[:9], gate, DONE[9:]], headers=(JSON,)) for gate in gates]
        first = asyncio.create_task(ask(gateway))
        await until(lambda: len(old.requests) == 1)
        second = asyncio.create_task(ask(gateway))
        await until(lambda: len(old.requests) == 2)
        await gateway.adopt(setup.snapshot(2, "two", upstreams=[upstream("up", max_connections=7)]))
        assert (await ask(gateway, "two")).status == 200
        assert (await ask(gateway, "one")).status == 404
        assert len(old.requests) == 2
        gates[1].set()
        assert (await second).json()["id"] == "c"
        await idle()
        assert setup.closed() == [0, 0]
        gates[0].set()
        assert (await first).json()["id"] == "c"
        await idle()
        assert setup.closed() == [1, 0]
    assert setup.closed() == [1, 1]


async def test_adopt_generation_without_requests_is_closed_at_once(setup: GatewaySetup) -> None:
    async with setup.gateway(setup.snapshot(1, "one")) as gateway:
        before = chains()
        for serial in range(2, 12):
            more = upstream("up", max_connections=serial)
            await gateway.adopt(setup.snapshot(serial, "one", upstreams=[more]))
        await idle()
        assert setup.closed() == [1] * 10 + [0]
        assert chains() == before


def chains() -> int:
    """How many there are."""
    gc.collect()
    return sum(isinstance(one, RouterMiddleware) for one in gc.get_objects())


async def test_adopt_unchanged_upstream_is_shared(setup: GatewaySetup) -> None:
    async with setup.gateway(setup.snapshot(1, "one")) as gateway:
        for serial in range(2, 6):
            await gateway.adopt(setup.snapshot(serial, "one", f"m{serial}"))
            assert (await ask(gateway, f"m{serial}")).status == 200
        await idle()
        assert setup.closed() == [0]
        assert len(setup.maker.made["up"][0].requests) == 4
        # It goes, and comes again: that is a new one.
        await gateway.adopt(setup.snapshot(6, upstreams=[upstream("other")]))
        await idle()
        await gateway.adopt(setup.snapshot(7, "one"))
        await idle()
        assert setup.closed() == [1, 0]
    assert (setup.closed(), setup.closed("other")) == ([1, 1], [1])


async def test_adopt_changed_certificate_makes_a_new_upstream(
    setup: GatewaySetup, tmp_path: Path
) -> None:
    """The content of the snapshot is read, whatever the file contains by then."""
    file = tmp_path / "ca.pem"
    named = [upstream("up", ca=str(file))]
    setup.maker.answer = Answer()
    posts = []
    for serial, content in enumerate((b"first", b"second"), 1):
        file.write_bytes(content)
        posts.append(setup.snapshot(serial, "one", upstreams=named))
    file.write_bytes(b"third")
    seen: list[bytes] = []

    def make(settings: Settings) -> Mapping[str, Provider]:
        seen.extend(one.ca.read_bytes() for one in settings.upstreams if one.ca is not None)
        return {
            one.name: Provider(name=one.name, upstream=Closing(), dialects=frozenset())
            for one in settings.upstreams
        }

    providers = Providers(make)
    taken = [(await providers.acquire(one))["up"] for one in (posts[0], posts[1], posts[1])]
    assert seen == [b"first", b"second"]
    assert taken[0] is not taken[1]
    assert taken[1] is taken[2]


async def test_adopt_that_fails_changes_nothing(
    setup: GatewaySetup, caplog: pytest.LogCaptureFixture
) -> None:
    shared_config = SharedConfig()
    shared_config.publish(setup.snapshot(1, "one"))
    async with setup.gateway(setup.snapshot(1, "one"), shared_config=shared_config) as gateway:
        setup.maker.breaks = True
        shared_config.publish(
            setup.snapshot(2, "two", upstreams=[upstream("up", max_connections=7)])
        )
        for _ in range(3):
            gateway.check_config()
            await until(lambda: gateway.reload is None)
        assert (await ask(gateway)).status == 200
        found = (await request(gateway, "GET", "/status")).json()
        assert found["workers"][0]["generation"] == 1
        assert found["workers"][0]["fault"] == "configuration 2 cannot be made: OSError"
        assert len([one for one in caplog.records if "cannot build" in one.getMessage()]) == 1
        setup.maker.breaks = False
        gateway.check_config()
        await until(lambda: gateway.reload is None)
        assert (await ask(gateway, "two")).status == 200
        found = (await request(gateway, "GET", "/status")).json()
        assert found["workers"][0]["generation"] == 2
        assert "fault" not in found["workers"][0]


async def test_check_config_adopts_the_newest_snapshot(setup: GatewaySetup) -> None:
    """Also one that was published before this worker started."""
    shared_config = SharedConfig()
    shared_config.publish(setup.snapshot(3, "three"))
    async with setup.gateway(setup.snapshot(1, "one"), shared_config=shared_config) as gateway:
        await until(lambda: gateway.reload is None)
        assert (await ask(gateway, "three")).status == 200
        shared_config.publish(setup.snapshot(4, "four"))
        shared_config.publish(setup.snapshot(5, "five"))
        signal.raise_signal(signal.SIGHUP)
        while (await ask(gateway, "five")).status != 200:
            await asyncio.sleep(0.001)
        assert (await ask(gateway, "four")).status == 404


async def test_close_that_fails_leaves_nothing_open(
    setup: GatewaySetup, caplog: pytest.LogCaptureFixture
) -> None:
    both = {"upstreams": [upstream("up"), upstream("next")]}
    async with setup.gateway(setup.snapshot(1, "one", **both)) as gateway:
        setup.maker.made["up"][0].fails = True
        await gateway.adopt(setup.snapshot(2, upstreams=[upstream("else")]))
        await idle()
        assert (setup.closed("up"), setup.closed("next")) == ([1], [1])
        assert "upstream up: cannot close its connections" in caplog.text


async def test_reload_of_the_ratio_reaches_the_traces_of_jobs(
    setup: GatewaySetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted: list[int] = []
    monkeypatch.setattr(StepTraces, "adopt", lambda _, to: adopted.append(to.threshold))
    async with setup.gateway(setup.snapshot(1, "one")) as gateway:
        await gateway.adopt(setup.snapshot(2, "one", tracing={"ratio": 0.5}))
    assert adopted == [1 << 63]


async def test_stop_waits_for_old_generations(setup: GatewaySetup) -> None:
    gate = asyncio.Event()
    setup.maker.answer = Answer(body=[b"{", gate, b"}"], headers=(JSON,))
    async with setup.gateway(setup.snapshot(1, "one")) as gateway:
        running = asyncio.create_task(ask(gateway))
        await until(lambda: bool(setup.maker.made["up"][0].requests))
        await gateway.adopt(setup.snapshot(2, "two", upstreams=[upstream("up", max_connections=7)]))
        stopping = asyncio.create_task(gateway.stop())
        await idle()
        assert not stopping.done()
        assert setup.closed() == [0, 0]
        gate.set()
        assert (await running).complete
        await stopping
        assert setup.closed() == [1, 1]


async def test_stop_cancels_requests_of_every_generation_after_the_drain(
    setup: GatewaySetup,
) -> None:
    setup.maker.answer = Answer(body=[b"{", asyncio.Event()], headers=(JSON,))
    first = setup.snapshot(1, "one", server={"drain": "0.2s"})
    async with setup.gateway(first) as gateway:
        old = asyncio.create_task(ask(gateway))
        await until(lambda: bool(setup.maker.made["up"][0].requests))
        again = {"upstreams": [upstream("up", max_connections=7)], "server": {"drain": "0.2s"}}
        await gateway.adopt(setup.snapshot(2, "two", **again))
        new = asyncio.create_task(ask(gateway, "two"))
        await idle()
        await asyncio.wait_for(gateway.stop(), DEADLINE)
        for call in (old, new):
            assert (await call).status == 503
        assert setup.closed() == [1, 1]


async def test_adopt_removed_target_is_not_broken(setup: GatewaySetup) -> None:
    """A target that came with a reload has its own label."""
    async with setup.gateway(setup.snapshot(1, "one")) as gateway:
        services = gateway._services

        def shown(target: str) -> float | None:
            labels = {"upstream": "up", "target": target}
            return services.metrics.registry.get_sample_value("penstock_target_broken", labels)

        await gateway.adopt(
            setup.snapshot(
                2, models=[{"id": "two", "targets": ["up/new"]}, {"id": "w-*", "targets": ["up/*"]}]
            )
        )
        for name in ("new", "whatever"):
            services.breaker_reporter(Target("up", name), "open", "why")
        assert (shown("new"), shown("*"), shown("whatever")) == (1, 1, None)
        await gateway.adopt(setup.snapshot(3, models=[{"id": "one", "targets": ["up/m"]}]))
        assert (shown("new"), shown("*")) == (0, 1)
        await gateway.adopt(setup.snapshot(4, upstreams=[upstream("other")]))
        assert shown("*") == 0
