"""The pages. Each module has its rows in `PAGES`, and may have messages by code in `NOTES`.

A page family is added by its module here; the order is that of the navigation.
"""

from collections.abc import Mapping
from types import ModuleType

from edge.dashboard.page import Page

from . import (
    account,
    admin,
    api_keys,
    files,
    jobs,
    landing,
    overview,
    playground,
    requests,
    setup,
    sign_in,
    single_sign_on,
    usage_charts,
)

_MODULES: tuple[ModuleType, ...] = (
    landing,
    sign_in,
    admin,
    single_sign_on,
    overview,
    usage_charts,
    requests,
    api_keys,
    files,
    jobs,
    playground,
    setup,
    account,
)

PAGES: tuple[Page, ...] = tuple(page for module in _MODULES for page in module.PAGES)
NOTES: Mapping[str, str] = {
    code: text for module in _MODULES for code, text in getattr(module, "NOTES", {}).items()
}
"""Messages that a page shows after something was done, by the code in its URL (`note`)."""
