"""Load a configuration: read, decode and check it, and report every fault at once.

    load(path)            TOML or JSON file → Settings
    parse(mapping, dir)   the same from data

All raise `SettingsError` with one sentence per fault, each with the path of its key. Relative paths
of secrets, certificates and `store` are relative to the folder of the file.
"""

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edge.endpoints import NAMES
from middlewares.error_kinds import changed_kinds
from middlewares.exchange import ErrorStyle
from middlewares.stores.keys.base import KeyPrefixes, slug

from .decode import ConfigDecoder
from .error_checks import kind_changes
from .model import AllowanceConfig, Configuration, StoreConfig
from .route_checks import endpoint_of
from .secrets import HttpUrl, Location, PasswordHash, References, Secret
from .units import Credits, Duration, Network, RateSetting, Size, Span, network
from .validate import allowance_faults, faults_of

_UNITS = {
    Duration: Duration.parse,
    Size: Size.parse,
    RateSetting: RateSetting.parse,
    Credits: Credits.parse,
    Span: Span.parse,
    Network: network,
}
_RESPONSES_TTL = 30 * 86400.0
"""Default of `store.responses_ttl` with `auth.mode = "keys"`, in seconds."""


class Settings(Configuration, frozen=True, kw_only=True):
    """A loaded and checked configuration."""

    @property
    def longest_request(self) -> float:
        """Upper bound of the seconds that a request lasts."""
        return max((upstream.total_timeout for upstream in self.upstreams), default=0.0) + 60.0

    @property
    def keep_responses(self) -> float:
        """Seconds for which answers of the Responses API are stored; 0 stores none."""
        if self.store.responses_ttl is not None:
            return self.store.responses_ttl
        return 0.0 if self.auth.mode == "none" else _RESPONSES_TTL

    @property
    def offered(self) -> frozenset[str]:
        """Names of the endpoints that this gateway offers."""
        return frozenset(self.endpoints) or NAMES

    @property
    def slug(self) -> str:
        """The brand as part of keys and model prefixes."""
        return slug(self.brand)

    @property
    def key_prefixes(self) -> KeyPrefixes:
        """What new keys begin with."""
        prefix = self.auth.key_prefix
        return KeyPrefixes.of_brand(self.brand) if prefix is None else KeyPrefixes.of(prefix)

    @property
    def error_style(self) -> ErrorStyle:
        """The style of errors outside a request."""
        errors = self.errors
        return ErrorStyle(
            brand=self.brand,
            details=errors.details,
            kinds=changed_kinds(kind_changes(errors)),
            branded=errors.branded,
            openai_members=errors.openai_members,
        )


class SettingsError(ValueError):
    """A configuration that cannot be used. faults: one sentence for each fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def decoded(text: str, file: Path) -> Any:
    """The data in the text of `file`: TOML, or JSON when its name ends in `.json`.

    Raises ValueError for other text.
    """
    try:
        return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def load(
    path: str | os.PathLike[str],
    *,
    env: Mapping[str, str] = os.environ,
    server: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a file, see `decoded`.

    server: values that replace those of the file's `[server]`, such as options of a command line.
    Raises SettingsError.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8").removeprefix("\ufeff")
        document = decoded(text, file)
    except OSError as error:
        raise SettingsError([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{file}: is not UTF-8 text"]) from None
    except ValueError as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise SettingsError([f"{file}: is not {kind}: {error}"]) from None
    if not document:
        raise SettingsError([f"{file}: is empty; expected at least one of upstreams and models"])
    if server and isinstance(document, dict):
        table = document.get("server", {})
        if isinstance(table, dict):
            document["server"] = {**table, **server}
    return parse(document, file.absolute().parent, env=env)


def parse(
    document: object, directory: Path | None = None, *, env: Mapping[str, str] = os.environ
) -> Settings:
    """The settings of plain data with the keys of a configuration file. Raises SettingsError.

    directory: base of relative paths; the working directory unless given.
    """
    directory = directory or Path.cwd()
    references = References(env, directory)
    decoder = ConfigDecoder(
        {
            **_UNITS,
            HttpUrl: HttpUrl.parse,
            Secret: references.secret,
            PasswordHash: references.password,
            Location: references.location,
            Path: references.existing,
        }
    )
    configuration = decoder.decode(Configuration, document)
    if configuration is None:
        raise SettingsError(decoder.faults)
    if faults := list(faults_of(configuration)):
        raise SettingsError(faults)
    fields = msgspec.structs.asdict(configuration)
    fields["store"] = _stored_under(configuration.store, directory)
    fields["routes"] = tuple(
        msgspec.structs.replace(route, endpoint=route.endpoint or endpoint_of(route.path))
        for route in configuration.routes
    )
    return Settings(**fields)


def _stored_under(store: StoreConfig, directory: Path) -> StoreConfig:
    return msgspec.structs.replace(
        store,
        sql=store.sql.under(directory),
        objects=store.objects.under(directory),
        journal=str(directory / Path(store.journal).expanduser()),
    )


def read_key_limits(document: object, path: str = "limits") -> AllowanceConfig:
    """The limits of a key: the settings of a plan without its id. Raises SettingsError."""
    decoder = ConfigDecoder(_UNITS)
    allowance = decoder.decode(AllowanceConfig, document, path)
    if allowance is None:
        raise SettingsError(decoder.faults)
    if faults := list(allowance_faults(allowance, path)):
        raise SettingsError(faults)
    return allowance
