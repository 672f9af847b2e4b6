"""One result of `penstock check`: a row of its table, and the kinds of rows."""

from typing import Literal

import msgspec

State = Literal["ok", "note", "warning", "error"]
Group = Literal[
    "config",
    "media",
    "stores",
    "upstreams",
    "prices",
    "clock",
    "limits",
    "oidc",
    "otlp",
    "alerts",
]


class Finding(msgspec.Struct, frozen=True, omit_defaults=False):
    """One row.

    state: "note" and "warning" need no action now; "error" means that requests would fail.
    what: the path of the setting that it is about, or the name of what was checked.
    hint: what to do, "" where nothing is to be done or `detail` says it.
    group: "" stands for the group of the check that found it.
    """

    state: State
    what: str
    detail: str
    hint: str = ""
    group: Group | Literal[""] = ""


def of_sentence(state: State, sentence: str, group: Group | Literal[""] = "") -> Finding:
    """A finding of a sentence that begins with the path of a setting: "store.sql: is missing"."""
    what, found, detail = sentence.partition(": ")
    return Finding(state, what, detail, group=group) if found else Finding(state, "", sentence)
