"""The playground's form: what is refused, and its request in each dialect."""

import json
import shlex

import pytest

from edge.dashboard.playground.prompt import DIALECTS, Prompt, curl_of, prompt_of, request_of
from edge.dashboard.snippets.setup import Offered, Setup
from edge.endpoints import BY_NAME
from middlewares.problem import Problem

FORM = {
    "model": ["m1"],
    "dialect": ["chat"],
    "system": [" Be brief.\r\n"],
    "user": ["Hello\r\nthere"],
    "max_tokens": ["50"],
    "temperature": ["0.5"],
}
PROMPT = Prompt(
    model="m1",
    system="Be brief.",
    user="Hello\nthere",
    max_tokens=50,
    temperature=0.5,
)
SETUP = Setup(
    brand="Acme",
    slug="acme",
    url="https://llm.example.com",
    key="sk-acme-live-...",
    variable="ACME_API_KEY",
    large=Offered("m1"),
    model=Offered("m1"),
    small=Offered("m1"),
    models=(),
)


def test_form_is_read() -> None:
    assert prompt_of(FORM, DIALECTS) == PROMPT
    assert prompt_of({"model": ["m1"], "user": ["x"]}, DIALECTS) == Prompt(model="m1", user="x")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dialect", "gopher"),
        ("model", ""),
        ("model", "m" * 201),
        ("user", " \r\n"),
        ("max_tokens", "0"),
        ("max_tokens", "1000001"),
        ("max_tokens", "1e3"),
        ("max_tokens", "\u0663"),
        ("temperature", "2.1"),
        ("temperature", "-1"),
        ("temperature", "nan"),
    ],
)
def test_field_that_cannot_be_sent_is_named(field: str, value: str) -> None:
    with pytest.raises(Problem) as raised:
        prompt_of({**FORM, field: [value]}, DIALECTS)
    assert (raised.value.kind, raised.value.param) == ("invalid_request", field)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_request_has_the_members_that_its_endpoint_reads(dialect: str) -> None:
    row = BY_NAME[DIALECTS[dialect].endpoint]
    request = request_of(prompt_of({**FORM, "dialect": [dialect]}, DIALECTS), stream=True)
    assert set(request) & set(row.required)
    assert set(request) & row.bounds
    assert (request["model"], request["stream"], request["temperature"]) == ("m1", True, 0.5)
    assert "Be brief." in json.dumps(request)
    assert "stream" not in request_of(PROMPT, stream=False)


def test_empty_fields_are_left_to_the_model() -> None:
    for dialect in DIALECTS:
        request = request_of(Prompt(model="m", dialect=dialect, user="x"), stream=False)
        assert not {"temperature", "system", "instructions", "max_output_tokens"} & set(request)
    assert request_of(Prompt(model="m", user="x"), stream=False) == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_curl_line_is_the_same_request(dialect: str) -> None:
    prompt = Prompt(model="m", dialect=dialect, user='It\'s "$HOME" `x`\n\\ @file')
    words = shlex.split(curl_of(SETUP, prompt).replace(" \\\n", " "))
    row = BY_NAME[DIALECTS[dialect].endpoint]
    assert f"https://llm.example.com{row.path}" in words
    assert json.loads(words[words.index("-d") + 1]) == request_of(prompt, stream=True)
