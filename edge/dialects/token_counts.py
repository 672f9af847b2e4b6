"""Token counts: parse what upstreams report, discard implausible figures, estimate missing ones.

Input and output are checked separately. A figure counts as missing when it is absent, 0, negative,
no number, or more than the model can have processed. The input is then the estimate made when the
request arrived; the output follows from the size of the text, up to the request's limit. An output
of 0 is accepted where there is no text. Every answer goes through `settle_usage`: streamed or not,
passed through or translated.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from middlewares.exchange import MAX_RUNS, Usage

Count = Any
"""A token count as upstreams write it: 12, 12.0, "12" or null."""

TOKEN = 4
"""Bytes of UTF-8 text per token, approximately."""
MOST_CHOICES = 128
"""The most answers that one request may ask for with `n`."""

MOST = 1 << 53
"""The largest count: beyond it a float is not exact."""
_decode_count = msgspec.json.Decoder(int | float | None, strict=False).decode
_NUMBER = re.compile(r"\s*\d{1,16}(\.0*)?\s*")


def tokens(count: Count) -> int:
    """`count` as a whole number; 0, which means missing, for anything else."""
    if type(count) is int:
        return count if 0 <= count <= MOST else 0
    if type(count) is float:
        return int(count) if 0 <= count <= MOST else 0
    if type(count) is str and _NUMBER.fullmatch(count):
        return tokens(float(count))
    return 0


def member(value: Any, name: str) -> Any:
    """`value[name]`; None if `value` is not an object."""
    return value.get(name) if isinstance(value, dict) else None


def disjoint(
    input_tokens: Count,
    output_tokens: Count,
    *,
    read: Count,
    written: Count,
    reasoning: Count,
    total: Count,
) -> Usage:
    """Usage from figures as OpenAI counts them, where the input includes cached tokens.

    read, written: cached tokens. More of them than input: the server does not include them. A
    `total` above the sum of its parts, or more reasoning than output: the server does not include
    reasoning in the output. Without `input_tokens` the total is ignored.
    """
    if (
        not (read or written or reasoning)
        and type(input_tokens) is int
        and type(output_tokens) is int
        and input_tokens >= 0
        and output_tokens >= 0
        and input_tokens + output_tokens == total <= MOST
    ):  # the usual case
        return Usage(input_tokens, output_tokens)
    fresh, output = tokens(input_tokens), tokens(output_tokens)
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


def requested_choices(fields: Mapping[str, msgspec.Raw]) -> int:
    """The number of answers asked for with `n`, as the most lenient upstream reads it."""
    if "n" not in fields:
        return 1
    try:
        wanted = _decode_count(fields["n"])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 1
    return int(max(1, min(wanted or 1, MOST_CHOICES)))


def plausible_usage(
    reported: Usage, context: int | None, choices: int = 1, runs: int = MAX_RUNS
) -> Usage:
    """`reported` without figures that exceed what a model with this context can process.

    context: tokens, None if unknown. choices: number of requested answers, 0 for embeddings. runs:
    the most runs of the model for one request; see `Exchange.runs`.
    """
    if reported.hosted >= MAX_RUNS:
        reported = replace(reported, hosted=0)
    if not choices and (reported.output or reported.reasoning):
        reported = replace(reported, output=0, reasoning=0)
    if context is None:
        return reported
    most = context * min(reported.passes + reported.hosted, runs)
    if reported.input + reported.cache_read + reported.cache_write > most:
        reported = replace(reported, input=0, cache_read=0, cache_write=0, cache_write_1h=0)
    if max(reported.output, reported.reasoning) > most * choices:
        reported = replace(reported, output=0, reasoning=0)
    return reported


def is_plausible(reported: Usage, context: int | None) -> bool:
    """Whether input and output are present and plausible: the common case, checked cheaply."""
    if not (reported.input and reported.output) or reported.hosted:
        return False
    if context is None:
        return True
    cached = reported.cache_read + reported.cache_write
    return reported.input + reported.output + cached + reported.reasoning <= context


def settle_usage(
    reported: Usage | None,
    plausible: Usage | None,
    *,
    input_tokens: int,
    output_size: int,
    hosted: int = 0,
    most: int = MOST,
) -> tuple[Usage, bool]:
    """The usage of an answer, and whether the upstream counted all of it.

    reported: by the upstream. plausible: its `plausible_usage`. input_tokens: the estimate of the
    input. output_size: bytes of generated text. hosted: calls of hosted tools, used if the upstream
    reports none. most: the request's limit of output tokens; no estimate exceeds it.
    """
    if plausible is None:
        return Usage(
            input=input_tokens, output=min(output_tokens(output_size), most), hosted=hosted
        ), False
    hidden = 0 if plausible.output else plausible.reasoning
    usage = plausible.with_estimates(
        input_tokens, max(hidden, min(output_tokens(output_size) + hidden, most))
    )
    measured = usage is reported
    if hosted and not usage.hosted:
        usage = replace(usage, hosted=hosted)
    return usage, measured


def output_tokens(output_size: int) -> int:
    """Estimated output tokens of `output_size` bytes of text."""
    return -(-output_size // TOKEN)
