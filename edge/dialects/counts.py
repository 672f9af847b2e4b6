"""Token counts: how upstreams write them, which are believed, and what stands for the others.

Usage is believed by halves. A half is "not told" when it is missing, 0, negative, no number, or
more than the model can have processed. It is then estimated: the input as it was when the request
came, the output from the text that the model made, up to what was asked for. An output of 0 is
believed where there is no text. Streamed or not, passed or translated, every answer goes through
`settled`.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from middlewares.exchange import MOST_RUNS, Usage

Count = Any
"""A token count as upstreams write it: some send 12.0, some "12", some null."""

TOKEN = 4
"""Bytes of text (UTF-8) in a token, about."""
MOST_CHOICES = 128
"""Answers that one request may ask for with `n`, at most."""

MOST = 1 << 53
"""Tokens that a count can be, at most: beyond, a float is no whole number."""
_decode_count = msgspec.json.Decoder(int | float | None, strict=False).decode
_NUMBER = re.compile(r"\s*\d{1,16}(\.0*)?\s*")


def tokens(count: Count) -> int:
    """`count` as a whole number; 0, which is "not told", for anything that cannot be one."""
    if type(count) is int:
        return count if 0 <= count <= MOST else 0
    if type(count) is float:
        return int(count) if 0 <= count <= MOST else 0
    if type(count) is str and _NUMBER.fullmatch(count):
        return tokens(float(count))
    return 0


def member(value: Any, name: str) -> Any:
    """`value[name]` of what should be an object; None for anything else."""
    return value.get(name) if isinstance(value, dict) else None


def disjoint(
    given: Count, made: Count, *, read: Count, written: Count, reasoning: Count, total: Count
) -> Usage:
    """Usage from figures as OpenAI counts: `given` holds what was `read` and `written` of a cache.

    More read than given: the server counts it beside the input. A `total` larger than its parts,
    or more reasoning than was made: the server keeps the reasoning out of what it made. Without
    `given` the total says nothing, as no part of it is known.
    """
    if (
        not (read or written or reasoning)
        and type(given) is int
        and type(made) is int
        and given >= 0
        and made >= 0
        and given + made == total <= MOST
    ):  # as most are
        return Usage(given, made)
    fresh, output = tokens(given), tokens(made)
    cached = tokens(read) if read else 0
    kept = tokens(written) if written else 0
    thought = tokens(reasoning) if reasoning else 0
    if fresh and cached <= fresh:
        output = max(output, tokens(total) - fresh)
        fresh = max(0, fresh - cached - kept)
    if output and thought > output:
        output += thought
    return Usage(
        input=fresh,
        output=output,
        cache_read=cached,
        cache_write=kept,
        reasoning=thought,
    )


def choices_asked(fields: Mapping[str, msgspec.Raw]) -> int:
    """Answers that a body asks for with `n`, as the most lenient of upstreams reads it."""
    if "n" not in fields:
        return 1
    try:
        asked = _decode_count(fields["n"])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 1
    return int(max(1, min(asked or 1, MOST_CHOICES)))


def believable(told: Usage, context: int | None, choices: int = 1, runs: int = MOST_RUNS) -> Usage:
    """`told`, less each half that is more than a model with this context can have processed.

    context: tokens, None if unknown. choices: answers that were asked for, 0 where they are
    vectors. runs: how often the model may have run for it; see `Exchange.runs`.
    """
    if told.hosted >= MOST_RUNS:
        told = replace(told, hosted=0)
    if not choices and (told.output or told.reasoning):
        told = replace(told, output=0, reasoning=0)
    if context is None:
        return told
    most = context * min(told.passes + told.hosted, runs)
    if told.input + told.cache_read + told.cache_write > most:
        told = replace(told, input=0, cache_read=0, cache_write=0, cache_write_1h=0)
    if max(told.output, told.reasoning) > most * choices:
        told = replace(told, output=0, reasoning=0)
    return told


def is_sure(told: Usage, context: int | None) -> bool:
    """Whether both halves are told and surely believable, as nearly always. See `believable`."""
    if not (told.input and told.output) or told.hosted:
        return False
    if context is None:
        return True
    cached = told.cache_read + told.cache_write
    return told.input + told.output + cached + told.reasoning <= context


def settled(
    told: Usage | None,
    believed: Usage | None,
    *,
    given: int,
    said: int,
    hosted: int = 0,
    most: int = MOST,
) -> tuple[Usage, bool]:
    """What an answer used, and whether the upstream counted all of it.

    told: by the upstream. believed: of that, what is `believable`. given: input tokens, estimated.
    said: bytes of text that the model made. hosted: calls of hosted tools, if the upstream tells
    none. most: output tokens that were asked for at most; no estimate is above it.
    """
    if believed is None:
        return Usage(input=given, output=min(made(said), most), hosted=hosted), False
    unseen = 0 if believed.output else believed.reasoning
    usage = believed.believed(given, max(unseen, min(made(said) + unseen, most)))
    measured = usage is told
    if hosted and not usage.hosted:
        usage = replace(usage, hosted=hosted)
    return usage, measured


def made(said: int) -> int:
    """Tokens of output in `said` bytes of text."""
    return -(-said // TOKEN)
