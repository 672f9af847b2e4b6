"""GET /v1/responses/{id}/input_items: the input items of a response, by page.

The conversation before it is included (OpenAI API reference, "List input items").
"""

import re
from typing import Any
from urllib.parse import parse_qs

from middlewares.problem import Problem, expected
from middlewares.stores.responses.base import KeptTurn

from .items import as_listed, history, input_items

_USUAL = 20
_MOST = 100

Query = dict[str, list[str]]


def query_of(text: bytes) -> Query:
    """The query of a request."""
    return parse_qs(text.decode("latin-1"), keep_blank_values=True)


def page(turns: list[KeptTurn], query: Query) -> dict[str, Any]:
    """The page that `query` asks for. turns: up to the response, oldest first.

    Raises Problem for an invalid query.
    """
    limit = _limit(query)
    newest_first = _order(query) == "desc"
    items = [*history(turns[:-1]), *input_items(turns[-1])] if turns else []
    if newest_first:
        items.reverse()
    if after := query.get("after", [""])[-1]:
        positions = [n for n, item in enumerate(items) if item.id == after]
        if not positions:
            raise _no_item()
        items = items[positions[0] + 1 :]
    shown = items[:limit]
    return {
        "object": "list",
        "data": [as_listed(item) for item in shown],
        "first_id": shown[0].id if shown else None,
        "last_id": shown[-1].id if shown else None,
        "has_more": len(items) > limit,
    }


def _limit(query: Query) -> int:
    text = query.get("limit", [str(_USUAL)])[-1]
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= _MOST:
        raise expected("limit", f"a number from 1 to {_MOST}")
    return int(text)


def _order(query: Query) -> str:
    order = query.get("order", ["desc"])[-1]
    if order not in ("asc", "desc"):
        raise expected("order", "asc or desc")
    return order


def _no_item() -> Problem:
    return expected("after", "the id of an input item of this response")
