"""The management API, /admin/v1: keys, teams, plans, credits, usage, the ledger and the audit."""

from .app import AdminApp

__all__ = ["AdminApp"]
