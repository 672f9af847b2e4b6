"""kill -9 while jobs are in each state: one final state, one bill and a whole result for each."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

import asyncpg
import httpx
import pytest

from middlewares.pricing import nano

from .conftest import SECRETS, Figures, shared_store
from .job_vendor import MP4, JobVendor, job_vendor
from .ledger import rows
from .program import DEADLINE, Gateway

pytestmark = pytest.mark.timeout(5400)

KILLS = 50
"""Kills in each state, at full size; else one."""
JOBS = 4
"""Jobs under way at each kill."""
QUICK = {1: ("submitting", "storing"), 2: ("running",)}
"""States that are tried when not at full size, by the number of replicas."""
LIVES = {
    "queued": "[polls=2]",
    "submitting": "[answer=0.4]",
    "running": "[polls=6]",
    "storing": "[slow=0.4]",
    "succeeded": "[polls=1]",
}
PRICE = nano("0.30")


class Replicas:
    """One gateway, or two that share their stores. Each can be killed and started again."""

    def __init__(self, folder: Path, document: dict[str, Any], count: int) -> None:
        self.document = document
        self.folders = [folder / str(n) for n in range(count)]
        for one in self.folders:
            one.mkdir()
        self.running = [Gateway(one, document, env=SECRETS) for one in self.folders]
        self.key = self.running[0].new_key("chaos", plan="rich")
        self.kills = 0

    @property
    def sql(self) -> str:
        return self.running[0].sql

    async def kill(self) -> None:
        """Kill one, and start it again."""
        n = self.kills % len(self.running)
        self.kills += 1
        self.running[n].signal_group(SIGKILL)
        self.running[n].kill()
        self.running[n] = await asyncio.to_thread(
            Gateway, self.folders[n], self.document, env=SECRETS
        )

    def close(self) -> None:
        for one in self.running:
            one.kill()

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask any of them until one answers."""
        headers = {"authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        async with asyncio.timeout(DEADLINE):
            while True:
                url = random.choice(self.running).url
                with suppress(httpx.TransportError):
                    async with httpx.AsyncClient(
                        base_url=url, trust_env=False, timeout=DEADLINE
                    ) as http:
                        answer = await http.request(method, path, headers=headers, **options)
                        if answer.status_code not in (429, 503):
                            return answer
                await asyncio.sleep(0.05)

    async def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows, past the gateway."""
        if self.sql.startswith("sqlite:///"):
            file = self.sql.removeprefix("sqlite:///")
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=DEADLINE)) as db:
                return db.execute(statement).fetchall()
        connection = await asyncpg.connect(self.sql)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()


@pytest.fixture(params=["sqlite", "replicas"])
async def replicas(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Replicas, JobVendor]]:
    store: dict[str, Any] = {"objects": f"file:{tmp_path}/objects"}
    if request.param == "replicas":
        store |= await shared_store(request)
    with job_vendor() as vendor:
        upstream = {"name": "v", "dialect": "openai", "base_url": f"{vendor.url}/v1"}
        document = {
            "auth": {"admin_token": "env:ADMIN_TOKEN"},
            "store": store,
            "files": {"sweep_interval": "1s", "storage": "1TiB"},
            "jobs": {
                "first_poll": "50ms",
                "longest_poll": "100ms",
                "lease": "2s",
                "unknown": "4s",
                "polls": "100000/s",
                "max_result": "1MiB",
            },
            "plans": [{"id": "rich", "windows": [{"length": "30d", "credits": "100000.00"}]}],
            "upstreams": [upstream],
            "models": [
                {"id": "clip", "targets": ["v/m"], "price": {"job": "0.10", "second": "0.05"}}
            ],
        }
        running = Replicas(tmp_path, document, 2 if request.param == "replicas" else 1)
        try:
            yield running, vendor
        finally:
            running.close()


async def test_each_job_has_one_end_one_bill_and_its_result(
    replicas: tuple[Replicas, JobVendor], full: bool, figures: Figures
) -> None:
    """QuantumNous/new-api#6074: two workers ended one job, and it was refunded twice."""
    home, vendor = replicas
    kills = KILLS if full else 1
    lives = {
        state: life for state, life in LIVES.items() if full or state in QUICK[len(home.running)]
    }
    jobs: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for state, life in lives.items():
        for n in range(kills):
            prompts = [f"{state} {n} {m} {life}" for m in range(JOBS)]
            creating = [asyncio.create_task(_create(home, prompt)) for prompt in prompts]
            seen[state] += await _reached(home, state, creating)
            await home.kill()
            for prompt, created in zip(prompts, creating, strict=True):
                jobs[await created] = prompt
    ends = await _ends(home, jobs)
    charged = 0
    for job_id, (state, code) in ends.items():
        prompt = jobs[job_id]
        made = vendor.times(prompt)
        if state == "succeeded":
            assert made == 1, prompt
            content = await home.ask("GET", f"/v1/videos/{job_id}/content")
            assert content.status_code == 200 and content.content.startswith(MP4)
            charged += PRICE
        else:
            assert (state, code, made) == ("failed", "submission_unknown", 0), (prompt, code, made)
    found = await rows(home.sql)
    assert len(found) == len(jobs)
    assert len({row.id for row in found}) == len(jobs)
    assert sum(row.cost for row in found) == charged
    await _settles(home, charged)
    await _files_settle(home, sum(state == "succeeded" for state, _ in ends.values()))
    counts = Counter(state for state, _ in ends.values())
    figures(
        f"{home.kills} kills, {len(jobs)} jobs, reached {dict(seen)}, ended {dict(counts)}, "
        f"{len(vendor.jobs)} jobs at the vendor, {charged / 1e9:.2f} credits"
    )
    assert min(seen.values()) > 0


async def _create(home: Replicas, prompt: str) -> str:
    answer = await home.ask(
        "POST",
        "/v1/videos/generations",
        json={"model": "clip", "prompt": prompt},
        headers={"idempotency-key": prompt.replace(" ", "-")},
    )
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def _reached(home: Replicas, state: str, creating: list[Any]) -> int:
    """Wait until a job of this batch is in `state`; 0 if that was not seen."""
    async with asyncio.timeout(DEADLINE):
        done: list[str] = []
        while True:
            done = [task.result() for task in creating if task.done()]
            if done:
                ids = ", ".join(f"'{one}'" for one in done)
                found = await home.query(f"SELECT state FROM jobs WHERE id IN ({ids})")
                states = {row[0] for row in found}
                if state in states or (state == "queued"):
                    return 1
                if len(done) == len(creating) and states <= {"succeeded", "failed"}:
                    return 0
            await asyncio.sleep(0.005)


async def _ends(home: Replicas, jobs: dict[str, str]) -> dict[str, tuple[str, str]]:
    ends: dict[str, tuple[str, str]] = {}
    for job_id in jobs:
        async with asyncio.timeout(DEADLINE):
            while job_id not in ends:
                shown = (await home.ask("GET", f"/v1/videos/generations/{job_id}")).json()
                if shown["status"] in ("succeeded", "failed", "cancelled"):
                    ends[job_id] = (shown["status"], shown.get("error", {}).get("code", ""))
                else:
                    await asyncio.sleep(0.1)
    return ends


async def _settles(home: Replicas, charged: int) -> None:
    """The window shows what was charged, and nothing reserved."""
    async with asyncio.timeout(DEADLINE):
        while True:
            for one in home.running:
                window = httpx.get(
                    f"{one.url}/v1/limits",
                    headers={"authorization": f"Bearer {home.key}"},
                    trust_env=False,
                ).json()["windows"][0]
                if (nano(window["used"]), nano(window["reserved"])) != (charged, 0):
                    break
            else:
                return
            await asyncio.sleep(0.2)


async def _files_settle(home: Replicas, count: int) -> None:
    """Each result is one file of its owner, and no room is reserved any more."""
    async with asyncio.timeout(DEADLINE):
        while True:
            files = await home.query("SELECT state, size FROM files")
            ((used, reserved),) = await home.query("SELECT used, reserved FROM storage")
            if {state for state, _ in files} == {"ready"} and reserved == 0:
                break
            await asyncio.sleep(0.2)
    assert len(files) == count
    assert used == sum(size for _, size in files)
