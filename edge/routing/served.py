"""The paths that a configuration serves, and where clients of each dialect find an endpoint."""

from collections.abc import Mapping, Sequence

import msgspec

from edge.config.load import Settings
from edge.endpoints import BY_NAME, CONVERSATION_NAMES, CONVERSATIONS, Endpoint
from middlewares.exchange import Dialect

from .paths import Paths


class ServedPath(msgspec.Struct, frozen=True):
    """A path and its endpoint.

    dialects: of its callers. Where the shape of a request decides there are several, first the one
        of a request whose shape does not. Empty where the request is the same in every dialect.
    """

    path: str
    row: Endpoint
    dialects: tuple[Dialect, ...]


def served_paths(settings: Settings) -> tuple[ServedPath, ...]:
    """The paths that need a key, those of the table first, then those of `routes`."""
    rows = Paths.of(settings).rows
    return tuple(
        ServedPath(path, row, _dialects(row)) for path, row in rows.items() if not row.open
    )


def client_paths(served: Sequence[ServedPath]) -> Mapping[str, str]:
    """For each endpoint that clients can call, by its name, the path for their requests.

    A conversation is at a path that speaks its own dialect: the usual path if that does, else
    another one, else one where the shape of the request decides.
    """
    found: dict[str, tuple[int, str]] = {}
    for one in served:
        if "*" in one.path:
            continue
        for name in _names(one):
            usual = BY_NAME[name]
            sure = usual.dialect is None or one.dialects[:1] == (usual.dialect,)
            rank = 2 * (not sure) + (one.path != usual.path)
            if name not in found or rank < found[name][0]:
                found[name] = (rank, one.path)
    return {name: path for name, (_, path) in found.items()}


def by_shape(served: Sequence[ServedPath], paths: Mapping[str, str]) -> frozenset[str]:
    """The endpoints that a request has to show a sign of its dialect to reach.

    paths: of `client_paths`.
    """
    dialects = {one.path: one.dialects for one in served}
    return frozenset(
        row.name
        for row in CONVERSATIONS.values()
        if row.name in paths and dialects[paths[row.name]][0] != row.dialect
    )


def _names(one: ServedPath) -> Sequence[str]:
    if one.row.name not in CONVERSATION_NAMES:
        return (one.row.name,)
    return [CONVERSATIONS[dialect].name for dialect in one.dialects]


def _dialects(row: Endpoint) -> tuple[Dialect, ...]:
    if row.dialect is not None:
        return (row.dialect,)
    rules = row.rules
    if rules is None or not rules.rows:
        return ()
    return (rules.prefer, *(dialect for dialect in rules.rows if dialect != rules.prefer))
