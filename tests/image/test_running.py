"""The container at work: read-only, as a user without a name, as the first process."""

import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.program import until
from tests.waiting import DEADLINE

from .build import Image
from .container import UID, Container, Mounted, run

CHAT = "/v1/chat/completions"


def chat(text: str, model: str = "sim-1", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def gone(process: psutil.Process) -> bool:
    """Whether not even a zombie is left."""
    return not psutil.pid_exists(process.pid)


def test_container_serves_as_first_process_and_as_any_user(container: Container) -> None:
    first = container.first
    status = Path(f"/proc/{first.pid}/status").read_text()
    assert f"Uid:\t{UID}\t{UID}" in status
    assert status.split("NSpid:")[1].split()[1] == "1"
    assert container.get("/readyz").status_code == 200
    answer = httpx.post(
        f"{container.url}{CHAT}", json=chat("Hello"), trust_env=False, timeout=DEADLINE
    )
    assert answer.status_code == 200, answer.text
    until(lambda: "penstock_requests_total{" in container.get("/metrics").text, what="its metrics")


def test_root_is_read_only(image: Image, mounted: Mounted) -> None:
    done = run(image, mounted, "sh", "-c", "touch /opt/penstock/x /etc/x /x; touch /tmp/x && id -u")
    assert done.stderr.count("Read-only file system") == 3
    assert done.stdout.strip() == str(UID)


def test_health_check_and_commands_run_inside(
    container: Container, image: Image, mounted: Mounted
) -> None:
    found = container.status()
    assert found.returncode == 0, found.stdout + found.stderr
    for words in (("check",), ("migrate",), ("keys", "create", "--name", "k"), ("--version",)):
        done = run(image, mounted, "penstock", *words)
        assert done.returncode == 0, done.stdout + done.stderr


def test_changed_link_of_a_config_map_is_reloaded(container: Container, mounted: Mounted) -> None:
    assert container.models() == {"sim-1", "claude"}
    mounted.write("new")
    until(lambda: "new" in container.models(), what="the new model")
    until(lambda: container.status().returncode == 0, what="a status without a problem")


def test_stop_lets_a_stream_end_and_exits_0(container: Container) -> None:
    body = chat("Hello [[sim tokens=30 rate=10]]", stream=True)
    with httpx.stream(
        "POST", f"{container.url}{CHAT}", json=body, trust_env=False, timeout=DEADLINE
    ) as stream:
        parts = stream.iter_text()
        whole = next(parts)
        container.terminate()
        whole += "".join(parts)
    assert whole.rstrip().endswith("data: [DONE]")
    assert container.ended() == 0


def test_idle_stop_exits_0(container: Container) -> None:
    container.terminate()
    assert container.ended() == 0


def test_stop_during_the_start_ends_it(image: Image, mounted: Mounted, tmp_path: Path) -> None:
    """The kernel keeps signals without a handler from a first process."""
    starting = Container(image, mounted, tmp_path / "output")
    first = starting.first
    while starting.running:
        with suppress(psutil.NoSuchProcess):
            first.terminate()
        time.sleep(0.02)
    assert starting.ended() == 128 + 15, starting.output
    assert "ready http" not in starting.output


def test_killed_worker_leaves_no_zombie(container: Container) -> None:
    first = container.first
    (worker,) = first.children()

    def ask() -> None:
        with pytest.raises(httpx.TransportError):
            httpx.post(
                f"{container.url}{CHAT}",
                json=chat("Hello", "claude"),
                trust_env=False,
                timeout=DEADLINE,
            )

    asking = threading.Thread(target=ask)
    asking.start()

    def clients() -> list[psutil.Process]:
        return [one for one in worker.children() if one.name() == "sleep"]

    orphans = until(clients, what="a client")
    worker.kill()
    asking.join(DEADLINE)
    for process in (worker, *orphans):
        until(partial(gone, process), what="it is reaped")
    until(container.answers, what="a new worker")
    container.terminate()
    assert container.ended() == 0


def test_missing_configuration_is_said(image: Image, mounted: Mounted) -> None:
    words = ("sh", "-c", "PENSTOCK_CONFIG=/etc/penstock/penstock.toml exec penstock serve")
    done = run(image, mounted, *words)
    assert done.returncode == 2
    assert "/etc/penstock/penstock.toml" in done.stderr and "Traceback" not in done.stderr


def test_address_that_only_the_container_reaches_is_warned_of(
    image: Image, mounted: Mounted, tmp_path: Path
) -> None:
    inside = Container(image, mounted, tmp_path / "output", ["serve", "--host", "127.0.0.1"])
    inside.wait_until_ready()
    assert "server.host is 127.0.0.1, which only this container reaches" in inside.output
    inside.terminate()
    assert inside.ended() == 0
