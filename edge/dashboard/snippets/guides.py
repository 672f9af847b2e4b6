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


def guides_of(setup: Setup) -> list[Guide]:
    """The guides of the clients that can be used with this gateway."""
    chat = (vendor_sdks.openai, opencode.guide, openclaw.guide)
    usable: dict[Callable[[Setup], Guide], bool] = {
        curl.guide: not setup.paths.keys().isdisjoint(curl.DIALECTS),
        **dict.fromkeys(chat, bool(setup.openai_url)),
        vendor_sdks.anthropic: bool(setup.anthropic_url),
        claude_code.guide: bool(setup.anthropic_url),
        claude_code.status_line: setup.anthropic_url == setup.url and _has_limits(setup),
        codex.guide: bool(setup.responses_url),
    }
    return [guide(setup) for guide in GUIDES if usable[guide]]


def _has_limits(setup: Setup) -> bool:
    return setup.needs_key and setup.paths.get("limits") == "/v1/limits"


def key_block(setup: Setup) -> Block:
    """The line that the lines for a shell and the SDKs need."""
    return Block("Your key", "sh", f"{setup.export}\n")
