"""Own limits of a key or a team, as text."""

from collections.abc import Mapping
from typing import Any


def limits_text(limits: Mapping[str, Any] | None) -> list[str]:
    """One phrase for each limit, as it is stored; none where the plan's hold."""
    if not limits:
        return []
    texts = []
    for name, value in limits.items():
        match name:
            case "windows":
                texts += [f"{each['credits']} credits per {each['length']}" for each in value]
                if not value:
                    texts.append("no spend cap")
            case "requests" | "tokens":
                texts.append(f"{value} {name}" if "/" in str(value) else f"{name} {value}")
            case "concurrency":
                texts.append(f"{value} at the same time")
            case "overflow":
                texts.append("credits pay" if value == "credits" else "credits do not pay")
            case _:
                texts.append(f"{name.replace('_', ' ')} {value}")
    return texts
