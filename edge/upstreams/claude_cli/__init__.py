"""The Claude command-line client of this host as an upstream that speaks Anthropic Messages.

Theory of operation. One process answers one request, and is ended with it:

    started    ahead of need, with a command line and an environment that hold nothing of any
               request (`program`), in a process group of its own that dies with the gateway
               (`die_with_parent`, `process`); at most so many at once (`pool`)
    told       over standard input: system prompt, tools, model and limits, then what was said so
               far, then what is asked (`asking` makes the lines)
    heard      over standard output: the events of the Messages API as they arrive, line by line
               (`answering` makes an event stream of them, `whole` a message)
    ended      with the first message: SIGTERM to its group, SIGKILL soon after

The client's own tools are off. The caller's are told to it as those of a server behind standard
input. A call of one ends the message, so that nobody ever has to answer it: the caller does, in its
next request.
"""

from .program import Program
from .upstream import ClaudeCLIUpstream

__all__ = ["ClaudeCLIUpstream", "Program"]
