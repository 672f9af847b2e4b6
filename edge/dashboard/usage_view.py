"""Usage as charts and tables show it: sums by slot and by name of a model, key, owner or team."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, get_args

import msgspec

from middlewares.pricing import decimal
from middlewares.stores.ledger.spend import Spend

from .usage_period import Slot, UsagePeriod

Measure = Literal["credits", "tokens"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

COLOURS = 6
"""Colours that the style sheet has for series. Of more names the last is for the rest."""
LINES = 500
"""Names that a page has a line for. All others have one together; the CSV file has them all."""
_NANO = 1e9


class Cell(msgspec.Struct, frozen=True):
    """The sums of one name in one slot, by the number of the slot."""

    slot: int
    name: str
    spend: Spend


class Line(msgspec.Struct, frozen=True):
    """One row of the table of names."""

    name: str
    spend: Spend

    @property
    def tokens(self) -> int:
        """All tokens; those of reasoning are among the output."""
        return tokens_of(self.spend)


class Series(msgspec.Struct, frozen=True):
    """The bars of one name. amounts: nano-credits or tokens, one for each slot."""

    name: str
    amounts: tuple[int, ...]


class UsageView(msgspec.Struct, frozen=True):
    """One chart with its tables. lines: by name, largest first, `LINES` at most, and then one of
    the others. series: what is stacked."""

    period: UsagePeriod
    measure: Measure
    slots: Sequence[Slot]
    series: Sequence[Series]
    lines: Sequence[Line]
    total: Spend

    @property
    def total_tokens(self) -> int:
        """All tokens of the period."""
        return tokens_of(self.total)

    @property
    def rows(self) -> list[tuple[Slot, list[int], int]]:
        """The numbers of the chart, newest slot first: those of each series, and their sum."""
        rows = []
        for number, slot in enumerate(self.slots):
            amounts = [one.amounts[number] for one in self.series]
            rows.append((slot, amounts, sum(amounts)))
        return rows[::-1]

    @property
    def chart(self) -> dict[str, Any]:
        """What the script draws."""
        scale = _NANO if self.measure == "credits" else 1
        return {
            "unit": self.measure,
            "labels": [slot.label for slot in self.slots],
            "titles": [slot.title for slot in self.slots],
            "series": [
                {"name": one.name, "values": [amount / scale for amount in one.amounts]}
                for one in self.series
            ],
        }


def usage_view(
    cells: Iterable[Cell], period: UsagePeriod, measure: Measure, total: Spend | None = None
) -> UsageView:
    """Arrange sums for a page. total: given where rows with several tags are in several cells."""
    slots = period.slots()
    amount = _AMOUNTS[measure]
    by_name: dict[str, list[Cell]] = {}
    for cell in cells:
        by_name.setdefault(cell.name, []).append(cell)
    lines = [Line(name, added(one.spend for one in found)) for name, found in by_name.items()]
    lines.sort(key=lambda line: (-amount(line.spend), -line.spend.requests, line.name))
    shown = [line.name for line in lines]
    rest: list[str] = []
    if len(shown) > COLOURS:
        shown, rest = shown[: COLOURS - 1], shown[COLOURS - 1 :]
    series = [Series(name, _amounts(by_name[name], len(slots), amount)) for name in shown]
    if rest:
        cells_of_rest = [cell for name in rest for cell in by_name[name]]
        series.append(Series(f"{len(rest)} others", _amounts(cells_of_rest, len(slots), amount)))
    if total is None:
        total = added(line.spend for line in lines)
    if len(lines) > LINES:
        others = lines[LINES:]
        lines = [*lines[:LINES], Line(f"{len(others)} others", added(o.spend for o in others))]
    return UsageView(period, measure, slots, series, lines, total)


def tokens_of(spend: Spend) -> int:
    """All tokens; those of reasoning are among the output."""
    return spend.input + spend.output + spend.cache_read + spend.cache_write


def added(spends: Iterable[Spend]) -> Spend:
    """The sum of sums."""
    sums = [0] * len(Spend.__struct_fields__)
    for spend in spends:
        for place, value in enumerate(msgspec.structs.astuple(spend)):
            sums[place] += value
    return Spend(*sums)


def csv_rows(cells: Iterable[Cell], period: UsagePeriod, by: str) -> Iterable[list[str]]:
    """The lines of a CSV file, its head first: every slot and name that has any use."""
    slots = period.slots()
    head = ["hour" if period.hours else "day", by, "requests", "errors", "input_tokens"]
    yield [
        *head,
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "credits",
    ]
    for cell in sorted(cells, key=lambda one: (one.slot, one.name)):
        spend = cell.spend
        counts = (spend.requests, spend.errors, spend.input, spend.output, spend.cache_read)
        more = (spend.cache_write, spend.reasoning)
        yield [
            slots[cell.slot].title,
            cell.name,
            *map(str, (*counts, *more)),
            decimal(spend.cost),
        ]


def _amounts(cells: Iterable[Cell], count: int, amount: Callable[[Spend], int]) -> tuple[int, ...]:
    amounts = [0] * count
    for cell in cells:
        amounts[cell.slot] += amount(cell.spend)
    return tuple(amounts)


_AMOUNTS: dict[Measure, Callable[[Spend], int]] = {
    "credits": lambda spend: spend.cost,
    "tokens": tokens_of,
}
