"""Members that tell which vendor made an answer."""

import json
from typing import Any

import pytest

from edge.dialects.disclosure import Spellings, tells, undisclosed
from edge.dialects.passthrough import decode_fields, encode


def without(answer: dict[str, Any]) -> Any:
    fields = decode_fields(json.dumps(answer).encode())
    return json.loads(encode(undisclosed(fields, "ours")))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"system_fingerprint": "fp_1", "id": "x"}, {"system_fingerprint": None, "id": "x"}),
        ({"provider": "v", "a": 1}, {"a": 1}),
        ({"provider": {"name": "v"}, "a": 1}, {"a": 1}),
        ({"x_groq": {"id": "req"}, "a": 1}, {"a": 1}),
        ({"base_resp": {"status_code": 0}, "a": 1}, {"a": 1}),
        (
            {"usage": {"total_tokens": 1, "cost": 0.1, "is_byok": False, "cost_details": {}}},
            {"usage": {"total_tokens": 1}},
        ),
        ({"usage": {"estimated_cost": 1}}, {"usage": {}}),
        (
            {"choices": [{"native_finish_reason": "STOP", "index": 0, "model": "theirs"}]},
            {"choices": [{"index": 0, "model": "ours"}]},
        ),
        (
            {"route": {"hops": [{"model_name": "theirs"}]}},
            {"route": {"hops": [{"model_name": "ours"}]}},
        ),
        ({"model": 5}, {"model": 5}),
        ({"model": {"name": "v"}}, {"model": "ours"}),
        ({"a": {"model": ["v"]}, "modelId": "v"}, {"a": {"model": "ours"}, "modelId": "ours"}),
        ({"id": "gen-17-ab"}, {"id": "chatcmpl-17-ab"}),
        ({"id": "x-gen-17"}, {"id": "x-gen-17"}),
    ],
)
def test_undisclosed_takes_out_what_tells(answer: dict[str, Any], expected: object) -> None:
    assert without(answer) == expected


def test_undisclosed_looks_only_so_deep_and_lets_nothing_pass_below() -> None:
    deep = json.loads('{"a":' * 500 + '{"model":"theirs"}' + "}" * 500)
    silent = json.loads('{"a":' * 500 + '{"b":"ours"}' + "}" * 500)
    found = without({"deep": deep, "silent": silent, "b": 1})
    assert (found["silent"], found["b"]) == (silent, 1)
    assert "theirs" not in json.dumps(found)


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"message": {"content": [{"provider": "v", "model": "m"}]}}]},
        {"choices": [{"message": {"tool_calls": [{"function": {"arguments": {"cost": 1}}}]}}]},
        {"citations": ["x"], "service_tier": "default", "prompt_filter_results": []},
        {"choices": [{"message": {"content": 'the "provider": "v", "model": "m"'}}]},
    ],
)
def test_undisclosed_leaves_what_the_model_said(answer: dict[str, Any]) -> None:
    assert without(answer) == answer


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"system_fingerprint":"fp"}', True),
        (b'{"system_fingerprint": null}', False),
        (b'{"usage":{"cost":0}}', True),
        (b'{"usage":{"upstream_inference_cost":0}}', True),
        (b'{"provider":"v"}', True),
        (b'{"providers":"v"}', False),
        (b'{"content":"\\"provider\\":1"}', False),
        (b'{"content":"provider"}', False),
        (b'{"model_name":"v"}', True),
    ],
)
def test_tells_is_whether_there_is_anything_to_take_out(data: bytes, expected: bool) -> None:
    assert tells(data) is expected


@pytest.mark.parametrize(
    "event",
    [
        b'{"provider":"v","system_fingerprint":"f","a":1}',
        b'{"system_fingerprint":"f","provider":"v"}',
        b'{"a":1,"provider":"v","native_finish_reason":null}',
        b'{"a":1, "provider": "v", "b":{"is_byok":true,"model_name":"m"}}',
        b'{"provider":"v","x_groq":null}',
        b'{"provider":"\\",\\"x"}',
        b'{"id": "gen-1","provider":"v"}',
    ],
)
def test_spellings_learnt_from_an_event_clean_the_next(event: bytes) -> None:
    spellings = Spellings()
    spellings.learn(event, "ours")
    expected = json.loads(encode(undisclosed(decode_fields(event), "ours")))
    assert json.loads(spellings.apply(event)) == expected


def test_spellings_are_bounded() -> None:
    spellings = Spellings()
    for number in range(100):
        spellings.learn(b'{"provider":"%d"}' % number, "ours")
    assert len(spellings.pairs) == 8
