"""The group `stores`: Redis, in which limits are counted. Nothing is written to it."""

import time
from collections.abc import Iterator

from edge.server.preflight import counters_fault
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.redis_client import RedisLink

from . import clock
from .amounts import shown_size
from .finding import Finding
from .probe import PATIENCE, Findings, Probe
from .subject import Subject

WHAT = "store.counters"
_FULL = 0.9
"""Share of `maxmemory` above which there is a warning."""


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe, where counters are in Redis."""
    if subject.settings.store.counters != "memory":
        yield Probe(WHAT, lambda: _check(subject), outward=True)


async def _check(subject: Subject) -> Findings:
    location = subject.settings.store.counters
    if fault := counters_fault(subject.settings):
        yield Finding("error", WHAT, fault.removeprefix(f"{WHAT}: "))
        return
    limit = PATIENCE - 0.5
    link = RedisLink(str(location), timeout=limit, connect_timeout=limit)
    await link.start()
    try:
        before = time.time()
        seconds, micros = await link.call("TIME")
        yield clock.against(WHAT, int(seconds) + int(micros) / 1e6, before)
        info = _fields(await link.call("INFO"))
    except CountersUnavailable as error:
        reason = str(error).removeprefix("Redis does not answer: ")
        yield Finding("error", WHAT, f"{location.shown} does not answer: {reason}", _hint(reason))
        return
    finally:
        await link.aclose(at_once=True)
    server = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "of an unknown version")
    yield Finding("ok", WHAT, f"{location.shown} answers, {server} {version}")
    for finding in of_info(info):
        yield finding


def of_info(info: dict[str, str]) -> Iterator[Finding]:
    """Findings of the fields of `INFO`."""
    if info.get("role") == "slave":
        yield Finding(
            "error", WHAT, "it is a replica, which takes no writes", "name the primary server"
        )
    if info.get("loading") == "1":
        yield Finding("error", WHAT, "it is still loading its data", "try again")
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        when = f"at {shown_size(most)}" if most else "once `maxmemory` is set"
        yield Finding(
            "warning",
            WHAT,
            f"maxmemory-policy is {policy}: {when} it removes keys, and with them limits, "
            "reservations and what was spent",
            "set maxmemory-policy noeviction, on a Redis of its own",
        )
    if most and used > _FULL * most:
        yield Finding(
            "warning",
            WHAT,
            f"{shown_size(used)} of {shown_size(most)} (maxmemory) are used",
            "raise maxmemory",
        )
    if info.get("aof_enabled") == "1" and info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(
            "error", WHAT, "it cannot write its append-only file", "check the disk of Redis"
        )
    elif info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield Finding(
            "warning",
            WHAT,
            "its last snapshot failed; by default it then refuses writes",
            "check the disk and the memory of Redis",
        )
    if info.get("aof_enabled") == "0":
        yield Finding(
            "note",
            WHAT,
            "it has no append-only file: a restart forgets recent rates, slots and kept answers; "
            "budgets are counted again from the ledger",
            "set appendonly yes",
        )


def _fields(text: bytes) -> dict[str, str]:
    lines = text.decode("utf-8", "replace").splitlines()
    return {name: value for name, found, value in (line.partition(":") for line in lines) if found}


def _hint(reason: str) -> str:
    for text, hint in (
        ("WRONGPASS", "check the user and the password in store.counters"),
        ("NOAUTH", "give a password in store.counters"),
        ("invalid password", "check the password in store.counters"),
        ("NOPERM", "give the user the rights to run all commands on its keys"),
        ("Connect call failed", "start Redis, or check host and port in store.counters"),
        ("refused", "start Redis, or check host and port in store.counters"),
        ("name lookup", "check the host in store.counters"),
        ("CERTIFICATE_VERIFY_FAILED", "name the authority: ?ssl_ca_certs=FILE"),
    ):
        if text in reason:
            return hint
    return ""
