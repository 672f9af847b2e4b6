"""Assemble tool calls from the fragments of a stream, and detect when a call is complete.

OpenAI numbers calls by `index` and sends id and name once. Other servers omit the index, give index
0 to all, repeat the id or the name in each fragment, send the name in pieces, or interleave
fragments of several calls. `CallTracker.find` handles them all:

    index, known           that call; unless another id, or a name after its arguments, shows a new
    index, unknown         a new call
    no index, id known     that call
    no index, id unknown   a new call
    neither                the last call; a new one if a name shows it
"""

import re
from typing import Any

import msgspec

from .wire import CallFragment, Custom, Function

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
"""The inside of a JSON string that may be incomplete."""
_MARK = re.compile(r'["{}\[\]]')


LONGEST_NAME = 1024
"""Characters after which no more pieces of a name are added: no tool has such a name."""


class _Brackets:
    """Finds the end of a JSON value that arrives in pieces, reading each character once.

    over: the outermost bracket has closed; no further text can turn it into an object.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "over")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        """Whether the last piece ended between a backslash and the character that it escapes."""
        self.over = False

    def scan(self, text: str) -> None:
        """Scan the next piece."""
        at = 0
        if self._escaped and text:
            self._escaped = False
            at = 1
        while not self.over:
            if self._in_string:
                at = _STRING.match(text, at).end()  # type: ignore[union-attr]
                if at == len(text):
                    return
                if text[at] == "\\":
                    self._escaped = True
                    return
                self._in_string = False
                at += 1
            mark = _MARK.search(text, at)
            if mark is None:
                return
            at = mark.end()
            if mark[0] == '"':
                self._in_string = True
            elif mark[0] in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                self.over = self._depth <= 0


class PendingCall:
    """A tool call as far as it has arrived.

    waiting: arguments that have not been passed on. signature: what its vendor wants back with it
    (`signatures`); b"" for none, and once it was passed on.
    """

    __slots__ = (
        "_brackets",
        "_is_object",
        "_scanned",
        "custom",
        "fragments",
        "id",
        "name",
        "opened",
        "signature",
        "waiting",
    )

    def __init__(self, id_: str, *, custom: bool) -> None:
        self.id = id_
        self.name = ""
        self.custom = custom
        self.opened = False
        self.signature = b""
        self.fragments: list[str] = []
        self.waiting: list[str] = []
        self._brackets: _Brackets | None = None
        self._scanned = 0
        """How many of `fragments` have been scanned for the end of the arguments."""
        self._is_object = False

    def add(self, name: str, arguments: str) -> None:
        """Add a fragment. A name in pieces is joined until the first argument."""
        if (
            name
            and name != self.name
            and not (self.name and self.fragments)
            and len(self.name) < LONGEST_NAME
        ):
            self.name += name
        if arguments:
            self.fragments.append(arguments)
            self.waiting.append(arguments)

    def whole(self) -> bool:
        """Whether the arguments are complete: they are an object.

        Free text could always continue, but servers with custom tools send one call at a time.
        """
        if self.custom:
            return True
        if not self.fragments or not self.fragments[-1].rstrip().endswith("}"):
            return False
        if self._scanned < len(self.fragments):
            self._scan_new()
        return self._is_object

    def _scan_new(self) -> None:
        """Scan the new fragments. The arguments are decoded once, when the brackets have closed.

        With further text they are no object.
        """
        brackets = self._brackets = self._brackets or _Brackets()
        over = brackets.over
        if not over:
            brackets.scan("".join(self.fragments[self._scanned :]))
        self._scanned = len(self.fragments)
        self._is_object = not over and brackets.over and _is_object("".join(self.fragments))


class CallTracker:
    """The calls of one answer."""

    __slots__ = ("_by_id", "_by_index", "_last")

    def __init__(self) -> None:
        self._by_index: dict[int, PendingCall] = {}
        self._by_id: dict[str, PendingCall] = {}
        self._last: PendingCall | None = None

    def find(self, fragment: CallFragment) -> tuple[PendingCall, bool]:
        """Add `fragment` to its call; return the call, and whether it is new."""
        id_ = fragment.id or ""
        name, arguments = _name_and_arguments(fragment.function, fragment.custom)
        if fragment.index is not None:
            call = self._by_index.get(fragment.index)
            if call is not None and id_ and call.id and id_ != call.id:
                call = self._by_id.get(id_)  # the server sends index 0 for all
        elif id_:
            call = self._by_id.get(id_)
        else:
            call = self._last
        if call is not None and not id_ and _begins_another(call, name, arguments):
            call = None
        new = call is None
        if call is None:
            call = PendingCall(id_, custom=fragment.custom is not None)
        elif id_ and not call.id and not call.opened:
            call.id = id_
        if fragment.index is not None:
            self._by_index[fragment.index] = call
        if id_:
            self._by_id[id_] = call
        self._last = call
        call.add(name, arguments)
        return call, new


def _begins_another(call: PendingCall, name: str, arguments: str) -> bool:
    """Whether a name without an id begins a new call after `call`. A repeated name does not."""
    if not (name and call.name and call.fragments):
        return False
    return name != call.name or (bool(arguments.strip()) and call.whole())


def _is_object(text: str) -> bool:
    try:
        _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def _name_and_arguments(function: Function | None, custom: Custom | None) -> tuple[str, str]:
    if function is not None:
        return function.name or "", text_of(function.arguments)
    if custom is not None:
        return custom.name or "", custom.input or ""
    return "", ""


def text_of(arguments: str | dict[str, Any] | None) -> str:
    """Arguments as JSON text; some servers send them as an object."""
    if isinstance(arguments, dict):
        return _encode(arguments).decode()
    return arguments or ""
