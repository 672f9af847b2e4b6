"""Run the probes of a configuration, and put their findings in order."""

import logging

import msgspec

from .finding import Finding
from .groups import GROUPS, probes_of
from .mask import Mask
from .probe import run
from .subject import Subject
from .system_errors import plain


def findings_of(subject: Subject, *, only: str = "", offline: bool = False) -> list[Finding]:
    """The findings of all groups or of one, by group, with every secret masked.

    offline: use no network.
    """
    logging.disable(logging.CRITICAL)  # what parts of the gateway log is a finding here
    try:
        given = [one for one in probes_of(subject) if not only or only in one.groups]
        here = [one for one in given if not (offline and one.probe.outward)]
        found = run(here)
    finally:
        logging.disable(logging.NOTSET)
    skipped = list(dict.fromkeys(one.probe.what for one in given if one not in here))
    if skipped:
        said = f"not checked, since it needs the network: {', '.join(skipped)}"
        found.append(Finding("note", "--offline", said, group="config"))
    mask = Mask(subject.settings)
    order = {group: n for n, group in enumerate(GROUPS)}
    return [
        msgspec.structs.replace(one, detail=mask(plain(one.detail)), hint=mask(one.hint))
        for one in sorted(found, key=lambda one: order[one.group or "config"])
        if only in ("", one.group) or one.what == "--offline"
    ]
