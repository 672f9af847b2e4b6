"""The Claude command-line client of this host as an upstream that speaks Anthropic Messages.

Theory of operation. One process answers one request and ends with it:

    start      ahead of need, with a command line and an environment that contain nothing of a
               request (`program`), in its own process group that dies with the gateway
               (`die_with_parent`, `process`); the number of processes is limited (`pool`)
    write      to standard input: system prompt, tools, model and limits, then the history, then
               the last user message (`input` makes the lines)
    read       from standard output: the events of the Messages API, line by line (`output` makes
               an event stream of them, `message` a whole message)
    end        after the first message: SIGTERM to the group, soon after SIGKILL

The client's own tools are off. The caller's tools are declared to it as those of an MCP server over
standard input. A tool call ends the message, so the client never waits for a result: the caller
sends it with its next request.
"""

from .program import Program
from .upstream import ClaudeCLIUpstream

__all__ = ["ClaudeCLIUpstream", "Program"]
