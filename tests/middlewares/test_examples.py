"""The examples of docs/middlewares.md, served as they stand by two servers over real sockets."""

import inspect
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

import middlewares
from middlewares.stores import mint
from tests.middlewares.stores.redis_server import RedisServer
from tests.waiting import DEADLINE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/middlewares.md").read_text()
ALICE, BOB = mint("example"), mint("example")

Start = Callable[..., httpx.Client]


def sections() -> dict[str, str]:
    """The text of each section, by its heading."""
    parts = re.split(r"^## (.+)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def example(heading: str, number: int = 0) -> str:
    """One of the Python blocks of a section."""
    found = re.findall(r"^```python\n(.*?)^```", sections()[heading], re.MULTILINE | re.DOTALL)
    return str(found[number])


class Server:
    """An `app.py` in a folder of its own, served by a process."""

    def __init__(self, server: str, code: str, folder: Path, env: dict[str, str]) -> None:
        (folder / "app.py").write_text(code)
        # Granian's workers share a port (SO_REUSEPORT), so one can be kept for it until it listens.
        with socket.socket() as held:
            if server == "granian":
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                held.bind(("127.0.0.1", 0))
                port = held.getsockname()[1]
                options = ["--interface", "asgi", "--port", str(port)]
            else:
                port = 0
                options = ["--port", "0"]
            self._output = folder / "output"
            with self._output.open("wb") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", server, *options, "app:app"],
                    cwd=folder,
                    env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            self.url = self._wait(port)

    def _wait(self, port: int) -> str:
        """Its address, when it listens."""
        deadline = time.monotonic() + DEADLINE
        while self._process.poll() is None and time.monotonic() < deadline:
            reported = re.search(r"running on http://127\.0\.0\.1:(\d+)", self.output)
            port = port or (int(reported[1]) if reported else 0)
            if port:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    return f"http://127.0.0.1:{port}"
                except ConnectionRefusedError:
                    pass
            time.sleep(0.01)
        self.stop()
        raise AssertionError(self.output)

    @property
    def output(self) -> str:
        return self._output.read_text()

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(DEADLINE)
        finally:
            self._process.kill()
            self._process.wait()


@pytest.fixture(params=["uvicorn", "granian"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Serves code; gives a client for it. faults: how many tracebacks will be in its log."""
    started: list[tuple[Server, httpx.Client, int]] = []

    def begin(code: str, *, faults: int = 0, **env: str) -> httpx.Client:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        server = Server(request.param, code, folder, env)
        client = httpx.Client(base_url=server.url, trust_env=False, timeout=10)
        started.append((server, client, faults))
        return client

    yield begin
    for server, client, faults in started:
        client.close()
        server.stop()
        assert server.output.count("Traceback (most recent call last)") == faults, server.output


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a provider."""
    output = tmp_path_factory.mktemp("simulator") / "output"
    command = [sys.executable, "-m", "edge.upstreams.simulator", "--port", "0"]
    with output.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + DEADLINE
        while not (reported := re.search(r"http://\S+", output.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, output.read_text()
            time.sleep(0.01)
        yield f"{reported[0]}/v1"
    finally:
        process.terminate()
        process.wait(DEADLINE)


@pytest.fixture
def redis_url() -> Iterator[str]:
    """An empty Redis."""
    with TemporaryDirectory(prefix="redis-") as folder:  # its path has to be short
        server = RedisServer(Path(folder))
        yield server.url()
        server.stop()


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


# The page as a whole


def test_every_middleware_has_its_section() -> None:
    exported = {name for name in middlewares.__all__ if name.endswith("Middleware")}
    assert {name for name in sections() if name.endswith("Middleware")} == exported


@pytest.mark.parametrize("name", [n for n in middlewares.__all__ if n.endswith("Middleware")])
def test_the_table_has_every_parameter(name: str) -> None:
    parameters = [*inspect.signature(getattr(middlewares, name)).parameters.values()][1:]
    rows = re.findall(r"^\| `(\w+)` \| ?(.*?) ?\|", sections()[name], re.MULTILINE)
    assert [row for row, _ in rows] == [parameter.name for parameter in parameters]
    for (_, shown), parameter in zip(rows, parameters, strict=True):
        default = parameter.default
        if default is inspect.Parameter.empty:
            assert shown == "", parameter.name
        elif default is not None and not callable(default) and not isinstance(default, frozenset):
            assert shown == f"`{default!r}`".replace("'", '"'), parameter.name
        else:  # what it does then
            assert shown, parameter.name


def test_the_table_at_the_top_has_every_middleware() -> None:
    head = PAGE.partition("\n## ")[0]
    rows = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \|", head, re.MULTILINE)
    assert {name for name, _ in rows} == {n for n in sections() if n.endswith("Middleware")}
    assert all(anchor == name.lower() for name, anchor in rows)


def test_each_framework_is_there_twice_and_no_block_is_left_out() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for framework in ("fastapi", "starlette.applications", "litestar"):
        assert sum(f"from {framework} import" in block for block in blocks) >= 2, framework
    assert sum("async def hello(scope, receive, send)" in block for block in blocks) >= 2
    assert len(blocks) == len(
        re.findall(r"^def test_example_", Path(__file__).read_text(), re.MULTILINE)
    )


# The examples


def test_example_start(start: Start, tmp_path: Path) -> None:
    client = start(example("Start here"))
    refused = client.get("/")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_key")
    printed = "".join(file.read_text() for file in tmp_path.rglob("output"))
    found = re.search(r"Authorization: (Bearer sk-example-live-\w+)", printed)
    assert found is not None, printed
    answered = client.get("/", headers={"authorization": found[1]})
    assert answered.text == "hello Alice\n"
    assert answered.headers["x-request-id"] != refused.headers["x-request-id"]


def test_example_request_id(start: Start) -> None:
    client = start(example("RequestIDMiddleware"))
    first = client.get("/", headers={"x-request-id": "mine-7"})
    assert first.json() == {"request": first.headers["x-request-id"], "you_called_it": "mine-7"}
    nowhere = client.get("/nowhere")
    assert nowhere.status_code == 404
    assert first.headers["x-request-id"] < nowhere.headers["x-request-id"]


def test_example_tracing(start: Start, tmp_path: Path) -> None:
    client = start(example("TracingMiddleware"))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = client.get("/hello/world", headers={"traceparent": parent}).json()
    version, trace, span, flags = answer["traceparent"].split("-")
    assert (version, trace, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert span != "b7ad6b7169203331"

    def printed() -> str:
        return "".join(file.read_text() for file in tmp_path.rglob("output"))

    deadline = time.monotonic() + DEADLINE
    wanted = ('"name": "GET /hello/{name}"', '"name": "chat small-1"', f'"span_id": "0x{span}"')
    while not all(text in printed() for text in wanted):
        assert time.monotonic() < deadline, printed()
        time.sleep(0.02)
    assert '"parent_id": "0xb7ad6b7169203331"' in printed()
    assert '"gen_ai.provider.name": "openai"' in printed()
    assert '"service.name": "shop"' in printed()


def test_example_metrics(start: Start) -> None:
    client = start(example("MetricsMiddleware"))
    for _ in range(3):
        assert client.get("/").text == "hello"
    scraped = client.get("/metrics")
    assert scraped.headers["content-type"].startswith("text/plain")
    (line,) = (
        line
        for line in scraped.text.splitlines()
        if line.startswith("penstock_requests_total") and 'endpoint="hello"' in line
    )
    assert 'status="200"' in line
    assert line.endswith(" 3.0")


def test_example_headers(start: Start) -> None:
    answer = start(example("HeaderStampMiddleware")).get("/")
    assert answer.text == "hello"
    assert answer.headers["x-model-used"] == "small-1"
    assert re.fullmatch(r"app;dur=\d+\.\d", answer.headers["server-timing"])


def test_example_errors(start: Start) -> None:
    client = start(example("ErrorsMiddleware"), faults=1)
    assert client.get("/models/small-1").json() == {"id": "small-1"}
    missing = client.get("/models/large-9")
    assert missing.status_code == 404
    error = missing.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "name")
    stream = client.get("/stream")
    begun, broken, rest = stream.text.split("\n\n", 2)
    assert (begun, rest) == ('data: {"text": "Hel"}', "")
    assert "Example is sorry. Please retry." in broken
    assert "10.0.0.7" not in stream.text


def test_example_auth(start: Start) -> None:
    client = start(example("AuthMiddleware"), ALICES_KEY=ALICE)
    assert client.get("/").json()["error"]["code"] == "missing_key"
    wrong = client.get("/", headers=bearer(BOB))
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_key")
    assert client.get("/", headers=bearer(ALICE)).text == "hello alice"
    assert client.get("/", headers={"x-api-key": ALICE}).text == "hello alice"


def test_example_rate_limit(start: Start) -> None:
    client = start(example("RateLimitMiddleware"), ALICES_KEY=ALICE, BOBS_KEY=BOB)
    first = client.get("/", headers=bearer(ALICE))
    assert first.headers["x-ratelimit-limit"] == "60"
    assert first.headers["x-ratelimit-remaining"] == "59"
    statuses = [client.get("/", headers=bearer(ALICE)) for _ in range(79)]
    served = sum(answer.status_code == 200 for answer in [first, *statuses])
    refused = statuses[-1]
    # One more for each second that the requests took.
    assert served >= 70
    assert all(answer.status_code == 200 for answer in statuses[:69])
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert client.get("/", headers=bearer(BOB)).headers["x-ratelimit-remaining"] == "59"


def test_example_rate_limit_in_redis(start: Start, redis_url: str) -> None:
    code = example("RateLimitMiddleware", 1)
    one, other = start(code, REDIS_URL=redis_url), start(code, REDIS_URL=redis_url)
    answers = [client.get("/search?q=tea") for client in (one, other, one, other, one)]
    assert [answer.json() for answer in answers] == [["nothing about tea"]] * 5
    for client in (one, other):
        refused = client.get("/search?q=tea")
        assert refused.status_code == 429
        assert 600 < int(refused.headers["retry-after"]) <= 720
        assert client.get("/").status_code == 200


def test_example_idempotency(start: Start) -> None:
    client = start(example("IdempotencyMiddleware"))

    def order(key: str, item: str) -> httpx.Response:
        return client.post("/orders", json={"item": item}, headers={"idempotency-key": key})

    first, again = order("a", "tea"), order("a", "tea")
    assert first.json() == again.json() == {"number": 1, "item": "tea"}
    assert first.status_code == again.status_code == 201
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert order("a", "coffee").status_code == 422
    assert order("b", "tea").json()["number"] == 2


def test_example_budget(start: Start, simulator: str) -> None:
    client = start(example("BudgetMiddleware"), LLM_URL=simulator)
    body = {
        "model": "sim-1",
        "messages": [{"role": "user", "content": "Rivers. [[sim tokens=400 rate=100000]]"}],
    }
    answers = [client.post("/chat", json=body) for _ in range(5)]
    statuses = [answer.status_code for answer in answers]
    deadline = time.monotonic() + DEADLINE
    while "in flight" in answers[-1].text and time.monotonic() < deadline:
        answers.append(client.post("/chat", json=body))  # the last rows come to the ledger
    # Of 0.02 a day each takes 0.006 for 400 tokens, and somewhat more for its input. After three
    # there is less left than an input of 1,000 tokens may cost, 0.003.
    assert statuses == [200, 200, 200, 429, 429]
    assert answers[0].json()["usage"]["completion_tokens"] == 400
    error = answers[-1].json()["error"]
    assert (error["code"], error["window"]) == ("budget_exceeded", "1d")
    assert 0 < float(error["remaining"]) < 0.003
    assert error["reset_at"].endswith("Z")
    assert int(answers[-1].headers["retry-after"]) > 86000


def test_example_downgrade(start: Start) -> None:
    client = start(example("DowngradeMiddleware"))
    answers = [client.get("/") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    models = [answer.text.removeprefix("hello from ") for answer in answers]
    assert models == ["large"] * 3 + ["small"] * 2


def test_example_fallback(start: Start, simulator: str) -> None:
    client = start(
        example("FallbackMiddleware"), NEAR_URL="http://127.0.0.1:1/v1", FAR_URL=simulator
    )

    def chat(text: str) -> httpx.Response:
        return client.post("/chat", json={"messages": [{"role": "user", "content": text}]})

    answers = [chat("Rivers. [[sim tokens=5]]") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert {answer.headers["x-served-by"] for answer in answers} == {"far"}
    assert client.get("/states").json() == {"near": "open", "far": "closed"}
    failed = chat(
        "Rivers. [[sim fault=status:500]]"
    )  # by the far one; the near one is the last resort
    assert failed.json()["error"]["code"] == "upstream_unavailable"
    assert "x-served-by" not in failed.headers


def test_example_together(start: Start) -> None:
    client = start(example("Several together"), faults=1, ALICES_KEY=ALICE)
    assert client.post("/shout", json={"text": "a b"}).status_code == 401
    headers = {**bearer(ALICE), "idempotency-key": "once"}
    first = client.post("/shout", json={"text": "a b"}, headers=headers)
    assert first.json() == {"text": "A B"}
    assert first.headers["x-credits-used"] == "0.000036"
    assert first.headers["x-ratelimit-remaining"] == "59"
    again = client.post("/shout", json={"text": "a b"}, headers=headers)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert "x-credits-used" not in again.headers
    broken = client.post("/shout", json={}, headers=bearer(ALICE))
    assert broken.status_code == 500
    assert "Example" in broken.json()["error"]["message"]
