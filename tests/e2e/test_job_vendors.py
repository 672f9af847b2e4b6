"""Video and music jobs at every vendor that the simulator plays, on the real server."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from edge.upstreams.simulator.media.films import film_words
from edge.upstreams.simulator.media.sounds import words_of

from .conftest import SECRETS
from .program import DEADLINE, Gateway, Program, stats, until

VIDEOS = "/v1/videos/generations"
MUSIC = "/v1/music/generations"
VENDORS = {
    "openai-videos": ("/v1", "film", VIDEOS),
    "xai": ("/v1", "film", VIDEOS),
    "new-api": ("/v1", "film", VIDEOS),
    "fal": ("", "fal-ai/film", VIDEOS),
    "minimax": ("/v1", "song", MUSIC),
    "elevenlabs": ("/v1", "song", MUSIC),
    "suno": ("", "song", MUSIC),
}
"""Of each: the path of its base URL, the model, and our path."""
POLLED = [name for name in VENDORS if name not in ("minimax", "elevenlabs")]
FAILING = [*POLLED, "minimax"]
LISTED = "openai-videos"
"""The vendor that has a list, in which a lost job is found."""
FINAL = ("succeeded", "failed", "cancelled")
SECRET = ("SimProvider", "sk-sim", "simsecret", "sim-gpu", "127.0.0.1", "film", "song")

Jobs = dict[tuple[str, str], dict[str, Any]]


def document(simulator: Program) -> dict[str, Any]:
    """A model for each vendor, all of them the simulator over HTTP, and one in process."""
    upstreams: list[dict[str, Any]] = [{"name": "near", "dialect": "simulator"}]
    models: list[dict[str, Any]] = [
        {"id": "near", "targets": ["near/film"], "price": {"job": "1"}},
    ]
    for name, (base, model, _) in VENDORS.items():
        upstreams.append(
            {
                "name": f"far-{name}",
                "dialect": "openai",
                "base_url": f"{simulator.url}{base}",
                "api_key": "env:UPSTREAM_KEY",
                "jobs": name,
            }
        )
        price = {"second": "0.10"}
        models.append({"id": f"on-{name}", "targets": [f"far-{name}/{model}"], "price": price})
    jobs = {"first_poll": "200ms", "polls": "1000/s"}
    return {"upstreams": upstreams, "models": models, "jobs": jobs}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A simulator of its own, since its jobs are counted."""
    program = Program("simulate", "--port", "0", folder=tmp_path_factory.mktemp("provider"))
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, provider: Program) -> Iterator[Gateway]:
    program = Gateway(tmp_path_factory.mktemp("vendors"), document(provider), env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(scope="module")
def caller(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=gateway.url, headers=gateway.bearer, trust_env=False, timeout=DEADLINE
    ) as one:
        yield one


@pytest.fixture(scope="module")
def jobs(caller: httpx.Client) -> Jobs:
    """One job of each vendor in each life, all at once; the last state of each."""
    lives = {
        "well": ("", [*VENDORS, "near"]),
        "failed": ("[[sim life=fail]]", FAILING),
        "flaky": ("[[sim life=slow:1,flaky:1]]", POLLED),
        "lost": ("[[sim fault=lost]]", list(VENDORS)),
    }
    made: Jobs = {}
    for life, (words, names) in lives.items():
        for name in names:
            path = VENDORS[name][2] if name in VENDORS else VIDEOS
            model = f"on-{name}" if name in VENDORS else name
            prompt = f"A wheel of {name} {words}".strip()
            body = {"model": model, "prompt": prompt, "seconds": 4}
            answer = caller.post(path, json=body)
            assert answer.status_code == 202, answer.text
            made[life, name] = {**answer.json(), "path": path}
    waiting = {key for key in made if key[0] != "lost" or key[1] == LISTED}
    deadline = time.monotonic() + DEADLINE
    while waiting:
        assert time.monotonic() < deadline, f"no end: {waiting}"
        time.sleep(0.2)
        for key in sorted(waiting):
            answer = caller.get(f"{made[key]['path']}/{made[key]['job_id']}")
            assert answer.status_code == 200, answer.text
            made[key] |= answer.json()
            if made[key]["status"] in FINAL:
                waiting.discard(key)
    return made


@pytest.mark.parametrize("name", [*VENDORS, "near"])
def test_job_of_a_vendor_ends_with_what_it_made(
    name: str, caller: httpx.Client, jobs: Jobs
) -> None:
    job = jobs["well", name]
    assert job["status"] == "succeeded", job
    content = caller.get(f"{job['path']}/{job['job_id']}/content")
    assert content.status_code == 200
    if job["path"] == VIDEOS:
        assert str(film_words(content.content)).startswith(f"A wheel of {name} (4 s, ")
        assert content.headers["content-type"] == "video/mp4"
    else:
        assert words_of(content.content) == f"A wheel of {name}"
        assert content.headers["content-type"].startswith("audio/")
    assert float(job["usage"]["cost"]) > 0
    shown = str({**job, "poll_url": "", "output": "", "path": ""})
    assert not [word for word in SECRET if word in shown]


@pytest.mark.parametrize("name", FAILING)
def test_job_that_its_vendor_fails_costs_nothing(name: str, jobs: Jobs) -> None:
    job = jobs["failed", name]
    assert job["status"] == "failed"
    assert float(job.get("usage", {}).get("cost", 0)) == 0
    assert not [word for word in SECRET if word in str(job["error"])]


@pytest.mark.parametrize("name", POLLED)
def test_job_whose_polls_fail_for_a_time_succeeds(name: str, jobs: Jobs) -> None:
    assert jobs["flaky", name]["status"] == "succeeded"


def test_job_whose_acceptance_is_lost_is_submitted_once(
    caller: httpx.Client, provider: Program, jobs: Jobs
) -> None:
    """Found in the vendor's list where it has one, else unknown; never sent again."""
    assert jobs["lost", LISTED]["status"] == "succeeded"
    sent = [key for key in jobs if key[1] != "near"]
    until(lambda: stats(provider)["jobs"] >= len(sent), what="every job at its vendor")
    for name in VENDORS:
        if name != LISTED:
            job = jobs["lost", name]
            state = caller.get(f"{job['path']}/{job['job_id']}").json()
            assert state["status"] in ("queued", "running"), state
    assert stats(provider)["jobs"] == len(sent)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_openai_sdk_creates_and_polls(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        video = client.videos.create_and_poll(model="near", prompt="A wheel", seconds="4")
        assert video.status == "completed"
        assert client.videos.download_content(video.id).content[4:8] == b"ftyp"


def test_running_job_is_cancelled_at_a_vendor_that_can(caller: httpx.Client) -> None:
    body = {"model": "on-fal", "prompt": "A wheel [[sim life=held]]", "seconds": 4}
    made = caller.post(VIDEOS, json=body).json()
    path = f"{VIDEOS}/{made['job_id']}"
    until(lambda: caller.get(path).json()["status"] == "running")
    assert caller.post(f"{path}/cancel").status_code == 200
    until(lambda: caller.get(path).json()["status"] in FINAL)
    done = caller.get(path).json()
    assert (done["status"], done["usage"]["cost"]) == ("cancelled", "0.00")
