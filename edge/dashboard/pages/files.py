"""Files of a key: list, download, delete, and how much room they take."""

from math import floor

from starlette.responses import Response

from edge.dashboard.formats import size
from edge.dashboard.page import FILES, SIGNED_IN, Page
from edge.dashboard.request import DashboardRequest
from edge.management.money import principal
from edge.media.content import send_file
from edge.media.library import Files
from middlewares.asgi import Receive, Scope, Send
from middlewares.problem import Problem
from middlewares.stores.files.base import Cursor, FileRecord
from middlewares.stores.keys.base import Key

_ROWS = 50


class FileAnswer(Response):
    """The bytes of a file, always as a download."""

    def __init__(self, files: Files, record: FileRecord) -> None:
        super().__init__()
        self._files = files
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_file(self._record, self._files.read, scope, receive, send)


async def list_files(request: DashboardRequest) -> Response:
    """The files of a key, newest first, and the room that they take."""
    files = _files(request)
    key = await request.key_or_none()
    if key is None:
        return request.render("choose_key.html", title="Files", what="files")
    after = await _cursor(request, files, key)
    found = await files.page(key.id, limit=_ROWS + 1, after=after)
    use = await files.use(key.id)
    limit = request.parts.plans.storage(principal(key, None))
    return request.render(
        "files.html",
        key=key,
        may_work=request.may_work_with(key),
        files=found[:_ROWS],
        next=found[_ROWS - 1].id if len(found) > _ROWS else None,
        first=after is None,
        use=use,
        limit=limit,
        percent=floor(use.total * 100 / limit) if limit else 100,
        left=size(max(0, limit - use.total)),
    )


async def download(request: DashboardRequest) -> Response:
    """The bytes of a file."""
    files = _files(request)
    key = await request.key_to_work_with()
    record = await _file(request, files, key)
    await request.note_use("file.read", key, file=record.id)
    return FileAnswer(files, record)


async def ask_to_delete(request: DashboardRequest) -> Response:
    """The question before a file is deleted."""
    files = _files(request)
    record = await _file(request, files, await request.key_to_work_with())
    return request.render("file_delete.html", file=record)


async def delete(request: DashboardRequest) -> Response:
    """Delete a file."""
    files = _files(request)
    key = await request.key_to_work_with()
    record = await _file(request, files, key)
    await request.note_use("file.delete", key, file=record.id)
    await files.delete(record.owner, record.id)
    query = {"key": record.owner} if request.query.get("key") else {}
    return request.redirect("/app/files", note="file_deleted", **query)


async def _cursor(request: DashboardRequest, files: Files, key: Key) -> Cursor | None:
    file_id = request.query.get("after", "")
    if not file_id:
        return None
    record = await files.find_expired(key.id, file_id)
    return None if record is None else Cursor(record.created_at, record.id)


async def _file(request: DashboardRequest, files: Files, key: Key) -> FileRecord:
    """The file that the path names. Raises Problem, the same for files of others."""
    record = await files.find(key.id, request.params["id"])
    if record is None:
        raise Problem("not_found", message="There is no such file.")
    return record


def _files(request: DashboardRequest) -> Files:
    if request.parts.files is None:
        raise Problem("not_found")
    return request.parts.files


NOTES = {"file_deleted": "The file is deleted."}

PAGES = (
    Page("/app/files", ("GET",), SIGNED_IN, list_files, "Files", FILES),
    Page("/app/files/{id}/content", ("GET",), SIGNED_IN, download),
    Page("/app/files/{id}/delete", ("GET",), SIGNED_IN, ask_to_delete),
    Page("/app/files/{id}/delete", ("POST",), SIGNED_IN, delete),
)
