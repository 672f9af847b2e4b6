"""Output format of an answer, as clients of OpenAI's dialects and of other servers write it."""

from typing import Any

from .conversation import OutputFormat
from .validation import mapping, one_of, string

_KINDS = ("text", "json_object", "json_schema")


def read_format(form: dict[str, Any], path: str) -> OutputFormat | None:
    """The format in `form`, whose schema is beside its type; None for plain text.

    A schema needs no name: OpenAI requires one and gets a default. A `json_object` may have a
    schema, as with servers of open models; a `json_schema` without one is any object. Raises
    Problem.
    """
    kind = one_of(form.get("type"), f"{path}.type", _KINDS)
    schema = form.get("schema")
    if kind == "text":
        return None
    if schema is None:
        return OutputFormat(kind="json_object")
    strict = form.get("strict")
    named = {"name": string(form["name"], f"{path}.name")} if form.get("name") else {}
    return OutputFormat(
        kind="json_schema",
        description=string(form.get("description") or "", f"{path}.description"),
        schema=mapping(schema, f"{path}.schema"),
        strict=strict if isinstance(strict, bool) else None,
        path=f"{path}.schema",
        **named,
    )
