"""Encode the instructions and input items of a request to a Responses upstream."""

from base64 import b64encode
from hashlib import sha256
from typing import Any

from edge.dialects import tool_names
from edge.dialects.codec import TargetModel
from edge.dialects.conversation import (
    Audio,
    Block,
    Conversation,
    Document,
    Image,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from edge.dialects.data_urls import data_url
from edge.dialects.history_repair import empty_conversation, repair_turns, without_attribution
from edge.dialects.signatures import readable
from edge.vendors.openai_models import reasons
from middlewares.problem import Problem

from .write_tools import Json, ResponsesTools

_ERROR = "Error: "
_LEFT = "thinking of another model"
_LED_TO = ("reasoning", "function_call", "custom_tool_call")


def write_input(
    conversation: Conversation, target: TargetModel, tools: ResponsesTools, dropped: list[str]
) -> Json:
    """`instructions`, if they are one text, and `input`. Raises Problem if a block does not fit.

    dropped: notes of what is left out are added to it.
    """
    role = "developer" if reasons(target.family) else "system"
    system = [text.text for text in without_attribution(conversation.system) if text.text.strip()]
    items: list[Json] = []
    for turn in repair_turns(conversation.turns):
        if turn.role == "system":
            items.append(_message(role, [part for b in turn.blocks for part in _parts(b)]))
        elif turn.role == "user":
            items += _user(turn)
        else:
            items += _assistant(turn, target, tools, dropped)
    items = _without_lone_thoughts(items)
    if not items and not system:
        raise empty_conversation()
    if len(system) == 1 and items and not _names_json(conversation):
        return {"instructions": system[0], "input": items}
    parts = [{"type": "input_text", "text": text} for text in system]
    return {"input": [_message(role, parts), *items] if parts else items}


def _names_json(conversation: Conversation) -> bool:
    """Whether the input has the word "json", which the API requires with `json_object`."""
    return conversation.output is not None and conversation.output.kind == "json_object"


def _message(role: str, content: Any) -> Json:
    return {"type": "message", "role": role, "content": content}


def _user(turn: Turn) -> list[Json]:
    items: list[Json] = []
    parts: list[Json] = []
    for block in turn.blocks:
        if isinstance(block, ToolResult):
            items.append(_result(block))
        else:
            parts += _parts(block)
    return [*items, _message("user", parts)] if parts else items


def _result(result: ToolResult) -> Json:
    """A tool's result: text alone is one string; images and files are parts of a list."""
    if all(isinstance(block, Text) for block in result.content):
        output: Any = "\n".join(block.text for block in result.content if isinstance(block, Text))
        if result.failed and not output.startswith(_ERROR):
            output = _ERROR + output
    else:
        output = [part for block in result.content for part in _parts(block)]
        if result.failed:
            first = output[0].get("text")
            if first is None:
                output.insert(0, {"type": "input_text", "text": _ERROR.strip()})
            elif not first.startswith(_ERROR):
                output[0] = {**output[0], "text": _ERROR + first}
    return {
        "type": "custom_tool_call_output" if result.custom else "function_call_output",
        "call_id": tool_names.call_id(result.id, "responses"),
        "output": output,
    }


def _parts(block: Block) -> list[Json]:
    """The content parts of a block of input."""
    match block:
        case Text() | Refusal():
            return [{"type": "input_text", "text": block.text}]
        case Image():
            return [_image(block)]
        case Document():
            return _document(block)
        case Audio():
            raise Problem(
                "audio_not_supported_by_model",
                param=block.at or None,
                issue="expected text, images or files",
            )
    return []


def _image(image: Image) -> Json:
    detail = image.detail or "auto"
    if image.file_id:
        return {"type": "input_image", "file_id": image.file_id, "detail": detail}
    url = data_url(image.media_type, image.data) if image.data else image.url
    return {"type": "input_image", "image_url": url, "detail": detail}


def _document(document: Document) -> list[Json]:
    heads = [{"type": "input_text", "text": document.context}] if document.context else []
    if document.file_id:
        return [*heads, {"type": "input_file", "file_id": document.file_id}]
    if document.blocks:
        if document.name:
            heads.insert(0, {"type": "input_text", "text": document.name})
        return heads + [part for block in document.blocks for part in _parts(block)]
    if document.url:
        return [*heads, {"type": "input_file", "file_url": document.url}]
    media_type, data = document.media_type, document.data
    if not data:
        media_type = media_type or "text/plain"
        data = b64encode(document.text.encode()).decode()
    media_type = media_type or "application/pdf"
    part = {
        "type": "input_file",
        "filename": document.name or _named(media_type),
        "file_data": data_url(media_type, data),
    }
    return [*heads, part]


def _named(media_type: str) -> str:
    ending = media_type.rpartition("/")[2]
    return "document." + {"plain": "txt", "markdown": "md"}.get(ending, ending)


def _assistant(
    turn: Turn, target: TargetModel, tools: ResponsesTools, dropped: list[str]
) -> list[Json]:
    """One item for each run of text, each thinking block of this upstream, and each call."""
    items: list[Json] = []
    texts: list[Text | Refusal] = []
    for block in turn.blocks:
        if isinstance(block, Text | Refusal):
            texts.append(block)
            continue
        thought = _thought(block, target) if isinstance(block, Thinking) else None
        if isinstance(block, ToolCall) or thought is not None:
            items += _text_message(texts)
            texts = []
        if isinstance(block, ToolCall):
            items.append(tools.call(block))
        elif thought is not None:
            items.append(thought)
        else:
            other = not isinstance(block, Thinking)
            note = f"{type(block).__name__} in a turn of the assistant" if other else _LEFT
            if note not in dropped:
                dropped.append(note)
    return items + _text_message(texts)


def _text_message(blocks: list[Text | Refusal]) -> list[Json]:
    """A message of the model. Text alone is plain content; a refusal needs the form with an id,
    which is derived from the text.
    """
    if not blocks:
        return []
    if all(isinstance(block, Text) for block in blocks):
        return [_message("assistant", "".join(block.text for block in blocks))]
    parts: list[Json] = [
        {"type": "refusal", "refusal": block.text}
        if isinstance(block, Refusal)
        else {"type": "output_text", "text": block.text, "annotations": []}
        for block in blocks
    ]
    words = "\0".join(block.text for block in blocks)
    id_ = f"msg_{sha256(words.encode('utf-8', 'surrogatepass')).hexdigest()[:48]}"
    return [{**_message("assistant", parts), "id": id_, "status": "completed"}]


def _thought(block: Thinking, target: TargetModel) -> Json | None:
    """The reasoning item of a thinking block; None if another model made it."""
    signature = block.signature
    if signature is None or not readable(signature, "responses", target.origin):
        return None
    summary = [{"type": "summary_text", "text": block.text}] if block.text else []
    item: Json = {"type": "reasoning", "summary": summary, "encrypted_content": signature.data}
    item["id"] = signature.id or f"rs_{sha256(signature.data.encode()).hexdigest()[:48]}"
    return item


def _without_lone_thoughts(items: list[Json]) -> list[Json]:
    """`items` without reasoning items that no output follows: the API refuses those."""
    kept: list[Json] = []
    for item in reversed(items):
        if item["type"] == "reasoning":
            after = kept[-1] if kept else {}
            if after.get("type") not in _LED_TO and after.get("role") != "assistant":
                continue
        kept.append(item)
    return kept[::-1]
