"""What the README shows is run: its Python and its curl lines against `penstock demo`."""

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import httpx
import pytest

from edge.settings import parse
from tests.asgi import lifespan, request
from tests.waiting import DEADLINE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The one code block of a language that contains a text."""
    found = [
        code
        for code in re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
        if containing in code
    ]
    assert len(found) == 1, f"{len(found)} blocks of {language} contain {containing!r}"
    return str(found[0])


def run(code: str, **names: Any) -> SimpleNamespace:
    exec(compile(code, "README.md", "exec"), names)
    return SimpleNamespace(**names)


class Demo(NamedTuple):
    url: str
    key: str
    said: str


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """A running `penstock demo`, as `make demo` starts it, with no provider's key around."""
    env = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    command = [sys.executable, "-c", "from edge.cli import main; main()", "demo", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if line.startswith("ready "):
                    break
            url = re.search(r"^ready (http://\S+)$", said, re.MULTILINE)
            key = re.search(r"sk-\S+", said)
            assert url and key, said
            yield Demo(url[1], key[0], said)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE)


def test_the_demo_shows_a_call_and_what_to_paste(demo: Demo) -> None:
    assert f"curl -N {demo.url}/v1/chat/completions" in demo.said
    assert f"curl -N {demo.url}/v1/messages" in demo.said
    assert re.search(r"x-request-id: [0-9a-f]{8}-", demo.said)
    assert "x-model-used: sim-1" in demo.said


def test_the_curl_lines(demo: Demo) -> None:
    script = block("sh", "curl -N").replace("$PENSTOCK_KEY", demo.key).replace("\\\n", " ")
    script = script.replace("http://127.0.0.1:8080", demo.url)
    ends = []
    for call in script.split("curl -N ")[1:]:
        url, *options = shlex.split(call)
        pairs = list(zip(options[::2], options[1::2], strict=True))
        headers = dict(value.split(": ", 1) for flag, value in pairs if flag == "-H")
        (body,) = (value for flag, value in pairs if flag == "-d")
        answer = httpx.post(url, headers=headers, content=body, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        ends.append(answer.text.rstrip().splitlines()[-1])
    assert ends == ["data: [DONE]", 'data: {"type":"message_stop"}']


@pytest.mark.parametrize("sdk", ["from openai import", "from anthropic import"])
def test_the_sdk_lines(demo: Demo, sdk: str) -> None:
    code = block("python", sdk).replace("http://127.0.0.1:8080", demo.url)
    with redirect_stdout(io.StringIO()) as printed:
        shown = run(code, PENSTOCK_KEY=demo.key)
        shown.client.close()
    assert "Hello" in printed.getvalue()


async def test_the_middlewares_in_a_strangers_app() -> None:
    """As it stands: the key is in the line that it prints when it starts."""
    shown = run(block("python", "from middlewares"))
    with redirect_stdout(io.StringIO()) as printed:
        async with lifespan(shown.app) as state:
            (header,) = re.findall(r"Authorization: (Bearer \S+)'", printed.getvalue())
            refused = await request(shown.app, state=state)
            answered = await request(shown.app, headers={"authorization": header}, state=state)
    assert (refused.status, refused.json()["error"]["code"]) == (401, "missing_key")
    assert (answered.status, answered.text) == (200, "hello Alice\n")
    assert refused.header("x-request-id") != answered.header("x-request-id")


def test_the_configuration_is_accepted() -> None:
    document = tomllib.loads(block("toml", "[[upstreams]]"))
    settings = parse(document, env={"ANTHROPIC_API_KEY": "sk-ant-0123456789"})
    assert [model.id for model in settings.models] == ["smart"]
