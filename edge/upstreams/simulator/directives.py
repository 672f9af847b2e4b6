"""Find the directives of a conversation, and the progress of a tool script.

Theory of operation. The last user message with text contains the directive. A tool script is given
once and applies to the following turns, so it is searched in all user messages, the newest first:
coding clients append their own text to the user's. The tool results after that message are the
steps done. A later assistant turn without a call ends the script.
"""

from collections.abc import Sequence

import msgspec

from .controls import has_calls, take_directive
from .turns import Message, text_of


class Directives(msgspec.Struct, frozen=True):
    """The directives that apply to the next answer.

    text: of the last user message that has any, without directives. directive: their words.
    results: texts of the tool results since the script, or of all without one. over: whether the
    script has ended.
    """

    text: str
    directive: str
    results: tuple[str, ...]
    over: bool


def directives_of(messages: Sequence[Message]) -> Directives:
    """The directives of a conversation."""
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
    """Whether an assistant turn without a call has ended."""
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
