"""What is answered without a key, and to whom."""

import gzip

import pytest

from tests.asgi import Recorded, request
from tests.edge.scripted import Answer, Scripted, ScriptedGateway

CLIENT = ("127.0.0.1", 1)
GUARDED = ["/livez", "/readyz", "/metrics", "/status"]


async def get(
    path: str,
    *,
    method: str = "GET",
    client: str | None = "127.0.0.1",
    gateway: ScriptedGateway | None = None,
) -> Recorded:
    home = gateway or ScriptedGateway(Scripted(Answer()))
    return await request(home.app, method, path, client=(client, 1) if client else None)


@pytest.mark.parametrize("path", ["/health", "/healthz"])
@pytest.mark.parametrize("client", ["127.0.0.1", "8.8.8.8"])
async def test_health_is_for_everybody(path: str, client: str) -> None:
    answer = await get(path, client=client)
    assert (answer.status, answer.json()) == (200, {"status": "ok"})
    assert answer.header("x-request-id")


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize(
    ("client", "status"),
    [
        ("127.0.0.1", 200),
        ("10.9.9.9", 200),
        ("192.168.1.1", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        (None, 200),
        ("8.8.8.8", 404),
        ("2001:db8::1", 404),
        ("::ffff:8.8.8.8", 404),
    ],
)
async def test_the_rest_is_for_ops_networks_only(
    path: str, client: str | None, status: int
) -> None:
    answer = await get(path, client=client)
    assert answer.status == status
    if status == 404:
        elsewhere = await get("/nothing", client=client)
        assert answer.json() == elsewhere.json()


async def test_ops_networks_can_be_named() -> None:
    gateway = ScriptedGateway(
        Scripted(Answer()), document={"server": {"ops_networks": ["8.8.8.0/24"]}}
    )
    assert (await get("/metrics", client="8.8.8.8", gateway=gateway)).status == 200
    assert (await get("/metrics", client="127.0.0.1", gateway=gateway)).status == 404


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip"])
@pytest.mark.parametrize("peer", [("192.168.1.1", 1), None])
async def test_an_unlisted_proxy_does_not_open_them(
    path: str, header: str, peer: tuple[str, int] | None
) -> None:
    """The world must not pass for the private address of the balancer in front."""
    gateway = ScriptedGateway(Scripted(Answer()))
    answer = await request(gateway.app, "GET", path, client=peer, headers={header: "for=8.8.8.8"})
    assert answer.status == 404


async def test_a_named_proxy_is_believed() -> None:
    gateway = ScriptedGateway(
        Scripted(Answer()), document={"server": {"trusted_proxies": ["10.0.0.1/32"]}}
    )
    for said, status in (("192.168.1.1", 200), ("8.8.8.8", 404)):
        answer = await request(
            gateway.app,
            "GET",
            "/metrics",
            client=("10.0.0.1", 1),
            headers={"x-forwarded-for": said},
        )
        assert answer.status == status


async def test_readiness_is_apart_from_liveness() -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    assert (await get("/readyz", gateway=gateway)).json() == {"status": "ok"}
    gateway.ready = False
    answer = await get("/readyz", gateway=gateway)
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert answer.json() == {"status": "not ready", "reason": "stopping"}
    assert (await get("/livez", gateway=gateway)).status == 200
    assert (await get("/health", gateway=gateway)).status == 200


async def test_a_scrape() -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    await get("/health", gateway=gateway)
    answer = await get("/metrics", gateway=gateway)
    kind = answer.header("content-type")
    assert kind is not None and kind.startswith("text/plain")
    line = 'penstock_requests_total{endpoint="ops",model="",outcome="completed",status="200"}'
    assert line in answer.text


@pytest.mark.parametrize("path", ["/", "/health", "/api/hello", "/readyz"])
async def test_head_is_answered_without_a_key(path: str) -> None:
    answer = await get(path, method="HEAD")
    assert answer.status in (200, 204)
    assert answer.complete


async def test_hello() -> None:
    assert (await get("/api/hello", client="8.8.8.8")).status == 204


async def test_the_front_page_lists_the_models_and_runs_nothing() -> None:
    answer = await get("/", client="8.8.8.8")
    assert answer.status == 200
    kind = answer.header("content-type")
    assert kind is not None and kind.startswith("text/html")
    for word in ("Acme", "m1", "m1-alias", "Priced One", "/v1/messages"):
        assert word in answer.text
    assert "upstream-model-x" not in answer.text
    policy = answer.header("content-security-policy")
    assert policy is not None and "default-src 'none'" in policy
    assert "<script>" not in answer.text


async def test_the_front_page_escapes_the_brand_and_the_host() -> None:
    gateway = ScriptedGateway(Scripted(Answer()), document={"brand": "Ac<b>me"})
    answer = await request(gateway.app, "GET", "/", headers={"host": '"><script>x</script>'})
    assert answer.status == 200
    assert "<b>me" not in answer.text
    assert "<script>" not in answer.text


async def test_a_page_without_public_models_says_where_to_ask() -> None:
    plans = [{"id": "gold"}]
    models = [{"id": "m1", "targets": ["both/x"], "plans": ["gold"]}]
    gateway = ScriptedGateway(Scripted(Answer()), document={"plans": plans, "models": models})
    answer = await get("/", gateway=gateway)
    assert "No model is listed publicly" in answer.text


PROXIES = {"trusted_proxies": ["10.0.0.1/32"]}


@pytest.mark.parametrize(
    ("server", "peer", "headers", "base"),
    [
        ({}, "10.0.0.1", {"x-forwarded-proto": "https"}, "http://gw.example"),
        (PROXIES, "10.0.0.2", {"x-forwarded-proto": "https"}, "http://gw.example"),
        (PROXIES, "10.0.0.1", {"x-forwarded-proto": "https"}, "https://gw.example"),
        (PROXIES, "10.0.0.1", {"x-forwarded-proto": "http, https"}, "https://gw.example"),
        (PROXIES, "10.0.0.1", {"x-forwarded-proto": "javascript"}, "http://gw.example"),
        (PROXIES, "10.0.0.1", {}, "http://gw.example"),
        ({"public_url": "https://llm.example.com/"}, "8.8.8.8", {}, "https://llm.example.com"),
    ],
)
async def test_front_page_shows_the_base_url_as_callers_write_it(
    server: dict[str, object], peer: str, headers: dict[str, str], base: str
) -> None:
    gateway = ScriptedGateway(Scripted(Answer()), document={"server": server})
    given = {"host": "gw.example", **headers}
    page = await request(gateway.app, "GET", "/", client=(peer, 1), headers=given)
    assert page.status == 200
    assert f"curl -N {base}/v1/chat/completions" in page.body.decode()


async def test_metrics_are_text_or_openmetrics_by_the_accept_header() -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    kinds = {}
    for accept in ("", "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"):
        headers = {"accept": accept, "accept-encoding": "gzip"}
        answer = await request(gateway.app, "GET", "/metrics", client=CLIENT, headers=headers)
        assert answer.header("content-encoding") == "gzip"
        text = gzip.decompress(answer.body).decode()
        kinds[answer.header("content-type")] = text.endswith("# EOF\n")
    assert kinds == {
        "text/plain; version=0.0.4; charset=utf-8": False,
        "application/openmetrics-text; version=1.0.0; charset=utf-8": True,
    }
