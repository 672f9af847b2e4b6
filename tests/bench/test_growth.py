"""Tables of what grows, and what is called flat."""

from bench.growth.table import Row, Table, least, verdict


def test_verdict_of_a_cost_that_hardly_grows_is_flat() -> None:
    assert verdict([(10, 4.0), (100, 5.0), (1000, 5.9)]) == "flat"


def test_verdict_of_a_cost_that_grows_names_the_first_size() -> None:
    found = verdict([(10, 4.0), (100, 5.0), (1000, 40.0)])
    assert found == "10.0 times over 100 times the size, from 1,000"


def test_verdict_of_what_was_not_measured_is_empty() -> None:
    assert verdict([(10, None), (100, 5.0)]) == ""


def test_table_has_a_row_for_each_size_and_the_verdicts() -> None:
    text = Table(
        "Keys", "keys", ("a, µs", "b"), [Row(10, (1.0, None)), Row(1000, (1.2, 250))]
    ).text()
    assert "| 1,000 | 1.20 | 250 |" in text
    assert "| | flat |  |" in text


async def test_least_asks_with_numbers_that_no_two_rounds_share() -> None:
    asked: list[int] = []

    async def ask(number: int) -> None:
        asked.append(number)

    assert await least(ask, 4, rounds=3) >= 0
    assert asked == [*range(12)]
