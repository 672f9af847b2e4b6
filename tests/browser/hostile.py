"""A gateway in which every name that a page can show is an attempt to run or to fetch something,
or as long as it may be, without a space."""

import sqlite3
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from secrets import token_bytes
from typing import Any

from middlewares.stores.ledger.base import AttemptRecord, Entry

from .populated import Populated, document

CORPUS = (
    "<script>pwned()</script>",
    "<img src=x onerror=pwned()>",
    '"><svg onload=pwned()>',
    '\'><iframe srcdoc="<script>parent.pwned()</script>">',
    "<p hx-get=/app/sign-out hx-trigger=load>",
    '<p hx-get="/pwned" hx-trigger="load">',
    "<div hx-on:load=pwned() hx-on::load=pwned()>",
    '<a href="javascript:pwned()">x</a>',
    "</title><script>pwned()</script>",
    '</script><script>pwned()</script><script type="application/json">',
    "<!--<script>",
    "{{ pwned() }}{% for x in pwned() %}",
    "${pwned()}`;pwned()//",
    '" autofocus onfocus=pwned() x="',
    "' onmouseover='pwned()' x='",
    "<base href=//pwned.example/>",
    "<link rel=stylesheet href=//pwned.example/x.css>",
    '<meta http-equiv=refresh content="0;url=/pwned">',
    "<form action=/pwned><button autofocus>x</button>",
    "&lt;script&gt;pwned()&lt;/script&gt;",
    "<details open ontoggle=pwned()>",
    "<style>@import '//pwned.example/x.css'</style>",
    "<template><img src=x onerror=pwned()></template>\\u003cscript\\u003e",
)

LONG = "W" * 200
LONG_REQUEST = "w" * 100
LONG_METADATA = {"W" * 64: "W" * 512}

INJECTED = """() => {
  const reads = ["href", "src", "action", "formaction", "srcset", "srcdoc", "content", "data"];
  const wrong = ({name, value}) => name.startsWith("on") || name.startsWith("hx-on")
    || (name.startsWith("hx-") && /pwned|sign-out/.test(value))
    || (reads.includes(name) && /pwned|javascript:/.test(value) && !value.startsWith("/app/"));
  const foreign = node => ["IFRAME", "BASE", "STYLE"].includes(node.tagName)
    || (node.tagName === "SCRIPT" && !node.src && node.type !== "application/json");
  return [...document.querySelectorAll("*")]
    .filter(node => foreign(node) || [...node.attributes].some(wrong))
    .map(node => node.outerHTML.slice(0, 200));
}"""
"""Elements that no page of ours has, and those with an attribute of the corpus."""


def hostile(folder: Path, simulator: str) -> Populated:
    """Start it. The key of the holder and all that it has used have names of the corpus."""
    plain = document(simulator)
    models = [
        *plain["models"],
        *(
            {**plain["models"][0], "id": _word(text), "display_name": text}
            for text in (*CORPUS, LONG)
        ),
    ]
    changed: dict[str, Any] = {**plain, "brand": "<script>pwned()</script>", "models": models}
    first = CORPUS[4]
    names = [first, *(text for text in CORPUS if text != first)]
    keys = {text: {"owner": text, "metadata": {"note": text}, "team": text} for text in names}
    keys[LONG] = {"owner": LONG, "metadata": LONG_METADATA, "team": LONG}
    teams: dict[str, Any] = {text: {"metadata": {"note": text}} for text in CORPUS}
    teams[LONG] = {"metadata": LONG_METADATA}
    gateway = Populated(folder, changed, keys, teams)
    gateway.keep(_rows(gateway.ids[first], *gateway.teams.values()))
    gateway.request_id = "req_hostile_0"
    for text in (*CORPUS, LONG):
        made = gateway.ask("/v1/files", data={"purpose": "user_data"}, files={"file": (text, b"x")})
        gateway.file_id = made["id"]
    gateway.session("holder")
    _browsers(gateway)
    return gateway


def _browsers(gateway: Populated) -> None:
    """Sessions like that of the holder, of browsers whose names are those of the corpus."""
    with closing(sqlite3.connect(gateway.database)) as database, database:
        names = [column[1] for column in database.execute("PRAGMA table_info(sessions)")]
        (row,) = database.execute("SELECT * FROM sessions")
        for text in (*CORPUS, LONG):
            changed = {**dict(zip(names, row, strict=True)), "agent": text}
            changed["digest"] = token_bytes(len(changed["digest"]))
            marks = ", ".join(f":{name}" for name in names)
            database.execute(f"INSERT INTO sessions VALUES ({marks})", changed)


def _word(text: str) -> str:
    """The text as the id of a model, which has no spaces, quotes and stars."""
    return text.translate({ord(" "): "/", **dict.fromkeys(map(ord, "\"\\*'"))})


def long_paths(gateway: Populated, role: str) -> list[str]:
    """Pages about what has the longest names, and lists with filters by them."""
    if role == "anyone":
        return []
    paths = [f"/app/requests/{LONG_REQUEST}", f"/app/requests?model={LONG}&tag={LONG[:64]}"]
    if role == "holder":
        return paths
    key, team = gateway.ids[LONG], gateway.teams[LONG]
    paths = [f"/app/admin{path.removeprefix('/app')}&owner={LONG}" for path in paths[1:]]
    paths += [f"/app/admin/requests/{LONG_REQUEST}", f"/app?key={key}"]
    return [
        *paths,
        *(f"/app/admin/keys/{key}{page}" for page in ("", "/edit")),
        *(f"/app/admin/teams/{team}{page}" for page in ("", "/edit")),
    ]


def _rows(account: str, *teams: str) -> list[Entry]:
    now, rows = time.time(), []
    numbers = count()
    for text in (*CORPUS, LONG):
        number = next(numbers)
        failed = AttemptRecord(text, text, 500, text, text, 5.0, text)
        rows.append(
            Entry(
                id=LONG_REQUEST if text == LONG else f"req_hostile_{number}",
                account=account,
                at=now - number,
                ended_at=now - number + 1,
                owner=text,
                key_name=text,
                plan=text,
                endpoint=text,
                model=text,
                asked=f"asked {text}",
                status=500,
                ended="failed",
                tags=text.replace(",", "")[:64],
                team=teams[number % len(teams)],
                cost=number * 10**14,
                input=number * 10**9,
                duration_ms=9.0,
                attempts=[failed, failed],
                fallback_from=text,
            )
        )
    return rows
