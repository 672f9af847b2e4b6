"""Encode a request of the Messages API as input lines for the client. No I/O.

The client treats nothing of a request as an instruction to itself: texts are marked as composed by
a program, so it looks for no commands and file names in them, and the settings of the model are
rebuilt from typed values.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal
from uuid import uuid4

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from edge import untyped_json

from .program import SERVER

_PROTOCOL = "2025-11-25"  # MCP version of this client; another one costs two round trips
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,199}")
_TOOL = re.compile(r"[A-Za-z0-9_-]{1,128}")
_OWN_TOOLS = {"ToolSearch": "ToolSearch_of_caller"}
"""Tool names that the client reserves, and the names that its model sees instead."""
_LISTED = {"Agent": "Task"}
"""Tool names that the client lists by a legacy name. Its model sees the current one."""
_ALIAS = {alias: name for name, alias in _OWN_TOOLS.items()}
_MAX_TURNS = 20_000
"""Turns of a conversation; the client needs 2 to 3 ms for each."""
_SUPPORTED = "is not supported by this model's client"

Block = dict[str, Any]


class UnsupportedRequest(Exception):
    """A request that this client cannot answer; the message begins with the path at fault."""


class _Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class _Text(Struct):
    text: str
    type: Literal["text"] = "text"


class _Tool(Struct):
    name: str
    input_schema: dict[str, Any] = {}
    description: str = ""
    type: str | None = None


class _Choice(Struct, omit_defaults=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | UnsetType = UNSET
    disable_parallel_tool_use: bool | UnsetType = UNSET


class _Thinking(Struct):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Annotated[int, Meta(ge=0, le=10**9)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class _Format(Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _Output(Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class _Request(Struct):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1, le=10**9)]
    system: str | list[_Text] | None = None
    stream: bool = False
    tools: list[_Tool] = []
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] = []


_decode = msgspec.json.Decoder(_Request, float_hook=untyped_json.number).decode
_encode = msgspec.json.encode


class InputLine(Struct):
    """One turn of the history; the next is sent when the client has acknowledged it.

    uuid: of an assistant turn, which the client repeats to acknowledge it; "" for the user.
    """

    data: bytes
    uuid: str


class ClientRequest(Struct):
    """The input of one request: `controls`, then `history` line by line, then `question`.

    controls: lines by the id that the client repeats in its response. tools: names that the client
    must list before it calls the model.
    """

    stream: bool
    controls: dict[str, bytes]
    history: list[InputLine]
    question: bytes
    tools: frozenset[str]


def read_request(body: bytes) -> ClientRequest:
    """Read the body of a Messages request. Raises UnsupportedRequest."""
    try:
        return _read(_decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnsupportedRequest(_decode_message(error)) from None


def _read(request: _Request) -> ClientRequest:
    if not _MODEL.fullmatch(request.model):
        raise UnsupportedRequest("model: not a valid model name")
    turns = _merged_turns(_validated(request.messages))
    if len(turns) > _MAX_TURNS:
        raise UnsupportedRequest(
            f"messages: more than {_MAX_TURNS} turns; summarise the oldest ones"
        )
    if turns[-1].role != "user":
        raise UnsupportedRequest(f"messages: prefilling the assistant's message {_SUPPORTED}")
    if not any(map(_has_content, _blocks(turns[-1]))):
        raise UnsupportedRequest(
            "messages: the last one is empty; expected text or another content block"
        )
    history = [_history_line(turn) for turn in turns[:-1]]
    return ClientRequest(
        stream=request.stream,
        controls=_controls(request),
        history=history,
        question=_user_line(turns[-1].content, query=True),
        tools=frozenset(_listed(tool.name) for tool in request.tools),
    )


def callers_tool_name(tool: str) -> str:
    """The caller's name for what the client calls `tool`."""
    return _ALIAS.get(tool, tool)


def _decode_message(error: Exception) -> str:
    # msgspec: "Expected `int`, got `str` - at `$.messages[0].role`"; Anthropic: "messages.0.role"
    what, _, where = str(error).partition(" - at `$")
    path = where.strip("`").replace("[", ".").replace("]", "").lstrip(".")
    return f"{path}: {what}" if path else f"the body could not be read: {what}"


# History


def _merged_turns(messages: list[_Message]) -> list[_Message]:
    """Alternating turns of user and assistant; the client would join equal roles with a newline."""
    turns: list[_Message] = []
    joined: list[Block] | None = None
    """Blocks of the last turn if it merges several messages."""
    for message in messages:
        if message.role == "system":  # older models lack this role; the client converts it likewise
            text = "\n".join(str(block.get("text", "")) for block in _blocks(message))
            if not text.strip():
                continue
            reminder = f"<system-reminder>\n{text}\n</system-reminder>"
            message = _Message("user", [{"type": "text", "text": reminder}])
        if turns and turns[-1].role == message.role:
            if joined is None:
                joined = [*_blocks(turns[-1])]
                turns[-1] = _Message(message.role, joined)
            joined += _blocks(message)
        else:
            turns.append(message)
            joined = None
    if not turns:
        raise UnsupportedRequest("messages: expected at least one message with content")
    return turns


def _blocks(message: _Message) -> list[Block]:
    content = message.content
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _validated(messages: list[_Message]) -> list[_Message]:
    """`messages`, if each text is a string: otherwise the client would hang."""
    for number, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        for path, block in _nested_blocks(message.content, f"messages.{number}.content"):
            if block.get("type") == "text" and not isinstance(block.get("text"), str):
                raise UnsupportedRequest(f"{path}.text: expected a string")
    return messages


def _nested_blocks(blocks: Iterable[Any], path: str) -> Iterator[tuple[str, Block]]:
    for number, block in enumerate(blocks):
        if isinstance(block, dict):
            yield f"{path}.{number}", block
            if isinstance(block.get("content"), list):
                yield from _nested_blocks(block["content"], f"{path}.{number}.content")


def _has_content(block: Block) -> bool:
    text = block.get("text")
    return block.get("type") != "text" or not isinstance(text, str) or bool(text.strip())


def _content(content: str | list[Block]) -> str | list[Block]:
    """`content` without `cache_control`, because the client sets its own cache marks."""
    if isinstance(content, str):
        return content
    blocks = []
    for block in content:
        kept = {key: value for key, value in block.items() if key != "cache_control"}
        name = kept.get("name")
        if kept.get("type") == "tool_use" and isinstance(name, str):
            kept["name"] = _OWN_TOOLS.get(name, name)
        inner = kept.get("content")
        if isinstance(inner, list) and all(isinstance(one, dict) for one in inner):
            kept["content"] = _content(inner)
        blocks.append(kept)
    return blocks


def _user_line(content: str | list[Block], *, query: bool) -> bytes:
    message = {
        "type": "user",
        "message": {"role": "user", "content": _content(content)},
        "parent_tool_use_id": None,
        "session_id": "",
        "client_composed": True,
    }
    return _line(message if query else {**message, "shouldQuery": False})


def _history_line(turn: _Message) -> InputLine:
    if turn.role == "user":
        return InputLine(_user_line(turn.content, query=False), "")
    uuid = str(uuid4())
    message = {
        "id": f"msg_{uuid}",
        "type": "message",
        "role": "assistant",
        "model": "",
        "content": _content(_blocks(turn)),
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    line = {
        "type": "assistant",
        "message": message,
        "parent_tool_use_id": None,
        "session_id": "",
        "uuid": uuid,
    }
    return InputLine(_line(line), uuid)


# Settings


def _controls(request: _Request) -> dict[str, bytes]:
    made = [_initialize(request), _settings(request)]
    thinking = request.thinking
    if thinking is not None and thinking.type != "disabled":
        made.append(
            {
                "subtype": "set_max_thinking_tokens",
                "max_thinking_tokens": thinking.budget_tokens,
                "thinking_display": thinking.display or "summarized",
            }
        )
    lines = {}
    for number, control in enumerate(made):
        id_ = f"control-{number}"
        lines[id_] = _line({"type": "control_request", "request_id": id_, "request": control})
    return lines


def _initialize(request: _Request) -> dict[str, Any]:
    system = request.system or []
    texts = [system] if isinstance(system, str) else [block.text for block in system]
    control: dict[str, Any] = {"subtype": "initialize", "systemPrompt": texts}
    if request.tools:
        control["sdkMcpServers"] = [SERVER]
        control["sdkMcpServerManifests"] = {
            SERVER: {
                "initializeResult": {
                    "protocolVersion": _PROTOCOL,
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": SERVER, "version": "1"},
                },
                "toolsListResult": {"tools": _tools(request.tools)},
            }
        }
    return control


def _listed(tool: str) -> str:
    return _LISTED.get(tool) or _OWN_TOOLS.get(tool, tool)


def _tools(tools: list[_Tool]) -> list[dict[str, Any]]:
    listed = []
    names = set()
    for number, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            raise UnsupportedRequest(
                f"tools.{number}.type: a tool run by the model's vendor {_SUPPORTED}"
            )
        if not _TOOL.fullmatch(tool.name):
            raise UnsupportedRequest(f"tools.{number}.name: expected 1 to 128 of A-Z a-z 0-9 _ -")
        schema = {"type": "object", **tool.input_schema}
        if schema["type"] != "object":
            raise UnsupportedRequest(f"tools.{number}.input_schema.type: expected `object`")
        name = _OWN_TOOLS.get(tool.name, tool.name)
        if name in names:  # the client would drop one of the two
            raise UnsupportedRequest(f"tools.{number}.name: another tool has this name")
        names.add(name)
        listed.append({"name": name, "description": tool.description, "inputSchema": schema})
    return listed


def _settings(request: _Request) -> dict[str, Any]:
    env = {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(request.max_tokens)}
    if request.thinking is None or request.thinking.type == "disabled":
        env["CLAUDE_CODE_DISABLE_THINKING"] = "1"
    output = request.output_config or _Output()
    if output.effort is not None:
        env["CLAUDE_CODE_EFFORT_LEVEL"] = output.effort
    if members := _members(request, output.format):
        env["CLAUDE_CODE_EXTRA_BODY"] = _encode(members).decode()
    return {"subtype": "apply_flag_settings", "settings": {"model": request.model, "env": env}}


def _members(request: _Request, format_: _Format | None) -> dict[str, Any]:
    """Body members without a client setting; the client adds them to its request unchanged."""
    members: dict[str, Any] = {
        name: value
        for name in ("temperature", "top_p", "top_k")
        if (value := getattr(request, name)) is not None
    }
    if request.stop_sequences:
        members["stop_sequences"] = request.stop_sequences
    choice = request.tool_choice
    if choice is not None and request.tools:
        if choice.name is not UNSET:
            choice = msgspec.structs.replace(choice, name=_OWN_TOOLS.get(choice.name, choice.name))
        members["tool_choice"] = choice
    if format_ is not None:
        members["output_config"] = {"format": format_}
    return members


def _line(message: dict[str, Any]) -> bytes:
    return _encode(message) + b"\n"


# No server can listen on port 0.
_UNREACHABLE = {"env": {"ANTHROPIC_BASE_URL": "https://127.0.0.1:0"}}
STOP_REQUESTS = _line(
    {
        "type": "control_request",
        "request_id": "no-more",
        "request": {"subtype": "apply_flag_settings", "settings": _UNREACHABLE},
    }
)
"""Sent when the answer has begun, so that the client sends no further request.

After an answer that is empty or cut off by `max_tokens` the client would continue on its own, at a
cost that appears nowhere.
"""
