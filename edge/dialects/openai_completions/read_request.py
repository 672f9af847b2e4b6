"""Decode a request of the older Completions: its prompt becomes one user message."""

from typing import Any

from edge.dialects.conversation import Conversation, Text, Turn
from edge.dialects.openai_chat.read_request import read_settings
from edge.dialects.passthrough import Fields
from edge.dialects.validation import Members, string, unsupported
from middlewares.problem import expected


def read(fields: Fields) -> Conversation:
    """The conversation in a body of completions. Raises Problem.

    Requests for several answers, or for filling a gap, are refused: Chat models cannot.
    """
    members = Members(fields)
    prompt = prompt_of(members.get("prompt"))
    if (members.count("best_of", 0) or 1) > 1:
        raise unsupported("best_of", "must be 1: this model gives one choice")
    if members.text("suffix"):
        raise unsupported("suffix", "is not available: this model does not fill gaps")
    members.flag("echo")
    conversation = Conversation(turns=[Turn("user", [Text(text=prompt)])])
    members.count("logprobs", 0)  # a number in this dialect; not supported in answers
    read_settings(members, conversation)
    return conversation


def prompt_of(prompt: Any) -> str:
    """The text of `prompt`. Raises Problem for tokens, and for more than one."""
    if isinstance(prompt, list):
        if len(prompt) != 1:
            raise expected("prompt", "a string, or an array of exactly one string")
        if not isinstance(prompt[0], str):
            raise expected("prompt[0]", "a string: tokens are not understood")
        prompt = prompt[0]
    if prompt is None:
        raise expected("prompt", "a string", code="missing_required_parameter")
    if not string(prompt, "prompt").strip():
        raise expected("prompt", "a string that is not blank")
    return str(prompt)
