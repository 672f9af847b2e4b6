"""Where traces go, by the configuration and by OpenTelemetry's variables."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.cli.serving import serve
from edge.config.load import Settings, SettingsError, parse
from edge.config.model import TracingConfig
from edge.config.secrets import HttpUrl
from edge.observability import trace_settings
from edge.observability.trace_settings import missing_otlp, traces_endpoint

WHOLE = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:1/custom"}
GENERAL = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://general:2/"}
OWN = TracingConfig(endpoint=HttpUrl("http://own:3"))


@pytest.mark.parametrize(
    ("tracing", "env", "expected"),
    [
        (TracingConfig(), {}, None),
        (OWN, {**WHOLE, **GENERAL}, "http://own:3/v1/traces"),
        (TracingConfig(endpoint=HttpUrl("http://own:3/v1/traces")), {}, "http://own:3/v1/traces"),
        (TracingConfig(), {**WHOLE, **GENERAL}, "http://traces:1/custom"),
        (TracingConfig(), GENERAL, "http://general:2/v1/traces"),
        (TracingConfig(), {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        (TracingConfig(endpoint=HttpUrl("http://own:3"), enabled=False), WHOLE, None),
        (OWN, {"OTEL_SDK_DISABLED": "true"}, None),
    ],
)
def test_the_endpoint(tracing: TracingConfig, env: dict[str, str], expected: str | None) -> None:
    assert traces_endpoint(tracing, env) == expected


def test_a_missing_extra_is_said_where_traces_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [*missing_otlp(OWN, {})]
    monkeypatch.setattr(trace_settings, "find_spec", lambda name: None)
    (sentence,) = missing_otlp(OWN, {})
    assert "pip install 'penstock[otlp]'" in sentence
    assert not [*missing_otlp(TracingConfig(), {})]


def test_a_start_without_the_extra_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "penstock.json"
    upstreams = [{"name": "a", "dialect": "simulator"}]
    file.write_text(json.dumps({"upstreams": upstreams, "tracing": {"endpoint": "http://a:1"}}))
    served: list[Settings] = []
    monkeypatch.setattr("edge.server.serve.serve", lambda settings, source: served.append(settings))
    monkeypatch.setattr(trace_settings, "find_spec", lambda name: None)
    serve(file)
    assert len(served) == 1
    assert "warning: tracing.endpoint: spans cannot be sent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tracing", "said"),
    [
        ({"ratio": 1.5}, "tracing.ratio"),
        ({"parent_rate": -1}, "tracing.parent_rate"),
        ({"endpoint": "collector:4318"}, "tracing.endpoint"),
        ({"service_name": ""}, "tracing.service_name"),
    ],
)
def test_settings_out_of_range_are_refused(tracing: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse({"upstreams": [{"name": "a", "dialect": "simulator"}], "tracing": tracing})


@pytest.mark.parametrize("name", ["traceparent", "TraceState"])
def test_an_upstream_cannot_have_a_fixed_trace(name: str) -> None:
    upstream = {
        "name": "a",
        "dialect": "openai",
        "base_url": "https://a.test/v1",
        "headers": {name: "x"},
    }
    with pytest.raises(SettingsError, match="is set by Penstock itself"):
        parse({"upstreams": [upstream]})
    parse({"upstreams": [{**upstream, "trace": False}]})


def test_a_gateway_without_traces_does_not_load_opentelemetry() -> None:
    code = "import sys, edge.app; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
