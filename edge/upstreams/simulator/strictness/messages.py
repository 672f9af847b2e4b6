"""Anthropic's checks of a Messages request: fields, blocks and tools."""

import re
from base64 import b64decode
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from edge.upstreams.simulator.prompt import PromptRejected

from . import sampling, turns

_FIELDS = (
    "cache_control container diagnostics inference_geo max_tokens messages metadata model "
    "output_config service_tier speed stop_sequences stream system temperature thinking "
    "tool_choice tools top_k top_p user_profile_id workspace_id"
)
FIELDS = frozenset(_FIELDS.split())

_BLOCKS: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "citations", "cache_control"),
    "image": ("source", "cache_control"),
    "document": ("source", "title", "context", "citations", "cache_control"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
    "tool_use": ("id", "name", "input", "cache_control", "caller"),
    "tool_result": ("tool_use_id", "content", "is_error", "cache_control"),
    "search_result": ("source", "title", "content", "citations", "cache_control"),
}
_TOOL = [
    "type",
    "name",
    "description",
    "input_schema",
    "strict",
    "cache_control",
    "defer_loading",
    "allowed_callers",
    "input_examples",
    "eager_input_streaming",
]
_HOSTED = ("server_tool_use", "container_upload", "tool_reference", "_tool_result")
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MAGIC = {
    b"\xff\xd8\xff": _IMAGES[0],
    b"\x89PNG": _IMAGES[1],
    b"GIF8": _IMAGES[2],
    b"RIFF": _IMAGES[3],
}
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MARKS = 4
_NO_FORMAT = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "maxItems",
    "uniqueItems",
    "not",
    "oneOf",
]


def check(given: dict[str, Any], *, version: str, betas: bool) -> None:
    """Raises PromptRejected."""
    if not betas:
        _only(given, FIELDS, "")
        _only(given.get("metadata") or {}, ("user_id",), "metadata.")
    for name, value in given.items():
        if value is None and name not in ("container", "inference_geo", "system"):
            raise PromptRejected(400, f"{name}: Input should be a valid value, not null")
    if given["max_tokens"] < 0:
        raise PromptRejected(400, "max_tokens: Input should be greater than or equal to 0")
    for at, stop in enumerate(given.get("stop_sequences") or ()):
        if not stop.strip():
            raise PromptRejected(
                400, f"stop_sequences.{at}: each stop sequence must contain non-whitespace"
            )
    for path, block in _all_blocks(given):
        _block(block, path, betas=betas)
    turns.check(given)
    _tools(given, betas=betas)
    sampling.check(given, version)
    wanted = (given.get("output_config") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        _format(wanted.get("schema"))
    marks = sum("cache_control" in block for _, block in _all_blocks(given))
    marks += sum("cache_control" in tool for tool in given.get("tools") or ())
    marks += "cache_control" in given
    if marks > _MARKS:
        raise PromptRejected(
            400,
            f"A maximum of {_MARKS} blocks with cache_control may be provided. Found {marks}.",
        )


def _only(given: Mapping[str, Any], names: Collection[str], path: str) -> None:
    for name in given:
        if name not in names:
            raise PromptRejected(400, f"{path}{name}: Extra inputs are not permitted")


def _all_blocks(given: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every content block, with those inside of tool results, and its path."""
    if isinstance(given.get("system"), list):
        for n, block in enumerate(given["system"]):
            yield f"system.{n}", block
    for at, message in enumerate(given["messages"]):
        if not isinstance(message.get("content"), list):
            continue
        for n, block in enumerate(message["content"]):
            path = f"messages.{at}.content.{n}"
            yield path, block
            inside = block.get("content")
            if block.get("type") == "tool_result" and isinstance(inside, list):
                for k, part in enumerate(inside):
                    yield f"{path}.tool_result.content.{k}", part


def _block(block: dict[str, Any], path: str, *, betas: bool) -> None:
    kind = str(block.get("type"))
    if kind not in _BLOCKS:
        if not betas and not kind.endswith(_HOSTED):
            tags = ", ".join(f"'{name}'" for name in _BLOCKS)
            raise PromptRejected(
                400,
                f"{path}: Input tag '{kind}' found using 'type' does not match any of the "
                f"expected tags: {tags}",
            )
        return
    if not betas:
        _only(block, ("type", *_BLOCKS[kind]), f"{path}.{kind}.")
    if kind == "text":
        text = block.get("text")
        where = path.partition(".")[0]
        if not isinstance(text, str):
            raise PromptRejected(400, f"{path}.text.text: Field required")
        if not text:
            raise PromptRejected(400, f"{where}: text content blocks must be non-empty")
        if not text.strip():
            raise PromptRejected(
                400, f"{where}: text content blocks must contain non-whitespace text"
            )
    elif kind in ("tool_use", "tool_result"):
        key = "id" if kind == "tool_use" else "tool_use_id"
        if not _ID.fullmatch(str(block.get(key, ""))):
            raise PromptRejected(
                400, f"{path}.{kind}.{key}: String should match pattern '^[a-zA-Z0-9_-]+$'"
            )
        if kind == "tool_use":
            _used(block, path)
    elif kind == "redacted_thinking":  # the simulator makes none
        raise PromptRejected(400, f"{path}: Invalid `data` in `redacted_thinking` block")
    elif kind == "image":
        _image(block.get("source") or {}, f"{path}.image.source")


def _used(block: dict[str, Any], path: str) -> None:
    if not _NAME.fullmatch(str(block.get("name", ""))):
        raise PromptRejected(
            400, f"{path}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
        )
    if not isinstance(block.get("input"), dict):
        raise PromptRejected(400, f"{path}.tool_use.input: Input should be a valid dictionary")


def _image(source: dict[str, Any], path: str) -> None:
    if source.get("type") != "base64":
        return
    media_type = source.get("media_type")
    if media_type not in _IMAGES:
        raise PromptRejected(
            400,
            f"{path}.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or "
            "'image/webp'",
        )
    try:
        data = b64decode(source.get("data") or "", validate=True)
    except (ValueError, TypeError):
        raise PromptRejected(400, f"{path}.base64.data: Invalid base64 data") from None
    found = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if found != media_type:
        raise PromptRejected(
            400,
            f"{path}.base64.data: The image was specified using the {media_type} media type, but "
            f"the image appears to be a {found} image",
        )


def _tools(given: dict[str, Any], *, betas: bool) -> None:
    tools = given.get("tools") or []
    names = set()
    for n, tool in enumerate(tools):
        path = f"tools.{n}.custom"
        name = str(tool.get("name", ""))
        if name in names:
            raise PromptRejected(400, "tools: Tool names must be unique.")
        names.add(name)
        if tool.get("type") not in (None, "custom"):
            continue  # one of the vendor's own
        if not betas:
            _only(tool, _TOOL, f"{path}.")
        if not _NAME.fullmatch(name):
            raise PromptRejected(
                400, f"{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
            )
        schema = tool.get("input_schema")
        if not isinstance(schema, dict):
            raise PromptRejected(400, f"{path}.input_schema: Field required")
        if "type" not in schema:
            raise PromptRejected(400, f"{path}.input_schema.type: Field required")
        if schema["type"] != "object":
            raise PromptRejected(400, f"{path}.input_schema.type: Input should be 'object'")
        if {"oneOf", "allOf", "anyOf"} & schema.keys():
            raise PromptRejected(
                400,
                f"{path}.input_schema: input_schema does not support oneOf, allOf, or anyOf at "
                "the top level",
            )
    choice = given.get("tool_choice")
    if choice is None:
        return
    if not tools:
        raise PromptRejected(
            400, "tool_choice: tool_choice may only be specified while providing tools."
        )
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise PromptRejected(
            400,
            f"tool_choice: Input tag '{kind}' found using 'type' does not match any of the "
            "expected tags: 'auto', 'any', 'tool', 'none'",
        )
    keys = {"none": ("type",), "tool": ("type", "name", "disable_parallel_tool_use")}
    allowed = keys.get(str(kind), ("type", "disable_parallel_tool_use"))
    _only(choice, allowed, f"tool_choice.{kind}.")


def _format(schema: Any) -> None:
    """The subset of structured outputs."""
    where = "output_config.format.schema"
    if not isinstance(schema, dict):
        raise PromptRejected(400, f"{where}: Field required")
    for part in _parts(schema):
        kind = part.get("type")
        if kind == "object" and part.get("additionalProperties") is not False:
            raise PromptRejected(
                400,
                f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to "
                "false",
            )
        for word in _NO_FORMAT:
            if word in part:
                raise PromptRejected(
                    400, f"{where}: For '{kind}' type, property '{word}' is not supported"
                )


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and the schemas in it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for group in ("properties", "$defs", "definitions"):
        for inner in (schema.get(group) or {}).values():
            yield from _parts(inner)
    yield from _parts(schema.get("items"))
    for several in ("anyOf", "allOf"):
        for inner in schema.get(several) or ():
            yield from _parts(inner)
