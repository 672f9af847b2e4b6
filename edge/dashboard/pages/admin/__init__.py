"""Pages of administrators: what runs, keys, teams, money, requests and configuration.

Changes are made by the functions of `edge.management`, with the visitor as the actor of the audit.
"""

from collections.abc import Mapping
from types import ModuleType

from edge.dashboard.page import Page

from . import audit, catalog, configuration, keys, overview, teams, traffic, upstreams

_MODULES: tuple[ModuleType, ...] = (
    overview,
    keys,
    teams,
    catalog,
    upstreams,
    traffic,
    audit,
    configuration,
)

PAGES: tuple[Page, ...] = tuple(page for module in _MODULES for page in module.PAGES)
NOTES: Mapping[str, str] = {
    code: text for module in _MODULES for code, text in getattr(module, "NOTES", {}).items()
}
