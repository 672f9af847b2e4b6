"""What each adapter writes and reads, from the vendors' documented bodies."""

from typing import Any

import pytest

from edge.media.jobs.vendors import VENDORS
from edge.media.jobs.vendors.base import Answer, state_of
from edge.media.jobs.work import Media, Work
from middlewares.stores.jobs.base import Result

VIDEO = Work(
    kind="video",
    prompt="a gate",
    seconds=6.0,
    size="1280x720",
    aspect_ratio="16:9",
    seed=7,
    media=Media(image="https://i.example/a.png"),
    extra={"camera": "pan"},
)
MUSIC = Work(kind="music", prompt="a tune", lyrics="la", style="slow", title="T", seconds=30.0)


@pytest.mark.parametrize(
    ("vendor", "path", "body"),
    [
        (
            "openai-videos",
            "/videos",
            {
                "model": "m",
                "prompt": "a gate",
                "seconds": "6",
                "size": "1280x720",
                "aspect_ratio": "16:9",
                "input_reference": {"image_url": "https://i.example/a.png"},
                "seed": 7,
                "camera": "pan",
            },
        ),
        (
            "xai",
            "/videos/generations",
            {
                "model": "m",
                "prompt": "a gate",
                "duration": 6,
                "aspect_ratio": "16:9",
                "image": {"url": "https://i.example/a.png"},
                "camera": "pan",
            },
        ),
        (
            "new-api",
            "/video/generations",
            {
                "model": "m",
                "prompt": "a gate",
                "duration": 6,
                "width": 1280,
                "height": 720,
                "size": "1280x720",
                "seed": 7,
                "image": "https://i.example/a.png",
                "metadata": {"aspect_ratio": "16:9"},
                "camera": "pan",
            },
        ),
        (
            "fal",
            "/m",
            {
                "prompt": "a gate",
                "duration": 6,
                "aspect_ratio": "16:9",
                "image_url": "https://i.example/a.png",
                "seed": 7,
                "camera": "pan",
            },
        ),
    ],
)
def test_video_is_written_as_each_vendor_takes_it(
    vendor: str, path: str, body: dict[str, Any]
) -> None:
    call = VENDORS[vendor].submit(VIDEO, "m", "token")
    assert (call.method, call.path, call.body) == ("POST", path, body)


@pytest.mark.parametrize(
    ("vendor", "path", "query", "body"),
    [
        (
            "suno",
            "/suno/submit/music",
            "",
            {
                "prompt": "la",
                "tags": "slow",
                "title": "T",
                "mv": "m",
                "make_instrumental": False,
            },
        ),
        (
            "minimax",
            "/music_generation",
            "",
            {
                "model": "m",
                "prompt": "a tune, slow",
                "lyrics": "la",
                "output_format": "url",
                "audio_setting": {"sample_rate": 44100, "bitrate": 256000, "format": "mp3"},
            },
        ),
        (
            "elevenlabs",
            "/music",
            "output_format=mp3_44100_128",
            {"prompt": "a tune\nslow\nla", "music_length_ms": 30000, "model_id": "m"},
        ),
    ],
)
def test_music_is_written_as_each_vendor_takes_it(
    vendor: str, path: str, query: str, body: dict[str, Any]
) -> None:
    call = VENDORS[vendor].submit(MUSIC, "m", "token")
    assert (call.path, call.query, call.body) == (path, query, body)


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_seconds_are_always_sent_where_the_vendor_takes_them(vendor: str) -> None:
    """eliza#11862: what is rendered is what is charged."""
    adapter = VENDORS[vendor]
    kind = adapter.kinds[0]
    work = Work(kind=kind, prompt="p")
    seconds = adapter.seconds(work)
    assert adapter.most_seconds(work) >= seconds
    call = adapter.submit(work, "m", "token")
    if seconds:
        assert call.body is not None
        assert {"seconds", "duration", "music_length_ms"} & set(call.body) or vendor == "penstock"


@pytest.mark.parametrize(
    ("vendor", "body", "answer"),
    [
        ("openai-videos", {"id": "v", "status": "queued"}, Answer("running", "v")),
        ("xai", {"request_id": "r"}, Answer("running", "r")),
        ("new-api", {"task_id": "t", "status": "submitted"}, Answer("running", "t")),
        ("new-api", {"code": "success", "data": {"task_id": "t"}}, Answer("running", "t")),
        ("new-api", {"code": "success", "data": "t"}, Answer("running", "t")),
        ("suno", {"code": "success", "data": "t"}, Answer("running", "t")),
        ("suno", {"code": 200, "data": {"task_id": "t"}}, Answer("running", "t")),
        ("penstock", {"job_id": "j", "status": "queued"}, Answer("running", "j")),
        (
            "fal",
            {
                "request_id": "r",
                "response_url": "https://queue.fal.run/fal-ai/kling/requests/r",
            },
            Answer("running", "fal-ai/kling/requests/r"),
        ),
        (
            "minimax",
            {
                "data": {"audio": "https://c.example/a.mp3"},
                "extra_info": {"music_duration": 25000},
                "base_resp": {"status_code": 0},
            },
            Answer(
                "succeeded",
                results=(Result(url="https://c.example/a.mp3", seconds=25.0),),
                seconds=25.0,
            ),
        ),
    ],
)
def test_answer_to_a_submission_names_the_job(
    vendor: str, body: dict[str, Any], answer: Answer
) -> None:
    assert VENDORS[vendor].submitted(body) == answer


@pytest.mark.parametrize("vendor", sorted(set(VENDORS) - {"minimax"}))
@pytest.mark.parametrize("body", [None, [], {}, {"id": []}, {"id": True}, "text", 5])
def test_answer_that_names_no_job_is_an_error(vendor: str, body: Any) -> None:
    with pytest.raises(ValueError, match="the answer"):
        VENDORS[vendor].submitted(body)


def test_failing_code_with_status_200_is_a_refusal() -> None:
    refused = VENDORS["suno"].submitted({"code": "error", "message": "no quota", "data": None})
    assert (refused.state, refused.id) == ("failed", "")
    refused = VENDORS["minimax"].submitted({"base_resp": {"status_code": 1008, "status_msg": "x"}})
    assert (refused.state, refused.id) == ("failed", "")
    filtered = VENDORS["minimax"].submitted({"base_resp": {"status_code": 1026}})
    assert filtered.error == {"error": {"code": "content_filter"}}


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("queued", "running"),
        ("IN_QUEUE", "running"),
        ("processing", "running"),
        ("in-progress", "running"),
        ("a word that nothing has", "running"),
        (None, "running"),
        ("succeed", "succeeded"),
        ("SUCCESS", "succeeded"),
        ("Completed", "succeeded"),
        ("done", "succeeded"),
        ("FAILURE", "failed"),
        ("expired", "failed"),
        ("canceled", "cancelled"),
    ],
)
def test_words_of_vendors_mean_states(word: Any, state: str) -> None:
    assert state_of(word) == state


@pytest.mark.parametrize(
    ("vendor", "body", "state", "urls", "seconds", "cost"),
    [
        (
            "openai-videos",
            {
                "status": "completed",
                "unsigned_urls": ["https://r.example/1"],
                "usage": {"cost": 0.25},
                "seconds": "4",
            },
            "succeeded",
            ["https://r.example/1"],
            4.0,
            0.25,
        ),
        ("openai-videos", {"status": "completed"}, "succeeded", [], None, None),
        (
            "xai",
            {"video": {"url": "https://x.example/v.mp4", "duration": 6}},
            "succeeded",
            ["https://x.example/v.mp4"],
            6.0,
            None,
        ),
        ("xai", {"status": "pending"}, "running", [], None, None),
        (
            "new-api",
            {
                "status": "succeeded",
                "url": "https://n.example/v.mp4",
                "metadata": {"duration": 5, "width": 640, "height": 360},
            },
            "succeeded",
            ["https://n.example/v.mp4"],
            5.0,
            None,
        ),
        (
            "suno",
            {
                "code": "success",
                "data": {
                    "status": "SUCCESS",
                    "progress": "100%",
                    "data": [
                        {"audio_url": "https://s.example/1.mp3", "metadata": {"duration": 100.5}},
                        {"audio_url": "https://s.example/2.mp3", "duration": 99.5},
                    ],
                },
            },
            "succeeded",
            ["https://s.example/1.mp3", "https://s.example/2.mp3"],
            200.0,
            None,
        ),
        (
            "fal",
            {"audio": {"url": "https://f.example/a.wav", "content_type": "audio/wav"}},
            "succeeded",
            ["https://f.example/a.wav"],
            None,
            None,
        ),
        ("fal", {"status": "COMPLETED", "error": "out of memory"}, "failed", [], None, None),
        ("fal", {"detail": "nothing"}, "failed", [], None, None),
        (
            "penstock",
            {
                "status": "succeeded",
                "output": [{"url": "https://p.example/f", "mime_type": "video/mp4"}],
                "usage": {"cost": "0.30", "seconds": 4},
            },
            "succeeded",
            ["https://p.example/f"],
            4.0,
            0.30,
        ),
    ],
)
def test_answer_to_a_question_is_read(
    vendor: str,
    body: dict[str, Any],
    state: str,
    urls: list[str],
    seconds: float | None,
    cost: float | None,
) -> None:
    answer = VENDORS[vendor].polled(body, "fal-ai/x/requests/r")
    assert answer.state == state
    assert [result.url for result in answer.results] == urls
    assert (answer.seconds, answer.cost) == (seconds, cost)


def test_finished_request_of_fal_has_its_result_elsewhere() -> None:
    answer = VENDORS["fal"].polled({"status": "COMPLETED"}, "fal-ai/x/requests/r")
    assert answer.then is not None
    assert (answer.then.method, answer.then.path) == ("GET", "/fal-ai/x/requests/r")


@pytest.mark.parametrize("vendor", ["openai-videos", "xai", "new-api", "fal", "suno", "penstock"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": []},
        {"status": "completed", "url": 5, "video": [], "output": {}, "usage": "x", "data": 7},
        {"status": "failed", "error": 7, "progress": "most", "seconds": "-4"},
    ],
)
def test_members_of_any_type_break_no_adapter(vendor: str, body: dict[str, Any]) -> None:
    answer = VENDORS[vendor].polled(body, "a/requests/r")
    assert answer.seconds is None or answer.seconds >= 0


def test_plan_of_a_composition_gives_the_length() -> None:
    plan = {"sections": [{"duration_ms": 20_000}, {"duration_ms": 15_000}]}
    work = Work(kind="music", composition_plan=plan)
    adapter = VENDORS["elevenlabs"]
    assert adapter.seconds(work) == 35.0
    call = adapter.submit(work, "m", "token")
    assert call.body == {"composition_plan": plan, "model_id": "m"}
