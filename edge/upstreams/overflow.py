"""An overflow of the context: how upstreams say it, and how clients expect to hear it.

Coding agents decide by the words whether to compact the conversation.
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
"""Of a prompt it is one, too."""
_SUM = re.compile(r"(\d+) \+ (\d+) > (\d+)")
_USED_OVER_MAX = re.compile(r"(\d+)\D{0,20}>\D{0,20}(\d+)")
_MAX_THEN_USED = re.compile(
    r"maximum context length is (\d+).{0,80}?(?:resulted in|requested) (\d+)", re.DOTALL
)
_COUNT = re.compile(r"\d[\d,]{2,}")


def overflow_message(text: str, dialect: Dialect) -> str:
    """The words for the caller, with the numbers of `text`, what the upstream said."""
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
