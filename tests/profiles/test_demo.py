"""`penstock demo --profile`: its first answer, and every command that it offers, as printed."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import httpx
import pytest

from edge.config import profiles
from tests.e2e.program import DEADLINE, Program, command, environment

from .system import NAMES

ANSWER = "This answer was made by the simulator."


class Demo(NamedTuple):
    """A running demo of a profile, with a folder for what its commands write."""

    name: str
    program: Program
    folder: Path

    @property
    def key(self) -> str:
        found = re.search(r"^A key for you: +(\S+)$", self.program.stdout, re.MULTILINE)
        return found[1] if found else ""

    def offered(self) -> dict[str, str]:
        """The commands of the tour by what they are for. Asserts that they are printed."""
        tour = profiles.tour(self.name)
        found = {}
        for one in tour.commands:
            run = one.run.strip().replace("{url}", self.program.url).replace("{key}", self.key)
            assert indent(f"# {one.says}\n{run}\n", "  ") in self.program.stdout
            found[one.says] = run
        return found

    def paste(self, run: str) -> str:
        """What a command prints. It fails where an answer is an error."""
        (self.folder / ".curlrc").write_text('fail-with-body\nnoproxy = "*"\n')
        env = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            ["sh", "-e", "-c", run],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, f"{run}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module", params=NAMES)
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    program = Program("demo", "--profile", request.param, "--port", "0", folder=folder)
    try:
        yield Demo(request.param, program, folder)
        assert program.stop(signal.SIGINT) == 0, program.stderr
    finally:
        program.kill()


def test_demo_shows_a_first_answer_and_who_gives_it(demo: Demo) -> None:
    printed = demo.program.stdout
    first = profiles.tour(demo.name).first
    assert f"You said: {first.prompt}" in printed
    assert ANSWER in printed
    assert f"x-model-used: {first.model}\n" in printed
    for name in first.shown:
        assert re.search(rf"^  {name}: \S", printed, re.MULTILINE), name
    document = profiles.document(demo.name)
    assert demo.key.startswith(KEYS[demo.name]) and bool(demo.key) is bool(KEYS[demo.name])
    assert ("It takes no key." in printed) is not bool(demo.key)
    for upstream in document["upstreams"]:
        assert re.search(rf"^  {upstream['name']}: simulated", printed, re.MULTILINE)
    page = httpx.get(f"{demo.program.url}/", trust_env=False)
    assert page.status_code == 200
    assert f"Page:    {demo.program.url}/\n" in printed


KEYS = {
    "claudin": "sk-claudinio-live-",
    "claude-code-proxy": "",
    "claudexia": "sk_cdx_",
    "multimodal": "sk-multimodal-live-",
    "capio": "sk-capio-live-",
}
"""What a key of each begins with; "" for none."""


def test_demo_offers_commands_that_work_as_they_are_printed(demo: Demo) -> None:
    printed = {says: demo.paste(run) for says, run in demo.offered().items()}
    shown = "\n".join(printed.values())
    for wanted in SHOWN[demo.name]:
        assert wanted in shown, shown
    if demo.name == "multimodal":
        _multimodal(demo)


SHOWN = {
    "claudin": ("image image/png 230x44", '"type":"message"', '"length":"5h"', '"length":"7d"'),
    "claude-code-proxy": (
        '"type":"message"',
        '"claude-opus-4-20250514"',
        '"object":"chat.completion"',
    ),
    "claudexia": ('"finish_reason":"stop"', '"claude-sonnet-4.5"'),
    "multimodal": ('"The gate is open."', "x-storage-used-bytes: ", '"job_id":"', '"total":{'),
    "capio": ('"input":"0.07"', '"context_window":1000000', '"credits":{"balance":"'),
}
"""What is special about each, in the answers."""


def _multimodal(demo: Demo) -> None:
    picture: Any = json.loads((demo.folder / "picture.json").read_text())
    assert picture["data"][0]["b64_json"]
    assert (demo.folder / "speech.wav").read_bytes().startswith(b"RIFF")
    (film,) = (run for says, run in demo.offered().items() if says.startswith("A film"))
    job = json.loads(demo.paste(film))
    ask = film.splitlines()[-1].replace("$job", job["job_id"])
    end = time.monotonic() + DEADLINE
    while job["status"] != "succeeded":
        assert job["status"] in ("queued", "running") and time.monotonic() < end, job
        time.sleep(0.5)  # a key may ask twice a second
        job = json.loads(demo.paste(ask))


def test_demo_of_an_unknown_profile_names_those_that_there_are() -> None:
    done = subprocess.run(
        command("demo", "--profile", "clodin"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: there is no profile 'clodin'; expected one of "
        "capio, claude-code-proxy, claudexia, claudin, multimodal\n"
    )
