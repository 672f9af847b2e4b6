"""`penstock status`: the state of the running gateway, compared with the configuration file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import Config, Json, print_json, print_table, say

_PATIENCE = 5.0
_SILENT = 10.0
"""Seconds without an update after which a worker is reported; one comes every second."""


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(status)


def status(
    config: Config,
    url: Annotated[
        str | None, typer.Option(help="Base URL of the gateway, if it cannot be found.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the state of the running gateway; exit 0 when every worker runs the file."""
    import time

    import msgspec

    from edge.runtime.status import find_fleet

    url = url or _url_of(config)
    found, fault = _fetch(url)
    if found is None:
        say(f"error: {url}: {fault}")
        if fleet := find_fleet(config):
            for problem in _missing(msgspec.structs.asdict(fleet), time.time()):
                say(f"error: {problem}")
        raise typer.Exit(1)
    problems = _problems(found, config)
    if json:
        print_json({**found, "problems": problems})
    else:
        _print(found, url)
        for problem in problems:
            say(f"error: {problem}")
    raise typer.Exit(1 if problems else 0)


def _url_of(config: Path) -> str:
    """Base URL of the gateway: as noted by a running gateway of this file, else as in the file,
    else the default. The file need not be valid: that may be what the operator wants to know."""
    from edge.config.load import decoded
    from edge.config.model import ServerConfig, StoreConfig
    from edge.runtime.status import connect_host, find_gateway, url_host
    from edge.server.address_note import running_gateways

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
    import httpx

    try:
        with httpx.Client(trust_env=False, timeout=_PATIENCE) as client:
            answer = client.get(f"{url.rstrip('/')}/status")
        if answer.status_code == 404:
            return None, "answers 404: this address is not in server.ops_networks"
        if answer.status_code != 200:
            return None, f"answers {answer.status_code}"
        found = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return None, f"does not answer: {error}"
    except ValueError:
        return None, "answers, but is not Penstock"
    if not isinstance(found, dict) or "workers" not in found:
        return None, "answers, but is not Penstock"
    return found, ""


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


def _print(found: dict[str, Any], url: str) -> None:
    if "pid" in found:
        typer.echo(
            f"Penstock {found['version']} at {url}, pid {found['pid']}, {found['state']}, "
            f"up {_span(found['uptime_seconds'])}"
        )
    tables = found.get("tables", {})
    if tables.get("version", "") > tables.get("program", ""):
        typer.echo(
            f"the tables are of version {tables['version']}, newer than this program "
            f"({tables['program']}), which works with them"
        )
    if last := found.get("last_reload"):
        typer.echo(f"last reload: {last['result']} at {last['at']}, {last['digest'] or 'no file'}")
    columns = ("pid", "state", "digest", "generation", "loaded", "requests")
    print_table(columns, found["workers"])


def _span(seconds: float) -> str:
    """A duration in its two largest units: "3 d 4 h"."""
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min")]
    said = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join([*said, f"{whole % 60} s"][:2])
