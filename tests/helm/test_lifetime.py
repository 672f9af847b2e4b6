"""How pods start, are probed and end."""

import random
import re

import pytest

from edge.config.fields import fields_of
from edge.config.model import FallbackConfig, UpstreamConfig
from edge.config.units import Duration
from tests.helm.chart import NAMES, rendered
from tests.helm.probe import said

DURATION = re.compile(Duration.schema["anyOf"][0]["pattern"])


def durations() -> list[str]:
    """Texts of every form that Penstock accepts, the same ones in each run."""
    rng = random.Random(16)
    units = ("ms", "s", "m", "min", "h", "d")
    found = ["1h30m", "250ms", "10min", "1d", "0s", "1.5h", "10m", "90s", "0.25s", "1min1ms"]
    for _ in range(300):
        parts = [
            f"{rng.choice((rng.randrange(10), rng.randrange(5000)))}"
            f"{rng.choice(('', '', f'.{rng.randrange(1000):03d}'))}{rng.choice(units)}"
            for _ in range(rng.randrange(1, 4))
        ]
        found.append("".join(parts))
    return found


def test_durations_are_read_as_the_program_reads_them() -> None:
    texts = durations()
    assert all(DURATION.search(one) for one in texts)
    numbers = "0 1 90 0.5 600"
    words = " ".join([*(f'"{one}"' for one in texts), numbers])
    each = '{{ include "penstock.milliseconds" . }} '
    found = said(f"'{{{{ range list {words} }}}}{each}{{{{ end }}}}'", "minimal").split()
    wanted = [Duration.parse(one) for one in texts]
    wanted += [Duration.parse(float(one)) for one in numbers.split()]
    for milliseconds, value in zip(found, wanted, strict=True):
        assert float(milliseconds) / 1000 == pytest.approx(float(value), abs=0.001, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_grace_period_is_longer_than_the_longest_request(name: str) -> None:
    found = rendered(name)
    server = found.config["server"]
    extra = 30 if name == "full" else 15
    wanted = Duration.parse(server["drain"]) + Duration.parse(server["drain_delay"]) + extra
    assert found.pod["terminationGracePeriodSeconds"] == wanted


def test_pods_may_run_as_long_as_a_request() -> None:
    """`fallback.deadline` is the latest beginning of an attempt, `total_timeout` its length."""
    longest = FallbackConfig().deadline + fields_of(UpstreamConfig)["total_timeout"].default
    assert Duration.parse(rendered("minimal").config["server"]["drain"]) >= longest


@pytest.mark.parametrize(
    ("drain", "delay", "seconds"),
    [("1h30m", "250ms", 5416), (90, 0.5, 106), ("10min", "1d", 87015), ("0s", "0s", 15)],
)
def test_grace_period_is_rounded_up(drain: object, delay: object, seconds: int) -> None:
    found = rendered("minimal", {"config": {"server": {"drain": drain, "drain_delay": delay}}})
    assert found.pod["terminationGracePeriodSeconds"] == seconds


def test_grace_period_may_be_longer() -> None:
    found = rendered("minimal", {"terminationGracePeriodSeconds": 4000})
    assert found.pod["terminationGracePeriodSeconds"] == 4000


@pytest.mark.parametrize("name", NAMES)
def test_pods_have_no_stop_hook(name: str) -> None:
    """`server.drain_delay` keeps accepting while /readyz says 503."""
    assert "preStop" not in rendered(name).container.get("lifecycle", {})


def test_lifecycle_can_be_set() -> None:
    sleep = {"preStop": {"sleep": {"seconds": 5}}}
    assert rendered("minimal", {"lifecycle": sleep}).container["lifecycle"] == sleep


@pytest.mark.parametrize("name", NAMES)
def test_probes_ask_by_http_at_the_named_port(name: str) -> None:
    container = rendered(name).container
    assert [one["name"] for one in container["ports"]] == ["http"]
    for probe, path, period, failures in (
        ("startupProbe", "/livez", 2, 30),
        ("readinessProbe", "/readyz", 5, 2),
        ("livenessProbe", "/livez", 20, 6),
    ):
        assert container[probe] == {
            "httpGet": {"path": path, "port": "http"},
            "periodSeconds": period,
            "failureThreshold": failures,
            "timeoutSeconds": 5,
        }


def test_probe_can_be_changed() -> None:
    found = rendered("minimal", {"probes": {"liveness": {"failureThreshold": 9}}})
    assert found.container["livenessProbe"]["failureThreshold"] == 9
    assert found.container["livenessProbe"]["periodSeconds"] == 20


def test_port_of_the_configuration_is_the_pod_s() -> None:
    found = rendered("ha", {"config": {"server": {"port": 9090}}})
    assert found.container["ports"][0]["containerPort"] == 9090
    assert found.one("Service", "penstock-metrics")["spec"]["ports"][0]["port"] == 9090
