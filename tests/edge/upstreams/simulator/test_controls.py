"""Controls of the simulator, and the errors for invalid ones."""

import json

import pytest

from edge.upstreams.simulator import FAULTS, Controls, controls
from edge.upstreams.simulator.controls import take_directive
from tests.edge.upstreams.simulated import CHAT, ask, ask_json, chat, messages, post, whole
from tests.pages import page, table


def test_words_become_values() -> None:
    controls = Controls().with_words("tokens=50 rate=12.5 tools=2 dated=1 fault=cut:5,crlf")
    assert controls.tokens == 50
    assert controls.rate == 12.5
    assert controls.tools == 2
    assert controls.dated is True
    assert controls.fault == {"cut": 5.0, "crlf": 0.0}


def test_words_win_over_what_was_before() -> None:
    before = Controls(tokens=9, rate=3.0)
    assert before.with_words("tokens=1") == Controls(tokens=1, rate=3.0)


def test_values_may_be_plain_python_and_none_says_nothing() -> None:
    values = {"rate": 50, "canary": True, "retry-after": 3, "tokens": None}
    assert Controls().with_values(values) == Controls(rate=50.0, canary=True, retry_after=3)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("speed=9 tokens=1 colour=red", "unknown sim control speed, colour"),
        ("tokens", "'tokens' has no value"),
        ("tokens=-1", "tokens=-1"),
        ("tokens=1e9", "tokens=1e9"),
        ("tokens=100001", "up to 100000"),
        ("rate=nan", "rate=nan"),
        ("rate=inf", "rate=inf"),
        ("canary=yes", "0 or 1"),
        ("fault=explode", "unknown fault explode"),
        ("fault=status", "fault status needs a number"),
        ("fault=status:200", "from 400 to 599"),
        ("fault=cut:x", "fault cut=x"),
        ("fault=pings:1e9", "fault pings:1e9: a number up to 100000"),
    ],
)
def test_what_cannot_be_meant_is_named(words: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Controls().with_words(words)


def test_every_fault_has_a_default_or_asks_for_a_number() -> None:
    for name, default in FAULTS.items():
        number = ":503" if default is None else ""
        expected = 503 if default is None else default
        assert Controls().with_words(f"fault={name}{number}").fault == {name: expected}


def test_every_control_and_fault_is_in_the_manual() -> None:
    lines = (controls.__doc__ or "").splitlines()
    manual = {line.split()[0] for line in lines if line.startswith("    ")}
    said = {entry.partition("=")[0].partition(":")[0] for entry in manual}
    known = {name.replace("_", "-") for name in Controls.__struct_fields__}
    assert said == known | set(FAULTS) | set(controls.LIVES)


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Directives", [name.replace("_", "-") for name in Controls.__struct_fields__]),
        ("Faults", list(FAULTS)),
        ("Lives of a job", list(controls.LIVES)),
    ],
)
def test_every_control_fault_and_life_has_its_row_in_the_page(
    heading: str, names: list[str]
) -> None:
    rows = table(page("docs/simulator.md"), heading)
    assert sorted(row[0].strip("`") for row in rows) == sorted(names)


def test_directives_are_taken_out_of_the_text() -> None:
    text, words = take_directive("Say [[sim tokens=1]] hi [[sim rate=2]]")
    assert (text, words.split()) == ("Say  hi", ["tokens=1", "rate=2"])
    assert take_directive("[[simple]] words") == ("[[simple]] words", "")


def test_an_unknown_word_in_a_directive_is_a_400_that_names_it() -> None:
    found = ask(post(CHAT, chat("Hi [[sim colour=red]]")))
    assert found.status == 400
    assert "colour" in json.loads(whole(found))["error"]["message"]
    found = ask(post(b"/v1/messages", messages("Hi [[sim colour=red]]", stream=True)))
    assert found.status == 400
    error = json.loads(whole(found))
    assert error["type"] == "error"
    assert "colour" in error["error"]["message"]


def test_the_directive_wins_over_the_header_and_the_header_over_the_defaults() -> None:
    defaults = Controls(tokens=3, dated=True, cached=1)
    request = post(CHAT, chat("Hi [[sim tokens=7]]"), x_sim=b"tokens=5 cached=2")
    found = json.loads(whole(ask(request, defaults)))
    assert found["usage"]["completion_tokens"] == 7
    assert found["usage"]["prompt_tokens_details"]["cached_tokens"] == 2
    assert found["model"] == "sim-1-2026-01-01"


def test_the_directive_is_not_echoed() -> None:
    found = ask_json(post(CHAT, chat("Good morning [[sim dated=1]]")))
    content = found["choices"][0]["message"]["content"]
    assert "Good morning" in content
    assert "sim dated" not in content
