"""What strangers and holders of each profile see: the requests of its page at / run as pasted, its
pages lead nowhere else, and a budget resets when every page says."""

import html
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.profiles.system import NAMES, Serve, serve_profile, started_once

from .program import DEADLINE, Gateway, Program, environment, until
from .visitor import signed_in

_BLOCK = re.compile(
    r'<h3>([^<]*)</h3><button[^>]* data-copy="request-[^<]*</button></div>'
    r"\s*<div[^>]*><pre[^>]*>(.*?)</pre>",
    re.DOTALL,
)
_JOB = "JOB_ID"
CHANGES: dict[str, Any] = {
    "claude-code-proxy": {"upstreams": [{"name": "claude", "dialect": "simulator"}]},
}
"""The program `claude` is slow."""


@pytest.fixture(scope="module")
def serve(simulator: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The gateway of a profile, which lives as long as the module."""

    def start(name: str) -> Gateway:
        folder = tmp_path_factory.mktemp(name)
        return serve_profile(name, folder, simulator, changes=CHANGES.get(name))

    with started_once(start) as serve:
        yield serve


def pasted(text: str, folder: Path, variables: dict[str, str]) -> str:
    """What a shell prints. curl says nothing but answers, and fails at an error."""
    (folder / ".curlrc").write_text('silent\nshow-error\nfail-with-body\nnoproxy = "*"\n')
    done = subprocess.run(
        ["sh", "-e", "-c", text],
        cwd=folder,
        env={**environment(), "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, (text, done.stdout, done.stderr)
    return done.stdout


def of_chat(text: str, folder: Path) -> bool:
    return '"object":"chat.completion.chunk"' in text.replace(": ", ":") and "[DONE]" in text


def of_messages(text: str, folder: Path) -> bool:
    return "event: message_start" in text and "event: message_stop" in text


def made_speech(text: str, folder: Path) -> bool:
    return not text and (folder / "speech.mp3").stat().st_size > 0


def has(name: str) -> Callable[[str, Path], bool]:
    return lambda text, folder: bool(json.loads(text)[name])


ANSWERS: dict[str, Callable[[str, Path], bool]] = {
    "Chat Completions": of_chat,
    "Messages": of_messages,
    "Messages at /v1/chat/completions": of_messages,
    "Responses": lambda text, folder: "event: response.completed" in text,
    "Embeddings": has("data"),
    "Images": has("data"),
    "Speech": made_speech,
    "Transcripts": has("text"),
    "Video: the answer has a job_id, which is then asked for": has("job_id"),
    "Music, in the same way": has("job_id"),
    "Files": has("id"),
}
"""Whether an answer is of the form that the title of a request promises."""

SHOWN = {
    "claudin": {"Chat Completions", "Messages", "Responses", "Embeddings"},
    "claude-code-proxy": {"Chat Completions", "Messages", "Messages at /v1/chat/completions"},
    "claudexia": {"Chat Completions"},
    "multimodal": set(ANSWERS) - {"Messages at /v1/chat/completions"},
    "capio": {"Chat Completions", "Messages"},
}
"""Requests that a profile's page has to have. It may have others, if they work."""


@pytest.mark.parametrize("name", NAMES)
def test_requests_of_a_profile_work_as_pasted(serve: Serve, name: str, tmp_path: Path) -> None:
    gateway = serve(name)
    page = gateway.get("/").text
    blocks = {title: html.unescape(text) for title, text in _BLOCK.findall(page)}
    assert blocks.keys() >= SHOWN[name]
    (variable,) = re.findall(r"export (\w+_API_KEY)=", page) or [""]
    variables = {variable: gateway.new_key("reader")} if variable else {}
    if name == "capio":
        gateway.run("credits", "add", "reader", "5.00")
    assert all((f"${variable}" in text) is bool(variable) for text in blocks.values())
    (tmp_path / "notes.pdf").write_bytes(b"%PDF-1.7\nnotes")
    for title, text in blocks.items():
        first, again, poll = text.partition("\ncurl ")
        answer = pasted(first, tmp_path, variables)
        assert ANSWERS[title](answer, tmp_path), (title, answer)
        if again:
            job = json.loads(answer)["job_id"]
            asked = json.loads(pasted(f"curl {poll}".replace(_JOB, job), tmp_path, variables))
            assert job in (asked["id"], asked.get("job_id"))


@pytest.mark.parametrize("name", NAMES)
def test_pages_of_a_profile_are_there_and_name_no_provider(serve: Serve, name: str) -> None:
    gateway = serve(name)
    content = json.loads(gateway.file.read_text())
    for path in ("/", "/app/setup", "/app/sign-in"):
        answer = gateway.get(path)
        assert answer.status_code == 200
        text = html.unescape(answer.text)
        for upstream in content["upstreams"]:
            hidden = [upstream.get("base_url"), upstream.get("api_key")]
            assert not any(value and value in text for value in hidden)
        for link in re.findall(r'(?:href|src)="(/[^"#]*)', answer.text):
            assert gateway.get(link).status_code == 200, link


@pytest.mark.parametrize("name", ["claudexia", "capio"])
def test_pages_of_text_models_name_no_endpoint_of_other_media(serve: Serve, name: str) -> None:
    gateway = serve(name)
    page = gateway.get("/").text
    for path in ("embeddings", "images/generations", "audio/speech", "videos/generations"):
        assert f"/v1/{path}" not in page
        answer = gateway.post(f"/v1/{path}", {"model": "m"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "endpoint_not_allowed")


def test_gateway_without_keys_has_nothing_to_sign_in_with(serve: Serve) -> None:
    gateway = serve("claude-code-proxy")
    page = html.unescape(gateway.get("/").text)
    assert "No key is needed." in page and "Sign in" not in page
    assert "60 requests per minute, and 10 more at once" in page
    led = gateway.get("/app", follow_redirects=True)
    assert led.status_code == 200 and 'href="/app/setup"' in led.text
    setup = html.unescape(gateway.get("/app/setup").text)
    assert f"export ANTHROPIC_BASE_URL={gateway.url}\n" in setup
    assert f'"baseURL": "{gateway.url}/openai/v1"' in setup
    assert re.findall(r'id="base[^"]*"[^>]*>([^<]+)<', page) == [
        *(f"{gateway.url}/openai/v1", gateway.url),
    ]
    assert 'id="codex"' not in setup, "it speaks Responses"


@pytest.mark.parametrize("guide", ["openai", "anthropic"])
def test_sdk_without_a_key_works_as_set_up(serve: Serve, guide: str, tmp_path: Path) -> None:
    page = serve("claude-code-proxy").get("/app/setup").text
    (code,) = re.findall(rf'<pre id="{guide}-1"[^>]*>(.*?)</pre>', page, re.DOTALL)
    (tmp_path / "hello.py").write_text(html.unescape(code))
    env = {**environment(), "NO_PROXY": "*"}
    printed = subprocess.run(
        [sys.executable, "hello.py"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert "This answer was made by the simulator." in printed.stdout, printed.stderr


def test_price_list_has_what_its_brand_says(serve: Serve) -> None:
    page = html.unescape(serve("capio").get("/").text)
    assert "Pay as you go. Credits never expire." in page
    rows = {
        cells[0].split()[0]: cells
        for row in re.findall(r"<tr>(.*?)</tr>", page.partition('id="models"')[2], re.DOTALL)
        if (cells := [" ".join(re.sub(r"<[^>]+>", " ", one).split()) for one in cells_of(row)])
    }
    assert rows["deepseek-v4-flash"][1] == "1M" and rows["kimi-k2.6"][1] == "262K"
    assert rows["claude-opus-4-8"][1] == rows["gemini-3.1-pro"][1] == "\u2013"
    assert {"$0.07", "$0.14"} <= set(rows["deepseek-v4-flash"])
    assert {"$0.30", "$1.20"} <= set(rows["MiniMax-M3"])


def cells_of(row: str) -> list[str]:
    return re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)


def test_plan_of_a_brand_has_its_windows(serve: Serve) -> None:
    page = html.unescape(serve("claudin").get("/").text)
    assert "5.00 credits per 5h" in page and "40.00 credits per 7d" in page
    assert "Images, audio and video in requests become text" in page


def test_window_resets_at_the_same_second_on_every_page(serve: Serve) -> None:
    gateway = serve("claudin")
    limits = {"windows": [{"length": "5h", "credits": "0.0001"}]}
    secret = gateway.new_key("spender", limits=limits)
    headers = {"authorization": f"Bearer {secret}"}
    body = {
        "model": "claudinio",
        "max_tokens": 20,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    answers = [gateway.post("/v1/chat/completions", body, **headers)]
    while answers[-1].status_code == 200 and len(answers) < 20:
        answers.append(gateway.post("/v1/chat/completions", body, **headers))
    assert answers[0].status_code == 200, answers[0].text
    refused = answers[-1]
    assert refused.status_code == 429, refused.text
    error: dict[str, Any] = refused.json()["error"]
    (window,) = gateway.get("/v1/limits", headers=headers).json()["windows"]
    assert seconds(window["resets_at"]) == seconds(error["reset_at"])
    with signed_in(gateway, secret) as visitor:
        page = visitor.get("/app").text
    shown = re.findall(r'<time datetime="([^"]+)" data-form="zoned">([^<]+)</time>', page)
    assert shown and {seconds(at) for at, _ in shown} == {seconds(error["reset_at"])}
    readable = seconds(error["reset_at"]).strftime("%Y-%m-%d %H:%M:%S UTC")
    assert {text for _, text in shown} == {readable}
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert re.search(r"Resets in (5 h|4 h \d+ min)", text), text
    assert "of 0.0001 credits left" in text and "Used" in text


def test_throttled_request_says_that_it_waited(serve: Serve) -> None:
    gateway = serve("claudin")
    limits = {"requests": "1/2s", "burst": 0, "on_excess": "throttle"}
    secret = gateway.new_key("hasty", limits=limits)
    headers = {"authorization": f"Bearer {secret}"}
    body = {"model": "claudinio", "messages": [{"role": "user", "content": "Hi"}]}

    def ask() -> int:
        answer = httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json=body,
            headers=headers,
            trust_env=False,
            timeout=DEADLINE,
        )
        return answer.status_code

    with signed_in(gateway, secret) as visitor, ThreadPoolExecutor(2) as pool:

        def waited() -> str:
            asked = [pool.submit(ask) for _ in range(2)]
            assert [one.result() for one in asked] == [200, 200], "not refused"
            found = re.search(r"waited [\d.]+ m?s", visitor.get("/app/requests").text)
            return found[0] if found else ""

        assert until(waited, what="a request that waited")
        page = visitor.get("/app").text
        assert "wait for their turn and are not refused" in page


def seconds(moment: str) -> datetime:
    return datetime.fromisoformat(moment)
