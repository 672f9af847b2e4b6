"""The Claude command-line client, the model that it asks for, and the schema of a tool."""

from .programs import PACKAGES

CLIENT = PACKAGES / ".bin" / "claude"
MODEL = "claude-sonnet-5-5"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
