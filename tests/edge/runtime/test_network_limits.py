"""Limits of the system's network that are too low."""

from pathlib import Path
from typing import Any

import pytest

from edge.config.load import Settings, parse
from edge.runtime.network_limits import low_network_limits


def settings(workers: int = 1, **upstream: Any) -> Settings:
    """A configuration with an upstream of this machine and one over HTTP."""
    far = {"name": "far", "dialect": "openai", "base_url": "http://10.0.0.1/v1", **upstream}
    document = {
        "server": {"workers": workers},
        "auth": {"mode": "none"},
        "store": {"counters": "redis://127.0.0.1/0"},
        "upstreams": [{"name": "near", "dialect": "simulator", "max_connections": 50_000}, far],
        "models": [{"id": "m", "targets": ["far/m"]}, {"id": "n", "targets": ["near/sim-1"]}],
    }
    return parse(document)


def system(root: Path, *, ports: str = "32768\t60999", waiting: str = "4096") -> Path:
    for name, text in (("ipv4/ip_local_port_range", ports), ("core/somaxconn", waiting)):
        path = root / "proc/sys/net" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_low_network_limits_of_a_usual_system_is_empty(tmp_path: Path) -> None:
    root = system(tmp_path)
    assert list(low_network_limits(settings(), root)) == []
    assert list(low_network_limits(settings(4, max_connections=3529), root)) == []


def test_low_network_limits_names_the_upstream_with_more_connections_than_ports(
    tmp_path: Path,
) -> None:
    root = system(tmp_path)
    (said,) = low_network_limits(settings(2, max_connections=7059), root)
    assert said == (
        "upstreams.far: max_connections of all workers are 14118, and the system has 28232 local "
        "ports for connections to one address, of which it finds only half quickly; widen "
        "net.ipv4.ip_local_port_range, or lower max_connections"
    )
    wide = system(tmp_path, ports="1024\t65535")
    assert list(low_network_limits(settings(2, max_connections=7059), wide)) == []


def test_low_network_limits_names_a_short_queue(tmp_path: Path) -> None:
    (said,) = low_network_limits(settings(), system(tmp_path, waiting="128"))
    assert said.startswith("net.core.somaxconn: only 128 ")
    assert "2048" in said


@pytest.mark.parametrize("text", ["", "many", "1\t2\t3"])
def test_low_network_limits_of_a_system_that_does_not_say_is_empty(
    tmp_path: Path, text: str
) -> None:
    wanted = settings(max_connections=60_000)
    assert list(low_network_limits(wanted, tmp_path / "no such")) == []
    root = system(tmp_path, ports=text, waiting=text)
    assert list(low_network_limits(wanted, root)) == []
