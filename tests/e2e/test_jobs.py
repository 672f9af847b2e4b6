"""Video and music jobs on a real process, with a vendor whose jobs the test scripts."""

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from .conftest import SECRETS, Start
from .job_caller import Caller
from .job_vendor import MP3, MP4, JobVendor, job_vendor
from .ledger import rows
from .program import DEADLINE, Gateway

PLAN = {"id": "metered", "windows": [{"length": "5h", "credits": "1.00"}]}
SLOW = {"id": "slow", "requests": "1/h"}
CHARGED = ("penstock_credits_total", (("model", "clip"),))


def document(vendor: JobVendor, **jobs: Any) -> dict[str, Any]:
    port = int(vendor.url.rpartition(":")[2])
    fetch = {"allow_http": True, "ports": [port], "allowed_networks": ["127.0.0.0/8"]}
    one = {"dialect": "openai", "base_url": f"{vendor.url}/v1", "api_key": "env:UPSTREAM_KEY"}
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "plans": [PLAN, SLOW],
        "fetch": fetch,
        "jobs": {"first_poll": "50ms", "longest_poll": "100ms", "polls": "2000/s", **jobs},
        "upstreams": [{"name": "vendor", **one}],
        "models": [
            {
                "id": "clip",
                "targets": ["vendor/secret-model-9"],
                "price": {"job": "0.10", "second": "0.05"},
            },
            {
                "id": "metered-clip",
                "targets": ["vendor/secret-model-9"],
                "price": {"job": "0.90", "upstream_cost": "2.00"},
            },
            {
                "id": "song",
                "targets": ["vendor/tune"],
                "jobs": "elevenlabs",
                "price": {"job": "0.20"},
            },
            {"id": "text", "targets": ["vendor/text"], "jobs": "suno"},
        ],
    }


@pytest.fixture(scope="module")
def vendor() -> Iterator[JobVendor]:
    with job_vendor() as running:
        yield running


@pytest.fixture(scope="module")
def home(vendor: JobVendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("jobs"), document(vendor), env=SECRETS)
    try:
        yield gateway
    finally:
        assert gateway.stop() == 0, gateway.stderr


@pytest.fixture
async def caller(home: Gateway) -> Any:
    one = Caller(home, "metered")
    yield one
    await one.http.aclose()


async def test_video_job_ends_with_its_file_and_one_row(
    home: Gateway, vendor: JobVendor, caller: Caller
) -> None:
    counted = (await asyncio.to_thread(home.metrics)).get(CHARGED, 0.0)
    made = await caller.http.post(
        "/v1/videos/generations", json={"model": "clip", "prompt": "a gate [polls=2]"}
    )
    assert made.status_code == 202, made.text
    job = made.json()
    assert job["status"] == "queued"
    assert made.headers["location"] == job["poll_url"]
    assert int(made.headers["retry-after"]) >= 1
    assert await caller.taken() == 0.3
    done = await caller.ended(job["poll_url"])
    assert done["status"] == "succeeded", done
    assert done["usage"] == {"seconds": 4.0, "cost": "0.30"}
    (output,) = done["output"]
    content = await caller.http.get(f"{job['poll_url']}/content")
    assert content.content.startswith(MP4)
    assert content.headers["content-type"] == "video/mp4"
    assert output["bytes"] == len(content.content)
    found = await caller.http.get(f"/v1/requests/{made.headers['x-request-id']}")
    assert found.json()["credits"] == "0.30"
    assert found.json()["usage"]["jobs"] == 1
    await caller.settles(0.3)
    assert (await asyncio.to_thread(home.metrics))[CHARGED] >= counted + 0.29
    (sent,) = [one for one in vendor.jobs.values() if one.prompt == "a gate [polls=2]"]
    assert sent.body == {"model": "secret-model-9", "prompt": sent.prompt, "seconds": "4"}
    for text in (str(done), str(found.json()), made.text):
        assert "secret-model" not in text and "vendor" not in text


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
async def test_openai_sdk_creates_polls_downloads_lists_remixes_and_deletes(
    home: Gateway, caller: Caller, tmp_path: Path
) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{home.url}/v1", api_key=caller.key, max_retries=0
    ) as sdk:
        video = await sdk.videos.create_and_poll(
            model="clip", prompt="sdk", seconds="4", size="1280x720", extra_body={}
        )
        assert (video.status, video.progress, video.prompt) == ("completed", 100, "sdk")
        assert (video.seconds, video.size, video.error) == ("4", "1280x720", None)
        content = await sdk.videos.download_content(video.id)
        assert content.read().startswith(MP4)
        again = await sdk.videos.remix(video.id, prompt="sdk remix")
        assert again.remixed_from_video_id == video.id
        again = await sdk.videos.poll(again.id)
        assert again.status == "completed"
        listed = await sdk.videos.list(limit=1)
        assert [one.id for one in listed.data] == [again.id] and listed.has_more
        assert [one.id async for one in sdk.videos.list(limit=1)] == [again.id, video.id]
        failed = await sdk.videos.create_and_poll(model="clip", prompt="[fail]", seconds="4")
        assert failed.status == "failed" and failed.error is not None
        assert failed.error.code == "upstream_error" and "secret" not in failed.error.message
        deleted = await sdk.videos.delete(video.id)
        assert deleted.deleted and deleted.object == "video.deleted"
        with pytest.raises(openai.NotFoundError):
            await sdk.videos.retrieve(video.id)
    await caller.settles(0.6)


async def test_webhook_is_verified_by_the_openai_sdk(
    home: Gateway, vendor: JobVendor, caller: Caller
) -> None:
    port = vendor.url.rpartition(":")[2]
    job = await caller.create("hooked", callback_url=f"http://localhost:{port}/hook")
    await caller.ended(job["poll_url"])
    async with asyncio.timeout(DEADLINE):
        while not vendor.hooks:
            await asyncio.sleep(0.05)
    headers, body = vendor.hooks[0]
    secret = (await caller.http.get("/v1/webhooks/secret")).json()["secret"]
    sdk = openai.OpenAI(api_key="x")
    event: Any = sdk.webhooks.unwrap(body, headers, secret=secret)
    assert (event.type, event.data.id) == ("video.succeeded", job["id"])
    other = Caller(home)
    foreign = (await other.http.get("/v1/webhooks/secret")).json()["secret"]
    with pytest.raises(openai.InvalidWebhookSignatureError):
        sdk.webhooks.unwrap(body, headers, secret=foreign)
    await other.http.aclose()


async def test_result_at_another_host_is_fetched_without_the_key(
    vendor: JobVendor, caller: Caller
) -> None:
    job = await caller.create("[link]")
    done = await caller.ended(job["poll_url"])
    assert done["status"] == "succeeded", done
    content = await caller.http.get(f"{job['poll_url']}/content")
    assert b"/linked/" in content.content
    assert vendor.keys and set(vendor.keys) == {""}
    assert "localhost" not in str(done)


async def test_image_of_a_form_and_of_a_file_reach_the_vendor_as_data(
    home: Gateway, vendor: JobVendor, caller: Caller
) -> None:
    png = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + b"image"
    form = await caller.http.post(
        "/v1/videos",
        data={"model": "clip", "prompt": "by form", "seconds": "4"},
        files={"input_reference": ("a.png", png, "image/png")},
    )
    assert form.status_code == 200, form.text
    kept = await caller.http.post(
        "/v1/files", data={"purpose": "vision"}, files={"file": ("b.png", png, "image/png")}
    )
    file_id = kept.json()["id"]
    await caller.create("by file", image={"file_id": file_id})
    await caller.create("by name", image=file_id)
    other = Caller(home)
    foreign = await other.http.post(
        "/v1/videos/generations",
        json={"model": "clip", "prompt": "x", "image": {"file_id": file_id}},
    )
    assert foreign.status_code == 404
    videos = [
        await other.http.post(
            "/v1/videos", json={"model": "clip", "prompt": "x", "input_reference": reference}
        )
        for reference in (file_id, {"file_id": file_id}, {"file_id": "file-nothing"})
    ]
    members = {"model": "clip", "prompt": "x", "input_reference[file_id]": file_id}
    fields = {name: (None, value) for name, value in members.items()}
    videos.append(await other.http.post("/v1/videos", files=fields))
    for answer in videos:
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "input_reference")
    text = await caller.http.post(
        "/v1/files", data={"purpose": "vision"}, files={"file": ("c.txt", b"text")}
    )
    broken = await caller.http.post(
        "/v1/videos",
        json={"model": "clip", "prompt": "x", "input_reference": text.json()["id"]},
    )
    assert (broken.status_code, broken.json()["error"]["param"]) == (400, "input_reference")
    await other.http.aclose()
    async with asyncio.timeout(DEADLINE):
        while not all(map(vendor.times, ("by form", "by file", "by name"))):
            await asyncio.sleep(0.05)
    encoded = "data:image/png;base64," + b64encode(png).decode()
    for sent in vendor.jobs.values():
        if sent.prompt in ("by form", "by file", "by name"):
            assert sent.body["input_reference"] == {"image_url": encoded}


async def test_failed_and_filtered_jobs_cost_nothing(caller: Caller) -> None:
    """QuantumNous/new-api#2050: failures were charged."""
    for word, code in (("fail", "upstream_error"), ("filter", "content_filtered")):
        job = await caller.create(f"[{word}]")
        done = await caller.ended(job["poll_url"])
        assert (done["status"], done["error"]["code"]) == ("failed", code), done
        assert done["usage"]["cost"] == "0.00"
        assert "secret-vendor-text" not in str(done)
    await caller.settles(0.0)


async def test_reservation_counts_against_the_window_while_the_job_runs(caller: Caller) -> None:
    jobs = [await caller.create(f"{n} [polls=1000000]") for n in range(3)]
    async with asyncio.timeout(DEADLINE):
        for job in jobs:  # one that is deleted before it was sent costs nothing
            while (await caller.http.get(job["poll_url"])).json()["status"] != "running":
                await asyncio.sleep(0.05)
    window = await caller.limits()
    assert (window["used"], window["reserved"], window["remaining"]) == ("0.00", "0.90", "0.10")
    refused = await caller.http.post(
        "/v1/videos/generations", json={"model": "clip", "prompt": "one more"}
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    for job in jobs:
        await caller.http.delete(f"/v1/videos/generations/{job['id']}")
        shown = await caller.http.get(f"/v1/videos/generations/{job['id']}")
        assert shown.status_code == 404
    assert await caller.taken() == 0.9  # they run on at the vendor, which cannot cancel


async def test_reservation_counts_against_the_window_of_the_team(home: Gateway) -> None:
    team = await asyncio.to_thread(home.new_team, "t", plan="metered")
    one = Caller(home, team=team)
    other = Caller(home, "metered", team=team)
    job = await one.create("[polls=1000000]", "metered-clip")
    refused = await other.http.post(
        "/v1/videos/generations", json={"model": "clip", "prompt": "one more"}
    )
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (429, "budget_exceeded")
    assert error["message"].startswith("Your team's 5h spend limit of 1.00 credits is reached")
    assert await other.taken() == 0.0
    shown = (await one.http.get("/v1/limits")).json()
    assert shown["windows"] == []
    (window,) = shown["team"]["windows"]
    assert (window["used"], window["reserved"], window["remaining"]) == ("0.00", "0.90", "0.10")
    await one.http.delete(f"/v1/videos/generations/{job['id']}")
    await one.http.aclose()
    await other.http.aclose()


async def test_cost_of_the_vendor_is_charged_up_to_the_reservation(caller: Caller) -> None:
    job = await caller.create("[cost=0.04]", "metered-clip")
    assert await caller.taken() == 0.9
    done = await caller.ended(job["poll_url"])
    assert done["usage"]["cost"] == "0.08"
    await caller.settles(0.08)
    job = await caller.create("[cost=9.0]", "metered-clip")
    done = await caller.ended(job["poll_url"])
    assert done["usage"]["cost"] == "0.90"


async def test_dropped_connection_after_acceptance_is_one_job_and_one_charge(
    vendor: JobVendor, caller: Caller
) -> None:
    """Comfy-Org/ComfyUI#16204: 426 jobs were sent and paid twice in a week."""
    job = await caller.create("unique [drop]")
    done = await caller.ended(job["poll_url"])
    assert done["status"] == "succeeded", done
    assert vendor.times("unique [drop]") == 1
    await caller.settles(0.3)


async def test_refused_submission_is_tried_again_and_a_bad_one_is_not(
    vendor: JobVendor, caller: Caller
) -> None:
    before = vendor.counts["POST /videos"]
    job = await caller.create("[refuse=400]")
    done = await caller.ended(job["poll_url"])
    assert (done["status"], done["error"]["code"]) == ("failed", "invalid_request")
    assert vendor.counts["POST /videos"] == before + 1
    job = await caller.create("[refuse=429]")
    async with asyncio.timeout(DEADLINE):
        while vendor.counts["POST /videos"] < before + 3:
            await asyncio.sleep(0.05)
    cancelled = await caller.http.post(f"{job['poll_url']}/cancel")
    assert cancelled.json()["status"] in ("queued", "cancelled")
    done = await caller.ended(job["poll_url"])
    assert (done["status"], done["usage"]["cost"]) == ("cancelled", "0.00")
    await caller.settles(0.0)


async def test_broken_result_is_fetched_again(caller: Caller) -> None:
    job = await caller.create("[broken]")
    done = await caller.ended(job["poll_url"])
    assert done["status"] == "succeeded"
    content = await caller.http.get(f"{job['poll_url']}/content")
    assert content.content.startswith(MP4)
    files = await caller.http.get("/v1/files")
    if files.status_code == 200:
        assert len(files.json()["data"]) == 1


async def test_music_of_a_vendor_that_answers_with_the_audio_is_stored(caller: Caller) -> None:
    job = await caller.create("a tune", "song", seconds=5, instrumental=True)
    assert job["object"] == "music.generation"
    done = await caller.ended(job["poll_url"])
    assert done["status"] == "succeeded", done
    assert done["output"][0]["mime_type"] == "audio/mpeg"
    content = await caller.http.get(f"{job['poll_url']}/content")
    assert content.content.startswith(MP3)


async def test_idempotency_key_names_one_job(vendor: JobVendor, caller: Caller) -> None:
    headers = {"idempotency-key": "k1"}
    body = {"model": "clip", "prompt": "once only"}
    answers = await asyncio.gather(
        *[caller.http.post("/v1/videos/generations", json=body, headers=headers) for _ in range(5)]
    )
    assert {one.status_code for one in answers} == {202}
    assert len({one.json()["id"] for one in answers}) == 1
    assert sum(one.headers.get("idempotent-replayed") == "true" for one in answers) == 4
    other = await caller.http.post(
        "/v1/videos/generations", json={**body, "prompt": "other"}, headers=headers
    )
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    await caller.ended(answers[0].json()["poll_url"])
    assert vendor.times("once only") == 1
    await caller.settles(0.3)


async def test_thousand_polls_ask_no_upstream_and_cost_nothing(
    home: Gateway, vendor: JobVendor, caller: Caller, full: bool
) -> None:
    """BerriAI/litellm#25015: each question was charged."""
    job = await caller.create("polled")
    await caller.ended(job["poll_url"])
    await caller.settles(0.3)
    (made,) = [one for one in vendor.jobs.values() if one.prompt == "polled"]
    polls, count = made.polls, len(await rows(home.sql))
    statuses = set()
    for _ in range(1000 if full else 50):
        answer = await caller.http.get(job["poll_url"])
        statuses.add(answer.status_code)
    assert statuses == {200}
    assert made.polls == polls
    assert len(await rows(home.sql)) == count
    await caller.settles(0.3)


async def test_job_of_another_key_is_answered_as_one_that_does_not_exist(
    home: Gateway, caller: Caller
) -> None:
    job = await caller.create("mine")
    await caller.ended(job["poll_url"])
    other = Caller(home)
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/content"),
        ("POST", "/cancel"),
    ):
        foreign = await other.http.request(method, f"/v1/videos/generations/{job['id']}{path}")
        nothing = await other.http.request(method, f"/v1/videos/generations/video_x{path}")
        assert foreign.status_code == nothing.status_code == 404
        assert foreign.content == nothing.content
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content"), ("POST", "/remix")):
        foreign = await other.http.request(method, f"/v1/videos/{job['id']}{path}")
        nothing = await other.http.request(method, f"/v1/videos/video_x{path}")
        assert (foreign.status_code, foreign.content) == (404, nothing.content)
    assert (await other.http.get("/v1/videos")).json()["data"] == []
    after = await other.http.get("/v1/videos", params={"after": job["id"]})
    nothing = await other.http.get("/v1/videos", params={"after": "video_x"})
    assert after.json() == nothing.json()
    await other.http.aclose()


async def test_remix_counts_as_a_request_and_a_question_does_not(home: Gateway) -> None:
    slow = Caller(home, "slow")
    job = await slow.create("first")
    await slow.ended(job["poll_url"])
    refused = await slow.http.post(f"/v1/videos/{job['id']}/remix", json={"prompt": "again"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (await slow.http.get(job["poll_url"])).status_code == 200
    await slow.http.aclose()


async def test_remix_needs_and_records_the_endpoint_that_creates_videos(home: Gateway) -> None:
    maker = Caller(home, endpoints=["videos.generations", "videos.jobs"])
    job = await maker.create("a wheel")
    await maker.ended(job["poll_url"])
    count = len(await rows(home.sql))
    refused = await maker.http.post(f"/v1/videos/{job['id']}/remix", json={"prompt": "again"})
    assert refused.status_code == 403, refused.text
    assert len(await rows(home.sql)) == count
    assert (await maker.http.get(f"/v1/videos/{job['id']}")).status_code == 200
    await maker.http.aclose()

    free = Caller(home)
    job = await free.create("a gate")
    await free.ended(job["poll_url"])
    made = await free.http.post(f"/v1/videos/{job['id']}/remix", json={"prompt": "again"})
    assert made.status_code == 200, made.text
    await free.ended(f"/v1/videos/{made.json()['id']}")
    request_id = made.headers["x-request-id"]
    (row,) = [one for one in await rows(home.sql) if one.id == request_id]
    assert (row.endpoint, row.ended) == ("videos", "completed")
    asked = await free.http.get(f"/v1/videos/{job['id']}/remix")
    assert (asked.status_code, asked.headers["allow"]) == (405, "POST")
    await free.http.aclose()


async def test_job_that_the_storage_cannot_hold_says_what_it_needs(start: Start) -> None:
    with job_vendor() as vendor:
        config = document(vendor, max_result="2MiB")
        gateway = start({**config, "files": {"storage": "1MiB"}})
        caller = Caller(gateway)
        answer = await caller.http.post("/v1/videos", json={"model": "clip", "prompt": "x"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (413, "storage_limit_exceeded")
        assert f"0 of {1 << 20} bytes" in error["message"]
        assert f"up to {2 << 20}" in error["message"]
        await caller.http.aclose()


async def test_url_of_a_result_leads_to_it_where_no_files_are_offered(start: Start) -> None:
    with job_vendor() as vendor:
        gateway = start({**document(vendor), "endpoints": ["videos.generations", "videos.jobs"]})
        caller = Caller(gateway)
        job = await caller.create("a mill")
        (output,) = (await caller.ended(job["poll_url"]))["output"]
        assert output["url"] == f"{job['poll_url']}/content?index=0"
        content = await caller.http.get(output["url"])
        assert content.content.startswith(MP4)
        file = await caller.http.get(f"/v1/files/{output['file_id']}/content")
        assert file.status_code == 403
        await caller.http.aclose()


async def test_unfinished_content_is_not_ready(caller: Caller) -> None:
    job = await caller.create("[polls=1000000]")
    content = await caller.http.get(f"/v1/videos/{job['id']}/content")
    assert (content.status_code, content.json()["error"]["code"]) == (404, "video_not_ready")
    shown = await caller.http.get(f"/v1/videos/{job['id']}")
    assert int(shown.headers["openai-poll-after-ms"]) >= 1000


@pytest.mark.parametrize(
    ("member", "value", "param"),
    [
        ("seconds", -1, "seconds"),
        ("n", 2, "n"),
        ("size", "big", "size"),
        ("image", 5, "image"),
        ("image", {"file_id": "file-nothing"}, "image"),
        ("callback_url", "ftp://x", "callback_url"),
        ("nonsense", 1, "nonsense"),
        ("reference_images", "x", "reference_images"),
    ],
)
async def test_invalid_member_is_refused_by_name(
    caller: Caller, member: str, value: Any, param: str
) -> None:
    answer = await caller.http.post(
        "/v1/videos/generations", json={"model": "clip", "prompt": "x", member: value}
    )
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param
    assert await caller.taken() == 0


async def test_model_that_makes_no_videos_is_refused(caller: Caller) -> None:
    answer = await caller.http.post("/v1/videos", json={"model": "text", "prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


async def test_lost_submission_ends_unknown_and_costs_nothing(start: Start) -> None:
    with job_vendor(lists=False) as forgetful:
        gateway = start(document(forgetful, unknown="1s", polls="20/s"))
        caller = Caller(gateway, "metered")
        job = await caller.create("[drop]")
        done = await caller.ended(job["poll_url"])
        assert (done["status"], done["error"]["code"]) == ("failed", "submission_unknown")
        assert forgetful.times("[drop]") == 1
        await caller.settles(0.0)
        many = await asyncio.gather(*[caller.http.get(job["poll_url"]) for _ in range(100)])
        limited = [one for one in many if one.status_code == 429]
        assert limited and all(int(one.headers["retry-after"]) >= 1 for one in limited)
        assert {one.status_code for one in many} <= {200, 429}
        async with asyncio.timeout(DEADLINE):
            while gateway.metrics().get(("penstock_jobs_lost_total", ()), 0.0) != 1:
                await asyncio.sleep(0.1)
        await caller.http.aclose()


async def test_stop_lets_a_submission_hear_its_answer(start: Start) -> None:
    with job_vendor() as slow:
        gateway = start(document(slow))
        caller = Caller(gateway, "metered")
        await caller.create("[hold]")
        async with asyncio.timeout(DEADLINE):
            while not slow.jobs:
                await asyncio.sleep(0.02)
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        await asyncio.sleep(0.5)
        slow.release()
        assert await stopping == 0, gateway.stderr
        second = start(document(slow), folder=gateway.folder)
        caller.http.base_url = httpx.URL(second.url)
        listed = (await caller.http.get("/v1/videos")).json()["data"]
        done = await caller.ended(f"/v1/videos/{listed[0]['id']}")
        assert done["status"] == "completed"
        assert len(slow.jobs) == 1
        await caller.http.aclose()
