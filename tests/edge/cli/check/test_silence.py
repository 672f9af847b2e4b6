"""Servers that take connections and never answer: all of them are asked at once."""

import pytest

from .conftest import Check
from .servers import black_hole


@pytest.mark.usefixtures("hasty")
def test_all_that_never_answers_is_an_error_and_ends(check: Check) -> None:
    """The stores, fifty upstreams (over TCP, TLS and a proxy), sign-in, traces and alerts."""
    with black_hole() as port:
        place = f"127.0.0.1:{port}"
        plain = {"dialect": "openai", "base_url": f"http://{place}/v1"}
        through = {"transport": "httpx", "proxy": f"http://me:hunter2@{place}"}
        upstreams = [
            {**plain, "name": "tls", "base_url": f"https://{place}/v1"},
            {**plain, "name": "proxied", "base_url": "https://api.example.com/v1", **through},
            *({**plain, "name": f"plain{n}"} for n in range(48)),
        ]
        checked = check(
            store={
                "sql": f"postgresql://u:hunter2@{place}/db",
                "counters": f"redis://:hunter2@{place}/0",
                "objects": "s3://media/x",
                "objects_endpoint": f"http://{place}",
                "objects_region": "us-east-1",
                "objects_access_key": "a",
                "objects_secret_key": "hunter2",
            },
            upstreams=upstreams,
            dashboard={
                "public_url": "https://llm.example.com",
                "oidc": {"issuer": f"http://{place}", "client_id": "x"},
            },
            tracing={"endpoint": f"http://{place}"},
            alerts={"webhook": f"https://{place}/hook?key=canary"},
        )
    assert checked.status == 1
    errors = checked.of("error")
    assert [line.partition(":")[0] for line in errors] == [
        "error store.sql",
        "error store.counters",
        "error store.objects",
        *(f"error upstreams.{upstream['name']}" for upstream in upstreams),
        "error dashboard.oidc",
        "error tracing.endpoint",
        "error alerts.webhook",
    ]
    assert all("answer" in line or "timed out" in line for line in errors[1:]), errors
