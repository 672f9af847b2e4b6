"""Dictionaries with a bound on entries, and on their time."""

import pytest

from middlewares.bounded_map import BoundedMap, ExpiringMap


def test_put_beyond_most_drops_the_least_recently_used() -> None:
    kept: BoundedMap[str, int] = BoundedMap(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("b") == 2 and kept.use("a") == 1
    kept.put("c", 3)
    assert list(kept.items()) == [("a", 1), ("c", 3)]
    kept.put("a", 4)
    kept.put("d", 5)
    assert list(kept.items()) == [("a", 4), ("d", 5)]


def test_use_without_an_entry_is_none() -> None:
    kept: BoundedMap[str, int] = BoundedMap(2)
    assert kept.use("a") is None
    assert len(kept) == 0


def test_dropped_hears_of_each_entry_that_is_taken_away() -> None:
    heard: list[tuple[str, int]] = []
    kept: BoundedMap[str, int] = BoundedMap(2, lambda key, value: heard.append((key, value)))
    for n, key in enumerate("abc"):
        kept.put(key, n)
    assert heard == [("a", 0)]
    kept.put("b", 9)  # replaced
    kept.drop("c")
    kept.drop("c")
    kept.drop_oldest()
    assert heard == [("a", 0), ("c", 2), ("b", 9)]
    with pytest.raises(KeyError):
        kept.drop_oldest()


def test_bounded_map_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="most 0: expected at least 1"):
        BoundedMap[str, int](0)


def test_expiring_entry_ends_after_its_seconds_or_when_dropped() -> None:
    now = 100.0
    kept: ExpiringMap[str, int] = ExpiringMap(3, 10.0, lambda: now)
    kept.put("a", 1)
    kept.put("b", 2, until=103.0)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, 2, None)
    now = 103.0
    assert (kept.get("a"), kept.get("b")) == (1, None)
    kept.put("a", 1)
    now = 112.0
    assert kept.get("a") == 1
    now = 113.0
    assert len(kept) == 1
    assert kept.get("a") is None
    assert len(kept) == 0


def test_expiring_map_drops_the_least_recently_used() -> None:
    kept: ExpiringMap[str, int] = ExpiringMap(2, 10.0, lambda: 0.0)
    for key in "ab":
        kept.put(key, 1)
    kept.get("a")
    kept.put("c", 1)
    assert [key for key in "abc" if kept.get(key)] == ["a", "c"]
    kept.drop("a")
    kept.drop("a")
    assert len(kept) == 1
    kept.clear()
    assert len(kept) == 0


def test_expiring_map_of_negative_time_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds -1"):
        ExpiringMap[str, int](1, -1.0)
