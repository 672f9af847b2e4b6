"""The bench of pages runs to its end, and leaves no page out."""

import re

import pytest

from bench import pages
from edge.dashboard.pages import PAGES


def test_pages_of_a_small_database_have_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--keys", "40", "--rows", "400", "--streams", "2", "--rounds", "1"]

    pages.main([*sizes, "--each", "0.02", "--alone", "0.2"])

    printed = capsys.readouterr().out
    rows = re.findall(r"^[! ] (anyone|holder|admin) +(\S+)", printed, re.MULTILINE)
    assert {
        (role, page.path)
        for page in PAGES
        if "GET" in page.methods and "/oidc/" not in page.path
        for role in page.roles
    } <= set(rows)
    assert re.search(r"streams alone: \d+ gaps", printed)
    assert re.search(r"streams beside pages: \d+ gaps", printed)
