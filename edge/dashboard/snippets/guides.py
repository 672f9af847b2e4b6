"""All guides, in the order in which pages show them."""

from collections.abc import Callable
from typing import Final

from . import claude_code, codex, curl, openclaw, opencode, vendor_sdks
from .setup import Block, Guide, Setup

GUIDES: Final[tuple[Callable[[Setup], Guide], ...]] = (
    curl.guide,
    vendor_sdks.openai,
    vendor_sdks.anthropic,
    claude_code.guide,
    claude_code.status_line,
    codex.guide,
    opencode.guide,
    openclaw.guide,
)


def key_block(setup: Setup) -> Block:
    """The line that the lines for a shell and the SDKs need."""
    return Block("Your key", "sh", f"{setup.export}\n")
