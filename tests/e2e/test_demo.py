"""`penstock demo`: what it prints is true and what it offers to paste works."""

import re
import signal
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from .program import DEADLINE, Program
from .wire import events, text_of


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program("demo", "--port", "0", folder=tmp_path_factory.mktemp("demo"))
    try:
        yield program
    finally:
        assert program.stop(signal.SIGINT) == 0, program.stderr


def test_it_shows_a_streamed_call_and_what_was_stamped_on_it(demo: Program) -> None:
    assert f"Penstock is up at {demo.url}\n" in demo.stdout
    assert "You said: Say in a few words what a penstock does." in demo.stdout
    stamped = dict(re.findall(r"^  ([a-z-]+): (.+)$", demo.stdout, re.MULTILINE))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", stamped["x-request-id"])
    assert stamped["x-model-used"] == "sim-1"
    assert re.fullmatch(r"edge;dur=[\d.]+, upstream;dur=[\d.]+", stamped["server-timing"])


def shell_lines(demo: Program, word: str) -> list[str]:
    """The printed lines for a shell that begin with a word, each with what continues it."""
    script = demo.stdout.replace("\\\n", " ")
    return [line.strip() for line in script.splitlines() if line.strip().startswith(f"{word} ")]


@pytest.mark.parametrize(
    ("index", "path", "end"),
    [
        (0, "/v1/chat/completions", "[DONE]"),
        (1, "/v1/messages", {"type": "message_stop"}),
        (2, "/v1/responses", None),
    ],
)
def test_its_curl_lines_work_as_they_stand(
    demo: Program, index: int, path: str, end: object
) -> None:
    (key,) = shell_lines(demo, "export")
    call = shell_lines(demo, "curl")[index]
    assert f"{demo.url}{path}" in call
    script = f"{key}\n{call} --silent --noproxy '*'"
    done = subprocess.run(["sh", "-ec", script], capture_output=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    assert text_of(done.stdout).startswith("You said: Hello")
    last = events(done.stdout)[-1]
    assert last == end if end is not None else last["type"] == "response.completed"


def test_there_are_no_other_curl_lines(demo: Program) -> None:
    assert len(shell_lines(demo, "curl")) == 3


def test_its_page_loads(demo: Program) -> None:
    found = re.search(r"Page: +(\S+)", demo.stdout)
    assert found
    page = httpx.get(found[1], trust_env=False)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "sim-1" in page.text
    assert demo.url in page.text


def test_a_taken_port_is_said_when_it_was_asked_for(demo: Program) -> None:
    with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1 port {demo.port}"):
        Program("demo", "--port", str(demo.port), folder=demo.folder)
