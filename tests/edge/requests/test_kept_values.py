"""Values are kept within a bound of bytes, the most recently used ones."""

from edge.requests.kept_values import Kept, KeptValues


def test_add_beyond_the_bound_empties_the_least_recently_used() -> None:
    kept: KeptValues[str] = KeptValues(100)
    places = [kept.add(name, 25) for name in "abcd"]
    assert kept.use(places[0]) == "a"
    places.append(kept.add("e", 10))
    assert [place.value for place in places] == ["a", None, "c", "d", "e"]
    assert kept.size == 85


def test_add_of_more_than_a_quarter_keeps_nothing() -> None:
    kept: KeptValues[str] = KeptValues(100)
    small, large = kept.add("a", 25), kept.add("b", 26)
    assert (kept.use(small), kept.use(large), kept.size) == ("a", None, 25)


def test_drop_frees_once() -> None:
    kept: KeptValues[str] = KeptValues(100)
    place: Kept[str] = kept.add("a", 20)
    kept.drop(place)
    kept.drop(place)
    assert (kept.use(place), kept.size) == (None, 0)
