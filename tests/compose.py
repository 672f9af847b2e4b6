"""Reads compose.yaml as Docker Compose does: merged, and with variables replaced."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from .pages import page


class MissingVariable(Exception):
    """A variable that the file requires has no value."""


def _replaced(text: str, variables: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name, required = found[1], found[2]
        if not variables.get(name) and required is not None:
            raise MissingVariable(name)
        return variables.get(name, "")

    return re.sub(r"\$\$|\$\{(\w+)(?::\?([^}]*))?\}", value, text)


def services(variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml. Raises MissingVariable."""

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return _replaced(value, variables)
        if isinstance(value, list):
            return [filled(one) for one in value]
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        return value

    found: dict[str, dict[str, Any]] = filled(whole()["services"])
    return found


def whole() -> dict[str, Any]:
    """The file as it is written."""
    document: dict[str, Any] = yaml.safe_load(page("compose.yaml"))
    return document


def environment(service: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a service; a name without a value is passed on where there is one."""
    wanted = service.get("environment", {})
    values = {
        name: variables.get(name) if value is None else value for name, value in wanted.items()
    }
    return {name: value for name, value in values.items() if value is not None}
