"""Take over a changed configuration while serving: what the parent process does about it.

Theory of operation. The parent looks at the file each second, and when it gets SIGHUP. What has
changed, and stands still, is read and checked as at the start, its providers are made once on
trial, and then it is posted on the board for all workers. A file with any fault is refused whole:
the board keeps what it has, and so do the workers, also those that are started anew.

Settings whose field says `reloadable: False` take effect at a restart only. A file that changes one
of them is refused whole: half of a change would be neither the one configuration nor the other.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from time import time
from typing import Any

import msgspec

from edge.config.fields import Kind, walk_settings, walk_values

from .board import Board, Posted, TooLarge, digest_of
from .options import Configuration
from .references import Secret, unreadable
from .settings import Settings, SettingsError, decoded, load
from .status import Reloaded

_log = logging.getLogger(__name__)

_LARGEST = 16 << 20
"""Bytes of a file that are looked at; there is no room on the board for more."""


def not_reloadable(running: Settings, wanted: Settings) -> list[str]:
    """A sentence for each setting that `wanted` changes and that takes effect at a restart only.

    No value is shown: some are secret.
    """
    return [
        f"{path}: cannot be changed while Penstock runs; restart it for that"
        for path, field in walk_settings(Configuration)
        if not field.reloadable and attrgetter(path)(running) != attrgetter(path)(wanted)
    ]


class Look(msgspec.Struct, frozen=True):
    """What was found in the file and those it refers to. digest: see `digest_of`; "" without a
    file. whole: of all of them."""

    digest: str
    whole: bytes


def anchored(file: Path) -> Path:
    """The same file by a path that does not need the working directory, which may be removed.
    Raises OSError when that has already happened."""
    parts = file.parts
    folder = Path() if file.is_absolute() else Path.cwd()
    while parts[:1] == ("..",):  # through the directory itself, which would have to be there
        folder, parts = folder.parent, parts[1:]
    return folder.joinpath(*parts)


class Source:
    """A configuration file. server: what goes before its `[server]`, as from a command line.
    A relative path is that of now: the working directory may be gone when it is read again.

    looked: what there was when its settings were last loaded, or just before.
    """

    def __init__(self, file: Path, server: Mapping[str, Any] | None = None) -> None:
        self.file = anchored(file)
        self.looked = Look("", b"")
        self._server = server or {}
        self._known = b""
        self._referred: tuple[Path, ...] = ()

    def load(self) -> Settings:
        """Its settings. Raises SettingsError."""
        self.looked = self.look()
        return load(self.file, server=self._server)

    def look(self) -> Look:
        """Its present content, and that of the files it refers to. What cannot be read is empty."""
        text = _content(self.file)
        if text != self._known:
            self._known = text
            try:
                self._referred = tuple(_referred(text, self.file))
            except (ValueError, RuntimeError):  # no TOML or JSON, or nested too deep; no such home
                self._referred = ()
        whole = sha256(text)
        for path in self._referred:
            whole.update(sha256(_content(path)).digest())
        return Look(digest_of(text) if text else "", whole.digest())

    def faults(self) -> list[str]:
        """Why what was looked at last cannot be loaded by a process that serves: it may wait for
        ever for who writes to a pipe, and who writes to a disk may have come to its end."""
        found = [f"{path}: is no file, or too large a one" for path in self._files if _odd(path)]
        reasons = {path: unreadable(path) for path in self._files}
        found += [f"{path}: cannot be read: {why}" for path, why in reasons.items() if why]
        if not found and self.file.is_file() and not self._known.strip():
            found.append(f"{self.file}: is empty")
        return found

    @property
    def _files(self) -> tuple[Path, ...]:
        return (self.file, *self._referred)


def _odd(path: Path) -> bool:
    """Neither a file of a size that is looked at, nor a folder, nor nothing: those are refused by
    whoever reads them."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return False
    if S_ISREG(found.st_mode):
        return found.st_size > _LARGEST
    return not S_ISDIR(found.st_mode)


def _content(path: Path) -> bytes:
    """Of a file that can be read twice. A pipe is not looked at: it gives what it has once."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return b""


def _referred(text: bytes, file: Path) -> Iterator[Path]:
    """The files that a configuration names: secrets as `file:PATH`, certificates by their path."""
    folder = file.resolve().parent
    for kind, value in walk_values(Kind.of(Configuration), decoded(text.decode(), file)):
        if not isinstance(value, str):
            continue
        if kind.bare is Path:
            yield folder / Path(value).expanduser()
        elif kind.bare is Secret and value.startswith("file:"):
            yield folder / Path(value.removeprefix("file:")).expanduser()


class Reloader:
    """Looks at `source` and posts what is good on `board`.

    running: what is served, as loaded from `source` and posted.
    told: called with what has become of each reload.
    trial: makes all of a configuration that can fail, throws it away, and says what did.
    """

    def __init__(
        self,
        source: Source,
        board: Board,
        *,
        running: Settings,
        told: Callable[[Reloaded], None],
        trial: Callable[[Posted], list[str]] | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._source = source
        self._board = board
        self._running = running
        self._looked = self._seen = self._good = source.looked
        self._told = told
        self._trial = trial or made_on_trial
        self._clock = clock
        self._serial = board.serial

    def due(self) -> bool:
        """Whether the file has changed, and is as it was when last asked: who writes it is done."""
        seen, self._seen = self._seen, self._source.look()
        return self._seen == seen and seen != self._looked

    def reload(self) -> Reloaded:
        """Take over what the file has now, if it is good. Says in the log what became of it."""
        look = self._looked = self._seen = self._source.look()
        if look == self._good:
            done = Reloaded("unchanged", look.digest, self._clock())
        elif faults := self._faults(look):
            done = Reloaded("refused", look.digest, self._clock(), tuple(faults), valid=False)
        else:
            self._good = look
            done = Reloaded("applied", look.digest, self._clock())
        self._say(done)
        self._told(done)
        return done

    def _faults(self, look: Look) -> list[str]:
        """Why it cannot be taken over; when there is nothing, it has been."""
        try:
            if faults := self._source.faults():
                return faults
            settings = self._source.load()
            if faults := not_reloadable(self._running, settings):
                return faults
            posted = Posted.of(settings, serial=self._serial + 1, digest=look.digest)
            if faults := self._trial(posted):
                return faults
            self._board.post(posted)
        except SettingsError as error:
            return list(error.faults)
        except (TooLarge, OSError) as error:
            return [f"{self._source.file}: {error}"]
        except Exception as error:  # whatever a file can do, it must not end who serves
            _log.exception("cannot check the configuration file")
            return [f"{self._source.file}: {type(error).__name__}"]
        self._serial += 1
        self._running = settings
        return []

    def _say(self, done: Reloaded) -> None:
        file = self._source.file
        match done.result:
            case "applied":
                _log.info("configuration %s is applied: %s", done.digest, file)
            case "unchanged":
                _log.info("configuration %s is unchanged: %s", done.digest, file)
            case "refused":
                why = "; ".join(done.reasons)
                _log.error(
                    "configuration %s is refused, the previous one keeps serving: %s",
                    done.digest,
                    why,
                )


def made_on_trial(posted: Posted) -> list[str]:
    """Make the parts of a configuration that can fail, and throw them away; a sentence for each
    that did. Imports them only here: most parents never need them."""
    from edge.routing.paths import Paths

    from .catalog import Catalog
    from .edition import Providers
    from .plans import Plans

    upstreams = posted.settings.upstreams
    for part in (Catalog.build, Plans, Paths.of):
        part(posted.settings)

    async def fault(n: int) -> str | None:
        alone = msgspec.structs.replace(posted.settings, upstreams=(upstreams[n],))
        providers = Providers()
        try:
            made = await providers.take(msgspec.structs.replace(posted, settings=alone))
            await providers.give_back(made.values())
        except Exception as error:
            # Those of the system name files. What others quote may be a password.
            said = str(error) if isinstance(error, OSError) else type(error).__name__
            return f"upstreams[{n}]: cannot be made: {said}"
        return None

    async def make() -> list[str]:
        found = [await fault(n) for n in range(len(upstreams))]
        return [sentence for sentence in found if sentence is not None]

    return asyncio.run(make())
