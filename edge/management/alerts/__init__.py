"""Alerts to the operator about budgets, by webhook."""

from .service import Alerts

__all__ = ["Alerts"]
