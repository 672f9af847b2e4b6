"""Incidents at a real gateway: the alert of each fires in a real Prometheus, what the runbook names
shows the cause, and the alert ends with its cause.

The rules are those of the program with shorter times.
"""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from edge.observability.monitoring.rules import rules_document
from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import SECRETS, Start, shared_store
from .operator import change, reload, run_status
from .program import DEADLINE, Gateway, Program, release, until
from .prometheus import Prometheus
from .wire import CHAT, chat

BUSY = {"PenstockLoopLag"}
"""What may fire by itself where the machine is busy with other things."""
PATIENT = {"id": "patient", "requests": "1/min", "on_excess": "throttle"}


def hastened() -> dict[str, Any]:
    """The rules with seconds in place of minutes, and less age of what waits."""
    document = rules_document()
    for rule in document["groups"][0]["rules"]:
        rule["for"] = "0s"
        rule["expr"] = re.sub(r"\[(\d+)m\]", r"[\1s]", rule["expr"]).replace("[2s]", "[5s]")
        if "ledger_oldest" in rule["expr"]:
            rule["expr"] = re.sub(r"> (60|30)\b", "> 2", rule["expr"])
        if "time_to_first_content" in rule["expr"]:
            rule["expr"] = rule["expr"].replace("> 15", "> 1")
    return document


class Scene:
    """A gateway, the Prometheus that watches it, and the upstream that may fail."""

    def __init__(self, gateway: Gateway, prometheus: Prometheus) -> None:
        self.gateway = gateway
        self.prometheus = prometheus

    def post(self, model: str = "chat", words: str = "Hi", key: str = "", **more: Any) -> int:
        """The status of one request, on a connection of its own."""
        headers = {"authorization": f"Bearer {key or self.gateway.key}"}
        url = f"{self.gateway.url}{CHAT}"
        with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
            return client.post(url, json=chat(words, model, **more), headers=headers).status_code

    def fires(self, alert: str, meanwhile: Callable[[], object] = lambda: None) -> set[str]:
        """The alerts that fire once this one does, but for those of a busy machine."""

        def firing() -> set[str] | None:
            meanwhile()
            now = self.prometheus.firing()
            return now if f"Penstock{alert}" in now else None

        return until(firing, what=alert) - BUSY

    def calm(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until nothing fires."""

        def none() -> bool:
            meanwhile()
            return not self.prometheus.firing() - BUSY

        until(none, what="no alert")

    def logged(self, words: str) -> None:
        """The log has this."""
        until(lambda: words in self.gateway.stderr, what=f"{words!r} in the log")


@contextmanager
def watched(gateway: Gateway, folder: Path) -> Iterator[Scene]:
    prometheus = Prometheus(folder, [gateway.port], hastened())
    try:
        until(lambda: prometheus.all_up(1), what="a scrape")
        yield Scene(gateway, prometheus)
    finally:
        prometheus.stop()


def test_refused_file_fires_and_status_says_why(start: Start, tmp_path: Path) -> None:
    near = {"name": "near", "dialect": "simulator"}
    models = [{"id": "chat", "targets": ["near/sim-1"]}]
    gateway = start({"upstreams": [near], "models": models})
    with watched(gateway, tmp_path) as scene:
        scene.calm()
        change(gateway, models=[{"id": "chat", "targets": ["nowhere/sim-1"]}])
        reload(gateway)
        assert scene.fires("ConfigRefused") == {"PenstockConfigRefused"}
        status, _, said = run_status(gateway)
        assert status == 1
        assert "refused" in said and "nowhere" in said
        scene.logged("is refused, the previous one keeps serving")
        change(gateway, models=models)
        reload(gateway)
        scene.calm()


@pytest.fixture
async def victim(tmp_path: Path) -> AsyncIterator[Program]:
    """An upstream of its own."""
    folder = tmp_path / "victim"
    folder.mkdir()
    program = await asyncio.to_thread(lambda: Program("simulate", "--port", "0", folder=folder))
    yield program
    program.kill()


@pytest.fixture
async def scene(
    request: pytest.FixtureRequest, tmp_path: Path, simulator: Program, victim: Program
) -> AsyncIterator[Scene]:
    """Two workers with Redis and PostgreSQL."""
    models = {"chat": "good", "frail": "victim", "narrow": "narrow"}
    addresses = {"good": simulator.url, "victim": victim.url, "narrow": simulator.url}
    document = {
        "server": {"workers": 2},
        "store": await shared_store(request),
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "breaker": {"open_for": "1s", "max_open_for": "2s"},
        "upstreams": [
            {
                "name": name,
                "dialect": "openai",
                "base_url": f"{address}/v1",
                **({"max_connections": 1} if name == "narrow" else {}),
            }
            for name, address in addresses.items()
        ],
        "models": [
            {"id": model, "targets": [f"{name}/far"], "price": {"input": "3", "output": "15"}}
            for model, name in models.items()
        ],
        "plans": [PATIENT],
        "limits": {"throttle_max_per_key": 1},
    }
    folder = tmp_path / "gateway"
    folder.mkdir()
    gateway = await asyncio.to_thread(lambda: Gateway(folder, document, env=SECRETS))
    watching = tmp_path / "prometheus"
    watching.mkdir()
    try:
        with watched(gateway, watching) as found:
            assert await asyncio.to_thread(found.post) == 200
            await asyncio.to_thread(found.calm)
            yield found
    finally:
        gateway.kill()


@pytest.mark.full
def test_dead_upstream_fires_until_it_is_back(
    scene: Scene, victim: Program, tmp_path: Path
) -> None:
    port = victim.port
    victim.stop()
    firing = scene.fires("AllTargetsOpen", lambda: scene.post("frail"))
    assert firing <= {"PenstockAllTargetsOpen", "PenstockErrorShare"}
    scene.fires("ErrorShare", lambda: scene.post("frail"))
    scene.logged("circuit breaker")
    folder = tmp_path / "again"
    folder.mkdir()
    back = Program("simulate", "--port", str(port), folder=folder)
    try:
        scene.calm(lambda: scene.post("frail"))
    finally:
        back.kill()


@pytest.mark.full
def test_dead_upstream_without_requests_stops_firing(scene: Scene, victim: Program) -> None:
    victim.stop()
    scene.fires("AllTargetsOpen", lambda: scene.post("frail"))
    scene.calm()


@pytest.mark.full
def test_refused_key_of_an_upstream_fires(scene: Scene) -> None:
    words = "Hi [[sim fault=status:401]]"
    firing = scene.fires("UpstreamAuthFailing", lambda: scene.post("frail", words))
    assert firing <= {
        *("PenstockUpstreamAuthFailing", "PenstockErrorShare", "PenstockAllTargetsOpen"),
    }
    scene.calm(lambda: scene.post("frail"))


@pytest.mark.full
def test_redis_gone_fires(scene: Scene, redis_server: RedisServer) -> None:
    redis_server.stop()
    assert scene.fires("CountersDown", scene.post) == {"PenstockCountersDown"}
    scene.logged("the shared counters do not answer")
    redis_server.start()
    scene.calm()


@pytest.mark.full
def test_postgres_gone_fires_also_for_a_process_that_ends_then(
    scene: Scene, postgres: Postgres
) -> None:
    gateway = scene.gateway
    postgres.stop()
    try:
        firing = scene.fires("LedgerLag", scene.post)
        # A worker that has not seen the key cannot check it.
        assert firing <= {"PenstockLedgerLag", "PenstockErrorShare", "PenstockNoReplicaReady"}
        scene.fires("NoReplicaReady")
        assert "keys that are not known" in gateway.get("/readyz").json()["reason"]
        scene.logged("cannot write rows to the ledger's store")
        assert not any(one["value"][1] == "1" for one in scene.prometheus.query("penstock_sql_up"))
        gateway.stop()
        scene.fires("LedgerRowsWaiting")
        assert scene.fires("NoReplicaReady") >= {"PenstockLedgerRowsWaiting"}
    finally:
        postgres.start()


@pytest.mark.full
def test_workers_that_end_fire(scene: Scene) -> None:
    def kill() -> None:
        """One of two that serve."""
        if scene.prometheus.query("penstock_workers_ready == 2"):
            for worker in scene.gateway.workers[:1]:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()

    scene.fires("WorkerRestarts", kill)
    scene.logged("restarting")
    scene.calm()


@pytest.mark.full
def test_full_queue_fires(scene: Scene) -> None:
    key = scene.gateway.new_key("patient", plan="patient")
    with ThreadPoolExecutor(8) as pool:
        waiting: list[Future[int]] = []

        def more() -> None:
            waiting.append(pool.submit(scene.post, key=key))

        firing = scene.fires("ThrottleQueueFull", more)
        assert firing == {"PenstockThrottleQueueFull"}
    scene.calm()


@pytest.mark.full
def test_busy_connections_fire(scene: Scene, simulator: Program) -> None:
    with ThreadPoolExecutor(16) as pool:
        held = [pool.submit(scene.post, "narrow", "Hi [[sim fault=hold:1]]") for _ in range(8)]
        assert scene.fires("PoolWaiting") == {"PenstockPoolWaiting"}

        def all_answered() -> bool:
            release(simulator)
            return all(one.done() for one in held)

        until(all_answered, what="the answers that were held")
    scene.calm()


@pytest.mark.full
def test_late_loop_fires(scene: Scene) -> None:
    (worker, _) = scene.gateway.workers

    def pause() -> None:
        """Keep the worker from its work, as a machine without a free core does."""
        worker.send_signal(signal.SIGSTOP)
        time.sleep(1)
        worker.send_signal(signal.SIGCONT)
        time.sleep(3)  # it has to serve and to be scraped, too

    assert not scene.fires("LoopLag", pause)


@pytest.mark.full
def test_slow_first_content_fires(scene: Scene) -> None:
    def slow() -> None:
        scene.post(words="Hi [[sim first=2]]", stream=True)

    assert scene.fires("FirstContentSlow", slow) == {"PenstockFirstContentSlow"}
    scene.calm()
