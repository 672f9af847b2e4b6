"""Where in a conversation the directives stand, and how far a tool script has come.

Theory of operation. The last user message that has text tells the directive. A tool script is
told once and holds for the turns after it, so that it is looked for in all user messages, the
newest first: coding clients put text of their own behind the user's. The tool results behind that
message count the steps that are done. An assistant turn without a call behind it ends the script.
"""

from collections.abc import Sequence

import msgspec

from .controls import has_calls, take_directive
from .turns import Message, text_of


class Directives(msgspec.Struct, frozen=True):
    """text: of the last user message that has any, without `directive`, the words that hold now.

    results: texts of the tool results since the script was told, or of all when the conversation
    tells none. over: the script has been answered with text.
    """

    text: str
    directive: str
    results: tuple[str, ...]
    over: bool


def directives_of(messages: Sequence[Message]) -> Directives:
    """What the conversation tells."""
    last = _last_user(messages)
    text, words = take_directive(text_of(messages[last].content)) if last >= 0 else ("", "")
    start = _last_user(messages, scripted=True)
    over = start >= 0 and _answered(messages[start + 1 :])
    if start >= 0 and start != last and not over:
        words = f"{take_directive(text_of(messages[start].content))[1]} {words}"
    results = [text for message in messages[start + 1 :] for text in message.results]
    return Directives(text, words, tuple(results), over)


def _last_user(messages: Sequence[Message], *, scripted: bool = False) -> int:
    """The index of the last user message with text, or with a tool script; or -1."""
    for at in reversed(range(len(messages))):
        if messages[at].role != "user":
            continue
        text = text_of(messages[at].content)
        if text and (not scripted or has_calls(text)):
            return at
    return -1


def _answered(messages: Sequence[Message]) -> bool:
    """Whether a turn of the assistant is over that called nothing."""
    spoke = called = False
    for message in messages:
        if message.role == "assistant":
            spoke = True
            called = called or message.calls
        elif message.role in ("user", "tool"):
            if spoke and not called:
                return True
            spoke = called = False
    return False
