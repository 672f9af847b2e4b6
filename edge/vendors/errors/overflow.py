"""Context overflow: upstreams' messages, and the message that clients expect.

Coding agents compact the conversation if they recognise the message.
"""

import re

from middlewares.exchange import Dialect

OVERFLOW = re.compile(
    r"(?:prompt|input)[_ ](?:is[_ ])?too[_ ]long|context[_ ](?:length|window|limit|size)"
    r"|maximum context|maximum prompt length|too many tokens|tokens exceed|reduce the length"
    r"|exceeds? the maximum (?:number of )?tokens|input token count|model token limit"
    r"|exceeds the limit of \d|greater than the context|request entity too large",
    re.IGNORECASE,
)
TOO_LONG = re.compile(r"string too long", re.IGNORECASE)
"""An overflow too, if it is about the prompt."""
_N = r"(?<!\d)(\d{1,15})(?!\d)"
"""A number of tokens; Python refuses to parse very long ones."""
_SUM = re.compile(rf"{_N} \+ {_N} > {_N}", re.ASCII)
_USED_OVER_MAX = re.compile(rf"{_N}\D{{0,20}}>\D{{0,20}}{_N}", re.ASCII)
_MAX_THEN_USED = re.compile(
    rf"maximum context length is {_N}.{{0,80}}?(?:resulted in|requested) {_N}",
    re.DOTALL | re.ASCII,
)
_COUNT = re.compile(r"(?<![\d,])\d[\d,]{2,18}(?![\d,]*\d)", re.ASCII)


def overflow_message(text: str, dialect: Dialect) -> str:
    """The caller's message, with the numbers of `text`, the upstream's message."""
    if found := _SUM.search(text):
        used, more, most = found.groups()
        if dialect == "anthropic":
            return (
                f"input length and `max_tokens` exceed context limit: {used} + {more} > {most}, "
                "decrease input length or `max_tokens` and try again"
            )
        used = str(int(used) + int(more))
    elif found := _USED_OVER_MAX.search(text):
        used, most = found.groups()
    elif found := _MAX_THEN_USED.search(text):
        most, used = found.groups()
    elif len(counts := [int(n.replace(",", "")) for n in _COUNT.findall(text)]) == 2:
        used, most = str(max(counts)), str(min(counts))
    elif dialect == "anthropic":
        return "prompt is too long"
    else:
        return (
            "This model's maximum context length was exceeded. "
            "Please reduce the length of the messages."
        )
    if dialect == "anthropic":
        return f"prompt is too long: {used} tokens > {most} maximum"
    return (
        f"This model's maximum context length is {most} tokens. However, your messages resulted "
        f"in {used} tokens. Please reduce the length of the messages."
    )
