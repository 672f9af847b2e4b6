"""How one attempt gets from the caller's dialect to the upstream's, and its answer back."""

from .anthropic_messages import passthrough as anthropic_messages
from .openai_chat import passthrough as openai_chat
from .passthrough import Dialect

PASSTHROUGH: dict[str, Dialect] = {
    "openai": openai_chat.DIALECT,
    "anthropic": anthropic_messages.DIALECT,
}
"""By dialect: how bytes pass where caller and upstream speak the same."""
