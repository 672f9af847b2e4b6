"""Configuration reload in the parent process.

Theory of operation. The parent checks the file twice a second, and when it gets SIGHUP. A file that
has changed, and is the same at two checks in a row, is loaded and validated as at the start. Its
providers are built once as a trial. Then it is published to all workers. A file with any fault is
refused as a whole: the workers keep the previous configuration, and so do later ones.

Settings whose field says `reloadable: False` take effect at a restart only. A file that changes one
of them is refused as a whole, because half a change would be neither configuration.
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

from edge.config.fields import FieldKind, walk_settings, walk_values
from edge.config.load import Settings, SettingsError, decoded, load
from edge.config.model import Configuration
from edge.config.secrets import Secret, unreadable
from edge.config.snapshot import ConfigSnapshot, SharedConfig, SnapshotTooLarge, digest_of
from edge.runtime.status import Reloaded

_log = logging.getLogger(__name__)

_LARGEST = 16 << 20
"""Bytes that are read of a file; a snapshot has no space for more."""


def not_reloadable(running: Settings, wanted: Settings) -> list[str]:
    """A fault for each setting that `wanted` changes and that takes effect at a restart only.

    Values are not shown: some are secret.
    """
    return [
        f"{path}: cannot be changed by a reload; restart Penstock"
        for path, field in walk_settings(Configuration)
        if not field.reloadable and attrgetter(path)(running) != attrgetter(path)(wanted)
    ]


class ConfigFiles(msgspec.Struct, frozen=True):
    """Digests of the configuration file (see `digest_of`; "" without a file), and of it with all
    files that it refers to (whole)."""

    digest: str
    whole: bytes


def absolute_path(file: Path) -> Path:
    """The path of the same file without the working directory, which may be removed later.

    Raises OSError when it is removed already.
    """
    parts = file.parts
    folder = Path() if file.is_absolute() else Path.cwd()
    while parts[:1] == ("..",):  # `..` in the path would need the directory to exist
        folder, parts = folder.parent, parts[1:]
    return folder.joinpath(*parts)


class Source:
    """A configuration file.

    server: overrides its `[server]`, as options of the command line do. A relative path is resolved
        now: the working directory may be gone at the next reload.
    loaded: the digests when its settings were last loaded.
    """

    def __init__(self, file: Path, server: Mapping[str, Any] | None = None) -> None:
        self.file = absolute_path(file)
        self.loaded = ConfigFiles("", b"")
        self._server = server or {}
        self._known = b""
        self._referred: tuple[Path, ...] = ()

    def load(self) -> Settings:
        """Load the settings. Raises SettingsError."""
        self.loaded = self.read()
        return load(self.file, server=self._server)

    def read(self) -> ConfigFiles:
        """Digest the file and the files it refers to. An unreadable file counts as empty."""
        text = _content(self.file)
        if text != self._known:
            self._known = text
            try:
                self._referred = tuple(_referred(text, self.file))
            except (ValueError, RuntimeError):  # not TOML or JSON, too deep, or no home directory
                self._referred = ()
        whole = sha256(text)
        for path in self._referred:
            whole.update(sha256(_content(path)).digest())
        return ConfigFiles(digest_of(text) if text else "", whole.digest())

    def faults(self) -> list[str]:
        """Why the files that were read last cannot be loaded by a serving process, which must not
        wait for a pipe, and must not take the empty file of a full disk."""
        found = [f"{path}: is not a file, or too large" for path in self._files if _odd(path)]
        reasons = {path: unreadable(path) for path in self._files}
        found += [f"{path}: cannot be read: {why}" for path, why in reasons.items() if why]
        if not found and self.file.is_file() and not self._known.strip():
            found.append(f"{self.file}: is empty")
        return found

    @property
    def _files(self) -> tuple[Path, ...]:
        return (self.file, *self._referred)


def _odd(path: Path) -> bool:
    """Whether `path` is a pipe, device or socket, or a file that is too large. Missing files and
    folders are refused where they are read."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return False
    if S_ISREG(found.st_mode):
        return found.st_size > _LARGEST
    return not S_ISDIR(found.st_mode)


def _content(path: Path) -> bytes:
    """The content of a regular file. A pipe is not read: its content can be read only once."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return b""


def _referred(text: bytes, file: Path) -> Iterator[Path]:
    """The files that a configuration names: secrets as `file:PATH`, and certificates."""
    folder = file.parent
    for kind, value in walk_values(FieldKind.of(Configuration), decoded(text.decode(), file)):
        if not isinstance(value, str):
            continue
        if kind.bare is Path:
            yield folder / Path(value).expanduser()
        elif kind.bare is Secret and value.startswith("file:"):
            yield folder / Path(value.removeprefix("file:")).expanduser()


class Reloader:
    """Loads `source` again and publishes valid configurations in `shared_config`.

    running: the settings that are served, loaded from `source` and published.
    on_result: called with the result of each reload.
    trial: builds the parts of a configuration that can fail, and returns the faults.
    """

    def __init__(
        self,
        source: Source,
        shared_config: SharedConfig,
        *,
        running: Settings,
        on_result: Callable[[Reloaded], None],
        trial: Callable[[ConfigSnapshot], list[str]] | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._source = source
        self._shared_config = shared_config
        self._running = running
        self._tried = self._seen = self._good = source.loaded
        self._on_result = on_result
        self._trial = trial or trial_faults
        self._clock = clock
        self._serial = shared_config.serial

    def due(self) -> bool:
        """Whether the file has changed, and is the same as at the last call, so is complete."""
        seen, self._seen = self._seen, self._source.read()
        return self._seen == seen and seen != self._tried

    def reload(self) -> Reloaded:
        """Apply the file as it is now, if it is valid. Logs the result."""
        read = self._tried = self._seen = self._source.read()
        if read == self._good:
            done = Reloaded("unchanged", read.digest, self._clock())
        elif faults := self._apply(read.digest):
            done = Reloaded("refused", read.digest, self._clock(), tuple(faults), valid=False)
        else:
            self._good = read
            done = Reloaded("applied", read.digest, self._clock())
        self._log_result(done)
        self._on_result(done)
        return done

    def _apply(self, digest: str) -> list[str]:
        """Publish the configuration. Returns the faults; with any it is not published."""
        try:
            if faults := self._source.faults():
                return faults
            settings = self._source.load()
            if faults := not_reloadable(self._running, settings):
                return faults
            snapshot = ConfigSnapshot.of(settings, serial=self._serial + 1, digest=digest)
            if faults := self._trial(snapshot):
                return faults
            self._shared_config.publish(snapshot)
        except SettingsError as error:
            return list(error.faults)
        except (SnapshotTooLarge, OSError) as error:
            return [f"{self._source.file}: {error}"]
        except Exception as error:  # no file may end a serving process
            _log.exception("cannot check the configuration file")
            return [f"{self._source.file}: {type(error).__name__}"]
        self._serial += 1
        self._running = settings
        return []

    def _log_result(self, done: Reloaded) -> None:
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


def trial_faults(snapshot: ConfigSnapshot) -> list[str]:
    """Build the parts of a configuration that can fail, and discard them; a fault for each failure.

    Imports them here: a parent that never reloads does not need them.
    """
    from edge.billing.plans import Plans
    from edge.generation import Providers
    from edge.routing.catalog import Catalog
    from edge.routing.paths import Paths

    upstreams = snapshot.settings.upstreams
    for part in (Catalog.build, Plans, Paths.of):
        part(snapshot.settings)

    async def fault(n: int) -> str | None:
        alone = msgspec.structs.replace(snapshot.settings, upstreams=(upstreams[n],))
        # Not apart: the start of a thread can hang when there is no memory, with a lock that forks
        # take as well, and then no worker would be replaced.
        providers = Providers(apart=False)
        try:
            made = await providers.acquire(msgspec.structs.replace(snapshot, settings=alone))
            await providers.release(made.values())
        except Exception as error:
            # Errors of the system name files. Others may quote a password.
            reason = str(error) if isinstance(error, OSError) else type(error).__name__
            return f"upstreams[{n}]: cannot be built: {reason}"
        return None

    async def make() -> list[str]:
        found = [await fault(n) for n in range(len(upstreams))]
        return [sentence for sentence in found if sentence is not None]

    return asyncio.run(make())
