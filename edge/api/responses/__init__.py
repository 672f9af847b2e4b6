"""The state of the Responses API: stored answers, and requests that refer to them."""

from .app import ResponsesApp
from .expand import Expanded, expand

__all__ = ["Expanded", "ResponsesApp", "expand"]
