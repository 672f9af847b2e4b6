"""The part of docs/clients.md that `edge/dashboard/snippets` makes: `python -m tests.setup_text`
writes it."""

import re

from edge.dashboard.snippets.guides import GUIDES, key_block
from edge.dashboard.snippets.setup import Block, Guide, Offered, Setup, key_variable

from .pages import ROOT, page

NAME = "docs/clients.md"
_MADE = re.compile(r"(?<=<!-- made by tests/setup_text.py -->\n).*(?=<!-- end -->)", re.DOTALL)
_SIMULATOR = Offered("sim-1", "Simulator", context=200_000, max_output=32_000)
DEMO = Setup(
    brand="Penstock",
    slug="penstock",
    url="http://127.0.0.1:8080",
    key="sk-penstock-live-...",
    variable=key_variable("penstock"),
    large=_SIMULATOR,
    model=_SIMULATOR,
    small=_SIMULATOR,
    models=(_SIMULATOR,),
)
"""As `make demo` has it."""


def made() -> str:
    """The part, with the demo's values."""
    return "\n".join([_block(key_block(DEMO)), *(_section(guide(DEMO)) for guide in GUIDES)])


def written() -> str:
    """The part, as the page has it."""
    found = _MADE.search(page(NAME))
    assert found, f"{NAME} has no part for it"
    return found[0]


def _section(guide: Guide) -> str:
    notes = "".join(f"* {note}\n" for note in guide.notes)
    parts = [f"## {guide.title}\n", *map(_block, guide.blocks), *([notes] if notes else [])]
    return "\n".join(parts)


def _block(block: Block) -> str:
    where = f"{block.title}, `{block.path}`" if block.path else block.title
    return f"{where}:\n\n```{block.language}\n{block.text}```\n"


if __name__ == "__main__":
    text = page(NAME)
    (ROOT / NAME).write_text(_MADE.sub(lambda _: made(), text), "utf-8")
