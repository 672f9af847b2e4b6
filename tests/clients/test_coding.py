"""Claude Code and Codex do a job through the gateway, on every upstream.

The prompt holds a directive by which the simulator calls a tool of the client; the client runs it,
and the file that appears in its working folder is the proof that the call arrived whole. The
answer repeats what the tool returned, so the result came back whole as well.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from edge.upstreams.simulator.controls import call_word
from tests.e2e.program import Gateway

from .conftest import DIALECTS
from .programs import claude_code, codex

NOTE = 'café "☕" \\ and <tags>'
COMMAND = f"printf '%s' '{NOTE}' > note.txt && echo written-$((6*7))"
PRINTED = "written-42"

PATCH = f"""\
*** Begin Patch
*** Add File: note.txt
+{NOTE}
*** End Patch
"""

SCRIPT = f"""\
const done = await tools.exec_command({{ cmd: {COMMAND!r} }})
text(done.output)
"""


def job(tool: str, arguments: Mapping[str, str] | str) -> str:
    """A prompt for which the simulator calls a tool once and then answers with its result."""
    return f"Leave a note. [[sim strict=1 {call_word(tool, arguments)}]]"


def written(folder: Path) -> str:
    return (folder / "work" / "note.txt").read_text().removesuffix("\n")


@pytest.mark.parametrize("upstream", DIALECTS)
def test_claude_code_uses_its_shell(upstream: str, gateway: Gateway, tmp_path: Path) -> None:
    prompt = job("Bash", {"command": COMMAND, "description": "a note"})
    events = claude_code(
        prompt, url=gateway.url, key=gateway.key, model=f"on-{upstream}", folder=tmp_path
    )
    assert written(tmp_path) == NOTE
    result = events[-1]
    assert (result["type"], result["subtype"], result["is_error"]) == ("result", "success", False)
    assert PRINTED in result["result"]
    assert result["stop_reason"] == "end_turn"
    assert result["num_turns"] == 2
    assert result["usage"]["output_tokens"] > 0


class Offer(NamedTuple):
    """How Codex offers a tool to models whose names begin so; `returns`: what its result holds."""

    family: str
    tool: str
    arguments: Mapping[str, str] | str
    returns: str
    namespace: str = ""

    def name(self, upstream: str) -> str:
        """The tool as the upstream sees it: only Responses has namespaces."""
        flat = upstream == "responses" or not self.namespace
        return self.tool if flat else f"{self.namespace}__{self.tool}"


CODEX = {
    "function": Offer("", "exec_command", {"cmd": COMMAND}, PRINTED),
    "custom": Offer("gpt-5.5-", "apply_patch", PATCH, "A note.txt"),
    "namespaced": Offer("gpt-6-luna-", "exec", SCRIPT, PRINTED, namespace="functions"),
}


@pytest.mark.parametrize("upstream", DIALECTS)
@pytest.mark.parametrize("offered", CODEX)
def test_codex_uses_its_tools(
    offered: str, upstream: str, gateway: Gateway, tmp_path: Path
) -> None:
    offer = CODEX[offered]
    events = codex(
        job(offer.name(upstream), offer.arguments),
        url=gateway.url,
        key=gateway.key,
        model=f"{offer.family}on-{upstream}",
        folder=tmp_path,
    )
    assert written(tmp_path) == NOTE
    (said,) = [
        event["item"]["text"]
        for event in events
        if event["type"] == "item.completed" and event["item"]["type"] == "agent_message"
    ]
    assert said.startswith("The tool returned: ")
    assert offer.returns in said
    assert events[-1]["type"] == "turn.completed"
    assert events[-1]["usage"]["output_tokens"] > 0
