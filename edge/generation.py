"""Generations: what is built for each configuration, and the providers that they share.

A `Generation` serves the requests that began while it was the newest, to their end. Then it is
closed. A provider whose options are equal in two generations is one object in both, with its
connections and their limit.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import msgspec

from edge.config.load import Settings
from edge.config.model import UpstreamConfig
from edge.config.snapshot import ConfigSnapshot
from edge.upstreams.build import providers_of
from edge.upstreams.pool_figures import PoolFigures, pool_figures
from edge.upstreams.provider import Provider

if TYPE_CHECKING:
    from .chain import Chain

_log = logging.getLogger(__name__)


class Generation:
    """The chain and the providers of one configuration.

    requests: the tasks of its requests. retired: set once another has replaced it.
    loaded: Unix seconds.
    """

    __slots__ = ("app", "close_layers", "loaded", "providers", "requests", "retired", "snapshot")

    def __init__(
        self, chain: "Chain", snapshot: ConfigSnapshot, providers: Iterable[Provider], loaded: float
    ) -> None:
        self.app = chain.app
        self.close_layers = chain.aclose
        self.snapshot = snapshot
        self.providers = tuple(providers)
        self.loaded = loaded
        self.requests: set[asyncio.Task[None]] = set()
        self.retired = False


class _SharedProvider(msgspec.Struct):
    """A provider, what it was built from, and how many generations use it. repeat: whether it may
    send a request twice (`fallback.retry_unanswered`)."""

    provider: Provider
    option: UpstreamConfig
    files: tuple[bytes, ...]
    repeat: bool
    users: int = 0


class Providers:
    """The providers of all generations that are not closed yet.

    apart: whether they are built in a thread of their own, for an event loop with other work.
    """

    def __init__(
        self,
        make: Callable[[Settings], Mapping[str, Provider]] = providers_of,
        *,
        apart: bool = True,
    ) -> None:
        self._make = make
        self._apart = apart
        self._entries: list[_SharedProvider] = []

    async def acquire(self, snapshot: ConfigSnapshot) -> dict[str, Provider]:
        """The providers of a configuration by name: existing ones if unchanged, else new ones. Do
        not call it concurrently. If building one fails, its exception is raised and none is
        acquired."""
        wanted = [(option, _files(option, snapshot)) for option in snapshot.settings.upstreams]
        repeat = snapshot.settings.fallback.retry_unanswered
        found = [self._find(*each, repeat) for each in wanted]
        missing = [each for each, entry in zip(wanted, found, strict=True) if entry is None]
        made: Mapping[str, Provider] = {}
        if missing and not self._apart:
            made = self._build(snapshot.settings, missing)
        elif missing:
            # The authorities of a TLS context take 50 ms to read, which no stream should notice.
            made = await asyncio.to_thread(self._build, snapshot.settings, missing)
        taken: dict[str, Provider] = {}
        for (option, files), entry in zip(wanted, found, strict=True):
            if entry is None:
                entry = _SharedProvider(made[option.name], option, files, repeat)
                self._entries.append(entry)
            entry.users += 1
            taken[option.name] = entry.provider
        return taken

    def _build(
        self, settings: Settings, missing: Iterable[tuple[UpstreamConfig, tuple[bytes, ...]]]
    ) -> Mapping[str, Provider]:
        with ExitStack() as stack:
            options = tuple(_with_files(*each, stack) for each in missing)
            return self._make(msgspec.structs.replace(settings, upstreams=options))

    async def release(self, providers: Iterable[Provider]) -> None:
        """Release the providers of a generation. Those that no other uses are closed."""
        for provider in providers:
            entry = next(entry for entry in self._entries if entry.provider is provider)
            entry.users -= 1
            if not entry.users:
                self._entries.remove(entry)
                try:
                    await provider.upstream.aclose()
                except Exception:
                    _log.exception("upstream %s: cannot close its connections", provider.name)

    def pool_figures(self) -> dict[str, PoolFigures]:
        """The connections to each upstream, over all generations."""
        found: dict[str, PoolFigures] = {}
        for entry in self._entries:
            name = entry.provider.name
            found[name] = pool_figures(entry.provider).plus(found.get(name, PoolFigures()))
        return found

    def _find(
        self, option: UpstreamConfig, files: tuple[bytes, ...], repeat: bool
    ) -> _SharedProvider | None:
        for entry in self._entries:
            if entry.option == option and entry.files == files and entry.repeat == repeat:
                return entry
        return None

    async def close(self, generation: Generation) -> None:
        """Close the layers of a generation that run tasks, and release its providers."""
        try:
            await generation.close_layers()
        finally:
            await self.release(generation.providers)


_FILES = ("ca", "client_cert")
"""Options that name a file. A provider reads it when it is built, and not later."""


def _files(option: UpstreamConfig, snapshot: ConfigSnapshot) -> tuple[bytes, ...]:
    paths = (getattr(option, name) for name in _FILES)
    return tuple(b"" if path is None else snapshot.certificates[path] for path in paths)


def _with_files(
    option: UpstreamConfig, files: tuple[bytes, ...], stack: ExitStack
) -> UpstreamConfig:
    """`option` with copies of its files as they were when it was checked, until `stack` ends: the
    files on disk may be changing."""
    copies = {
        name: _copy(content, stack) for name, content in zip(_FILES, files, strict=True) if content
    }
    return msgspec.structs.replace(option, **copies) if copies else option


def _copy(content: bytes, stack: ExitStack) -> Path:
    """A file with `content`, which may be a private key: in memory, where the system can."""
    if not hasattr(os, "memfd_create"):
        file = stack.enter_context(NamedTemporaryFile())  # noqa: SIM115  the stack is one
        file.write(content)
        file.flush()
        return Path(file.name)
    number = os.memfd_create("penstock")
    stack.callback(os.close, number)
    with os.fdopen(number, "wb", closefd=False) as memory:
        memory.write(content)
    return Path(f"/proc/self/fd/{number}")
