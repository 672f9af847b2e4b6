"""What `penstock check` prints: the table at 80 columns, its JSON, and no secret in either."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from edge.cli.check.finding import Finding, of_sentence
from edge.cli.check.mask import LONGEST, Mask
from edge.cli.check.report import print_findings, printable, table
from edge.config.load import parse
from tests.edge.cli.commands import ROOT, Penstock

FOUND = [
    Finding("ok", "config", "penstock.toml: 2 upstreams, 1 model, 0 plans", group="config"),
    Finding(
        "warning",
        "store.counters",
        "maxmemory-policy is allkeys-lru: at 4.0 GiB it removes keys, and with them limits, "
        "reservations and what was spent",
        "set maxmemory-policy noeviction, on a Redis of its own",
        "stores",
    ),
    Finding(
        "error", "upstreams.openai", "refuses our key: answers 401", "check its key", "upstreams"
    ),
    Finding("note", "dashboard.oidc.allowed_domains", "is not given", group="config"),
]
GOLDEN = """\
state    what              detail
ok       config            penstock.toml: 2 upstreams, 1 model, 0 plans
warning  store.counters    maxmemory-policy is allkeys-lru: at 4.0 GiB it
                           removes keys, and with them limits, reservations and
                           what was spent
                           hint: set maxmemory-policy noeviction, on a Redis of
                                 its own
error    upstreams.openai  refuses our key: answers 401
                           hint: check its key
note     dashboard.oidc.allowed_domains
                           is not given

1 error, 1 warning, 1 note, 1 ok
"""


def rows_of(text: str) -> list[tuple[str, str, str, str]]:
    """State, what, detail and hint of each row of a table, whose lines are joined again."""
    head, *lines = text.partition("\n\n")[0].splitlines()
    column = head.index("detail")
    rows: list[tuple[str, str, str]] = []
    for line in lines:
        if not line.startswith(" "):
            state, what = line[:9].strip(), line[9:column].strip()
            if len(line) > column and line[column - 1] != " ":
                what, line = line[9:].strip(), ""
            rows.append((state, what, line[column:].strip()))
        else:
            state, what, detail = rows[-1]
            rows[-1] = (state, what, f"{detail} {line.strip()}".strip())
    return [
        (state, what, text.partition(" hint: ")[0], text.partition(" hint: ")[2])
        for state, what, text in rows
    ]


def joined(row: tuple[str, ...]) -> list[str]:
    """Without spaces: a path that is longer than a line is cut."""
    return [cell.replace(" ", "") for cell in row]


def test_table_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_findings(FOUND)
    printed = capsys.readouterr().out
    assert printed == GOLDEN
    assert max(map(len, printed.splitlines())) <= 80
    assert rows_of(printed) == [(one.state, one.what, one.detail, one.hint) for one in FOUND]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_table_of_long_words_stays_within_its_width(width: int) -> None:
    found = [Finding("error", "w" * 200, f"/{'x' * 300}", "h" * 200), *FOUND]
    assert max(len(line) for line in table(found, width)) <= width


def test_table_and_json_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text(
        '[[upstreams]]\nname = "gone"\ndialect = "claude-cli"\ncommand = "no-such-program"\n'
        '[[models]]\nid = "m"\ntargets = ["gone/m"]\nprice = { input = "3", output = "1" }\n'
    )
    penstock = Penstock(config, capsys)
    printed, document = penstock.on("check"), json.loads(penstock.on("check", "--json").out)
    assert printed.status == document["exit"] == 1
    shown = [
        (one["state"], one["what"], one["detail"], one["hint"]) for one in document["findings"]
    ]
    assert [joined(row) for row in rows_of(printed.out)] == [joined(row) for row in shown]
    counts = document["counts"]
    assert counts["error"] == 1 and counts["warning"] >= 1
    assert sum(counts.values()) == len(document["findings"])
    assert f"\n1 error, {counts['warning']} warning" in printed.out
    assert set(document) == {"version", "config", "exit", "counts", "findings"}
    assert all(
        set(one) == {"group", "state", "what", "detail", "hint"} for one in document["findings"]
    )


def test_json_of_a_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text('[server]\nprot = 1\n[auth]\nadmin_token = "env:PENSTOCK_TEST_NONE"\n')
    penstock = Penstock(config, capsys)
    document = json.loads(penstock.on("check", "--json").out)
    assert document["exit"] == 2
    assert [(one["group"], one["state"], one["what"]) for one in document["findings"]] == [
        ("config", "error", "server.prot"),
        ("config", "error", "auth.admin_token"),
    ]
    assert penstock.on("check", "--json").status == 2


def test_unknown_group_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text('brand = "Acme"\n')
    refused = Penstock(config, capsys).on("check", "--only", "store")
    assert refused.status == 2
    assert "expected one of config, media, stores, clock, upstreams" in refused.err


TWICE = """
import os
from edge.cli import main
for name in ("TERM", "NO_COLOR"):
    os.environ[name] = "xterm"
    try:
        main(["check", "--offline"])
    except SystemExit:
        print("=" * 9, flush=True)
"""


def test_colour_is_for_terminals_without_no_color(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text('brand = "Acme"\n')
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-c", TWICE],
        cwd=ROOT,
        env={**plain, "PENSTOCK_CONFIG": str(config)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    printed = b""
    with suppress(OSError):  # the end of a terminal on Linux
        while data := os.read(ours, 65536):
            printed += data
    os.close(ours)
    process.wait()
    first, second, _ = printed.split(b"=" * 9)
    assert b"\x1b[32mok\x1b[0m" in first
    assert b"\x1b" not in second and b"ok " in second
    assert "\x1b" not in Penstock(config, capsys).on("check").out


def test_text_that_the_terminal_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr("edge.cli.check.report.sys.stdout", Ascii())
    assert printable("na\u00efve\u2026") == "na?ve?"


# Secrets


def test_mask_hides_every_secret_in_every_form() -> None:
    secrets = {
        "password": "p@ss/word canary",
        "key": "canary-key-1",
        "header": "canary-header-22",
        "query": "canary/query?33",
        "proxy": "canary-proxy",
        "hook": "canary-hook-token",
        "objects": "canary-objects",
    }
    settings = parse(
        {
            "store": {
                "sql": "postgresql://u:p%40ss%2Fword%20canary@host/db?sslpassword=canary-tls",
                "counters": "redis://:canary-redis@host/0",
                "objects": "s3://bucket",
                "objects_access_key": "AKIDCANARY",
                "objects_secret_key": secrets["objects"],
            },
            "alerts": {"webhook": f"https://hook.example/x?t={secrets['hook']}"},
            "auth": {"admin_token": "canary-admin-token-7a8b9c0d1e2f"},
            "upstreams": [
                {
                    "name": "u",
                    "dialect": "openai",
                    "base_url": "https://api.example.com/v1",
                    "api_key": secrets["key"],
                    "headers": {"x-team": f"Bearer {secrets['header']}"},
                    "query": {"sig": secrets["query"]},
                    "transport": "httpx",
                    "proxy": f"http://me:{secrets['proxy']}@proxy.example:3128",
                }
            ],
        }
    )
    mask = Mask(settings, {"AWS_SECRET_ACCESS_KEY": "canary-aws", "HOME": "/home/me"})
    text = " ".join(
        (
            *secrets.values(),
            *("canary-redis", "canary-tls", "AKIDCANARY", "canary-admin-token-7a8b9c0d1e2f"),
            *("canary-aws", "p%40ss%2Fword%20canary", "canary%2Fquery%3F33", r"canary\/query?33"),
            "sk-other-key-that-is-nowhere",
        )
    )
    masked = mask(text)
    assert not re.search("canary|other-key", masked, re.IGNORECASE), masked
    assert mask("host u api.example.com /home/me") == "host u api.example.com /home/me"


def test_mask_of_a_header_in_the_environment() -> None:
    headers = "x-team=blue,authorization=Bearer%20canary-token%0A, api-key = canary-key-2"
    mask = Mask(parse({}), {"OTEL_EXPORTER_OTLP_HEADERS": headers})
    masked = mask("Illegal header value b'Bearer canary-token\\n', blue, canary-key-2")
    assert "canary" not in masked and "blue" in masked


def test_mask_bounds_and_escapes() -> None:
    mask = Mask(parse({}), {})
    assert mask("a\n b\x1b[31m\u202e") == "a b\\u001b[31m\\u202e"
    assert len(mask("x" * 10_000)) == LONGEST


def test_sentence_begins_with_its_path() -> None:
    assert of_sentence("note", "a.b: is: so") == Finding("note", "a.b", "is: so")
    assert of_sentence("note", "no path") == Finding("note", "", "no path")
