"""Members of a request whose names differ only in case from those that are read."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.requests import member_names
from edge.requests.member_names import READ, check_names
from edge.requests.output_limit import ORDINARY
from middlewares.problem import Problem
from tests.asgi import request
from tests.edge.scripted import Answer, Scripted, ScriptedGateway

TURN = [{"role": "user", "content": "Hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": TURN},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/responses/compact": {"input": TURN},
    "/v1/responses/input_tokens": {"input": TURN},
    "/v1/messages": {"messages": TURN, "max_tokens": 9},
    "/v1/messages/count_tokens": {"messages": TURN},
    "/v1/embeddings": {"input": "Hi"},
}
KELVIN, LONG_S = "\u212a", "\u017f"
NAMES = {
    "Model": "model",
    "MAX_TOKENS": "max_tokens",
    f"max_to{KELVIN}ens": "max_tokens",
    f"{LONG_S}tream": "stream",
    f"S{LONG_S}tream": "",
    "Previous_Response_Id": "previous_response_id",
    "sTore": "store",
    "N": "n",
}
NESTED = {
    "stream_options": ("Include_Usage", f"include_u{LONG_S}age"),
    "thinking": ("Budget_Tokens", f"budget_to{KELVIN}ens"),
    "reasoning": ("Effort", "MAX_TOKENS"),
}


def fields(**given: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in given.items()}


@pytest.mark.parametrize("path", BODIES)
async def test_member_in_other_case_is_refused_by_name_at_every_endpoint(path: str) -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    body = {"model": "m1", **BODIES[path], "Model": "another"}
    answer = await request(gateway.app, "POST", path, json=body)
    assert answer.status == 400
    assert "`Model`" in answer.json()["error"]["message"]
    assert not gateway.upstream.requests


@pytest.mark.parametrize("name", NAMES)
def test_names_are_compared_casefolded(name: str) -> None:
    meant = NAMES[name]
    if not meant:
        return check_names(fields(model="m", **{name: 1}))
    for given in (
        fields(**{name: 1}),
        fields(**{meant: 1, name: 2}),
        fields(**{name: 2, meant: 1}),
    ):
        with pytest.raises(Problem) as raised:
            check_names(given)
        assert raised.value.param == name
        assert f"`{meant}`" in str(raised.value.message)


@pytest.mark.parametrize(("holder", "name"), [(k, n) for k, v in NESTED.items() for n in v])
def test_nested_names_are_compared_too(holder: str, name: str) -> None:
    with pytest.raises(Problem) as raised:
        check_names(fields(**{holder: {"type": "enabled", name: 1}}))
    assert raised.value.param == f"{holder}.{name}"


@pytest.mark.parametrize(
    "given",
    [
        {"model": "m", "Vendor_Option": 1, "safetySettings": []},
        {"stream_options": None, "thinking": [], "reasoning": "high"},
        {"stream_options": {"include_usage": True, "Other": 1}},
    ],
)
def test_names_of_others_pass(given: dict[str, Any]) -> None:
    check_names(fields(**given))


def test_every_name_that_is_read_is_known() -> None:
    """What readers ask `Members` for, and what is taken out of `fields`, by their source."""
    asked = re.compile(r'\bmembers\.(?:get|text|flag|number|count|word|members|items)\("(\w+)"')
    taken = re.compile(r'\bfields(?:\.(?:get|pop)\(|\[)"(\w+)"')
    edge = Path(member_names.__file__).parents[1]
    found = {"model"}
    for file in (*edge.glob("dialects/*/read_request.py"), *edge.glob("dialects/*/read_tools.py")):
        found.update(asked.findall(file.read_text("utf-8")))
    for name in ("proxy/intake.py", "proxy/translate.py"):
        found.update(taken.findall((edge / name).read_text("utf-8")))
    assert len(found) > 40
    assert found <= READ
    assert ORDINARY <= READ
