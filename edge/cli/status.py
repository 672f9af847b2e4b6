"""`penstock status`: the state of the running gateway, compared with the configuration file.

It is what health checks of containers run every half minute, so it imports little: no HTTP client
but the standard library's, and of a configuration only what finds the gateway.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .terminal import Config, Json, print_json, say

if TYPE_CHECKING:
    from http.client import HTTPResponse

PATIENCE = 5.0
_SILENT = 10.0
"""Seconds without an update after which a worker is reported; one comes every second."""
_LARGEST = 16 << 20
"""Bytes of an answer."""
_NOT_PENSTOCK = "answers, but is not Penstock"
_CLEAR = "\x1b[H\x1b[2J"


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(status)


def status(
    config: Config,
    url: Annotated[
        str | None, typer.Option(help="Base URL of the gateway, if it cannot be found.")
    ] = None,
    json: Json = False,
    watch: Annotated[
        float | None,
        typer.Option(min=0.2, metavar="SECONDS", help="Show it again and again, until Ctrl-C."),
    ] = None,
) -> None:
    """Show the state of the running gateway; exit 0 when every worker runs the file."""
    while True:
        shown = _Shown(config, url)
        if watch is not None and not json and sys.stdout.isatty():
            typer.echo(_CLEAR, nl=False)
        shown.print(json=json, lines=watch is not None)
        if watch is None:
            raise typer.Exit(shown.exit)
        try:
            time.sleep(watch)
        except KeyboardInterrupt:
            raise typer.Exit(shown.exit) from None


class _Shown:
    """The state of a gateway at one moment, and what is wrong with it."""

    def __init__(self, config: Path, url: str | None) -> None:
        from edge.runtime.status import find_fleet

        self.url = url or _url_of(config)
        self.found, fault = _fetch(self.url)
        self.lines: list[str] = []
        if self.found is not None:
            from .status_table import status_lines

            try:
                self.problems = _problems(self.found, config)
                self.lines = status_lines(self.found, self.url)
                return
            except (LookupError, TypeError, ValueError, AttributeError):
                self.found, fault = None, _NOT_PENSTOCK
        self.problems = [f"{self.url}: {fault}"]
        if fleet := find_fleet(config):
            import msgspec

            self.problems += _missing(msgspec.structs.asdict(fleet), time.time())

    @property
    def exit(self) -> int:
        return 1 if self.problems else 0

    def print(self, *, json: bool, lines: bool) -> None:
        """Print it. lines: JSON in one line."""
        if json:
            found = self.found or {"state": "down", "url": self.url}
            print_json({**found, "problems": self.problems}, one_line=lines)
            return
        for line in self.lines:
            typer.echo(line)
        for problem in self.problems:
            say(f"error: {problem}")


def _url_of(config: Path) -> str:
    """Base URL of the gateway: as noted by a running gateway of this file, else as in the file,
    else the default. The file need not be valid: that may be what the operator wants to know."""
    from edge.config.load import decoded
    from edge.config.model import ServerConfig, StoreConfig
    from edge.runtime.status import connect_host, find_gateway, running_gateways, url_host

    try:
        document = dict(decoded(config.read_text("utf-8"), config))
    except (OSError, ValueError, TypeError):
        document = {}
    server, store = (
        table if isinstance(table := document.get(name), dict) else {}
        for name in ("server", "store")
    )
    journal = store.get("journal", StoreConfig().journal)
    folder = config.absolute().parent / Path(str(journal)).expanduser()
    if found := find_gateway(config, running_gateways(folder)):
        return found
    plain = ServerConfig()
    host, port = server.get("host", plain.host), server.get("port", plain.port)
    return f"http://{url_host(connect_host(str(host)))}:{port}"


def _fetch(url: str) -> tuple[dict[str, Any] | None, str]:
    """The status that `url` answers, or None and the reason."""
    import json
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import urlsplit

    end = time.monotonic() + PATIENCE
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return None, "is not a URL; expected http://HOST:PORT"
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=PATIENCE)
        try:
            connection.request("GET", f"{parts.path.rstrip('/')}/status")
            answer = connection.getresponse()
            body = _read(answer, end)
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError) as error:
        return None, f"does not answer: {error or type(error).__name__}"
    if answer.status == 404:
        return None, "answers 404: this address is not in server.ops_networks"
    if answer.status != 200:
        return None, f"answers {answer.status}"
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None, _NOT_PENSTOCK
    if not isinstance(found, dict) or "workers" not in found:
        return None, _NOT_PENSTOCK
    return found, ""


def _read(answer: "HTTPResponse", end: float) -> bytes:
    """The body, as far as it comes until `end`: the time limit of a socket is for each read."""
    body = bytearray()
    while len(body) < _LARGEST and (piece := answer.read1(1 << 16)):
        body += piece
        if time.monotonic() > end:
            raise TimeoutError("timed out")
    return bytes(body)


def _problems(found: dict[str, Any], config: Path) -> list[str]:
    """A sentence for each problem."""
    from edge.config.snapshot import digest_of

    problems: list[str] = []
    if not found["config_valid"]:
        problems += [f"refused: {reason}" for reason in found["last_reload"]["reasons"]]
    try:
        there = digest_of(config.read_bytes())
    except OSError as error:
        problems.append(f"{config}: cannot be read: {error.strerror}")
    else:
        problems += [
            f"worker {worker['pid']} runs {worker['digest'] or 'no file'}, {config} is {there}"
            for worker in found["workers"]
            if worker["digest"] != there
        ]
    fleet = found.get("fleet")
    if fleet is not None:
        problems += _missing(fleet, found["at"])
    elif len(found["workers"]) < (wanted := found.get("worker_count", 1)):
        problems.append(f"{len(found['workers'])} of {wanted} workers are running")
    generations = {worker["generation"] for worker in found["workers"]}
    if len(generations) > 1:
        problems.append("the workers do not run the same configuration")
    for worker in found["workers"]:
        if "fault" in worker:
            problems.append(f"worker {worker['pid']}: {worker['fault']}")
        if worker["seen_seconds_ago"] > _SILENT:
            ago = worker["seen_seconds_ago"]
            problems.append(f"worker {worker['pid']} has sent no update for {ago:g} s")
    return problems


def _missing(fleet: dict[str, Any], now: float) -> list[str]:
    """A sentence when workers are missing or not ready. fleet: fields of
    `edge.runtime.worker_table.Fleet`."""
    wanted, alive, ready = fleet["wanted"], fleet["alive"], fleet["ready"]
    if alive >= wanted:
        return [] if ready >= wanted else [f"{ready} of {wanted} workers are ready"]
    said = f"{alive} of {wanted} workers are running"
    if failures := fleet["failures"]:
        said += f", {failures} in a row ended or could not be started; the log says why"
    if (left := fleet["next_start"] - now) > 0:
        said += f"; the next start is in {left:.0f} s"
    return [said]
