"""Metrics and labels in PromQL, compared with the table of metrics."""

import re

from middlewares.metric_rows import HistogramRow
from middlewares.metric_table import TABLE

SCRAPED = {"namespace", "job", "instance", "pod", "le"}
"""Labels that a scrape adds, and the one of buckets."""
MADE = {"hash"}
"""The label that `count_values` makes."""


def series() -> dict[str, set[str]]:
    """The labels of each series of a scrape, by its name."""
    found: dict[str, set[str]] = {}
    for row in TABLE:
        endings = ("_bucket", "_sum", "_count") if isinstance(row, HistogramRow) else ("",)
        for ending in endings:
            found[row.exposed() + ending] = set(row.labels)
    return found


SERIES = series()


def faults(expression: str) -> list[str]:
    """What an expression names that no scrape has."""
    wrong, known = [], SCRAPED | MADE
    for name, braces in re.findall(r"\b(penstock_\w+)(?:{([^}]*)})?", expression):
        labels = SERIES.get(name)
        if labels is None:
            wrong.append(name)
            continue
        known |= labels
        matched = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces))
        wrong += [f"{name}: {label}" for label in sorted(matched - labels - SCRAPED)]
    for group in re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", expression):
        wrong += [label for label in re.findall(r"\w+", group) if label not in known]
    return wrong
