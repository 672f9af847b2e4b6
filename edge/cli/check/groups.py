"""The table of checks: one row for each group of `penstock check`.

To add a check, write a module with a function `probes`, and add its row.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from . import (
    billable,
    collector,
    configuration,
    extras,
    folders,
    limits,
    prices,
    redis_store,
    sign_in,
    sql_store,
    upstreams,
    webhook,
)
from .finding import Group
from .probe import Given, Probe
from .subject import Subject


class Check(NamedTuple):
    """One row.

    probes: those for a configuration. also: other groups that their findings are of.
    """

    group: Group
    probes: Callable[[Subject], Iterable[Probe]]
    also: tuple[Group, ...] = ()


CHECKS: tuple[Check, ...] = (
    Check("config", configuration.probes),
    Check("media", extras.probes),
    Check("stores", sql_store.probes, also=("clock",)),
    Check("stores", redis_store.probes, also=("clock",)),
    Check("stores", folders.probes),
    Check("upstreams", upstreams.probes, also=("clock",)),
    Check("upstreams", billable.probes),
    Check("prices", prices.probes),
    Check("limits", limits.probes),
    Check("oidc", sign_in.probes),
    Check("otlp", collector.probes),
    Check("alerts", webhook.probes),
)
GROUPS: tuple[Group, ...] = tuple(
    dict.fromkeys(group for check in CHECKS for group in (check.group, *check.also))
)


def probes_of(subject: Subject) -> list[Given]:
    """The probes of all groups."""
    return [
        Given((check.group, *check.also), probe)
        for check in CHECKS
        for probe in check.probes(subject)
    ]
