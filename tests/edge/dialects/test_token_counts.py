"""Figures of usage: which are believed, and what stands for the others."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from edge.dialects.anthropic_messages.wire import MessageUsage
from edge.dialects.openai_chat import wire as chat
from edge.dialects.openai_responses import wire as responses
from edge.dialects.token_counts import (
    MOST_CHOICES,
    output_tokens,
    plausible_usage,
    requested_choices,
    settle_usage,
    tokens,
)
from middlewares.exchange import Usage

REPORTED = Usage(input=30, output=20)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, 0),
        (12, 12),
        (12.0, 12),
        ("12", 12),
        (" 12.0 ", 12),
        (1 << 53, 1 << 53),
        ((1 << 53) + 1, 0),
        (2**64 - 1, 0),
        (str(2**64 - 1), 0),
        (-5, 0),
        (-0.5, 0),
        (float("inf"), 0),
        (float("nan"), 0),
        (True, 0),
        (None, 0),
        ("", 0),
        ("many", 0),
        ([12], 0),
        ({"count": 12}, 0),
    ],
)
def test_tokens_odd_values_are_not_reported(count: Any, expected: int) -> None:
    assert tokens(count) == expected


@pytest.mark.parametrize(
    ("reported", "output_size", "expected", "measured"),
    [
        (None, 40, Usage(input=50, output=10), False),
        (Usage(), 40, Usage(input=50, output=10), False),
        (Usage(output=20), 40, Usage(input=50, output=20), False),
        (Usage(input=30), 40, Usage(input=30, output=10), False),
        (REPORTED, 40, REPORTED, True),
        (Usage(cache_read=30, output=20), 40, Usage(cache_read=30, output=20), True),
        (Usage(cache_write=30, output=20), 40, Usage(cache_write=30, output=20), True),
        (Usage(input=30), 0, Usage(input=30), True),  # an answer that is empty
        (Usage(input=30, reasoning=7), 40, Usage(input=30, output=17, reasoning=7), False),
    ],
)
def test_settled_a_half_that_was_not_reported_is_estimated(
    reported: Usage | None, output_size: int, expected: Usage, measured: bool
) -> None:
    assert settle_usage(reported, reported, input_tokens=50, output_size=output_size) == (
        expected,
        measured,
    )


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (Usage(input=101, output=20), Usage(input=50, output=20)),
        (Usage(input=50, cache_read=51, output=20), Usage(input=50, output=20)),
        (Usage(input=30, output=101), Usage(input=30, output=10)),
    ],
)
def test_settled_figures_beyond_the_context_are_estimated(reported: Usage, expected: Usage) -> None:
    believed = plausible_usage(reported, 100)
    assert settle_usage(reported, believed, input_tokens=50, output_size=40) == (expected, False)


def test_believable_counts_every_pass_choice_and_hosted_call() -> None:
    several = Usage(input=250, output=90, passes=2, hosted=1)
    assert plausible_usage(several, 100) is several
    choices = Usage(input=90, output=250)
    assert plausible_usage(choices, 100, 3) is choices
    assert plausible_usage(choices, 100, 2) == Usage(input=90)


def test_settled_hosted_calls_beyond_a_hundred_are_not_reported() -> None:
    reported = replace(REPORTED, hosted=101)
    believed = plausible_usage(reported, None)
    assert settle_usage(reported, believed, input_tokens=50, output_size=40) == (REPORTED, False)
    counted = replace(REPORTED, hosted=1)
    assert settle_usage(reported, believed, input_tokens=50, output_size=40, hosted=1) == (
        counted,
        False,
    )
    most = replace(REPORTED, hosted=100)
    assert settle_usage(most, plausible_usage(most, None), input_tokens=50, output_size=40) == (
        most,
        True,
    )


def test_made_rounds_up_and_nothing_is_nothing() -> None:
    assert [output_tokens(output_size) for output_size in (0, 1, 4, 5, 11)] == [0, 1, 1, 2, 3]


def of_chat(usage: Any, **members: Any) -> Usage | None:
    chunk = msgspec.json.encode({"usage": usage, **members})
    return chat.usage_in(chat.decode_chunk(chunk))


def of_responses(usage: Any, **members: Any) -> Usage | None:
    return responses.usage_in(
        responses.decode_response(msgspec.json.encode({"usage": usage, **members}))
    )


@pytest.mark.parametrize("read", [of_chat, of_responses])
@pytest.mark.parametrize("usage", [None, [], "none", 5, True])
def test_usage_that_is_no_object_tells_nothing(read: Any, usage: Any) -> None:
    assert read(usage) is None


def test_chat_usage_of_odd_types_is_read_as_far_as_it_can_be() -> None:
    odd = {
        "prompt_tokens": "10",
        "completion_tokens": 5.0,
        "total_tokens": [],
        "prompt_tokens_details": "none",
        "completion_tokens_details": {"reasoning_tokens": {"deep": 1}},
        "server_tool_use": 3,
    }
    assert of_chat(odd) == Usage(input=10, output=5)


def test_responses_usage_of_odd_types_is_read_as_far_as_it_can_be() -> None:
    odd = {"input_tokens": "10", "output_tokens": "5", "input_tokens_details": []}
    assert of_responses(odd) == Usage(input=10, output=5)


@pytest.mark.parametrize("read", [of_chat, of_responses])
def test_a_total_alone_tells_nothing(read: Any) -> None:
    assert read({"total_tokens": 15}) == Usage()


def test_chat_usage_tells_hosted_calls_and_the_tier() -> None:
    counted = {"prompt_tokens": 1, "completion_tokens": 2}
    assert of_chat({**counted, "server_tool_use": {"web_search_requests": 3}}) == Usage(
        input=1, output=2, hosted=3
    )
    assert of_chat({**counted, "num_search_queries": 4}) == Usage(input=1, output=2, hosted=4)
    assert of_chat(counted, service_tier="priority") == Usage(
        input=1, output=2, tiers=("priority", "", "")
    )
    assert of_chat(counted, service_tier=7) == Usage(input=1, output=2)


def test_messages_usage_adds_passes_that_stand_in_iterations_only() -> None:
    usage = MessageUsage(
        input_tokens=100,
        output_tokens=10,
        iterations=[
            {"type": "compaction", "input_tokens": 150_000, "output_tokens": 3500},
            {"type": "message", "input_tokens": 60, "output_tokens": 4},
            {"type": "message", "input_tokens": 40, "output_tokens": 6},
            {"type": "advisor_message", "cache_read_input_tokens": 7, "output_tokens": 1},
            "odd",
            {"type": 5, "input_tokens": 1},
        ],
    )
    assert usage.normal() == Usage(input=150_100, output=3511, cache_read=7, passes=6)


def test_messages_usage_tells_what_is_written_for_an_hour() -> None:
    usage = MessageUsage(
        input_tokens=0,
        output_tokens=5,
        cache_creation_input_tokens=300,
        cache_creation={"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    )
    assert usage.normal() == Usage(output=5, cache_write=300, cache_write_1h=200)
    alone = MessageUsage(cache_creation={"ephemeral_1h_input_tokens": 200})
    assert alone.normal() == Usage(cache_write=200, cache_write_1h=200)


def test_messages_usage_tells_hosted_calls_tier_speed_and_place() -> None:
    usage = MessageUsage(
        input_tokens=1,
        output_tokens=1,
        server_tool_use={"web_search_requests": 2, "web_fetch_requests": 9, "odd": "x"},
        service_tier="standard",
        speed="fast",
        inference_geo=None,
    )
    assert usage.normal() == Usage(input=1, output=1, hosted=2, tiers=("standard", "fast", ""))


def test_messages_usage_later_figures_take_the_place_of_earlier() -> None:
    start = MessageUsage(input_tokens=9, cache_read_input_tokens=4, service_tier="standard")
    end = MessageUsage(input_tokens=0, cache_read_input_tokens=0, output_tokens=7)
    assert end.after(start).normal() == Usage(
        input=9, cache_read=4, output=7, tiers=("standard", "", "")
    )
    assert end.after(None) is end


def test_hosted_calls_are_counted_in_a_response() -> None:
    response = (
        b'{"output":[{"type":"web_search_call","id":"a"},{"type": "file_search_call"},'
        b'{"type":"function_call","arguments":"{\\"type\\":\\"web_search_call\\"}"},'
        b'{"type":"message"}],"tools":[{"type":"web_search"}]}'
    )
    assert responses.hosted_in(response) == 2
    assert responses.hosted_in(b'{"output":[]}') == 0


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        (1, 1),
        (3, 3),
        ("3", 3),
        (2.0, 2),
        (None, 1),
        (0, 1),
        (-5, 1),
        ("many", 1),
        ([3], 1),
        (10**9, MOST_CHOICES),
    ],
)
def test_choices_asked_are_read_as_leniently_as_by_any_upstream(value: Any, choices: int) -> None:
    assert requested_choices({"n": msgspec.Raw(msgspec.json.encode(value))}) == choices


def test_choices_asked_is_one_without_n() -> None:
    assert requested_choices({}) == 1


@pytest.mark.parametrize(
    ("reported", "runs", "expected"),
    [
        (Usage(input=100, output=100), 1, (100, 100)),
        (Usage(input=101, output=100), 1, (0, 100)),
        (Usage(input=100, output=101), 1, (100, 0)),
        (Usage(input=300, output=1, hosted=2), 3, (300, 1)),
        (Usage(input=301, output=1, hosted=2), 3, (0, 1)),
        (Usage(input=300, output=1, hosted=10**9), 1, (0, 1)),
        (Usage(input=200, output=200, passes=2), 2, (200, 200)),
        (Usage(input=200, output=200, passes=10**9), 1, (0, 0)),
    ],
)
def test_counts_are_believed_for_the_runs_that_were_asked_for(
    reported: Usage, runs: int, expected: tuple[int, int]
) -> None:
    """An upstream that counts unrequested searches gets no more tokens accepted."""
    sure = plausible_usage(reported, 100, runs=runs)
    assert (sure.input, sure.output) == expected


def test_vectors_have_no_output() -> None:
    assert plausible_usage(Usage(input=5, output=7, reasoning=3), None, 0) == Usage(input=5)
