"""Files as OpenAI's and Anthropic's SDKs read them.

OpenAI API reference, "The file object"; Anthropic API reference, "Files".
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from middlewares.exchange import Dialect
from middlewares.stores.files.base import FileRecord


def file_object(record: FileRecord) -> dict[str, Any]:
    """OpenAI's object. Its status is final: `wait_for_processing` polls until it is."""
    about: dict[str, Any] = {
        "id": record.id,
        "object": "file",
        "bytes": record.size,
        "created_at": int(record.created_at),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": None,
    }
    if record.expires_at is not None:
        about["expires_at"] = int(record.expires_at)
    return about


def file_metadata(record: FileRecord) -> dict[str, Any]:
    """Anthropic's object."""
    return {
        "id": record.id,
        "type": "file",
        "filename": record.filename,
        "mime_type": record.mime,
        "size_bytes": record.size,
        "created_at": _moment(record.created_at),
        "downloadable": True,
        "expires_at": None if record.expires_at is None else _moment(record.expires_at),
    }


def shown(record: FileRecord, dialect: Dialect) -> dict[str, Any]:
    """The object in the caller's dialect."""
    return file_metadata(record) if dialect == "anthropic" else file_object(record)


def deletion(file_id: str, dialect: Dialect) -> dict[str, Any]:
    """The answer to a deletion."""
    if dialect == "anthropic":
        return {"id": file_id, "type": "file_deleted"}
    return {"id": file_id, "object": "file", "deleted": True}


def object_list(records: Sequence[FileRecord], *, more: bool) -> dict[str, Any]:
    """OpenAI's page of a list."""
    return {
        "object": "list",
        "data": [file_object(record) for record in records],
        "first_id": records[0].id if records else None,
        "last_id": records[-1].id if records else None,
        "has_more": more,
    }


def metadata_list(records: Sequence[FileRecord], next_page: str | None) -> dict[str, Any]:
    """Anthropic's page of a list; older SDKs read its last four members."""
    return {
        "data": [file_metadata(record) for record in records],
        "next_page": next_page,
        "first_id": records[0].id if records else None,
        "last_id": records[-1].id if records else None,
        "has_more": next_page is not None,
    }


def _moment(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return at.replace("+00:00", "Z")
