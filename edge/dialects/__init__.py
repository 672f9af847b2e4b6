"""Wire dialects: one module each, no I/O.

Where caller and upstream speak the same dialect the bytes pass through: a dialect then only says
what to ask for (`prepare`), which event carries content, usage or an error (`Relay`), and how an
unstreamed answer names its model and usage (`finish_plain`). `passthrough.py` holds what both
share.
"""

from . import anthropic, openai
from .passthrough import Dialect

DIALECTS: dict[str, Dialect] = {"openai": openai.DIALECT, "anthropic": anthropic.DIALECT}
"""Dialects by name."""
