"""Members of parts, found by their locations."""

import msgspec

from edge.proxy.attachments.originals import members_at

BODY = {
    "messages": [
        {"role": "user", "content": "x"},
        {"role": "user", "content": [{"a": 1}, {"b": [2]}]},
        {"role": "user", "content": [{"content": [{"c": None}]}]},
    ],
    "input": {"d": {"e": "f"}},
}


def test_members_at_finds_each_in_the_order_asked() -> None:
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in BODY.items()}
    locations = [
        ("messages", 2, "content", 0, "content", 0),
        ("messages", 1, "content", 1),
        ("messages", 1, "content", 0),
        ("input", "d"),
    ]
    found = [msgspec.json.decode(msgspec.json.encode(one)) for one in members_at(fields, locations)]
    assert found == [{"c": None}, {"b": [2]}, {"a": 1}, {"e": "f"}]
    assert members_at(fields, []) == []
