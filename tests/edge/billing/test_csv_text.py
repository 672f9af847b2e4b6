"""CSV that a spreadsheet cannot take for formulas."""

import csv
from io import StringIO

import pytest

from edge.billing.csv_text import csv_text


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\tx",
        "\r=1",
        '=HYPERLINK("http://example.test")',
        "=cmd|' /C calc'!A0",
    ],
)
def test_csv_cell_that_begins_a_formula_becomes_text(cell: str) -> None:
    ((read, other),) = csv.reader(StringIO(csv_text([[cell, "fine"]]), newline=""))
    assert (read, other) == (f"'{cell}", "fine")


@pytest.mark.parametrize(
    "cell", ["", "gpt-5.5", 'a "quoted", name', "two\nlines", "naïve ☕", "1.50"]
)
def test_csv_other_cell_is_read_back_as_it_was(cell: str) -> None:
    assert list(csv.reader(StringIO(csv_text([[cell, "x"]]), newline=""))) == [[cell, "x"]]
