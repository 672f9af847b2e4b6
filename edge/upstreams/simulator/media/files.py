"""Files of both vendors: upload, list, get, content, delete."""

from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import msgspec

from edge.upstreams.simulator.account import StoredFile
from edge.upstreams.simulator.answer import SimulatedAnswer, plain
from edge.upstreams.simulator.prompt import PromptRejected
from edge.upstreams.simulator.request import SimulatorRequest, refused, vendor_headers

from .fields import read_fields
from .sight import kind_of

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_OPENAI_EXPIRY = (3600, 2_592_000)
_ANTHROPIC_EXPIRY = (3600, 7_776_000)
_LARGEST_OPENAI = 512 << 20
_LARGEST_ANTHROPIC = 500 << 20
_encode = msgspec.json.Encoder().encode


def upload(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /files. Each upload makes another file."""
    request, fields = read_fields(request, "filename", takes="form", required=False)
    files = request.form.files("file") if request.form else []
    if len(files) != 1:
        raise PromptRejected(400, f"Expected one 'file', got {len(files)}.", "file")
    file, account = files[0], request.account
    if not file.size:
        raise PromptRejected(400, "The file is empty.", "file")
    theirs = request.dialect == "anthropic"
    if file.size > (_LARGEST_ANTHROPIC if theirs else _LARGEST_OPENAI):
        raise PromptRejected(413, "The file is too large.", "file")
    if theirs:
        least, most, name = *_ANTHROPIC_EXPIRY, "expires_in_seconds"
        seconds = fields.whole(name, 0, least, most) if name in fields.values else None
        prefix, purpose = "file_", ""
    else:
        purpose = fields.choice("purpose", _PURPOSES, "")
        name, prefix = "expires_after[seconds]", "file-"
        seconds = fields.whole(name, 0, *_OPENAI_EXPIRY) if name in fields.values else None
        if seconds and fields.values.get("expires_after[anchor]") != "created_at":
            raise PromptRejected(400, "Invalid 'expires_after[anchor]'.", "expires_after[anchor]")
    if refusal := refused(request):
        return refusal
    now = account.now()
    kept = StoredFile(
        id=f"{prefix}{request.identity[:18]}{account.number()}",
        filename=PurePosixPath(file.filename or "").name or "unnamed",
        content_type=file.content_type or kind_of(file.data or b""),
        size=file.size,
        sha256=file.sha256,
        data=file.data,
        purpose=purpose,
        created_at=now,
        expires_at=now + seconds if seconds else None,
    )
    account.keep(kept)
    found = _json(request, _shown(request, kept))
    counts = (("uploads", 1), ("upload_bytes", kept.size))
    return msgspec.structs.replace(found, counts=counts)


def listed(request: SimulatorRequest) -> SimulatedAnswer:
    """GET /files."""
    if refusal := refused(request):
        return refusal
    theirs = request.dialect == "anthropic"
    kept = [file for file in request.account.files.values() if _is_of(file, request)]
    if request.query.get("order", "desc") == "desc":
        kept.reverse()
    if purpose := request.query.get("purpose"):
        kept = [file for file in kept if file.purpose == purpose]
    after = request.query.get("page", "").removeprefix("page_") or request.query.get("after")
    if after:
        ids = [file.id for file in kept]
        kept = kept[ids.index(after) + 1 :] if after in ids else []
    limit = int(request.query.get("limit") or (20 if theirs else 10_000))
    page, more = kept[:limit], len(kept) > limit
    data = [_shown(request, file) for file in page]
    if theirs:
        return _json(request, {"data": data, "next_page": f"page_{page[-1].id}" if more else None})
    ends = {"first_id": page[0].id, "last_id": page[-1].id} if page else {}
    return _json(request, {"object": "list", "data": data, **ends, "has_more": more})


def described(request: SimulatorRequest) -> SimulatedAnswer:
    """GET /files/ID."""
    file = _file(request, request.path)
    return refused(request) or _json(request, _shown(request, file))


def deleted(request: SimulatorRequest) -> SimulatedAnswer:
    """DELETE /files/ID."""
    file = _file(request, request.path)
    if refusal := refused(request):
        return refusal
    del request.account.files[file.id]
    if request.dialect == "anthropic":
        return _json(request, {"id": file.id, "type": "file_deleted"})
    return _json(request, {"id": file.id, "object": "file", "deleted": True})


def content(request: SimulatorRequest) -> SimulatedAnswer:
    """GET /files/ID/content. Anthropic's uploads cannot be downloaded."""
    file = _file(request, request.path.removesuffix("/content"))
    if refusal := refused(request):
        return refusal
    if request.dialect == "anthropic":
        raise PromptRejected(400, f"File {file.id} is not downloadable.", "file_id")
    if file.data is None:
        raise PromptRejected(404, "The simulator does not keep the bytes of so large a file.")
    kind = file.content_type.encode()
    found = plain(file.data, request.controls, headers=vendor_headers(request), kind=kind)
    return msgspec.structs.replace(found, counts=(("downloads", 1),))


def _is_of(file: StoredFile, request: SimulatorRequest) -> bool:
    return file.id.startswith("file_") == (request.dialect == "anthropic")


def _file(request: SimulatorRequest, path: str) -> StoredFile:
    file = request.account.file(path.rpartition("/")[2])
    if not _is_of(file, request):
        raise PromptRejected(404, f"No such File object: {file.id}", "id")
    return file


def _json(request: SimulatorRequest, members: dict[str, Any]) -> SimulatedAnswer:
    return plain(_encode(members), request.controls, headers=vendor_headers(request))


def _shown(request: SimulatorRequest, file: StoredFile) -> dict[str, Any]:
    expires: dict[str, Any] = {}
    if request.dialect == "anthropic":
        if file.expires_at is not None:
            expires = {"expires_at": _date(file.expires_at)}
        return {
            "id": file.id,
            "type": "file",
            "filename": file.filename,
            "mime_type": file.content_type,
            "size_bytes": file.size,
            "created_at": _date(file.created_at),
            "downloadable": False,
            **expires,
        }
    if file.expires_at is not None:
        expires = {"expires_at": file.expires_at}
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
        **expires,
    }


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
