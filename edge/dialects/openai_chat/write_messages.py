"""Encode the messages of a request to a Chat upstream.

A `tool` message of this dialect holds text only. Images and files of results are mentioned there
and follow in one user message after all results, since nothing may come between two results.
"""

from base64 import b64decode
from collections.abc import Sequence
from typing import Any

import msgspec

from edge.dialects.codec import TargetModel, WrittenTurns
from edge.dialects.conversation import (
    Audio,
    Block,
    Conversation,
    Document,
    Image,
    Refusal,
    Signature,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from edge.dialects.data_urls import data_url
from edge.dialects.history_repair import empty_conversation, repair_turns, without_attribution
from edge.dialects.signatures import readable
from edge.untyped_json import decode_object
from edge.vendors.openai_models import is_openai, reasons
from middlewares.problem import Problem, invalid_value

from .model_families import call_id, user_may_follow_tool, wants_thinking
from .signatures import unpack_call_signature
from .write_tools import ChatTools

_IMAGE_BELOW = "[image attached below]"
_FILE_BELOW = "[file attached below]"
_ERROR = "Error: "
_BETWEEN = "OK."
_PARAGRAPH = "\n\n"


Message = dict[str, Any]


def write_messages(
    conversation: Conversation,
    target: TargetModel,
    tools: ChatTools,
    dropped: list[str],
    head: WrittenTurns | None = None,
) -> list[Message | msgspec.Raw]:
    """All messages, instructions first. Raises Problem for a block that cannot be expressed.

    dropped: notes of what is left out are added to it. head: see `UpstreamSide`.
    """
    out: list[Message | msgspec.Raw] = []
    role = "developer" if reasons(target.family) else "system"
    instructions = _joined(without_attribution(conversation.system))
    if instructions:
        out.append({"role": role, "content": instructions})
    if head is not None:
        dropped += [note for note in head.dropped if note not in dropped]
        out += map(msgspec.Raw, head.messages)
    for turn in repair_turns(conversation.turns, () if head is None else head.calls):
        if turn.role == "system":
            content = _joined([block for block in turn.blocks if isinstance(block, Text)])
            if content:
                out.append({"role": role, "content": content})
        else:
            out += _of_turn(turn, target, tools, dropped)
    if not out:
        raise empty_conversation()
    return out


def write_turns(
    turns: Sequence[Turn], target: TargetModel, tools: ChatTools, dropped: list[str]
) -> list[Message]:
    """The messages of turns of the user and the assistant that need no repair."""
    return [message for turn in turns for message in _of_turn(turn, target, tools, dropped)]


def _of_turn(
    turn: Turn, target: TargetModel, tools: ChatTools, dropped: list[str]
) -> list[Message]:
    if turn.role == "user":
        return _user(turn, target)
    return _assistant(turn, target, tools, dropped)


def _joined(texts: list[Text]) -> str:
    return _PARAGRAPH.join(text.text for text in texts if text.text.strip())


def _user(turn: Turn, target: TargetModel) -> list[Message]:
    out: list[Message] = []
    attached: list[Block] = []
    blocks: list[Block] = []
    for block in turn.blocks:
        if isinstance(block, ToolResult):
            out.append(_result(block, target.family, attached))
        else:
            blocks.append(block)
    blocks = attached + blocks
    if not blocks:
        return out
    if out and not user_may_follow_tool(target.family):
        out.append({"role": "assistant", "content": _BETWEEN})
    if all(isinstance(block, Text) for block in blocks) and (
        len(blocks) == 1 or not is_openai(target.family)
    ):
        content: Any = _joined([block for block in blocks if isinstance(block, Text)])
    else:
        content = [part for block in blocks for part in _parts(block)]
    out.append({"role": "user", "content": content})
    return out


def _result(result: ToolResult, model: str, attached: list[Block]) -> Message:
    """The message of a result; other content is added to `attached`."""
    lines: list[str] = []
    for block in result.content:
        if isinstance(block, Text):
            lines.append(block.text)
            continue
        match block:
            case Image():
                lines.append(_IMAGE_BELOW)
                attached.append(block)
            case Document() if (text := _text_of(block)) is not None:
                lines.append(text)
            case Document():
                lines.append(_FILE_BELOW)
                attached.append(block)
    content = "\n".join(lines)
    if result.failed and not content.startswith(_ERROR):
        content = _ERROR + content
    return {
        "role": "tool",
        "tool_call_id": call_id(result.id, model),
        "content": content,
    }


def _text_of(document: Document) -> str | None:
    """The text of a text document, headed by its name; None for any other document."""
    text = document.text
    if document.blocks:
        if not all(isinstance(block, Text) for block in document.blocks):
            return None
        text = "\n".join(block.text for block in document.blocks if isinstance(block, Text))
    elif document.data and document.media_type.startswith("text/"):
        text = b64decode(document.data).decode("utf-8", "replace")
    elif not text:
        return None
    heads = [head for head in (document.name, document.context) if head]
    return "\n".join([*heads, text])


def _parts(block: Block) -> list[dict[str, Any]]:
    """The content parts of a user's block."""
    match block:
        case Text():
            return [{"type": "text", "text": block.text}]
        case Image():
            return [_image(block)]
        case Document():
            return _document(block)
        case Audio():
            sound = {"data": block.data, "format": block.format}
            return [{"type": "input_audio", "input_audio": sound}]
        case Refusal():
            return [{"type": "text", "text": block.text}]
    return []


def _image(image: Image) -> dict[str, Any]:
    if image.file_id:
        raise _refused(image.at, "this model takes images inline or by URL only")
    url = data_url(image.media_type, image.data) if image.data else image.url
    held = {"url": url}
    if image.detail:
        held["detail"] = image.detail
    return {"type": "image_url", "image_url": held}


def _document(document: Document) -> list[dict[str, Any]]:
    text = _text_of(document)
    if text is not None:
        return [{"type": "text", "text": text}]
    if document.blocks:
        heads = [head for head in (document.name, document.context) if head]
        parts = [{"type": "text", "text": "\n".join(heads)}] if heads else []
        return parts + [part for block in document.blocks for part in _parts(block)]
    if document.file_id:
        return [{"type": "file", "file": {"file_id": document.file_id}}]
    if document.url:
        raise _refused(document.at, "this model takes files inline only, as base64")
    media_type = document.media_type or "application/pdf"
    name = document.name or f"document.{media_type.rpartition('/')[2]}"
    held = {"filename": name, "file_data": data_url(media_type, document.data)}
    context = [{"type": "text", "text": document.context}] if document.context else []
    return [*context, {"type": "file", "file": held}]


def _refused(at: str, why: str) -> Problem:
    return invalid_value(at, why, issue=why)


def _assistant(
    turn: Turn, target: TargetModel, tools: ChatTools, dropped: list[str]
) -> list[Message]:
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    details: list[Any] = []
    calls: list[dict[str, Any]] = []
    left: list[str] = []
    signature: msgspec.Raw | None = None
    for block in turn.blocks:
        if isinstance(block, ToolCall):
            calls.append(tools.call(block))
            if signature is not None:
                calls[-1]["extra_content"], signature = signature, None
            continue
        match block:
            case Text():
                texts.append(block.text)
            case Refusal():
                refusals.append(block.text)
            case Thinking() if (unpacked := _call_signature(block.signature, target)) is not None:
                signature, behind = unpacked
                if behind and calls:
                    calls[-1]["extra_content"], signature = signature, None
            case Thinking() if block.signature is not None and block.signature.data:
                found = _details(block.text, block.signature, target)
                details += found
                if not found:
                    left.append("thinking of another model")
            case Thinking() if wants_thinking(target.family):
                thoughts.append(block.text)
            case Thinking():
                left.append("thinking: the model does not want it back")
            case _:
                left.append(f"{type(block).__name__} in a turn of the assistant")
    dropped += [note for note in dict.fromkeys(left) if note not in dropped]
    message: Message = {"role": "assistant"}
    if refusals and not is_openai(target.family):
        texts += refusals
        refusals = []
    if texts:
        message["content"] = "".join(texts)
    elif calls or refusals:
        message["content"] = None
    else:
        return []
    if refusals:
        message["refusal"] = "".join(refusals)
    if thoughts or (calls and not details and wants_thinking(target.family)):
        # Even if empty: a call without the member is refused.
        message["reasoning_content"] = "".join(thoughts)
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    return [message]


def _call_signature(
    signature: Signature | None, target: TargetModel
) -> tuple[msgspec.Raw, bool] | None:
    """The call signature that a thinking block carries, if it is this model's."""
    if signature is None or not readable(signature, "openai", target.origin):
        return None
    return unpack_call_signature(signature.data)


def _details(text: str, signature: Signature, target: TargetModel) -> list[dict[str, Any]]:
    """The detail as its server wrote it (`read_answer` keeps all but the text); [] of others."""
    if not readable(signature, "openai", target.origin):
        return []
    try:
        detail = decode_object(signature.data)
    except msgspec.DecodeError:  # the caller changed it
        return []
    member = "summary" if detail.get("type") == "reasoning.summary" else "text"
    return [{**detail, member: text}] if text else [detail]
