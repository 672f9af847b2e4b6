"""Claude Code: variables for a shell or a project, and a status line."""

from .literals import document, string, word
from .setup import Block, Guide, Setup


def guide(setup: Setup) -> Guide:
    """The shell's lines, or the project's file."""
    key = f'"${setup.variable}"' if setup.needs_key else word(setup.key)
    shell = [
        *((setup.export,) if setup.needs_key else ()),
        f"export ANTHROPIC_BASE_URL={word(setup.anthropic_url)}",
        f"export ANTHROPIC_AUTH_TOKEN={key}",
        'export ANTHROPIC_API_KEY=""',
        *(f"export {name}={word(value)}" for name, value in _models(setup).items()),
    ]
    settings = {
        "env": {
            "ANTHROPIC_BASE_URL": setup.anthropic_url,
            "ANTHROPIC_AUTH_TOKEN": setup.key,
            "ANTHROPIC_API_KEY": "",
            **_models(setup),
        }
    }
    return Guide(
        "claude-code",
        "Claude Code",
        (
            Block("In your shell, or in `~/.bashrc` or `~/.zshrc`", "sh", "\n".join(shell) + "\n"),
            Block(
                "Or for one project",
                "json",
                document(settings),
                ".claude/settings.local.json",
            ),
            Block("Then", "sh", "claude\n"),
        ),
        (
            "The base URL has no `/v1`. Claude Code adds the path.",
            "Run `/logout` in Claude Code first if you have signed in with an Anthropic account: "
            "that sign-in takes precedence.",
            "`ANTHROPIC_API_KEY` is empty, not unset. Claude Code would use a key in it.",
            "Opus, Sonnet, Haiku and Fable are names of Claude Code for models of any vendor. It "
            "starts with Opus, `/model` switches, and background work goes to Haiku.",
            "`CLAUDE_CODE_MAX_CONTEXT_TOKENS` is the smallest context of these models. Claude Code "
            "does not ask for it.",
            f"`{setup.slug}/NAME` and `NAME[1m]` are the model `NAME`.",
        ),
    )


def _models(setup: Setup) -> dict[str, str]:
    chosen = (setup.large, setup.model, setup.small)
    models = {
        "ANTHROPIC_DEFAULT_OPUS_MODEL": setup.large.id,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": setup.model.id,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": setup.small.id,
        "ANTHROPIC_DEFAULT_FABLE_MODEL": setup.large.id,
    }
    known = [model.context for model in chosen if model.context is not None]
    if known:
        models["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(min(known))
    return models


def status_line(setup: Setup) -> Guide:
    """What is left of the budget, in Claude Code's status line."""
    name = f"{setup.slug}-status.py"
    line = {"type": "command", "command": f"python3 ~/.claude/{name}"}
    return Guide(
        "status-line",
        "Status line of Claude Code",
        (
            Block("The program", "python", _program(setup), f"~/.claude/{name}"),
            Block("The setting", "json", document({"statusLine": line}), "~/.claude/settings.json"),
        ),
        (
            "It shows each budget window with what is left and when it resets, and the balance of "
            "credits, of the key and of its team.",
            "It asks `/v1/limits`, which costs nothing, and needs Python 3.8 or newer.",
        ),
    )


def _program(setup: Setup) -> str:
    return f'''\
import json
import os
from datetime import datetime
from urllib.request import Request, urlopen

BRAND = {string(setup.brand)}
URL = os.environ.get("ANTHROPIC_BASE_URL") or {string(setup.url)}
KEY = os.environ.get("ANTHROPIC_AUTH_TOKEN") or os.environ.get("{setup.variable}", "")


def levels(limits):
    for window in limits.get("windows", ()):
        text = f"{{window['length']}}: {{window['remaining']}} left"
        if window["resets_at"]:
            reset = datetime.strptime(window["resets_at"][:19] + "+0000", "%Y-%m-%dT%H:%M:%S%z")
            text += f", resets {{reset.astimezone():%a %H:%M}}"
        yield text
    if limits.get("credits"):
        yield f"credits: {{limits['credits']['balance']}}"


try:
    asked = Request(URL + "/v1/limits", headers={{"Authorization": "Bearer " + KEY}})
    with urlopen(asked, timeout=3) as answer:
        limits = json.load(answer)
    team = [f"team {{text}}" for text in levels(limits.get("team") or {{}})]
    print(" | ".join([BRAND, *levels(limits), *team]))
except (OSError, ValueError) as error:
    print(f"{{BRAND}}: {{error}}")
'''
