"""The parent process under attack: it goes on, replaces its workers, and stops when asked to."""

import asyncio
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from redis import Redis

from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Start
from .operator import change, reload, run_status, status
from .program import DEADLINE, Gateway, command, environment, until
from .wire import CHAT, chat, line, refuses, request

NEAR: dict[str, Any] = {
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [{"id": "m", "targets": ["near/sim-1"]}],
}
OTHER = {"models": [{"id": "other", "targets": ["near/sim-1"]}]}


def two(redis: RedisServer, **server: Any) -> dict[str, Any]:
    """Two workers."""
    return {**NEAR, "server": {"workers": 2, **server}, "store": {"counters": redis.url()}}


def alive(gateway: Gateway) -> list[psutil.Process]:
    found = []
    for worker in gateway.workers:
        with suppress(psutil.NoSuchProcess):
            if worker.status() != psutil.STATUS_ZOMBIE:
                found.append(worker)
    return found


def answers(gateway: Gateway, path: str = "/health", wanted: int = 200) -> bool:
    gateway.forget_connections()
    try:
        return gateway.get(path).status_code == wanted
    except httpx.TransportError:
        return False


def kill_a_worker(gateway: Gateway) -> None:
    """And see another in its place. Sockets of the dead process are closed once it is reaped."""
    old = alive(gateway)
    old[0].kill()
    old[0].wait(DEADLINE)
    until(
        lambda: len(alive(gateway)) == len(old) and old[0] not in alive(gateway),
        what="a worker in its place",
    )
    until(lambda: fleet(gateway, "alive") == len(old), what="it accepts")


def fleet(gateway: Gateway, field: str) -> float | None:
    """A field of what /status says of all workers; None while no worker answers."""
    try:
        found: float = status(gateway)["fleet"][field]
    except httpx.TransportError:
        return None
    return found


def pids_of_status(gateway: Gateway) -> set[int]:
    return {worker["pid"] for worker in status(gateway)["workers"]}


def takes_over(gateway: Gateway, **tables: Any) -> None:
    digest = change(gateway, **tables)
    until(
        lambda: {one["digest"] for one in status(gateway)["workers"]} == {digest},
        what="the new configuration",
    )


def faults(gateway: Gateway) -> list[str]:
    return [
        entry["event"] for entry in gateway.log if entry.get("logger") == "edge.runtime.loop_guard"
    ]


def test_storm_of_signals_gateway_serves_and_stops(start: Start) -> None:
    gateway = start(NEAR)
    over = threading.Event()

    def storm(which: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            while not over.wait(0.0002):
                os.kill(gateway.process.pid, which)

    kinds = (signal.SIGHUP, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2)
    threads = [threading.Thread(target=storm, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    try:
        takes_over(gateway, **OTHER)
        kill_a_worker(gateway)
        assert gateway.process.poll() is None
        assert gateway.stop() == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_working_directory_removed_gateway_reloads_respawns_and_stops(
    start: Start, tmp_path: Path
) -> None:
    """The configuration was named relative to it."""
    here = tmp_path / "here"
    here.mkdir()
    gateway = start(NEAR, cwd=here)
    here.rmdir()
    takes_over(gateway, **OTHER)
    kill_a_worker(gateway)
    assert answers(gateway)
    reload(gateway)
    assert run_status(gateway)[0] == 0
    assert gateway.stop() == 0
    assert not faults(gateway)


def _as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _as_loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def _as_long_name(file: Path) -> None:
    """A link to what no path can be: ENAMETOOLONG."""
    file.unlink()
    file.symlink_to("x" * 300)


def test_configuration_that_cannot_be_read_gateway_goes_on(start: Start) -> None:
    """Each in turn, of one gateway. It is looked at and asked for by a signal; workers die."""
    gateway = start(NEAR)
    good = gateway.file.read_bytes()
    for spoil in (_as_folder, _as_pipe, _as_loop, _as_long_name, Path.unlink):
        spoil(gateway.file)
        reload(gateway)
        until(lambda: not status(gateway)["config_valid"], what=f"a refusal of {spoil.__name__}")
        if spoil in (_as_folder, Path.unlink):
            kill_a_worker(gateway)
        with suppress(FileNotFoundError):
            (shutil.rmtree if spoil is _as_folder else os.unlink)(gateway.file)
        gateway.file.write_bytes(good)
        reload(gateway)
        until(lambda: status(gateway)["config_valid"], what="the good file")
    takes_over(gateway, **OTHER)
    assert gateway.stop() == 0


@contextmanager
def limited(pid: int, what: int, limit: int) -> Iterator[None]:
    """The process can have so much of it and no more."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (limit, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # that it ended was the test
            resource.prlimit(pid, what, before)


def _valid(gateway: Gateway, wanted: bool) -> bool:
    return bool(status(gateway)["config_valid"]) is wanted


def refused_starts(gateway: Gateway) -> Callable[[], bool]:
    return lambda: (fleet(gateway, "failures") or 0) >= 3


def test_workers_that_cannot_be_started_are_tried_for_ever_while_others_serve(
    start: Start, redis_server: RedisServer
) -> None:
    gateway = start(two(redis_server))
    pid = gateway.process.pid
    parent = psutil.Process(pid)
    for spoil, valid in ((b" ", False), (gateway.file.read_bytes(), True)):
        gateway.file.write_bytes(spoil)  # the metrics of either have their descriptors from now on
        until(partial(_valid, gateway, valid), what="a look")
    before = parent.num_fds()
    for limit in (5, before + 6):
        # No pipe for a process; a process that has its pipes (four) and cannot open its parts.
        with limited(pid, resource.RLIMIT_NOFILE, limit):
            alive(gateway)[0].kill()
            until(refused_starts(gateway), what="three failures")
            found = status(gateway)["fleet"]
            assert (found["wanted"], found["alive"], found["ready"]) == (2, 1, 1)
            reported = gateway.get("/readyz")
            assert reported.status_code == 200
            assert reported.json()["workers"] == {"wanted": 2, "alive": 1, "ready": 1}
            assert gateway.post(CHAT, chat("Hi", "m")).status_code == 200
            code, _, said = run_status(gateway)
            assert code == 1
            assert "1 of 2 workers" in said
            shown = gateway.metrics()
            assert shown["penstock_workers_wanted", ()] == 2
            assert shown["penstock_workers_alive", ()] == 1
            assert shown["penstock_worker_start_failures", ()] >= 2
        until(lambda: fleet(gateway, "alive") == 2, what="both again")
        until(lambda: fleet(gateway, "failures") == 0, what="no failure counted any more")
        until(lambda: parent.num_fds() == before, what="no descriptor left behind")
        assert gateway.get("/readyz").json() == {"status": "ok"}
    assert gateway.stop() == 0
    said_of_it = [text for text in faults(gateway) if "starting worker" in text]
    assert 2 <= len(said_of_it) <= 8  # when it began and when it ended, not each time


def test_only_worker_that_cannot_be_started_is_said_by_status_and_stops(start: Start) -> None:
    gateway = start(NEAR)
    enough_for_itself = psutil.Process(gateway.process.pid).num_fds() + 6
    with limited(gateway.process.pid, resource.RLIMIT_NOFILE, enough_for_itself):
        alive(gateway)[0].kill()
        until(lambda: "0 of 1 workers" in run_status(gateway)[2], what="status saying so")
        assert not answers(gateway)
        assert gateway.process.poll() is None
    until(lambda: answers(gateway), what="a worker")
    with limited(gateway.process.pid, resource.RLIMIT_NOFILE, 5):
        alive(gateway)[0].kill()
        until(lambda: not alive(gateway), what="no worker")
        assert gateway.stop() == 0


def test_parent_without_memory_goes_on_and_stops(start: Start) -> None:
    """Its calls raise MemoryError, and it can start neither a process nor a thread."""
    gateway = start(NEAR)
    pid = gateway.process.pid
    size = psutil.Process(pid).memory_info().vms
    with limited(pid, resource.RLIMIT_AS, size - (64 << 20)):
        change(gateway, **OTHER)
        reload(gateway)
        alive(gateway)[0].kill()
        until(lambda: not alive(gateway), what="no worker")
    until(lambda: answers(gateway), what="a worker")
    takes_over(gateway, **NEAR)
    with limited(pid, resource.RLIMIT_AS, size - (64 << 20)):
        assert answers(gateway)
        assert gateway.stop() == 0


def test_worker_killed_again_and_again_gateway_goes_on(
    start: Start, redis_server: RedisServer
) -> None:
    """Sooner after one another than a crash loop would be."""
    gateway = start(two(redis_server))
    for _ in range(4):
        kill_a_worker(gateway)
        assert answers(gateway)
    assert (fleet(gateway, "ends"), fleet(gateway, "alive")) == (4, 2)
    assert gateway.stop() == 0


def test_first_start_no_worker_can_open_ends_with_the_reason(start: Start, tmp_path: Path) -> None:
    """The parent can do its part, and each of its processes ends at once."""
    gateway = start(NEAR)
    assert gateway.stop() == 0
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nos.register_at_fork(after_in_child=lambda: os._exit(7))\n"
    )
    done = subprocess.run(
        command("serve", "--config", str(gateway.file), "--port", "0"),
        env=environment({"PYTHONPATH": str(tmp_path)}),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 1, done.stderr
    assert "ended with status 7" in done.stderr
    assert "no worker could be started, exiting" in done.stderr


def test_limit_of_memory_too_low_for_a_worker_is_said_by_check(tmp_path: Path) -> None:
    file = tmp_path / "penstock.json"
    file.write_text(json.dumps(NEAR))
    done = subprocess.run(
        ["prlimit", f"--as={600 << 20}", *command("check", "--json", "--config", str(file))],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    (found,) = [one for one in json.loads(done.stdout)["findings"] if one["what"] == "memory"]
    assert (found["group"], found["state"]) == ("limits", "warning")
    assert "the address space of a process is limited to 600 MiB" in found["detail"]


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_gateway_starts_and_writes_into_no_file(
    start: Start, closed: str
) -> None:
    gateway = start({**NEAR, "auth": {"mode": "none"}})
    assert gateway.stop() == 0
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    words = command("serve", "--config", str(gateway.file), "--port", str(port))
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *words],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"

    def served() -> bool:
        assert process.poll() is None
        try:
            answer = httpx.post(f"{url}{CHAT}", json=chat("Hi", "m"), trust_env=False, timeout=60)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    try:
        until(served, what="an answer")
        process.send_signal(signal.SIGQUIT)
        process.send_signal(signal.SIGHUP)
        assert served()
        process.terminate()
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
    with closing(sqlite3.connect(gateway.database)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*) FROM ledger").fetchone()[0] >= 2


def test_gateway_with_an_unread_log_serves_dumps_and_stops(start: Start) -> None:
    reader, writer = os.pipe()
    try:
        gateway = start({**NEAR, "auth": {"mode": "none"}}, errors=writer)
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        for _ in range(3):
            gateway.signal_group(signal.SIGQUIT)
            reload(gateway)
            for _ in range(10):
                assert httpx.post(
                    f"{gateway.url}{CHAT}", json=chat("Hi", "m"), trust_env=False, timeout=DEADLINE
                ).is_success
        kill_a_worker(gateway)
        takes_over(gateway, **OTHER)
        assert gateway.stop() == 0
    finally:
        os.close(reader)
        os.close(writer)


async def test_parent_killed_no_worker_serves_on(start: Start, redis_server: RedisServer) -> None:
    """Also when the workers were not started at the same time: a later one holds nothing that an
    earlier one waits for. What runs may end."""
    gateway = await asyncio.to_thread(start, two(redis_server, drain="6s"))
    await asyncio.to_thread(kill_a_worker, gateway)
    endless = request(CHAT, chat("[[sim tokens=9999 rate=5]]", "m", stream=True), gateway.bearer)
    workers = gateway.workers
    async with line(gateway.url) as stream:
        await stream.send(endless)
        assert (await stream.head()).status == 200
        gateway.process.kill()
        gateway.process.wait()
        await asyncio.to_thread(until, lambda: refuses(gateway.port), what="a closed port")
        await asyncio.to_thread(
            until, lambda: sum(map(living, workers)) <= 1, what="the end of the idle worker"
        )
    for worker in workers:
        await asyncio.to_thread(worker.wait, DEADLINE)


def living(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def break_store(gateway: Gateway) -> Callable[[], None]:
    """No database is where it was; call what is returned to put it back."""
    with closing(sqlite3.connect(gateway.database)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = gateway.database.read_bytes()
    gateway.database.write_bytes(b"no database " * 1000)
    for rest in gateway.database.parent.glob("penstock.db-*"):
        rest.unlink()

    def mend() -> None:
        gateway.database.write_bytes(whole)

    return mend


def forget_grants(redis: RedisServer) -> None:
    """Keys that one worker knows are known to no new one."""
    with Redis.from_url(redis.url()) as client:
        client.flushall()


def test_worker_that_is_not_ready_accepts_nothing_while_another_is(
    start: Start, redis_server: RedisServer
) -> None:
    gateway = start(two(redis_server))
    body = chat("Hi", "m")
    for _ in range(8):  # both know the key
        gateway.forget_connections()
        assert gateway.post(CHAT, body).status_code == 200
    mend = break_store(gateway)
    forget_grants(redis_server)
    old = alive(gateway)
    old[0].kill()
    until(lambda: {*alive(gateway)} - {*old}, what="a new worker")
    (new,) = [worker for worker in alive(gateway) if worker not in old]
    until(lambda: new.pid in pids_of_status(gateway), what="it opened")
    for _ in range(30):
        gateway.forget_connections()
        assert gateway.post(CHAT, body).status_code == 200
        assert (fleet(gateway, "alive"), fleet(gateway, "ready")) == (1, 1)
    forget_grants(redis_server)
    old[1].kill()
    until(lambda: fleet(gateway, "alive"), what="one that accepts, as none is ready")
    gateway.forget_connections()
    refused = gateway.post(CHAT, body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_unavailable")
    mend()
    until(lambda: fleet(gateway, "ready") == 2, what="both ready")
    gateway.forget_connections()
    assert gateway.post(CHAT, body).status_code == 200
    assert gateway.stop() == 0


def test_worker_that_waits_for_its_turn_is_stopped_at_once(
    start: Start, redis_server: RedisServer
) -> None:
    gateway = start(two(redis_server, drain="600s"))
    break_store(gateway)
    old = alive(gateway)
    old[0].kill()
    until(lambda: {*alive(gateway)} - {*old}, what="a new worker")
    assert gateway.stop(within=60) == 0
