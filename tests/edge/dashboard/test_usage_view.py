"""Usage as charts and tables show it."""

import random

from edge.billing.period import DAY
from edge.dashboard.usage_period import UsagePeriod
from edge.dashboard.usage_view import COLOURS, LINES, Cell, csv_rows, usage_view
from middlewares.stores.ledger.spend import Spend

PERIOD = UsagePeriod("7d", 100 * DAY, 107 * DAY)


def cells(names: int, seed: int = 1) -> list[Cell]:
    choose = random.Random(seed)
    return [
        Cell(
            slot,
            f"model-{name}",
            Spend(
                requests=choose.randrange(1, 9),
                input=choose.randrange(10**6),
                output=choose.randrange(10**5),
                cache_read=choose.randrange(10**6),
                cache_write=choose.randrange(10**4),
                reasoning=7,
                cost=choose.randrange(10**11) * (name + 1),
            ),
        )
        for name in range(names)
        for slot in range(7)
        if choose.random() < 0.8
    ]


def test_view_lines_are_sorted_and_sum_to_the_total() -> None:
    found = cells(4)
    view = usage_view(found, PERIOD, "credits")
    costs = [line.spend.cost for line in view.lines]
    assert costs == sorted(costs, reverse=True)
    assert sum(costs) == view.total.cost == sum(cell.spend.cost for cell in found)
    assert view.total.requests == sum(cell.spend.requests for cell in found)


def test_view_of_many_names_has_one_line_for_the_others() -> None:
    found = [Cell(0, f"key-{n}", Spend(requests=1, cost=n)) for n in range(LINES + 3)]
    view = usage_view(found, PERIOD, "credits")
    assert len(view.lines) == LINES + 1
    assert view.lines[-1].name == "3 others"
    assert view.lines[-1].spend == Spend(requests=3, cost=0 + 1 + 2)
    assert sum(line.spend.cost for line in view.lines) == view.total.cost
    assert len(list(csv_rows(found, PERIOD, "key"))) == 1 + LINES + 3


def test_view_rows_have_the_numbers_of_the_chart() -> None:
    for measure in ("credits", "tokens"):
        view = usage_view(cells(4), PERIOD, measure)
        scale = 1e9 if measure == "credits" else 1
        for place, (slot, amounts, sum_) in enumerate(reversed(view.rows)):
            assert slot.title == view.chart["titles"][place]
            drawn = [series["values"][place] for series in view.chart["series"]]
            assert drawn == [amount / scale for amount in amounts]
            assert sum(amounts) == sum_
        whole = view.total.cost if measure == "credits" else view.total_tokens
        assert sum(sum_ for _, _, sum_ in view.rows) == whole


def test_view_tokens_count_reasoning_once() -> None:
    spend = Spend(requests=1, input=1, output=10, cache_read=100, cache_write=1000, reasoning=5)
    assert usage_view([Cell(0, "m", spend)], PERIOD, "tokens").total_tokens == 1111


def test_view_more_names_than_colours_are_one_series() -> None:
    found = cells(COLOURS + 5)
    view = usage_view(found, PERIOD, "credits")
    assert len(view.lines) == COLOURS + 5
    assert len(view.series) == COLOURS
    assert view.series[-1].name == "6 others"
    drawn = sum(sum(series.amounts) for series in view.series)
    assert drawn == view.total.cost


def test_view_of_tags_has_the_total_of_the_rows() -> None:
    spend = Spend(requests=1, cost=5, input=3)
    view = usage_view([Cell(0, "a", spend), Cell(0, "b", spend)], PERIOD, "credits", spend)
    assert view.total == spend
    assert view.total_tokens == 3
    assert [line.spend for line in view.lines] == [spend, spend]


def test_view_of_nothing_has_no_series() -> None:
    view = usage_view([], PERIOD, "credits")
    assert not view.series
    assert view.total == Spend()
    assert [sum_ for _, _, sum_ in view.rows] == [0] * 7


def test_csv_has_a_line_for_each_slot_and_name() -> None:
    found = cells(2)
    head, *lines = csv_rows(found, PERIOD, "model")
    assert head[:2] == ["day", "model"]
    assert len(lines) == len(found)
    assert lines == sorted(lines)
    costs = sum(int(line[-1].replace(".", "").ljust(1)) >= 0 for line in lines)
    assert costs == len(lines)
