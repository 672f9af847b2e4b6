"""Other gateways to measure beside this one: `PEERS=all make bench`.

Each is installed in an environment of its own on first use and runs with one worker on one core,
logs turned down as its manual has it. What cannot be installed or started is named in the report.
"""

import json
from functools import partial

from .environments import node_environment, python_environment
from .subjects import CHAT, CHAT_SHAPES, MESSAGES, ROWS, Ready, Subject, Workspace, said

_UPSTREAM_KEY = "sk-bench-upstream"


def _vllm_router(workspace: Workspace) -> Ready:
    home = python_environment("vllm-router", ["vllm-router==0.1.17"])
    command = f"""{home}/bin/vllm-router --host 127.0.0.1 --port {workspace.port} --enable-igw
        --policy round_robin --log-level error --health-check-endpoint /v1/models
        --max-concurrent-requests 32768 --prometheus-port {workspace.spare_port}"""
    worker = json.dumps({"url": workspace.upstream, "model_id": "sim-1"})
    return Ready(
        command=command.split(),
        url=workspace.url,
        model="sim-1",
        version="0.1.17",
        introduce=(f"http://127.0.0.1:{workspace.port}/workers", worker),
        note="passes requests through: no keys, no model names of its own; the simulator was added "
        "by its management interface, as workers on the command line must answer /health",
    )


_TENSORZERO = """\
[gateway]
observability.enabled = false

[models.bench]
routing = ["provider"]

[models.bench.providers.provider]
type = "{kind}"
model_name = "sim-1"
api_base = "{upstream}/v1/{path}"
"""

_TENSORZERO_HOST = """\
import os, threading
from openai import OpenAI
from tensorzero import patch_openai_client

client = patch_openai_client(OpenAI(api_key="x"), config_file="tensorzero.toml", async_setup=False)
open("base_url.new", "w").write(str(client.base_url))
os.replace("base_url.new", "base_url")
threading.Event().wait()
"""


def _tensorzero(workspace: Workspace, kind: str = "openai", path: str = "") -> Ready:
    home = python_environment("tensorzero", ["tensorzero==2026.6.*", "openai"])
    config = _TENSORZERO.format(upstream=workspace.upstream, kind=kind, path=path)
    workspace.write("tensorzero.toml", config)
    workspace.write("host.py", _TENSORZERO_HOST)
    python = f"{home}/bin/python"
    return Ready(
        command=[python, "host.py"],
        url="",
        url_file="base_url",
        model="tensorzero::model_name::bench",
        version=_version(python, "tensorzero"),
        env={
            "OPENAI_API_KEY": _UPSTREAM_KEY,
            "ANTHROPIC_API_KEY": _UPSTREAM_KEY,
            "RUST_LOG": "error",
        },
        files={"tensorzero.toml": config, "host.py": _TENSORZERO_HOST},
        note="the gateway embedded in its Python client, which opens an HTTP port; "
        "no keys, observability off",
    )


def _portkey(workspace: Workspace, provider: str = "openai") -> Ready:
    home = node_environment(
        "portkey",
        {"@portkey-ai/gateway": "1.15.2"},
        {"@hono/node-server": "1.13.8", "hono": "4.9.7"},
    )
    package = home / "node_modules" / "@portkey-ai" / "gateway"
    return Ready(
        command=[
            "node",
            str(package / "build" / "start-server.js"),
            f"--port={workspace.port}",
            "--headless",
        ],
        url=workspace.url,
        model="sim-1",
        version=json.loads((package / "package.json").read_text())["version"],
        env={"NODE_ENV": "production"},
        headers={
            "authorization": f"Bearer {_UPSTREAM_KEY}",
            "x-portkey-provider": provider,
            "x-portkey-custom-host": f"{workspace.upstream}/v1",
        },
        note="no keys of its own; the provider is named by request headers",
    )


_LITELLM = """\
model_list:
- model_name: bench-model
  litellm_params:
    model: {provider}/sim-1
    api_base: {upstream}{base}
    api_key: {key}
general_settings:
  master_key: sk-bench-master
litellm_settings:
  request_timeout: 600
  num_retries: 0
  use_chat_completions_url_for_anthropic_messages: true
"""


def _litellm(
    workspace: Workspace, provider: str = "openai", base: str = "/v1", path: str = CHAT
) -> Ready:
    home = python_environment("litellm", ["litellm[proxy]==1.106.*"])
    config = _LITELLM.format(
        upstream=workspace.upstream, key=_UPSTREAM_KEY, provider=provider, base=base
    )
    file = workspace.write("litellm.yaml", config)
    return Ready(
        command=[
            f"{home}/bin/litellm",
            "--config",
            str(file),
            "--host",
            "127.0.0.1",
            "--port",
            str(workspace.port),
            "--num_workers",
            "1",
        ],
        url=workspace.url.removesuffix(CHAT) + path,
        model="bench-model",
        version=_version(f"{home}/bin/python", "litellm"),
        env={
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",
        },
        files={"litellm.yaml": config},
        headers={"authorization": "Bearer sk-bench-master"},
        note="one master key, no database; its check for repetition is off",
    )


def _version(python: str, package: str) -> str:
    return said([python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))"])


_peer = partial(Subject, peer=True, shapes=CHAT_SHAPES[:1])
_translating = partial(_peer, rows=frozenset(("bodies", "gaps")))
PEERS = (
    _peer("vllm-router", "a pass-through router in Rust", _vllm_router),
    _peer("tensorzero", "a gateway in Rust", _tensorzero),
    _peer("portkey", "a gateway in TypeScript on Node", _portkey),
    _peer("litellm", "a gateway in Python", _litellm, rows=ROWS - {"shapes"}),
    _translating(
        "tensorzero-chat-over-messages",
        "TensorZero, OpenAI clients on an Anthropic upstream",
        partial(_tensorzero, kind="anthropic", path="messages"),
        product="tensorzero",
        way="chat-over-messages",
    ),
    _translating(
        "portkey-chat-over-messages",
        "Portkey, OpenAI clients on an Anthropic upstream",
        partial(_portkey, provider="anthropic"),
        product="portkey",
        way="chat-over-messages",
    ),
    _translating(
        "litellm-chat-over-messages",
        "LiteLLM, OpenAI clients on an Anthropic upstream",
        partial(_litellm, provider="anthropic", base=""),
        product="litellm",
        way="chat-over-messages",
    ),
    _translating(
        "litellm-messages-over-chat",
        "LiteLLM, Anthropic clients on an OpenAI upstream",
        partial(_litellm, path=MESSAGES),
        product="litellm",
        way="messages-over-chat",
    ),
)
