"""Each step of a job: what an upstream says, what is written, and what it costs."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.resources import Resource

from edge.media.jobs.charge import most_cost
from edge.media.jobs.notices import PAUSES, Notices, Signer
from edge.media.jobs.results import Results
from edge.media.jobs.steps import JobTimes, Steps
from edge.media.jobs.work import JobTerms, Media, Place, Work, encode, split
from edge.upstreams import ConnectFailed, Disconnected
from middlewares import ErrorStyle, KindChange
from middlewares.error_kinds import changed_kinds
from middlewares.pricing import Price
from middlewares.problem import Problem
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.jobs.base import ClaimLost, Job, JobError
from middlewares.stores.jobs.sql import SqlJobStore
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.memory import MemorySecretStore
from middlewares.stores.sql.database import Database
from middlewares.tracing.sampling import Sampling
from middlewares.tracing.spans import Spans
from middlewares.tracing.step_traces import StepTraces
from tests.middlewares.stores.sqlite_files import new_sqlite
from tests.otlp_receiver import Collected

from .scripted_vendor import JSON, Reply, ScriptedVendor, provider_of

NOW = 1_900_000_000.0
MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + b"\0" * 100
PRICE = Price(job=100, second=10)


class Stored:
    def __init__(self, file_id: str, data: bytes) -> None:
        self.id = file_id
        self.data = data
        self.size = len(data)
        self.mime = "video/mp4" if b"ftyp" in data else "audio/mpeg" if b"ID3" in data else "text"


class FileShelf:
    """Files in memory. `fault` is raised by the next save."""

    def __init__(self) -> None:
        self.files: dict[str, Stored] = {}
        self.fault: Problem | None = None

    async def save(self, owner: str, filename: str, source: Any, **options: Any) -> Stored:
        data = b"".join([piece async for piece in source])
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        stored = self.files[options["file_id"]] = Stored(options["file_id"], data)
        return stored

    async def find(self, owner: str, file_id: str) -> Stored | None:
        return self.files.get(file_id)

    async def delete(self, owner: str, file_id: str) -> bool:
        return self.files.pop(file_id, None) is not None


class Nowhere:
    """A fetcher whose webhooks are answered by `statuses`, in turn; None refuses."""

    def __init__(self) -> None:
        self.statuses: list[int | None] = [200]
        self.sent: list[tuple[str, dict[str, str], bytes]] = []

    async def fetch(self, url: str, **_: Any) -> Any:
        raise Problem("invalid_media", reason="nothing is there")

    async def post(self, url: str, headers: Any, body: bytes, owner: str) -> int:
        self.sent.append((url, dict(headers), body))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status is None:
            raise Problem("invalid_request", reason="refused")
        return status


class Bench:
    """A store with one job, its upstream, and a clock that a test moves."""

    def __init__(
        self,
        database: Database,
        traces: StepTraces | None = None,
        errors: Callable[[], ErrorStyle] = ErrorStyle,
    ) -> None:
        self.now = NOW
        self.store = SqlJobStore(database)
        self.ledger = SqlLedgerStore(database)
        self.vendor = ScriptedVendor()
        self.other = ScriptedVendor()
        self.files = FileShelf()
        self.web = Nowhere()
        self.settled: list[str] = []
        self.unsettled = 0
        self.lost = 0
        self.charged: list[tuple[str, int]] = []
        providers = {"v": provider_of(self.vendor), "w": provider_of(self.other, "w")}
        self.steps = Steps(
            self.store,
            providers=lambda: providers,
            results=Results(self.store, self.files, self.web, keep=3600.0),
            notices=Notices(Signer(MemorySecretStore()), self.web),
            settle=self._settle,
            charged=lambda model, cost: self.charged.append((model, cost)),
            lost=self._lose,
            traces=traces,
            errors=errors,
            times=JobTimes(),
            clock=lambda: self.now,
            random=lambda: 0.5,
        )

    async def _settle(self, entry: Entry) -> None:
        if self.unsettled:
            self.unsettled -= 1
            raise CountersUnavailable("away")
        self.settled.append(entry.account)

    def _lose(self) -> None:
        self.lost += 1

    async def create(
        self,
        work: Work | None = None,
        places: tuple[Place, ...] = (Place("v", "m", "openai-videos"),),
        **changes: Any,
    ) -> None:
        work = work or Work(kind="video", prompt="p", seconds=4.0)
        terms = JobTerms(places=places, price=PRICE, seconds=work.seconds, entry="clip*")
        cost = most_cost(terms)
        request, media = split(work)
        entry = Entry("request", "alice", NOW, NOW, cost=cost, reserved=cost, starts={"5h": NOW})
        job = Job(
            id="video_1",
            owner="alice",
            kind=work.kind,
            model="clip",
            created_at=NOW,
            request=request,
            media=media,
            terms=encode(terms),
            reservation=entry,
            storage=1 << 20,
            due=NOW,
            since=NOW,
        )
        await self.store.create(replace(job, **changes), limit=None)

    async def claim(self) -> Job | None:
        return await self.store.claim("test", self.now, 30.0)

    async def step(self, *, patience: float = 0.0) -> Job:
        """Wait until the job is due, at most so long, and take its step; the job afterwards."""
        job = await self.claim()
        if job is None and patience:
            self.now += patience
            job = await self.claim()
        assert job is not None, "nothing is due"
        await self.steps.take(job)
        return await self.job()

    async def job(self) -> Job:
        found = await self.store.get("alice", "video_1")
        assert found is not None
        return found

    async def run(self) -> Job:
        """Take steps until nothing is ever due again."""
        for _ in range(200):
            job = await self.job()
            if job.due is None:
                return job
            self.now = max(self.now, job.due)
            await self.step()
        raise AssertionError(job)

    async def row(self) -> Entry:
        (entry,) = await self.ledger.page()
        return entry

    async def spent(self) -> int:
        return (await self.ledger.spent("alice", NOW, ()))[0].spent["5h"]

    def accepts(self) -> None:
        """The vendor takes the job, and is done at the second question."""
        self.vendor.on("POST", "/v1/videos", Reply({"id": "v1", "status": "queued"}))
        self.vendor.on(
            "GET",
            "/v1/videos/v1",
            Reply({"status": "in_progress", "progress": 40}),
            Reply({"status": "completed", "seconds": "4"}),
        )
        video = (b"content-type", b"video/mp4")
        self.vendor.on("GET", "/v1/videos/v1/content", lambda: Reply(MP4, headers=(video,)))


@pytest.fixture
async def bench(tmp_path: Any) -> AsyncIterator[Bench]:
    database = await Database.open(new_sqlite(tmp_path / "jobs.db"))
    yield Bench(database)
    await database.aclose()


async def test_each_call_of_a_job_has_a_trace_of_its_own(tmp_path: Path) -> None:
    collected = Collected()
    database = await Database.open(new_sqlite(tmp_path / "jobs.db"))
    traces = StepTraces(Spans(collected, resource=Resource({})), Sampling(1.0))
    bench = Bench(database, traces)
    bench.accepts()
    await bench.create()
    assert (await bench.run()).state == "succeeded"
    await database.aclose()
    spans = collected.spans()
    assert {span.name for span in spans} == {"job.run"}
    assert [span.attributes["penstock.job_state"] for span in spans] == [
        *("submitting", "running", "running")
    ]
    assert len({span.trace for span in spans}) == 3
    assert bench.vendor.traces[:3] == [f"00-{span.trace}-{span.id}-01" for span in spans]
    assert not any(span.failed for span in spans)


async def test_a_call_that_fails_is_an_error_and_jobs_without_tracing_send_no_trace(
    tmp_path: Path,
) -> None:
    collected = Collected()
    database = await Database.open(new_sqlite(tmp_path / "jobs.db"))
    traces = StepTraces(Spans(collected, resource=Resource({})), Sampling(1.0))
    bench = Bench(database, traces)
    bench.vendor.on("POST", "/v1/videos", Reply({}, failure=ConnectFailed("canary")))
    await bench.create()
    await bench.step()
    (span,) = collected.spans()
    assert span.failed
    assert span.attributes["error.type"] == "upstream_unavailable"
    assert b"canary" not in collected.exported()
    await database.aclose()


async def test_job_goes_through_its_states(bench: Bench) -> None:
    bench.accepts()
    await bench.create()
    assert await bench.spent() == 140
    assert (await bench.step()).state == "running"
    running = await bench.step(patience=20)
    assert (running.state, running.progress) == ("running", 40)
    assert (await bench.step(patience=20)).state == "storing"
    done = await bench.step()
    assert (done.state, done.charged, done.progress, done.due) == ("succeeded", 140, 100, None)
    assert bench.settled == ["alice"]
    assert done.expires_at == bench.now + 3600
    (result,) = done.results
    assert bench.files.files[result.file].data == MP4
    entry = await bench.row()
    assert (entry.cost, entry.jobs, entry.video_ms, entry.ended) == (140, 1, 4000, "completed")
    assert bench.charged == [("clip*", 140)]
    assert await bench.spent() == 140


@pytest.mark.parametrize(
    "failure", [Disconnected("gone", sent=True), Disconnected("slow", sent=True)]
)
async def test_submission_without_an_answer_is_looked_for_and_not_sent_again(
    bench: Bench, failure: Disconnected
) -> None:
    bench.accepts()
    bench.vendor.on("POST", "/v1/videos", Reply(failure=failure))
    entry = {"id": "v1", "prompt": "p", "seconds": "4", "created_at": NOW}
    other = {**entry, "id": "v0", "prompt": "another"}
    old = {**entry, "id": "v2", "created_at": NOW - 900}
    bench.vendor.on("GET", "/v1/videos", Reply({"data": []}), Reply({"data": [other, entry, old]}))
    await bench.create()
    assert (await bench.step()).state == "unknown"
    done = await bench.run()
    assert (done.state, done.upstream_id, done.charged) == ("succeeded", "v1", 140)
    assert bench.vendor.count("POST", "/v1/videos") == 1
    assert bench.lost == 0


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": {"message": "oops"}}, status=500),
        Reply(b"<html>", status=503),
        Reply({"no": "id"}),
        Reply(b"not json"),
        Reply({"id": "v1"}, broken=Disconnected("broken", sent=True)),
        Reply({"error": {"code": "idempotency_key_reuse"}}, status=422),
    ],
    ids=["500", "page", "no id", "no json", "broken", "reuse"],
)
async def test_answer_that_does_not_say_is_unknown_and_costs_nothing_in_the_end(
    bench: Bench, reply: Reply
) -> None:
    bench.vendor.on("POST", "/v1/videos", reply)
    bench.vendor.on("GET", "/v1/videos", Reply({"data": []}))
    await bench.create()
    done = await bench.run()
    assert done.error is not None
    assert (done.state, done.error.code, done.charged) == ("failed", "submission_unknown", 0)
    assert bench.vendor.count("POST", "/v1/videos") == 1
    assert bench.lost == 1
    assert bench.now >= NOW + 600
    assert (await bench.row()).cost == 0 and await bench.spent() == 0
    assert not bench.charged


async def test_two_that_may_be_it_are_neither(bench: Bench) -> None:
    bench.vendor.on("POST", "/v1/videos", Reply(failure=Disconnected("gone", sent=True)))
    both = [{"id": f"v{n}", "prompt": "p", "seconds": "4", "created_at": NOW} for n in (1, 2)]
    bench.vendor.on("GET", "/v1/videos", Reply({"data": both}))
    await bench.create()
    done = await bench.run()
    assert done.error is not None and done.error.code == "submission_unknown"


async def test_token_in_the_list_goes_before_what_only_looks_the_same(bench: Bench) -> None:
    bench.accepts()
    bench.vendor.on("POST", "/v1/videos", Reply(failure=Disconnected("gone", sent=True)))

    async def listed() -> None:
        token = (await bench.job()).token
        same = {"id": "v9", "prompt": "p", "seconds": "4", "created_at": NOW}
        marked = {"id": "v1", "metadata": {"token": token}}
        bench.vendor.on("GET", "/v1/videos", Reply({"data": [same, marked]}))

    await bench.create()
    await bench.step()
    await listed()
    assert (await bench.run()).upstream_id == "v1"


async def test_worker_that_died_while_submitting_leaves_it_unknown(bench: Bench) -> None:
    bench.accepts()
    entry = {"id": "v1", "prompt": "p", "seconds": "4", "created_at": NOW}
    bench.vendor.on("GET", "/v1/videos", Reply({"data": [entry]}))
    await bench.create()
    claimed = await bench.claim()
    assert claimed is not None
    dead = await bench.store.change(claimed, state="submitting", upstream="v/m", token="t")
    bench.now += 31
    assert (await bench.step()).state == "unknown"
    with pytest.raises(ClaimLost):
        await bench.store.change(dead, state="running")
    assert (await bench.run()).state == "succeeded"
    assert bench.vendor.count("POST", "/v1/videos") == 0


@pytest.mark.parametrize(
    "reply",
    [
        Reply(failure=ConnectFailed("refused")),
        Reply({"error": {"message": "slow down"}}, status=429),
        Reply({"error": {"message": "busy"}}, status=503),
        Reply({"error": {"message": "bad key", "code": "invalid_api_key"}}, status=401),
    ],
    ids=["refused", "429", "503", "401"],
)
async def test_target_that_began_nothing_gives_way_to_the_next(bench: Bench, reply: Reply) -> None:
    bench.accepts()
    bench.other.on("POST", "/v1/videos", reply)
    places = (Place("w", "m", "openai-videos"), Place("v", "m", "openai-videos"))
    await bench.create(places=places)
    done = await bench.run()
    assert (done.state, done.upstream) == ("succeeded", "v/m")
    assert bench.other.count("POST", "/v1/videos") == 1


async def test_target_that_stays_away_fails_the_job_after_ten_minutes(bench: Bench) -> None:
    bench.vendor.on("POST", "/v1/videos", Reply(failure=ConnectFailed("refused")))
    await bench.create()
    done = await bench.run()
    assert done.error is not None
    assert (done.state, done.error.code, done.charged) == ("failed", "upstream_error", 0)
    assert NOW + 600 < bench.now < NOW + 700
    assert 5 < bench.vendor.count("POST", "/v1/videos") < 20


async def test_job_fails_with_what_the_operator_made_of_the_kind(tmp_path: Path) -> None:
    change = KindChange(status=500, type="cli_error", code="no_luck", message="{brand} failed.")
    style = ErrorStyle("Acme", kinds=changed_kinds({"upstream_error": change}))
    database = await Database.open(new_sqlite(tmp_path / "jobs.db"))
    bench = Bench(database, errors=lambda: style)
    bench.vendor.on("POST", "/v1/videos", Reply(failure=ConnectFailed("refused")))
    await bench.create()
    done = await bench.run()
    assert done.error == JobError("no_luck", "Acme failed.", "cli_error")
    row = await bench.row()
    await database.aclose()
    assert (row.attempts[-1].problem, row.status) == ("upstream_error", 500)


async def test_bad_request_is_not_sent_elsewhere(bench: Bench) -> None:
    refusal = {"error": {"message": "Invalid size", "param": "size", "code": "invalid_value"}}
    bench.vendor.on("POST", "/v1/videos", Reply(refusal, status=400))
    places = (Place("v", "m", "openai-videos"), Place("w", "m", "openai-videos"))
    work = Work(kind="video", prompt="p", seconds=4.0, size="16x16")
    await bench.create(work, places)
    done = await bench.run()
    assert done.error is not None
    assert (done.error.code, done.error.param) == ("invalid_request", "size")
    assert not bench.other.asked


async def test_question_without_a_verdict_means_nothing(bench: Bench) -> None:
    bench.accepts()
    bench.vendor.on(
        "GET",
        "/v1/videos/v1",
        Reply(failure=ConnectFailed("refused")),
        Reply(failure=Disconnected("gone", sent=True)),
        Reply({"error": {}}, status=500),
        Reply({"error": {}}, status=429),
        Reply(b"<html>", status=200),
        Reply({"status": "something new"}),
        Reply({"status": "completed"}),
    )
    await bench.create()
    done = await bench.run()
    assert (done.state, done.charged) == ("succeeded", 140)


async def test_job_that_the_vendor_has_lost_fails(bench: Bench) -> None:
    bench.accepts()
    bench.vendor.on("GET", "/v1/videos/v1", Reply({"error": {}}, status=404))
    await bench.create()
    done = await bench.run()
    assert (done.state, done.charged) == ("failed", 0)
    assert 10 < bench.vendor.count("GET", "/v1/videos/v1") < 30


async def test_job_without_a_verdict_fails_after_a_day(bench: Bench) -> None:
    bench.accepts()
    bench.vendor.on("GET", "/v1/videos/v1", Reply({"status": "in_progress"}))
    await bench.create()
    await bench.step()
    bench.now += 86_401
    done = await bench.run()
    assert done.error is not None
    assert (done.error.code, done.charged) == ("upstream_timeout", 0)


async def test_wait_that_the_vendor_asks_for_is_kept(bench: Bench) -> None:
    bench.accepts()
    wait = (b"retry-after", b"40")
    bench.vendor.on("GET", "/v1/videos/v1", Reply({"status": "queued"}, headers=(JSON, wait)))
    await bench.create()
    await bench.step()
    first = await bench.job()
    assert first.due == pytest.approx(NOW + 0.5)
    waiting = await bench.step(patience=3)
    assert waiting.due == pytest.approx(bench.now + 40)


async def test_result_that_is_no_media_is_fetched_again_then_given_up(bench: Bench) -> None:
    bench.accepts()
    bench.vendor.on("GET", "/v1/videos/v1/content", lambda: Reply(b"<html>busy"))
    await bench.create()
    done = await bench.run()
    assert done.error is not None
    assert (done.state, done.error.code, done.charged) == ("failed", "upstream_error", 0)
    assert bench.now > NOW + 7200
    assert not bench.files.files


async def test_worker_that_died_after_storing_leaves_one_file(bench: Bench) -> None:
    bench.accepts()
    await bench.create()
    await bench.step()
    await bench.step(patience=20)
    assert (await bench.step(patience=20)).state == "storing"
    claimed = await bench.claim()
    assert claimed is not None
    (result,) = claimed.results
    noted = (replace(result, file="file-a"),)
    await bench.store.change(claimed, results=noted)
    bench.files.files["file-a"] = Stored("file-a", MP4)  # and here it died
    bench.now += 31
    done = await bench.run()
    assert [one.file for one in done.results] == ["file-a"] == list(bench.files.files)
    assert bench.vendor.count("GET", "/v1/videos/v1/content") == 0


@pytest.mark.parametrize("saved_first", [True, False])
async def test_worker_whose_claim_was_lost_while_storing_leaves_one_file(
    bench: Bench, saved_first: bool
) -> None:
    bench.accepts()
    await bench.create()
    await bench.step()
    await bench.step(patience=20)
    await bench.step(patience=20)
    slow = await bench.claim()
    assert slow is not None
    save = bench.files.save

    async def slowly(*given: Any, **options: Any) -> Stored:
        if saved_first:
            stored = await save(*given, **options)
        bench.now += 31
        bench.files.save = save  # type: ignore[method-assign]
        await bench.run()
        return stored if saved_first else await save(*given, **options)

    bench.files.save = slowly  # type: ignore[method-assign]
    with pytest.raises(ClaimLost):
        await bench.steps.take(slow)
    done = await bench.job()
    assert (done.state, len(bench.files.files)) == ("succeeded", 1)
    assert done.results[0].file in bench.files.files
    assert len(await bench.ledger.page()) == 1


async def test_result_larger_than_its_room_fails_at_once(bench: Bench) -> None:
    bench.accepts()
    bench.files.fault = Problem("request_too_large")
    await bench.create()
    done = await bench.run()
    assert (done.state, done.charged) == ("failed", 0)


async def test_cancelled_before_it_was_sent_costs_nothing(bench: Bench) -> None:
    await bench.create()
    await bench.store.cancel("alice", "video_1", NOW)
    done = await bench.run()
    assert (done.state, done.charged) == ("cancelled", 0)
    assert not bench.vendor.asked


@pytest.mark.parametrize(("usage", "cost"), [({}, 140), ({"usage": {"cost": 1e-8}}, 10)])
async def test_cancelled_while_it_ran_costs_what_the_vendor_says_else_all(
    bench: Bench, usage: dict[str, Any], cost: int
) -> None:
    places = (Place("v", "m", "penstock"),)
    path = "/v1/videos/generations"
    bench.vendor.on("POST", path, Reply({"job_id": "v1"}, status=202))
    bench.vendor.on("GET", f"{path}/v1", Reply({"status": "running"}))
    bench.vendor.on("POST", f"{path}/v1/cancel", Reply({}))
    work = Work(kind="video", prompt="p", seconds=4.0)
    factor = 10**9 if usage else 0
    terms = JobTerms(places=places, price=PRICE, seconds=4.0, factor=factor)
    await bench.create(work, places, terms=encode(terms))
    await bench.step()
    await bench.store.cancel("alice", "video_1", bench.now)
    bench.vendor.on("GET", f"{path}/v1", Reply({"status": "cancelled", **usage}))
    done = await bench.run()
    assert (done.state, done.charged) == ("cancelled", cost)
    assert bench.vendor.count("POST", f"{path}/v1/cancel") == 1


async def test_lost_submission_to_another_gateway_is_found_by_its_key(bench: Bench) -> None:
    path = "/v1/videos/generations"
    bench.vendor.on(
        "POST",
        path,
        Reply(failure=Disconnected("gone", sent=True)),
        Reply({"job_id": "v1"}, status=202),
    )
    output = {"url": "http://vendor.example/v1/files/f/content", "mime_type": "video/mp4"}
    bench.vendor.on("GET", f"{path}/v1", Reply({"status": "succeeded", "output": [output]}))
    bench.vendor.on("GET", "/v1/files/f/content", lambda: Reply(MP4))
    await bench.create(places=(Place("v", "m", "penstock"),))
    done = await bench.run()
    assert (done.state, done.charged) == ("succeeded", 140)


async def test_answer_that_is_the_audio_is_stored_as_it_comes(bench: Bench) -> None:
    audio = (b"content-type", b"audio/mpeg")
    bench.vendor.on("POST", "/v1/music", Reply(b"ID3 tune", headers=(audio,)))
    work = Work(kind="music", prompt="p", seconds=5.0)
    await bench.create(work, (Place("v", "m", "elevenlabs"),))
    done = await bench.run()
    assert (done.state, done.charged) == ("succeeded", 150)
    assert [one.data for one in bench.files.files.values()] == [b"ID3 tune"]


async def test_answer_that_is_the_audio_and_cannot_be_stored_fails_the_job(bench: Bench) -> None:
    """No other answer will come."""
    bench.files.fault = Problem("invalid_request", message="The file is empty.", param="file")
    audio = (b"content-type", b"audio/mpeg")
    bench.vendor.on("POST", "/v1/music", Reply(b"", headers=(audio,)))
    work = Work(kind="music", prompt="p", seconds=5.0)
    await bench.create(work, (Place("v", "m", "elevenlabs"),))
    done = await bench.run()
    assert done.error is not None and not bench.files.files
    assert (done.state, done.error.code, done.charged) == ("failed", "upstream_error", 0)
    assert len(bench.vendor.asked) == 1


async def test_counters_that_are_away_are_settled_later(bench: Bench) -> None:
    bench.accepts()
    bench.unsettled = 3
    await bench.create()
    done = await bench.run()
    assert done.state == "succeeded"
    assert bench.settled == ["alice"]
    assert len(await bench.ledger.page()) == 1


async def test_webhook_is_sent_six_times_with_one_id(bench: Bench) -> None:
    bench.accepts()
    bench.web.statuses = [500, None, 302, 404]
    await bench.create(callback="https://hook.example/x")
    done = await bench.run()
    assert (done.state, done.notices) == ("succeeded", len(PAUSES) + 1)
    assert len(bench.web.sent) == 6
    assert len({headers["webhook-id"] for _, headers, _ in bench.web.sent}) == 1
    assert len({headers["webhook-timestamp"] for _, headers, _ in bench.web.sent}) == 6
    assert bench.now - (done.finished_at or 0) < 86400 + 60
    assert len({body for _, _, body in bench.web.sent}) == 1


async def test_webhook_that_is_taken_is_sent_once(bench: Bench) -> None:
    bench.accepts()
    await bench.create(callback="https://hook.example/x")
    await bench.run()
    assert len(bench.web.sent) == 1


async def test_deleted_job_leaves_no_file_and_is_charged(bench: Bench) -> None:
    bench.accepts()
    await bench.create()
    await bench.step()
    await bench.store.delete("alice", "video_1", bench.now)
    while (job := await bench.claim()) is not None or not await bench.ledger.page():
        if job is None:
            bench.now += 20
        else:
            await bench.steps.take(job)
    assert not bench.files.files
    assert (await bench.row()).cost == 140


async def test_images_of_a_request_are_dropped_at_its_end(bench: Bench) -> None:
    bench.accepts()
    work = Work(kind="video", prompt="p", seconds=4.0, media=Media(image="data:image/png;base64,"))
    await bench.create(work)
    await bench.run()
    ((_, _, sent), *_) = bench.vendor.asked
    assert sent["input_reference"] == {"image_url": "data:image/png;base64,"}
    bench.now += 10_000
    assert (await bench.job()).media == b""
