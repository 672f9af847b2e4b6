"""Command line and environment of the client; they depend only on the configuration."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edge.upstreams import ConnectFailed

_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
_CAN_DIE_WITH_PARENT = sys.platform == "linux"

SERVER = "caller"
"""Name of the MCP server that declares the caller's tools to the client."""

_SETTINGS = '{"attribution":{"commit":"","pr":"","sessionUrl":false}}'

_OPTIONS = (
    *("-p", "--verbose"),
    *("--input-format", "stream-json", "--output-format", "stream-json"),
    "--include-partial-messages",
    *("--max-turns", "1"),  # also prevents a second request if a tool call were answered
    *("--tools", ""),
    *("--allowedTools", f"mcp__{SERVER}"),
    "--strict-mcp-config",
    "--disable-slash-commands",
    "--no-session-persistence",
    *("--setting-sources", ""),
    *("--settings", _SETTINGS),
    "--safe-mode",
)

_PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"),
)
"""Environment variables that the client inherits from the gateway."""

_SCRATCH = ("TMPDIR", "CLAUDE_CODE_TMPDIR", "XDG_CACHE_HOME")

_FIXED = {
    "CLAUDE_AGENT_SDK_MCP_NO_PREFIX": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    "CLAUDE_CODE_MAX_MCP_DESCRIPTION_LENGTH": "10000000",
    "CLAUDE_CODE_SKIP_MCP_DEBUG_LOG_FILES": "1",
    "CLAUDE_CODE_MAX_RETRIES": "0",  # the gateway retries
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_AUTO_COMPACT": "1",
    "DISABLE_TELEMETRY": "1",
    "ENABLE_TOOL_SEARCH": "false",
}


class Program(msgspec.Struct, frozen=True):
    """The client program of one upstream.

    command: a name that is looked up in PATH, or a path.
    environment: additional variables; the fixed ones here take precedence.
    """

    command: str = "claude"
    environment: Mapping[str, str] = {}

    def argv(self) -> list[str]:
        """The command line. Raises ConnectFailed when there is no such program."""
        found = shutil.which(self.command)
        if found is None:
            raise ConnectFailed(f"{self.command}: not found, or not executable")
        wrapper = (
            [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid())]
            if _CAN_DIE_WITH_PARENT
            else []
        )
        return [*wrapper, str(Path(found).absolute()), *_OPTIONS]

    def environ(self, temporary: Path) -> dict[str, str]:
        """The whole environment. temporary: a private folder for sockets and temporary files."""
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        folders = dict.fromkeys(_SCRATCH, str(temporary))
        return {**passed, **self.environment, **folders, **_FIXED}
