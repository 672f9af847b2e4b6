"""Jobs of the simulated vendors: their shapes, and the lives that a directive gives them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from edge.upstreams import Disconnected, Request
from edge.upstreams.simulator import Controls, SimulatorServer, SimulatorUpstream, answer
from edge.upstreams.simulator.account import Account
from edge.upstreams.simulator.media.films import film_words
from edge.upstreams.simulator.media.pictures import FORMATS as PICTURES
from edge.upstreams.simulator.media.sounds import seconds_of, words_of
from tests.edge.upstreams.simulated import exchange, post, until, whole
from tests.edge.upstreams.simulator.media.forms import form

VIDEOS = b"/v1/videos"
PICTURE = PICTURES["png"](32, 16, bytes(range(32)), "")

Ask = Callable[..., Any]


@pytest.fixture
def account() -> Account:
    return Account("http://sim", clock=lambda: 1_800_000_000)


@pytest.fixture
def ask(account: Account) -> Ask:
    """Sends a request to one account; returns the status, and the JSON or the bytes."""

    def asked(request: Request) -> tuple[int, Any]:
        assert isinstance(request.body, bytes)
        found = answer(
            request.method, request.target, request.headers, request.body, Controls(), account
        )
        body = whole(found)
        is_json = (b"content-type", b"application/json") in found.headers
        return found.status, json.loads(body) if is_json and body else body

    return asked


def get(target: bytes | str, method: bytes = b"GET") -> Request:
    path = target if isinstance(target, bytes) else target.removeprefix("http://sim").encode()
    return Request(method, path, (), b"")


def made(ask: Ask, words: str = "", target: bytes = VIDEOS, **fields: Any) -> Any:
    prompt = f"A wheel [[sim {words}]]" if words else "A wheel"
    status, body = ask(post(target, {"model": "sim-film", "prompt": prompt, **fields}))
    assert status == 200
    return body


def test_openai_video_is_queued_then_completed_and_has_content(ask: Ask) -> None:
    video = made(ask, seconds="8", size="64x64")
    assert (video["status"], video["seconds"], video["size"]) == ("queued", "8", "64x64")
    path = VIDEOS + b"/" + video["id"].encode()
    assert ask(get(path + b"/content"))[0] == 404
    done = ask(get(path))[1]
    assert (done["status"], done["progress"], done["error"]) == ("completed", 100, None)
    status, content = ask(get(path + b"/content"))
    assert (status, film_words(content)) == (200, "A wheel (8 s, 64x64)")
    assert ask(get(path + b"/content?variant=thumbnail"))[1][:4] == b"RIFF"
    assert ask(get(path + b"/content?variant=spritesheet"))[1][:2] == b"\xff\xd8"
    assert ask(get(path + b"/content?variant=sound"))[0] == 400
    assert ask(get(path, b"DELETE"))[1]["deleted"]
    assert ask(get(path))[0] == 404


def test_openai_video_by_a_form_refers_to_its_picture(ask: Ask) -> None:
    reference = ("input_reference", "a.png", "image/png", PICTURE)
    fields = {"model": "sim-film", "prompt": "A wheel [[sim life=slow:1]]", "seconds": "4"}
    video = ask(form(VIDEOS, fields, [reference]))[1]
    path = VIDEOS + b"/" + video["id"].encode()
    assert [ask(get(path))[1]["status"] for _ in range(2)] == ["in_progress", "completed"]
    assert " after image/png 32x16 " in str(film_words(ask(get(path + b"/content"))[1]))


def test_openai_videos_are_listed_and_remixed(ask: Ask) -> None:
    first, second = made(ask), made(ask, "life=slow:1")
    listed = ask(get(VIDEOS + b"?limit=1"))[1]
    assert [video["id"] for video in listed["data"]] == [second["id"]]
    assert listed["has_more"]
    after = f"/v1/videos?after={second['id']}".encode()
    assert [video["id"] for video in ask(get(after))[1]["data"]] == [first["id"]]
    remixed = made(ask, target=VIDEOS + b"/" + first["id"].encode() + b"/remix")
    assert remixed["remixed_from_video_id"] == first["id"]


def test_lives_of_a_job_by_its_polls(ask: Ask, account: Account) -> None:
    def states(words: str, count: int) -> list[Any]:
        path = VIDEOS + b"/" + made(ask, words)["id"].encode()
        found = []
        for _ in range(count):
            status, body = ask(get(path))
            found.append(body["status"] if status == 200 else status)
        return found

    assert states("life=slow:2", 4) == ["in_progress"] * 2 + ["completed"] * 2
    assert states("life=fail", 1) == ["failed"]
    assert states("life=slow:1,fail", 2) == ["in_progress", "failed"]
    assert states("life=flaky:2", 3) == [503, 503, "completed"]
    assert states("life=slow:3,gone:2", 3) == ["in_progress", "in_progress", 404]
    assert states("life=held", 5) == ["in_progress"] * 5
    held = next(reversed(account.jobs.values()))
    account.release()
    assert ask(get(VIDEOS + b"/" + held.id.encode()))[1]["status"] == "completed"


def test_content_of_an_expiring_job_can_be_fetched_so_many_times(ask: Ask) -> None:
    path = VIDEOS + b"/" + made(ask, "life=expire:2")["id"].encode()
    ask(get(path))
    assert [ask(get(path + b"/content"))[0] for _ in range(3)] == [200, 200, 403]


def test_refused_creation_makes_no_job_and_a_lost_one_does(ask: Ask, account: Account) -> None:
    refused = {"model": "sim-film", "prompt": "A wheel [[sim fault=status:503]]"}
    assert ask(post(VIDEOS, refused))[0] == 503
    assert not account.jobs
    lost = {"model": "sim-film", "prompt": "A wheel [[sim fault=lost]]"}
    assert ask(post(VIDEOS, lost)) == (200, b"")
    assert [job.prompt for job in account.jobs.values()] == [lost["prompt"]]


def test_second_use_of_an_idempotency_key_is_refused_where_the_vendor_does(ask: Ask) -> None:
    words = "[[sim refuse=idempotency-key]]"
    request = post(VIDEOS, {"model": "sim-film", "prompt": words + " A wheel"})
    keyed = Request(b"POST", VIDEOS, (*request.headers, (b"idempotency-key", b"k")), request.body)
    assert ask(keyed)[0] == 200
    status, body = ask(keyed)
    assert (status, body["error"]["code"]) == (422, "idempotency_key_reuse")
    assert ask(request)[0] == 200


def test_vendor_s_cost_is_reported_when_wanted(ask: Ask) -> None:
    path = VIDEOS + b"/" + made(ask, "usage=cost")["id"].encode()
    assert ask(get(path))[1]["usage"] == {"cost": 0.25}


@pytest.mark.parametrize("fields", [{"seconds": "0"}, {"seconds": "long"}, {"size": "big"}])
def test_video_with_an_impossible_field_is_refused(ask: Ask, fields: dict[str, Any]) -> None:
    assert ask(post(VIDEOS, {"model": "m", "prompt": "p", **fields}))[0] == 400


def test_xai_video_is_pending_then_done_with_a_public_link(ask: Ask) -> None:
    answer_ = made(ask, "life=slow:1", VIDEOS + b"/generations", duration=3)
    path = VIDEOS + b"/" + answer_["request_id"].encode()
    status, body = ask(get(path))
    assert (status, body["status"]) == (202, "pending")
    done = ask(get(path))[1]
    assert (done["status"], done["video"]["duration"]) == ("done", 3)
    assert film_words(ask(get(done["video"]["url"]))[1]) == "A wheel (3 s, 720x1280)"


def test_new_api_video_succeeds_or_fails(ask: Ask) -> None:
    target = b"/v1/video/generations"
    for words, status in (("", "succeeded"), ("life=fail", "failed")):
        task = made(ask, words, target)["task_id"].encode()
        body = ask(get(target + b"/" + task))[1]
        assert body["status"] == status
        assert ("url" in body, "error" in body) == (status == "succeeded", status == "failed")


def test_fal_job_is_completed_even_when_it_failed_and_can_be_cancelled(ask: Ask) -> None:
    target = b"/fal-ai/some/model"
    job = made(ask, "life=slow:1", target)
    assert [ask(get(job["status_url"]))[1]["status"] for _ in range(2)] == ["IN_QUEUE", "COMPLETED"]
    video = ask(get(job["response_url"]))[1]["video"]
    assert len(ask(get(video["url"]))[1]) == video["file_size"]
    failed = made(ask, "life=fail", target)
    assert ask(get(failed["status_url"]))[1]["status"] == "COMPLETED"
    assert ask(get(failed["response_url"]))[0] == 422
    slow = made(ask, "life=held", target)
    assert ask(get(slow["cancel_url"], b"PUT"))[0] == 200
    assert ask(get(slow["response_url"]))[0] == 422


def test_minimax_music_is_hexadecimal_or_a_link_and_fails_inside_of_a_200(ask: Ask) -> None:
    target = b"/v1/music_generation"
    found = made(
        ask, target=target, lyrics="[verse] Round it goes", audio_setting={"format": "wav"}
    )
    data = bytes.fromhex(found["data"]["audio"])
    assert words_of(data) == "A wheel / [verse] Round it goes"
    assert found["extra_info"]["music_duration"] == round(seconds_of(data) * 1000)
    linked = made(ask, target=target, output_format="url")
    assert words_of(ask(get(linked["data"]["audio"]))[1]) == "A wheel"
    failed = made(ask, "life=fail", target)
    assert (failed["base_resp"]["status_code"], failed["data"]) == (1026, None)
    bad = made(ask, target=target, audio_setting={"format": "midi"})
    assert bad["base_resp"]["status_code"] == 2013


def test_elevenlabs_music_is_bytes_of_the_wanted_length(ask: Ask) -> None:
    target = b"/v1/music?output_format=wav_24000"
    status, data = ask(post(target, {"prompt": "A wheel", "music_length_ms": 3000}))
    assert (status, words_of(data), seconds_of(data)) == (200, "A wheel", 3.0)
    assert ask(post(target, {"prompt": "A wheel", "music_length_ms": 10}))[0] == 400
    assert ask(post(target, {}))[0] == 422


def test_suno_music_has_two_clips_and_refuses_inside_of_a_200(ask: Ask) -> None:
    task = made(ask, "life=slow:1", b"/suno/submit/music", mv="chirp")["data"]
    path = b"/suno/fetch/" + task.encode()
    assert ask(get(path))[1]["data"]["status"] == "IN_PROGRESS"
    described = {"mv": "chirp", "gpt_description_prompt": "A wheel", "make_instrumental": True}
    assert ask(post(b"/suno/submit/music", described))[1]["code"] == "success"
    done = ask(get(path))[1]["data"]
    assert (done["status"], len(done["data"])) == ("SUCCESS", 2)
    assert words_of(ask(get(done["data"][1]["audio_url"]))[1]) == "A wheel"
    failed = made(ask, "life=fail", b"/suno/submit/music")["data"]
    assert ask(get(b"/suno/fetch/" + failed.encode()))[1]["data"]["status"] == "FAILURE"
    assert ask(post(b"/suno/submit/music", {"model": "m"}))[1]["code"] == "invalid_request"


def test_a_job_is_unknown_in_another_shape(ask: Ask) -> None:
    xai = made(ask, target=VIDEOS + b"/generations")["request_id"].encode()
    assert ask(get(b"/v1/video/generations/" + xai))[0] == 404
    assert ask(get(b"/suno/fetch/" + xai))[0] == 404
    assert ask(get(VIDEOS + b"/nothing"))[0] == 404


async def test_server_counts_jobs_polls_and_downloads_and_releases_what_is_held() -> None:
    async with SimulatorServer() as server:
        words = "A wheel [[sim life=held]]"
        created = await exchange(server, post(VIDEOS, {"model": "m", "prompt": words}))
        job = json.loads(created[1])["id"]
        path = VIDEOS + b"/" + job.encode()
        for status in ("in_progress", "in_progress"):
            assert json.loads((await exchange(server, get(path)))[1])["status"] == status
        await exchange(server, get(b"/release"))
        assert json.loads((await exchange(server, get(path)))[1])["status"] == "completed"
        await exchange(server, get(path + b"/content"))
        stats = server.stats
        assert (stats.jobs, stats.polls, stats.downloads) == (1, 3, 1)
        assert stats.polled == {job: 3}
        report = json.loads((await exchange(server, get(b"/stats")))[1])
        assert report["polled"] == {job: 3}
        await until(lambda: server.stats.connections == 0)


async def test_in_process_a_lost_creation_is_a_broken_connection_and_one_job() -> None:
    upstream = SimulatorUpstream()
    request = post(VIDEOS, {"model": "m", "prompt": "A wheel [[sim fault=lost]]"})
    with pytest.raises(Disconnected):
        await upstream.open(request)
    assert len(upstream.account.jobs) == upstream.stats.jobs == 1
