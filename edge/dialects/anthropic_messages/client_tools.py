"""Anthropic's client tools as functions for other models.

Their definitions are built into the vendor's models. A client that names one expects calls with its
published input, so for every other model it becomes a function with that input. Source: the
vendor's reference of client tools.
"""

from typing import Any

from edge.dialects.conversation import Tool

_STRING = {"type": "string"}
_WHOLE = {"type": "integer"}
_POINT = {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2}


def _schema(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _choice(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


_BASH = _schema(
    {
        "command": {**_STRING, "description": "The command to run, unless it is a restart."},
        "restart": {"type": "boolean", "description": "Whether to restart the shell."},
    }
)
_VIEW = {**_POINT, "description": "First and last line to show, from 1; -1 for the end."}
_EDIT = {
    "path": {**_STRING, "description": "Absolute path of a file or directory."},
    "file_text": {**_STRING, "description": "For create: the file's content."},
    "old_str": {**_STRING, "description": "For str_replace: the text to replace."},
    "new_str": {**_STRING, "description": "For str_replace: the text in its place."},
    "insert_line": {**_WHOLE, "description": "For insert: the line after which, 0 for the start."},
    "insert_text": {**_STRING, "description": "For insert: the text."},
    "view_range": _VIEW,
}
_EDITOR = _schema(
    {"command": _choice("view", "create", "str_replace", "insert"), **_EDIT}, "command", "path"
)
_MEMORY = _schema(
    {
        "command": _choice("view", "create", "str_replace", "insert", "delete", "rename"),
        **_EDIT,
        "old_path": {**_STRING, "description": "For rename."},
        "new_path": {**_STRING, "description": "For rename."},
    },
    "command",
)
_COMPUTER = _schema(
    {
        "action": _choice(
            "screenshot",
            "left_click",
            "right_click",
            "middle_click",
            "double_click",
            "triple_click",
            "left_click_drag",
            "left_mouse_down",
            "left_mouse_up",
            "mouse_move",
            "cursor_position",
            "type",
            "key",
            "hold_key",
            "scroll",
            "wait",
            "zoom",
        ),
        "coordinate": {**_POINT, "description": "x and y in pixels."},
        "start_coordinate": {**_POINT, "description": "Where a drag begins."},
        "text": {**_STRING, "description": "Text to type, or keys to press."},
        "scroll_direction": _choice("up", "down", "left", "right"),
        "scroll_amount": _WHOLE,
        "duration": {"type": "number", "description": "Seconds."},
        "region": {"type": "array", "items": _WHOLE, "minItems": 4, "maxItems": 4},
    },
    "action",
)
_KNOWN = (
    ("bash_", "bash", "Run a command in a persistent shell.", _BASH),
    ("text_editor_", "str_replace_based_edit_tool", "View, create and edit files.", _EDITOR),
    ("memory_", "memory", "Keep files that last beyond this conversation.", _MEMORY),
    ("computer_", "computer", "See and use a desktop by mouse, keyboard and pictures.", _COMPUTER),
)


def expanded(definition: dict[str, Any]) -> Tool | None:
    """The function for a client tool; None for a definition of any other type."""
    type_ = str(definition.get("type"))
    for prefix, name, description, schema in _KNOWN:
        if type_.startswith(prefix) and not type_.startswith("computer_toolset"):
            wide, high = definition.get("display_width_px"), definition.get("display_height_px")
            if isinstance(wide, int) and isinstance(high, int):
                description = f"{description} The display has {wide} x {high} pixels."
            own = definition.get("name")
            named = own if isinstance(own, str) and own else name
            return Tool(name=named, description=description, schema=schema)
    return None
