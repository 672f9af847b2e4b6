"""Changing the configuration of a gateway that is serving."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.config.snapshot import digest_of
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Figures, Start, over_http
from .operator import change, reload, run_status, status
from .program import DEADLINE, Gateway, Program, command, environment, release, until
from .wire import (
    ANTHROPIC,
    CHAT,
    MESSAGES,
    Line,
    ask,
    chat,
    events,
    line,
    lines_to_both_workers,
    request,
)

NEAR: dict[str, Any] = {
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
}


def spoil(gateway: Gateway, text: str) -> str:
    gateway.file.write_text(text)
    return digest_of(text.encode())


def all_run(gateway: Gateway, digest: str, workers: int = 1) -> bool:
    digests = [worker["digest"] for worker in status(gateway)["workers"]]
    return digests == [digest] * workers


def last(gateway: Gateway, digest: str) -> dict[str, Any] | None:
    """The last reload, once it is that of this file."""
    found: dict[str, Any] = status(gateway).get("last_reload") or {}
    return found if found.get("digest") == digest else None


def reloads(gateway: Gateway, result: str) -> float:
    return gateway.metrics().get(("penstock_config_reloads_total", (("result", result),)), 0.0)


def _loud(gateway: Gateway) -> list[str]:
    """The loggers of all lines but those of level info."""
    return [line["logger"] for line in gateway.log if line["level"] != "info"]


def models(gateway: Gateway) -> set[str]:
    answer = gateway.get("/v1/models", headers=gateway.bearer)
    return {model["id"] for model in answer.json()["data"]}


def test_changed_file_is_reloaded_without_a_signal(start: Start) -> None:
    gateway = start(NEAR)
    code, said, _ = run_status(gateway)
    assert code == 0
    assert str(gateway.process.pid) in said
    digest = change(gateway, models=[{"id": "other", "targets": ["near/sim-1"]}])
    until(lambda: all_run(gateway, digest), what="the new configuration")
    assert models(gateway) == {"other"}
    assert status(gateway)["last_reload"]["result"] == "applied"
    assert reloads(gateway, "applied") == 1
    (worker,) = gateway.workers
    shown = gateway.metrics()["penstock_config_hash", (("pid", str(worker.pid)),)]
    assert shown == int(digest[:12], 16)
    (reported,) = until(
        lambda: [line for line in gateway.log if line.get("logger") == "edge.server.reload"],
        what="the line of the reload",
    )
    assert (reported["level"], digest in reported["event"]) == ("info", True)


def test_a_rotated_secret_is_taken_over_and_stays_one(start: Start, simulator: Program) -> None:
    """Of a file that the configuration refers to: its own text does not change."""
    document = over_http(simulator.url)
    folder = Path(simulator.folder) / "secrets"
    folder.mkdir()
    token = folder / "token"
    token.write_text("first-token-0123456789")
    document["auth"] = {"admin_token": f"file:{token}"}
    gateway = start(document)

    def admitted(secret: str) -> bool:
        answer = gateway.get("/admin/v1/keys", headers={"authorization": f"Bearer {secret}"})
        return answer.status_code == 200

    assert admitted("first-token-0123456789")
    token.write_text("second-token-0123456789\n")
    until(lambda: admitted("second-token-0123456789"), what="the new token")
    assert not admitted("first-token-0123456789")
    assert all(worker["generation"] == 2 for worker in status(gateway)["workers"])
    token.write_text("")
    until(lambda: not status(gateway)["config_valid"], what="a refusal")
    code, _, said = run_status(gateway)
    assert code == 1
    assert f"auth.admin_token: file {token} is empty" in said
    assert admitted("second-token-0123456789")
    until(lambda: "auth.admin_token" in gateway.stderr, what="the line of the refusal")
    assert "token-0123456789" not in gateway.stderr + said


def test_what_is_refused_changes_nothing_and_says_why(start: Start) -> None:
    gateway = start(NEAR)
    good = gateway.file.read_text()
    assert models(gateway) == {"sim-1"}
    models_ = [{"id": "other", "targets": ["nowhere/x"]}]
    digest = change(gateway, models=models_, upstreams=[*NEAR["upstreams"], {"name": "x"}])
    reload(gateway)
    refused = until(lambda: last(gateway, digest), what="the refusal")
    assert refused["result"] == "refused"
    checked = asyncio.run(_check(gateway))
    assert refused["reasons"] == checked.splitlines()
    assert models(gateway) == {"sim-1"}
    code, _, said = run_status(gateway)
    assert code == 1
    for reason in refused["reasons"]:
        assert f"refused: {reason}" in said
    assert gateway.metrics()["penstock_config_valid", ()] == 0
    (logged,) = until(
        lambda: [line for line in gateway.log if line["level"] == "error"],
        what="the line of the refusal",
    )
    assert all(reason in logged["event"] for reason in refused["reasons"])
    # Half a file, as an editor may leave it for a moment.
    digest = spoil(gateway, good[: len(good) // 2])
    reload(gateway)
    assert until(lambda: last(gateway, digest), what="the refusal")["result"] == "refused"
    assert run_status(gateway)[0] == 1
    # What stands is put back, and there is nothing to take over.
    digest = spoil(gateway, good)
    assert until(lambda: last(gateway, digest), what="a look")["result"] == "unchanged"
    assert gateway.metrics()["penstock_config_valid", ()] == 1
    code, _, said = run_status(gateway)
    assert (code, said) == (0, "")
    assert status(gateway)["workers"][0]["generation"] == 1


async def _check(gateway: Gateway) -> str:
    """What `penstock check` says of the file."""
    process = await asyncio.create_subprocess_exec(
        *command("check", "--config", str(gateway.file)),
        env=environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    return said.decode()


async def test_streams_keep_their_configuration_and_what_they_need_of_it(
    start: Start, simulator: Program
) -> None:
    """The upstream and the model of a stream are gone; it goes on, and is the last to need them."""
    document = over_http(simulator.url)
    gateway = await asyncio.to_thread(start, document)
    async with line(gateway.url) as one:
        body = chat("[[sim tokens=50 fault=hold:20]]", "chat", stream=True)
        await one.send(request(CHAT, body, gateway.bearer))
        reply = await one.head()
        left = [each for each in document["upstreams"] if each["name"] != "far-openai"]
        kept = [each for each in document["models"] if each["id"] != "chat"]
        digest = change(gateway, upstreams=left, models=kept)
        await asyncio.to_thread(until, lambda: all_run(gateway, digest), what="the new one")
        gone = await ask(gateway.url, CHAT, chat("Hi", "chat"), gateway.bearer)
        assert (gone.status, gone.error["code"]) == (404, "model_not_found")
        assert connections(gateway, simulator) == 1
        await asyncio.to_thread(release, simulator)
        async for part in one.parts(reply):
            reply.body += part
    assert reply.whole
    assert events(reply.body)[-2]["choices"][0]["finish_reason"] == "stop"
    await asyncio.to_thread(until, lambda: connections(gateway, simulator) == 0, what="a close")


def connections(gateway: Gateway, simulator: Program) -> int:
    """Those of the workers to the simulator."""
    return sum(
        there.status == "ESTABLISHED" and bool(there.raddr) and there.raddr.port == simulator.port
        for worker in gateway.workers
        for there in worker.net_connections()
    )


async def test_a_running_idempotency_key_and_a_rate_outlast_a_reload(
    start: Start, simulator: Program
) -> None:
    document = over_http(simulator.url)
    document["plans"] = [{"id": "three", "requests": "3/day"}]
    gateway = await asyncio.to_thread(start, document)
    key = await asyncio.to_thread(gateway.new_key, "k", plan="three")
    headers = {"authorization": f"Bearer {key}", "idempotency-key": "once"}
    body = chat("[[sim tokens=40 rate=20]]", "chat")
    first = asyncio.create_task(ask(gateway.url, CHAT, body, headers))
    await asyncio.to_thread(
        until, lambda: status(gateway)["workers"][0]["requests"] == 1, what="it being under way"
    )
    digest = change(gateway, brand="Acme")
    await asyncio.to_thread(until, lambda: all_run(gateway, digest), what="the new one")
    again = await ask(gateway.url, CHAT, body, headers)
    assert again.header("idempotent-replayed") == "true"
    assert (await first).body == again.body
    bearer = {"authorization": f"Bearer {key}"}
    statuses = [(await ask(gateway.url, CHAT, chat(), bearer)).status for _ in range(2)]
    assert statuses == [200, 429]  # the two before were counted, in the one and in the other


async def test_restarted_worker_runs_the_last_good_configuration(start: Start) -> None:
    gateway = await asyncio.to_thread(start, NEAR)
    assert await asyncio.to_thread(models, gateway) == {"sim-1"}
    good = change(gateway, models=[{"id": "second", "targets": ["near/sim-1"]}])
    await asyncio.to_thread(until, lambda: all_run(gateway, good), what="the new one")
    bad = spoil(gateway, "{")
    await asyncio.to_thread(until, lambda: last(gateway, bad), what="the refusal")
    (worker,) = gateway.workers
    worker.kill()
    worker.wait(DEADLINE)

    def replaced() -> bool:
        with suppress(httpx.TransportError):
            (found,) = status(gateway)["workers"]
            return bool(found["pid"] != worker.pid and found["digest"] == good)
        return False

    await asyncio.to_thread(until, replaced, what="a new worker with the last good configuration")
    gateway.forget_connections()
    assert await asyncio.to_thread(models, gateway) == {"second"}
    assert not status(gateway)["config_valid"]

    def hashes() -> list[tuple[tuple[tuple[str, str], ...], float]]:
        found = gateway.metrics().items()
        return [
            (labels, value) for (name, labels), value in found if name == "penstock_config_hash"
        ]

    (now,) = status(gateway)["workers"]
    wanted = [((("pid", str(now["pid"])),), float(int(good[:12], 16)))]
    await asyncio.to_thread(until, lambda: hashes() == wanted, what="the dead one forgotten")


# The storm

LOAD = 12
"""Clients at once, two of them with streams that last."""


class Load:
    """Clients that ask without end, in both dialects, plain and streamed."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.outcomes: Counter[str] = Counter()
        self.over = False

    async def client(self, number: int) -> None:
        path, model, more = (MESSAGES, "claude", ANTHROPIC) if number % 2 else (CHAT, "chat", {})
        words = "[[sim tokens=60 rate=30]]" if number < 2 else "[[sim tokens=5]]"
        headers = {**self._gateway.bearer, **more}
        while not self.over:
            body = chat(words, model, stream=number % 3 != 2)
            reply = await ask(self._gateway.url, path, body, headers)
            good = reply.status == 200 and reply.whole
            if good and body["stream"]:
                good = events(reply.body)[-1] in ("[DONE]", {"type": "message_stop"})
            self.outcomes["whole" if good else f"{reply.status} {reply.body[:200]!r}"] += 1


@pytest.mark.parametrize("times", [10, pytest.param(50, marks=pytest.mark.full)])
async def test_a_storm_of_reloads_under_load(
    start: Start, simulator: Program, redis_server: RedisServer, figures: Figures, times: int
) -> None:
    """Every fifth is invalid; some come while the one before is still being taken over."""
    document = over_http(simulator.url)
    document["server"] = {"workers": 2}
    document["store"] = {"counters": redis_server.url()}
    gateway = await asyncio.to_thread(start, document)
    load = Load(gateway)
    key = gateway.bearer
    clients = [asyncio.create_task(load.client(number)) for number in range(LOAD)]
    own = document["models"]
    for number in range(1, times + 1):
        named = {"id": f"edition-{number}", "targets": ["near/sim-1"]}
        if number % 5 == 0:
            named["targets"] = ["nowhere/sim-1"]
        # The upstreams are others now and then.
        upstreams = [
            {**each, "max_connections": 100 + number // 3} if "base_url" in each else each
            for each in document["upstreams"]
        ]
        digest = change(gateway, models=[*own, named], upstreams=upstreams)
        reload(gateway)
        if number % 5 == 0:
            done = await asyncio.to_thread(until, partial(last, gateway, digest), what="a refusal")
            assert done["result"] == "refused"
        elif number % 2:
            await asyncio.to_thread(until, partial(all_run, gateway, digest, 2), what=str(number))
    digest = change(gateway, models=[*own, {"id": "the-last", "targets": ["near/sim-1"]}])
    reload(gateway)
    await asyncio.to_thread(until, partial(all_run, gateway, digest, 2), what="the last")
    async with AsyncExitStack() as stack:
        lines = await lines_to_both_workers(gateway, stack)
        shown = [await listed(one, key) for one in lines]
    load.over = True
    await asyncio.gather(*clients)
    assert all(names == {one["id"] for one in own} | {"the-last"} for names in shown)
    assert set(load.outcomes) == {"whole"}
    end = status(gateway)
    assert len({worker["generation"] for worker in end["workers"]}) == 1
    assert end["config_valid"]
    assert reloads(gateway, "applied") + 1 == end["workers"][0]["generation"]
    assert reloads(gateway, "refused") >= times // 5
    refused = reloads(gateway, "refused")
    await asyncio.to_thread(
        until, lambda: len(_loud(gateway)) >= refused, what="a line of each refusal"
    )
    assert Counter(_loud(gateway)) == {"edge.server.reload": refused}
    outcomes = {entry["outcome"] for entry in gateway.log if entry["event"] == "request"}
    assert outcomes == {"completed"}
    figures(
        f"{times + 1} changes: {reloads(gateway, 'applied'):g} applied, "
        f"{reloads(gateway, 'refused'):g} refused; {load.outcomes['whole']} answers, no error"
    )


async def listed(connection: Line, key: dict[str, str]) -> set[str]:
    await connection.send(request("/v1/models", headers=key))
    return {model["id"] for model in (await connection.reply()).json()["data"]}
