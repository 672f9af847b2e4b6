"""Read the input items of a Responses request as messages, with OpenAI's checks."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Any

from .prompt import PromptRejected
from .turns import Message

_VERSION = b"sim\x02"
_DIGEST = 32
_PARTS = {
    "user": ("input_text", "input_image", "input_file"),
    "assistant": ("output_text", "refusal"),
}
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_RESULTS = {
    "function_call_output": ("function_call", "function call output"),
    "custom_tool_call_output": ("custom_tool_call", "custom tool call output"),
}
_ENCRYPTED = {"reasoning", "compaction", "compaction_summary"}
_KNOWN = {"message", "additional_tools", "item_reference", *_CALLS, *_RESULTS, *_ENCRYPTED}
_HOSTED = ("_call", "_call_output", "_output", "mcp_list_tools", "mcp_approval_request")
"""Suffixes of item types of hosted tools, which are ignored."""


def encrypt_content(text: str) -> str:
    """`text` as `encrypted_content`, which only this simulator accepts."""
    data = text.encode()
    digest = blake2b(_VERSION + data, digest_size=_DIGEST).digest()
    return urlsafe_b64encode(_VERSION + digest + data).decode()


def decrypt_content(sealed: str) -> str:
    """The text in a result of `encrypt_content`. Raises ValueError for anything else."""
    data = urlsafe_b64decode(sealed.encode())
    text = data[len(_VERSION) + _DIGEST :].decode()
    if encrypt_content(text) != sealed:
        raise ValueError("encrypted_content is not from this simulator")
    return text


def read_items(given: str | list[Any]) -> list[Message]:
    """The input as messages. Raises PromptRejected."""
    if isinstance(given, str):
        return [Message("user", given)]
    messages: list[Message] = []
    called: dict[str, set[str]] = {kind: set() for kind in _CALLS}
    answered: set[str] = set()
    for at, item in enumerate(given):
        where = f"input[{at}]"
        if not isinstance(item, dict):
            raise PromptRejected(400, f"Invalid type for '{where}': expected an object.", where)
        kind = str(item.get("type") or ("message" if "role" in item else None))
        if kind == "message":
            messages.append(_message(item, where))
        elif kind in _CALLS:
            call_id = _text(item, "call_id", where)
            called[kind].add(call_id)
            _text(item, "name", where)
            _text(item, _CALLS[kind], where)
            messages.append(Message("assistant", None, [item]))
        elif kind in _RESULTS:
            call_id = _text(item, "call_id", where)
            call, words = _RESULTS[kind]
            if call_id not in called[call]:
                raise PromptRejected(
                    400, f"No tool call found for {words} with call_id {call_id}.", "input"
                )
            answered.add(call_id)
            output = item.get("output")
            messages.append(Message("tool", output if isinstance(output, str) else _dicts(output)))
        elif kind in _ENCRYPTED:
            messages.append(_encrypted_message(item, where))
        elif kind == "item_reference":
            raise PromptRejected(404, f"Item with id '{item.get('id')}' not found.", "input")
        elif kind != "additional_tools" and not kind.endswith(_HOSTED):
            values = ", ".join(f"'{name}'" for name in sorted(_KNOWN))
            raise PromptRejected(
                400,
                f"Invalid value: '{kind}'. Supported values are: {values}.",
                f"{where}.type",
                "invalid_value",
            )
    for kind in _CALLS:
        for call_id in sorted(called[kind] - answered):
            words = kind.replace("_", " ")
            raise PromptRejected(400, f"No tool output found for {words} {call_id}.", "input")
    return messages


def _message(item: dict[str, Any], where: str) -> Message:
    role = item.get("role")
    if role not in ("user", "system", "developer", "assistant"):
        raise PromptRejected(
            400,
            f"Invalid value: '{role}'. Supported values are: "
            "'assistant', 'system', 'developer', and 'user'.",
            f"{where}.role",
            "invalid_value",
        )
    content = item.get("content")
    if isinstance(content, str):
        return Message(role, content)
    if not isinstance(content, list):
        raise _missing(f"{where}.content")
    allowed = _PARTS["assistant" if role == "assistant" else "user"]
    for n, part in enumerate(content):
        path = f"{where}.content[{n}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in allowed:
            values = " and ".join(f"'{name}'" for name in allowed)
            raise PromptRejected(
                400,
                f"Invalid value: '{kind}'. Supported values are: {values}.",
                path,
                "invalid_value",
            )
        if kind.endswith("_text"):
            _text(part, "text", path)
    return Message(role, content)


def _encrypted_message(item: dict[str, Any], where: str) -> Message:
    """The item as the model reads it: its encrypted content, not its visible text."""
    sealed = item.get("encrypted_content")
    if sealed is None and item["type"] == "reasoning":
        return Message("assistant", _dicts(item.get("summary")))
    if sealed is None:
        raise _missing(f"{where}.encrypted_content")
    try:
        return Message("assistant", [{"type": "thinking", "thinking": decrypt_content(sealed)}])
    except (ValueError, AttributeError):
        raise PromptRejected(
            400,
            f"The encrypted content for item {item.get('id')} could not be verified. "
            "Reason: Encrypted content could not be decrypted or parsed.",
            None,
            "invalid_encrypted_content",
        ) from None


def _dicts(parts: Any) -> list[dict[str, Any]]:
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _text(item: dict[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if value is None:
        raise _missing(f"{where}.{key}")
    if not isinstance(value, str):
        raise PromptRejected(
            400,
            f"Invalid type for '{where}.{key}': expected a string.",
            f"{where}.{key}",
            "invalid_type",
        )
    return value


def _missing(path: str) -> PromptRejected:
    return PromptRejected(
        400, f"Missing required parameter: '{path}'.", path, "missing_required_parameter"
    )
