"""docs/clients.md: its set-up text is the dashboard's, and its curl and Python lines work with
`penstock demo`."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import pytest

from .pages import ROOT, block, curl, page
from .setup_text import made, written
from .waiting import DEADLINE

CLIENTS = page("docs/clients.md")


class Demo(NamedTuple):
    url: str
    key: str
    said: str


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """A running `penstock demo`, as `make demo` starts it, without any provider's key."""
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


def test_demo_prints_a_call_and_lines_to_paste(demo: Demo) -> None:
    assert f"curl -N {demo.url}/v1/chat/completions" in demo.said
    assert f"curl -N {demo.url}/v1/messages" in demo.said
    assert re.search(r"x-request-id: [0-9a-f]{8}-", demo.said)
    assert "x-model-used: sim-1" in demo.said


def test_demo_prints_what_the_readme_shows(demo: Demo) -> None:
    """Ids, keys, ports and times differ."""

    def plain(text: str) -> list[str]:
        text = re.sub(r"sk-penstock-live-[\w.]+|[0-9a-f]{8}-[0-9a-f-]{27}|\d+(\.\d+)?", "N", text)
        return [line for line in text.splitlines() if line]

    shown = plain(block(page("README.md"), "text", "Penstock is up"))
    assert shown == plain(demo.said)[: len(shown)]


def test_set_up_text_is_what_the_dashboard_shows() -> None:
    assert written() == made(), "run `python -m tests.setup_text`"


def test_curl_lines_stream_to_their_end(demo: Demo) -> None:
    ends = []
    for dialect in ("chat/completions", "messages", "responses"):
        (answer,) = curl(block(CLIENTS, "sh", f"/v1/{dialect} "), demo.url, demo.key)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        ends.append(answer.text.rstrip().splitlines()[-1])
    assert ends[:2] == ["data: [DONE]", 'data: {"type":"message_stop"}']
    assert ends[2].startswith('data: {"type":"response.completed"')


@pytest.mark.parametrize("sdk", ["from openai import", "from anthropic import"])
def test_sdk_lines_print_an_answer(demo: Demo, sdk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_API_KEY", demo.key)
    code = block(CLIENTS, "python", sdk).replace("http://127.0.0.1:8080", demo.url)
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "docs/clients.md", "exec"), names)
        names["client"].close()
    assert "Hello" in printed.getvalue()
