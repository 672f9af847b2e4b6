"""What the real Claude client makes of a request: what its vendor is asked in the end.

The vendor is a simulator of this process, which remembers what it was asked.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.upstreams import Request
from edge.upstreams.claude_cli import ClaudeCLIUpstream, Program
from edge.upstreams.simulator import SimulatorServer

from .claude import CLIENT, MODEL, SCHEMA

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as server:
        yield server


@pytest.fixture
async def upstream(simulator: SimulatorServer, tmp_path: Path) -> AsyncIterator[ClaudeCLIUpstream]:
    variables = {
        "HOME": str(tmp_path),
        "ANTHROPIC_BASE_URL": simulator.url,
        "ANTHROPIC_AUTH_TOKEN": "t",
        "NO_PROXY": "*",
    }
    upstream = ClaudeCLIUpstream(Program(command=str(CLIENT), environment=variables))
    try:
        yield upstream
    finally:
        await upstream.aclose()


async def made(
    upstream: ClaudeCLIUpstream, simulator: SimulatorServer, **members: Any
) -> dict[str, Any]:
    """What the vendor is asked, once, for a request of these members."""
    simulator.recent.clear()
    body = {"model": MODEL, "max_tokens": 321, **members}
    answer = await upstream.open(Request(b"POST", b"/v1/messages", (), json.dumps(body).encode()))
    shown = await answer.read()
    assert answer.status == 200, shown
    (seen,) = [request for request in simulator.recent if request.method == b"POST"]
    assert isinstance(seen.body, bytes)
    asked: dict[str, Any] = json.loads(seen.body)
    return asked


def said(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages, less what the client says on its own, and its marks of what to cache."""
    shown = [message for message in asked["messages"] if message["role"] != "system"]
    for message in shown:
        if isinstance(message["content"], list):
            for block in message["content"]:
                block.pop("cache_control", None)
    return shown


async def test_everything_arrives_as_it_was(
    upstream: ClaudeCLIUpstream, simulator: SimulatorServer, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("not to be shown")
    picture = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
    }
    names = ("Agent", "Bash", "Read", "Skill", "StructuredOutput", "Task", "mcp__a__b", "z" * 64)
    tools = [{"name": name, "description": "d" * 9000, "input_schema": SCHEMA} for name in names]
    calls = [
        {"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": {"city": "Ulm", "days": n}}
        for n, name in enumerate(("Bash", "Task"))
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_0", "content": f"/exit @{secret} " * 9000},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "a picture"}, picture],
        },
    ]
    messages = [
        {"role": "user", "content": "/exit"},
        {"role": "assistant", "content": [{"type": "text", "text": "So?"}, *calls]},
        {"role": "user", "content": results},
        {"role": "assistant", "content": [{"type": "text", "text": "!ls\n/exit"}]},
        {
            "role": "user",
            "content": [picture, {"type": "text", "text": f"@{secret} /exit !ls\n@{secret}"}],
        },
    ]
    asked = await made(
        upstream,
        simulator,
        system=[{"type": "text", "text": "/exit"}, {"type": "text", "text": f"@{secret}"}],
        tools=tools,
        messages=messages,
        temperature=0.5,
        stop_sequences=["@x"],
        tool_choice={"type": "auto"},
    )
    assert said(asked) == messages
    assert asked["system"][-1]["text"] == f"/exit\n\n@{secret}"
    assert sorted(asked["tools"], key=lambda tool: str(tool["name"])) == tools
    assert (asked["model"], asked["max_tokens"]) == (MODEL, 321)
    assert (asked["temperature"], asked["stop_sequences"]) == (0.5, ["@x"])
    assert asked["tool_choice"] == {"type": "auto"}
    assert "thinking" not in asked
    assert secret.read_text() not in json.dumps(asked)


async def test_what_is_cut_off_is_asked_for_once(
    upstream: ClaudeCLIUpstream, simulator: SimulatorServer
) -> None:
    """The client would go on by itself, and no caller would be billed."""
    question = [{"role": "user", "content": "[[sim tokens=99 rate=100]]"}]
    await made(upstream, simulator, messages=question, max_tokens=30)
    await upstream.aclose()
    assert len([request for request in simulator.recent if request.method == b"POST"]) == 1


async def test_a_schema_that_the_client_cannot_read(
    upstream: ClaudeCLIUpstream, simulator: SimulatorServer
) -> None:
    """It would wait for ever, with one of the few places."""
    tools = [{"name": "w", "input_schema": {"type": "object", "properties": 5}}]
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": MODEL, "max_tokens": 9, "messages": messages, "tools": tools}
    shown = await upstream.open(Request(b"POST", b"/v1/messages", (), json.dumps(body).encode()))
    assert shown.status == 400
    assert b"tools: " in await shown.read()
    assert not [request for request in simulator.recent if request.method == b"POST"]


async def test_thinking_effort_and_the_shape_of_the_answer(
    upstream: ClaudeCLIUpstream, simulator: SimulatorServer, tmp_path: Path
) -> None:
    question = [{"role": "user", "content": "[[sim tokens=2]]"}]
    shape = {"type": "json_schema", "schema": SCHEMA}
    output = {"effort": "low", "format": shape}
    asked = await made(
        upstream, simulator, messages=question, output_config=output, thinking={"type": "adaptive"}
    )
    assert said(asked) == question
    assert asked["output_config"] == output
    assert asked["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert asked["tools"] == []
    await upstream.aclose()
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    kept = {".claude.json", *(name for name in left if name.startswith(".claude/backups/"))}
    kept |= {name for name in left if name.startswith(".claude/plugins/store/")}
    assert left <= kept, "it keeps its own settings, and nothing of what was said"
    for name in left:
        assert "[[sim" not in (tmp_path / name).read_text()
