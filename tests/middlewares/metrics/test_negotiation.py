"""Which form of a scrape a client gets, by its headers."""

import pytest

from middlewares.metrics.negotiation import Form, negotiate

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROTOBUF_FIRST = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.6," + PROMETHEUS_3
)
TEXT_ONLY = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        (PROMETHEUS_2, "1.0.0"),
        (PROMETHEUS_3, "1.0.0"),
        (PROTOBUF_FIRST, "1.0.0"),
        (TEXT_ONLY, ""),
        (BROWSER, ""),
        ("", ""),
        ("*/*", ""),
        ("application/json", ""),
        ("application/openmetrics-text", "1.0.0"),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", "1.0.0"),
        ("application/openmetrics-text; version=0.0.1", "0.0.1"),
        ("application/openmetrics-text; version=2.0.0", ""),
        ('application/openmetrics-text; version="1.0.0"', "1.0.0"),
        ("application/openmetrics-text;q=0", ""),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.9", ""),
        ("text/plain;version=0.0.4;q=0.3,application/openmetrics-text;q=0.300", "1.0.0"),
        ("application/openmetrics-text;q=0.2,text/*;q=0.9", ""),
        ("application/openmetrics-text;version=1.0.0;q=0,*/*;q=0.1", ""),
        ("application/openmetrics-text;q=much,text/plain;q=0.1", ""),
        ("application/openmetrics-text;q=7", ""),
        ("application/openmetrics-text;q=nan", ""),
        (",;,=;q,", ""),
    ],
)
def test_negotiate_takes_the_best_quality(accept: str, version: str) -> None:
    assert negotiate(accept).openmetrics == version


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP;q=0.5, zstd", True),
        ("gzip;q=0, *", False),
        ("*", True),
        ("*;q=0", False),
        ("br, deflate", False),
        ("identity", False),
    ],
)
def test_negotiate_compresses_for_those_who_accept_it(
    accept_encoding: str, compressed: bool
) -> None:
    assert negotiate("", accept_encoding).gzip is compressed


def test_content_type_names_the_version() -> None:
    assert Form().content_type == "text/plain; version=0.0.4; charset=utf-8"
    openmetrics = Form("1.0.0").content_type
    assert openmetrics == "application/openmetrics-text; version=1.0.0; charset=utf-8"
