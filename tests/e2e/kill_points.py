"""Points at which a worker of a real gateway ends itself with SIGKILL.

`environment_of(folder)` is the environment of a gateway whose Python runs `sitecustomize` of this
module; `arm` says where the next worker that comes there dies.
"""

from collections.abc import Mapping
from pathlib import Path

_HOOK = """
import os, signal

_FILE = {file!r}

def die(point):
    try:
        with open(_FILE) as file:
            armed = file.read()
    except OSError:
        return
    if armed == point:
        os.unlink(_FILE)
        os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name, point):
    inner = getattr(owner, name)
    async def wrapped(*args, **options):
        die(point + ":before")
        found = await inner(*args, **options)
        die(point + ":after")
        return found
    setattr(owner, name, wrapped)

def install():
    from contextlib import asynccontextmanager
    from edge.media import objects
    from middlewares.stores.alerts.sql import SqlAlertStore
    from middlewares.stores.files import sql

    around(SqlAlertStore, "add", "alert")
    for name in ("begin", "finish", "delete", "remove"):
        around(sql.SqlFileStore, name, name)
    around(objects.Objects, "remove", "remove_object")
    writing = objects.Objects.writing

    @asynccontextmanager
    async def watched(self, key, owner=""):
        async with writing(self, key, owner) as writer:
            class Writer:
                written = 0
                async def write(self, data):
                    await writer.write(data)
                    die("first_piece")
                    Writer.written += len(data)
                    if Writer.written > 3 << 20:
                        die("later_piece")
            yield Writer()
            die("all_pieces")
        die("object")

    objects.Objects.writing = watched

install()
"""

UPLOAD = (
    "begin:before",
    "begin:after",
    "first_piece",
    "later_piece",
    "all_pieces",
    "object",
    "finish:after",
)
"""Points of an upload, in their order."""
DELETE = ("delete:after", "remove_object:before", "remove_object:after", "remove:after")
"""Points of a deletion."""


def environment_of(folder: Path) -> Mapping[str, str]:
    """What a gateway has to be started with. It keeps its file in `folder`."""
    (folder / "sitecustomize.py").write_text(_HOOK.format(file=str(_file(folder))))
    return {"PYTHONPATH": str(folder)}


def arm(folder: Path, point: str) -> None:
    """Have the next worker that reaches `point` die there, once."""
    new = folder / "kill-at.new"
    new.write_text(point)
    new.replace(_file(folder))


def armed(folder: Path) -> bool:
    """Whether no worker has come to the point yet."""
    return _file(folder).exists()


def _file(folder: Path) -> Path:
    return folder / "kill-at"
