"""The real program as the chart runs it: its files, variables, arguments and probes."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
import pytest
import redis

from edge.cli import main
from tests.e2e.program import Program, command, environment, until
from tests.helm.chart import NAMES, containers, rendered, spec
from tests.helm.pod import LocalContainer
from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.redis_server import RedisServer

EXISTING: Mapping[str, Mapping[str, str]] = {
    "penstock": {
        "UPSTREAM_KEY": "up-0123456789",
        "PENSTOCK_SQL": "postgresql://penstock:secret@db.example.com/penstock",
        "PENSTOCK_COUNTERS": "redis://:secret@redis.example.com:6379/0",
    },
    "penstock-files": {"admin-token": "6a1f0c6f3b8e4d5c9a7b"},
}
PROBE = {"user-agent": "kube-probe/1.33", "accept": "*/*", "connection": "close"}
"""Headers of the kubelet; it sends the pod's address and port as `host`."""


@pytest.mark.parametrize("name", NAMES)
def test_check_finds_no_error(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = rendered(name)
    container = LocalContainer(found, found.pod, found.container, tmp_path, EXISTING)
    for variable, value in container.env.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        main(["check", "--offline", "--json"])
    report = json.loads(capsys.readouterr().out)
    faults = [one for one in report["findings"] if one["state"] == "error"]
    assert (ended.value.code, faults) == (0, [])


class Pod(Program):
    """The gateway's container of a rendered pod, on a free port."""

    def __init__(self, container: LocalContainer) -> None:
        super().__init__(
            *container.arguments,
            *("--port", "0"),
            folder=container.folder,
            env=container.env,
            cwd=container.folder,
        )

    def get(self, path: str, headers: Mapping[str, str] = PROBE, address: str = "") -> int:
        """The status of an answer. address: that the request comes from."""
        transport = httpx.HTTPTransport(local_address=address or None)
        with httpx.Client(transport=transport, timeout=60) as client:
            url = f"http://127.0.0.1:{self.port}{path}"
            return client.get(url, headers={"host": "10.244.1.7:8080", **headers}).status_code


def test_pod_with_sqlite_answers_probes_and_takes_a_new_configuration_over(tmp_path: Path) -> None:
    """The kubelet's requests, a change of the ConfigMap, a proxy, and `exec`."""
    trusted = {"config": {"server": {"trusted_proxies": ["127.0.0.6/32"]}}}
    found = rendered("minimal", trusted)
    container = LocalContainer(found, found.pod, found.container, tmp_path)
    pod = Pod(container)
    try:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert pod.get(found.container[probe]["httpGet"]["path"]) == 200
        assert pod.get("/metrics") == 200
        stranger = {"x-forwarded-for": "198.51.100.7"}
        assert pod.get("/metrics", stranger) == 404, "a proxy that is not trusted"
        assert pod.get("/metrics", stranger, "127.0.0.6") == 404, "a stranger, by a trusted one"
        sidecar = {"x-forwarded-for": "10.244.3.9"}
        assert pod.get("/metrics", sidecar, "127.0.0.6") == 200, "Prometheus, by Istio's sidecar"

        (test,) = containers(found.one("Pod", "penstock-test"))
        (variable,) = test["env"]
        assert variable == {"name": "URL", "value": "http://penstock:80/health"}
        printed = subprocess.run(
            [sys.executable, *test["command"][1:], *test["args"]],
            env={"URL": f"http://127.0.0.1:{pod.port}/health", "no_proxy": "*"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert printed.startswith("200 ")

        created = run(container, "keys", "create", "--name", "first", "--quiet")
        bearer = {"authorization": f"Bearer {created.strip()}"}
        until(lambda: pod.get("/v1/models/sim-1", bearer) == 200)
        later = rendered(
            "minimal",
            {"config": {**trusted["config"], "models": [{"id": "new", "targets": ["sim/sim-1"]}]}},
        )
        assert later.workload == found.workload
        data = later.one("ConfigMap")["data"]
        container.volumes["config"].put(container.here(data))
        until(lambda: pod.get("/v1/models/new", bearer) == 200)
        assert pod.get("/v1/models/sim-1", bearer) == 404
        assert "ready" in run(container, "status")
    finally:
        status = pod.stop(signal.SIGINT)  # without the time in which it would still accept
    assert status == 0, pod.stderr
    assert (tmp_path / "var/lib/penstock/penstock.db").exists()


def run(container: LocalContainer, *arguments: str) -> str:
    """What a command prints, as `kubectl exec` runs it."""
    done = subprocess.run(
        command(*arguments),
        cwd=container.folder,
        env=environment(container.env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """An empty Redis."""
    with TemporaryDirectory(prefix="rd-") as folder:  # a socket's path has 107 bytes at most
        server = RedisServer(Path(folder))
        try:
            yield server
        finally:
            server.stop()


async def test_pod_with_servers_is_ready_after_the_job(
    tmp_path: Path, postgres: Postgres, redis_server: RedisServer
) -> None:
    """The Job migrates an empty PostgreSQL, and two workers then serve from it and Redis."""
    values: dict[str, Any] = {
        "config": {"store": {"objects": "file:/var/lib/penstock/objects"}},
        "tracing": {"endpoint": ""},
    }
    found = rendered("ha", values)
    existing = {
        "penstock": {
            **EXISTING["penstock"],
            "PENSTOCK_SQL": await postgres.new_database(),
            "PENSTOCK_COUNTERS": redis_server.url(),
        }
    }
    job = found.one("Job")
    (tmp_path / "job").mkdir()
    migrate = LocalContainer(found, spec(job), containers(job)[0], tmp_path / "job", existing)
    assert "is current" in run(migrate, *migrate.arguments)

    container = LocalContainer(found, found.pod, found.container, tmp_path / "pod", existing)
    pod = Pod(container)
    try:
        until(lambda: pod.get("/readyz") == 200)
        assert pod.get("/livez") == 200
    finally:
        status = pod.stop(signal.SIGINT)  # without the time in which it would still accept
    assert status == 0, pod.stderr


def test_bundled_redis_wants_its_password_and_shows_it_nowhere(tmp_path: Path) -> None:
    """The script of its container, with the server of the tests and a socket of its own."""
    found = rendered("bundled")
    (container,) = containers(found.one("Deployment", "penstock-redis"))
    shell, flag = container["command"]
    (script,) = container["args"]
    socket = tmp_path / "redis.sock"
    program = RedisServer.program()
    script = script.replace("/tmp", str(tmp_path)).replace("redis-server ", f"{program} ")
    script = script.replace("--port 6379", f"--port 0 --unixsocket {socket}")
    process = subprocess.Popen(
        [shell, flag, script],
        env={"PATH": "/usr/bin:/bin", "REDISCLI_AUTH": "redis-for-tests"},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        until(socket.exists)
        with (
            redis.Redis(unix_socket_path=str(socket)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            until(lambda: answers(stranger))
        with redis.Redis(unix_socket_path=str(socket), password="redis-for-tests") as client:
            assert client.ping()
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("save") == {"save": ""}
        words = " ".join(psutil.Process(process.pid).cmdline())
        assert "redis-for-tests" not in words
        assert (tmp_path / "redis.conf").stat().st_mode & 0o077 == 0
    finally:
        process.terminate()
        process.wait()


def answers(client: redis.Redis) -> bool:
    """False while it does not listen yet."""
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        raise
    except redis.ConnectionError:
        return False
