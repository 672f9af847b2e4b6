"""Limits of the system's network that are too low for the configured connections."""

from collections.abc import Iterator
from pathlib import Path

from edge.config.load import Settings

BACKLOG = 2048
"""Connections of clients that may wait in the kernel until a worker accepts them."""


def low_network_limits(settings: Settings, root: Path = Path("/")) -> Iterator[str]:
    """A warning for each limit that is too low; none where the system does not say its limits.

    root: of the file system that has `proc`.
    """
    ports = _local_ports(root)
    for upstream in settings.upstreams:
        wanted = settings.server.workers * upstream.max_connections
        if upstream.base_url and ports and wanted > ports // 2:
            yield (
                f"upstreams.{upstream.name}: max_connections of all workers are {wanted}, and the "
                f"system has {ports} local ports for connections to one address, of which it finds "
                "only half quickly; widen net.ipv4.ip_local_port_range, or lower max_connections"
            )
    waiting = _number(root, "core/somaxconn")
    if 0 < waiting < BACKLOG:
        yield (
            f"net.core.somaxconn: only {waiting} new connections may wait, others are dropped and "
            f"tried again a second later; set it to {BACKLOG} or more"
        )


def _local_ports(root: Path) -> int:
    """How many ports the system chooses from for connections that it opens; 0 if unknown."""
    first, _, last = _text(root, "ipv4/ip_local_port_range").partition("\t")
    if not first.isdigit() or not last.isdigit():
        return 0
    return int(last) - int(first) + 1


def _number(root: Path, name: str) -> int:
    text = _text(root, name)
    return int(text) if text.isdigit() else 0


def _text(root: Path, name: str) -> str:
    try:
        return (root / "proc/sys/net" / name).read_text().strip()
    except OSError:
        return ""
