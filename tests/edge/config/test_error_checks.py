"""`[errors.kinds]`: faults, and the table that it makes."""

from typing import Any

import pytest

from edge.config.load import parse
from middlewares import KINDS

from .documents import UPSTREAM, faults


def kinds(**changes: Any) -> dict[str, Any]:
    return {"upstreams": [UPSTREAM], "errors": {"kinds": changes}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"model_not_fond": {"status": 400}},
            "errors.kinds.model_not_fond: unknown kind; did you mean model_not_found?",
        ),
        ({"zzz": {"status": 400}}, "errors.kinds.zzz: unknown kind; known: audio_not_"),
        (
            {"internal": {}},
            "errors.kinds.internal: expected at least one of status, type, code and message",
        ),
        ({"internal": {"status": 399}}, "errors.kinds.internal.status: "),
        ({"internal": {"status": 600}}, "errors.kinds.internal.status: "),
        ({"internal": {"status": "x"}}, "errors.kinds.internal.status: expected a whole number"),
        ({"internal": {"type": ""}}, "errors.kinds.internal.type: expected a word such as"),
        ({"internal": {"type": "a b"}}, "errors.kinds.internal.type: expected a word such as"),
        ({"internal": {"code": "a\n"}}, "errors.kinds.internal.code: expected a word such as"),
        ({"internal": {"message": ""}}, "errors.kinds.internal.message: "),
        (
            {"internal": {"message": "a\nb"}},
            "errors.kinds.internal.message: expected printable text on one line",
        ),
        (
            {"internal": {"message": "{model} is off"}},
            "errors.kinds.internal.message: expected no placeholders but {brand} and "
            "{retry_after}; write {{ for a brace",
        ),
        ({"internal": {"stauts": 400}}, "errors.kinds.internal.stauts: unknown key; did you mean"),
    ],
)
def test_fault_names_its_kind(changes: dict[str, Any], expected: str) -> None:
    found = faults(kinds(**changes))
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_can_be_changed(name: str) -> None:
    settings = parse(kinds(**{name: {"status": 418, "code": "", "message": "{brand}"}}))
    row = settings.error_style.kind(name)
    assert (row.status, row.code, row.message) == (418, "", "{brand}")
    assert row.openai_type == KINDS[name].openai_type


@pytest.mark.parametrize("prefix", ["", "_", "sk", "1a_", "a b_", "é_", "a" * 40 + "_", "sk_\n"])
def test_key_prefix_that_is_none_is_refused(prefix: str) -> None:
    found = faults({"upstreams": [UPSTREAM], "auth": {"key_prefix": prefix}})
    assert found[0].startswith("auth.key_prefix: expected 2 to 40 ASCII letters, digits, - and _")


def test_key_prefix_is_what_keys_begin_with() -> None:
    document = {"brand": "Acme", "upstreams": [UPSTREAM]}
    assert parse(document).key_prefixes == ("sk-acme-live-", "sk-acme-test-")
    settings = parse({**document, "auth": {"key_prefix": "sk_cdx_"}})
    assert settings.key_prefixes == ("sk_cdx_", "sk_cdx_test_")
