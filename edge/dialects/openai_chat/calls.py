"""Which tool call a fragment of a stream belongs to, and when a call is whole.

OpenAI numbers calls by `index` and tells id and name once. Other servers leave out the index, give
index 0 to all, repeat the id or the name in each fragment, tell the name in pieces, or send
fragments of several calls in turns. `Calls.find` knows them all:

    index, known           that call; unless another id, or a name after its arguments, shows a new
    index, unknown         a new call
    no index, id known     that call
    no index, id unknown   a new call
    neither                the last call; a new one if a name shows it
"""

from typing import Any

import msgspec

from .wire import CallFragment, Custom, Function

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Call:
    """A call as far as it has been told. `waiting`: arguments that have not been passed on.

    seal: what its maker wants back with it (`seals`), b"" for nothing, or when it was passed on.
    """

    __slots__ = ("custom", "id", "name", "opened", "said", "seal", "waiting")

    def __init__(self, id_: str, *, custom: bool) -> None:
        self.id = id_
        self.name = ""
        self.custom = custom
        self.opened = False
        self.seal = b""
        self.said: list[str] = []
        self.waiting: list[str] = []

    def add(self, name: str, arguments: str) -> None:
        """Take a fragment in. A name in pieces is put together, as long as no argument came."""
        if name and name != self.name and not (self.name and self.said):
            self.name += name
        if arguments:
            self.said.append(arguments)
            self.waiting.append(arguments)

    def whole(self) -> bool:
        """Whether nothing can follow: the arguments are an object.

        Free text could always go on, but servers that know it send one call after the other.
        """
        if self.custom:
            return True
        if not self.said or not self.said[-1].rstrip().endswith("}"):
            return False
        try:
            _decode("".join(self.said))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False
        return True


class Calls:
    """The calls of one answer."""

    __slots__ = ("_by_id", "_by_index", "_last")

    def __init__(self) -> None:
        self._by_index: dict[int, Call] = {}
        self._by_id: dict[str, Call] = {}
        self._last: Call | None = None

    def find(self, fragment: CallFragment) -> tuple[Call, bool]:
        """The call that `fragment` belongs to, with it taken in; and whether it is a new one."""
        id_ = fragment.id or ""
        name, arguments = _said(fragment.function, fragment.custom)
        if fragment.index is not None:
            call = self._by_index.get(fragment.index)
            if call is not None and id_ and call.id and id_ != call.id:
                call = self._by_id.get(id_)  # index 0 for all
        elif id_:
            call = self._by_id.get(id_)
        else:
            call = self._last
        if call is not None and not id_ and _begins_another(call, name, arguments):
            call = None
        new = call is None
        if call is None:
            call = Call(id_, custom=fragment.custom is not None)
        elif id_ and not call.id and not call.opened:
            call.id = id_
        if fragment.index is not None:
            self._by_index[fragment.index] = call
        if id_:
            self._by_id[id_] = call
        self._last = call
        call.add(name, arguments)
        return call, new


def _begins_another(call: Call, name: str, arguments: str) -> bool:
    """Whether a name, without an id, tells of a call after `call`. A repeated name does not."""
    if not (name and call.name and call.said):
        return False
    return name != call.name or (bool(arguments.strip()) and call.whole())


def _said(function: Function | None, custom: Custom | None) -> tuple[str, str]:
    if function is not None:
        return function.name or "", text_of(function.arguments)
    if custom is not None:
        return custom.name or "", custom.input or ""
    return "", ""


def text_of(arguments: str | dict[str, Any] | None) -> str:
    """Arguments as JSON text, also of servers that send them as an object."""
    if isinstance(arguments, dict):
        return _encode(arguments).decode()
    return arguments or ""
