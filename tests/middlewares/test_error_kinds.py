"""Changes of the table of error kinds."""

import pytest

from middlewares import KINDS, KindChange
from middlewares.error_kinds import changed_kinds, message_fault


def test_changed_kinds_without_changes_is_the_table() -> None:
    assert changed_kinds({}) is KINDS


def test_changed_kinds_replaces_what_is_given_for_both_vendors() -> None:
    change = KindChange(status=500, type="cli_error", code="", message="{brand}: {retry_after}")
    changed = changed_kinds({"upstream_unavailable": change})
    row = changed["upstream_unavailable"]
    assert (row.status, row.anthropic_status) == (500, 0)
    assert (row.openai_type, row.anthropic_type, row.code) == ("cli_error", "cli_error", "")
    assert (row.message, row.anthropic_message) == ("{brand}: {retry_after}", "")
    assert (row.retry_after, row.should_retry) == (1, None)
    assert {name: row for name, row in changed.items() if name != "upstream_unavailable"} == {
        name: row for name, row in KINDS.items() if name != "upstream_unavailable"
    }
    assert KINDS["upstream_unavailable"].status == 503


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_changed_kinds_one_setting_leaves_the_others(kind: str) -> None:
    row = changed_kinds({kind: KindChange(type="x")})[kind]
    assert (row.status, row.code, row.message) == (
        KINDS[kind].status,
        KINDS[kind].code,
        KINDS[kind].message,
    )


@pytest.mark.parametrize(
    "message",
    ["{model}", "{", "}", "{0}", "{}", "{brand.x}", "{brand!r}", "{retry_after:5}", "{brand[0]}"],
)
def test_message_with_another_placeholder_is_refused(message: str) -> None:
    assert "{brand} and {retry_after}" in message_fault(message)
    with pytest.raises(ValueError, match="placeholders"):
        changed_kinds({"internal": KindChange(message=message)})


@pytest.mark.parametrize("message", ["plain", "{brand} {retry_after}", "{{brand}}"])
def test_message_with_known_placeholders_is_taken(message: str) -> None:
    assert message_fault(message) == ""


def test_changed_kinds_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown problem kind 'nope'; one of "):
        changed_kinds({"nope": KindChange(status=400)})
