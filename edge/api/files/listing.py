"""GET /v1/files: the files of the caller, by page, in the caller's dialect.

A cursor names a place between files of the caller. The id of another owner's file is no cursor, as
an id that does not exist is none.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs

from edge.media.library import Files
from middlewares.problem import expected
from middlewares.stores.files.base import Cursor, FileRecord

from .file_shapes import metadata_list, object_list

Query = dict[str, list[str]]

LONGEST_PAGE = 1000
_MOST_ASKED = 10_000
"""What OpenAI allows as `limit`; longer pages than ours are cut, and say that there is more."""
_PAGE = 20
_MOST_IDS = 100
_CURSOR = "page_"


async def listed(files: Files, owner: str, dialect: str, text: bytes) -> dict[str, Any]:
    """The page that a query asks for. Raises Problem."""
    query = parse_qs(text.decode("latin-1"), keep_blank_values=True)
    if dialect == "anthropic":
        return await _metadata(files, owner, query)
    return await _objects(files, owner, query)


async def _objects(files: Files, owner: str, query: Query) -> dict[str, Any]:
    limit = min(_number(query, "limit", _MOST_ASKED, _MOST_ASKED), LONGEST_PAGE)
    order = query.get("order", ["desc"])[-1]
    if order not in ("asc", "desc"):
        raise expected("order", "asc or desc")
    found = await files.page(
        owner,
        limit=limit + 1,
        after=await _after(files, owner, query, "after"),
        newest_first=order == "desc",
        purpose=query.get("purpose", [""])[-1] or None,
    )
    return object_list(found[:limit], more=len(found) > limit)


async def _metadata(files: Files, owner: str, query: Query) -> dict[str, Any]:
    ids = query.get("ids[]", []) + query.get("ids", [])
    if ids:
        ids = list(dict.fromkeys(one for each in ids for one in each.split(",")))
        if len(ids) > _MOST_IDS:
            raise expected("ids", f"at most {_MOST_IDS} ids")
        if "limit" in query or "page" in query:
            raise expected("ids", "no `limit` and no `page` beside it")
        return metadata_list(await files.several(owner, ids), None)
    limit = _number(query, "limit", _PAGE, LONGEST_PAGE)
    if any(query.get("scope_id", [])):  # of sessions, which do not exist here
        return metadata_list([], None)
    after = _place(query["page"][-1]) if any(query.get("page", [])) else None
    if after is None:
        after = await _after(files, owner, query, "after_id")
    before = await _after(files, owner, query, "before_id")
    if before is not None:
        found = await files.page(owner, limit=limit + 1, after=before, newest_first=False)
        more, found = len(found) > limit, found[:limit][::-1]
        return {**metadata_list(found, None), "has_more": more}
    found = await files.page(owner, limit=limit + 1, after=after)
    more = len(found) > limit
    return metadata_list(found[:limit], _cursor(found[limit - 1]) if more else None)


async def _after(files: Files, owner: str, query: Query, name: str) -> Cursor | None:
    file_id = query.get(name, [""])[-1]
    if not file_id:
        return None
    record = await files.find_expired(owner, file_id)
    if record is None:
        raise expected(name, "the id of a file of yours")
    return Cursor(record.created_at, record.id)


def _number(query: Query, name: str, usual: int, most: int) -> int:
    text = query.get(name, [""])[-1]
    if not text:
        return usual
    if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise expected(name, f"a number from 1 to {most}")
    return int(text)


def _cursor(record: FileRecord) -> str:
    place = f"{record.created_at.hex()} {record.id}".encode()
    return _CURSOR + urlsafe_b64encode(place).rstrip(b"=").decode()


def _place(cursor: str) -> Cursor:
    body = cursor.removeprefix(_CURSOR)
    try:
        if body == cursor or len(body) > 256 or not body.isascii():
            raise ValueError(cursor)
        at, _, file_id = urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode().partition(" ")
        return Cursor(float.fromhex(at), file_id)
    except (ValueError, OverflowError):
        raise expected("page", "a cursor of this list, as in `next_page`") from None
