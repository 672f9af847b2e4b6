"""The dashboard and the alert rules in a real Prometheus that scrapes a real gateway."""

import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import time
from typing import Any

import pytest

from edge.observability.monitoring.alerts import ALERTS
from edge.observability.monitoring.dashboard import dashboard_document
from edge.observability.monitoring.rules import rules_document
from tests.edge.observability.monitoring.chosen import chosen
from tests.edge.observability.monitoring.promtool import content, promtool
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import SECRETS
from .program import Gateway, Program, until
from .prometheus import Prometheus
from .wire import CHAT, chat

PRICE = {"input": "3", "output": "15"}


def upstream(name: str, simulator: str, words: str = "") -> dict[str, Any]:
    """An upstream that the simulator plays. words: its directives."""
    headers = {"x-sim": words} if words else {}
    address = f"{simulator}/v1"
    return {"name": name, "dialect": "openai", "base_url": address, "headers": headers}


def document(simulator: str, redis: str) -> dict[str, Any]:
    """Two workers, an upstream that works and some that do not, and plans that refuse or wait."""
    models = {"chat": "good", "shaky": "bad", "locked": "locked", "cut": "cutting"}
    return {
        "server": {"workers": 2},
        "store": {"counters": redis, "counters_timeout": "5s"},
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [
            upstream("good", simulator),
            upstream("bad", simulator, "fault=status:500"),
            upstream("locked", simulator, "fault=status:401"),
            upstream("cutting", simulator, "fault=cut:3"),
        ],
        "models": [
            {
                "id": model,
                "targets": [f"{name}/far-model"],
                "price": PRICE,
                "fallbacks": ["chat"] if model == "shaky" else [],
            }
            for model, name in models.items()
        ],
        "plans": [
            {"id": "poor", "windows": [{"length": "5h", "credits": "0.000001"}]},
            {"id": "patient", "requests": "120/min", "burst": 1, "on_excess": "throttle"},
        ],
        "limits": {"throttle_max_per_key": 1},
    }


class Site:
    """A gateway, and the Prometheus that scrapes it."""

    def __init__(self, gateway: Gateway, prometheus: Prometheus) -> None:
        self.gateway = gateway
        self.prometheus = prometheus
        self.poor = gateway.new_key("poor", plan="poor")
        self.patient = gateway.new_key("patient", plan="patient")

    def round(self) -> None:
        """Requests of every kind: with and without a stream, refused, throttled, failing, cut."""

        def post(model: str, key: str = "", stream: bool = False) -> int:
            headers = {"authorization": f"Bearer {key or self.gateway.key}"}
            body = chat("Say some words", model, stream=stream)
            return self.gateway.post(CHAT, body, **headers).status_code

        with ThreadPoolExecutor(8) as pool:
            asked = [
                pool.submit(post, model, key, stream)
                for model, key, stream in (
                    *(("chat", "", stream) for stream in (True, False, True, False)),
                    *(("shaky", "", stream) for stream in (True, False)),
                    *(("locked", "", False), ("cut", "", True), ("chat", self.poor, False)),
                    *(("chat", self.patient, False) for _ in range(4)),
                )
            ]
            for one in asked:
                one.result()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Site]:
    """Both, for all tests of this module."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short: a socket's path has 107 bytes at most
    redis = RedisServer(folder)
    gateway = prometheus = None
    try:
        settings = document(simulator.url, redis.url())
        gateway = Gateway(tmp_path_factory.mktemp("monitored"), settings, env=SECRETS)
        rules = rules_document()
        prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), [gateway.port], rules)
        until(lambda: prometheus.all_up(1), what="a scrape")
        yield Site(gateway, prometheus)
        assert gateway.stop() == 0, gateway.stderr
    finally:
        if prometheus is not None:
            prometheus.stop()
        if gateway is not None:
            gateway.kill()
        redis.stop()
        shutil.rmtree(folder, ignore_errors=True)


def series(gateway: Gateway) -> dict[str, str]:
    """Every series of a scrape with its value, for promtool."""
    labels = {"namespace": "llm", "job": "penstock", "instance": "gw:8080"}
    # How late a timer was says something about this machine only.
    values = {sample: 0.0 if "lag" in sample[0] else v for sample, v in gateway.metrics().items()}

    def named(name: str, own: tuple[tuple[str, str], ...]) -> str:
        pairs = (f"{label}={json.dumps(value)}" for label, value in {**dict(own), **labels}.items())
        return f"{name}{{{','.join(pairs)}}}"

    return {named(*sample): f"{value!r}x60" for sample, value in values.items()}


def test_idle_gateway_no_alert_fires(site: Site, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps(rules_document()))
    test = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values} for name, values in series(site.gateway).items()
        ],
        "alert_rule_test": [
            {"eval_time": f"{at}m", "alertname": alert.name, "exp_alerts": []}
            for at in (5, 60)
            for alert in ALERTS
        ],
    }
    case = {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "idle.json").write_text(json.dumps(case))
    content(promtool("test", "rules", "idle.json", cwd=tmp_path))


def test_rules_loaded_by_prometheus_are_healthy(site: Site) -> None:
    def settled() -> list[dict[str, Any]]:
        rules = site.prometheus.rules()
        return [] if any(rule["health"] == "unknown" for rule in rules) else rules

    rules = until(settled, what="each rule evaluated")
    assert [rule["name"] for rule in rules] == [alert.name for alert in ALERTS]
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_dashboard_no_query_is_empty(site: Site) -> None:
    queries = {
        f"{panel['title']}: {target['legendFormat']}": chosen(target["expr"])
        for panel in dashboard_document()["panels"]
        for target in panel.get("targets", ())
    }

    def answered(expression: str) -> bool:
        values = [float(one["value"][1]) for one in site.prometheus.query(expression)]
        return any(not math.isnan(value) for value in values)

    def all_answered() -> bool:
        site.round()
        for name in [name for name, query in queries.items() if answered(query)]:
            del queries[name]
        return not queries

    try:
        until(all_answered)
    except AssertionError:
        raise AssertionError(f"without a value: {queries}") from None


def test_variables_of_the_dashboard_have_values(site: Site) -> None:
    site.round()

    def values(label: str, series: str) -> set[str]:
        return set(site.prometheus.ask(f"label/{label}/values", **{"match[]": series}))

    assert values("namespace", "penstock_workers_wanted") == {"llm"}
    assert values("job", "penstock_workers_wanted") == {"penstock"}
    until(lambda: {"chat", "cut"} <= values("model", "penstock_requests_total"))


def test_scrape_promtool_finds_no_fault(site: Site, tmp_path: Path) -> None:
    site.round()
    text = site.gateway.get("/metrics").content
    content(promtool("check", "metrics", cwd=tmp_path, given=text))


def test_exemplars_lead_from_a_bucket_to_a_request(site: Site) -> None:
    def found() -> list[dict[str, Any]]:
        site.round()
        seen = site.prometheus.ask(
            "query_exemplars",
            query="penstock_request_duration_seconds_bucket",
            start=f"{time() - 3600}",
            end=f"{time() + 60}",
        )
        return [one for series in seen for one in series["exemplars"]]

    exemplars = until(found, what="exemplars")
    assert all(re.fullmatch("[0-9a-f-]{36}", one["labels"]["request_id"]) for one in exemplars)
    site.gateway.request_line(exemplars[0]["labels"]["request_id"])
