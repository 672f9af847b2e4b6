"""The scripts of Redis in the folder `lua`, by the name that calls each."""

from hashlib import sha1
from pathlib import Path

from .redis_client import Part

_LUA = Path(__file__).parent / "lua"

SCRIPTS: dict[Part, bytes] = {}
"""Sources by SHA1."""


def _script(name: str, prelude: str = "") -> bytes:
    """Read a script behind its prelude; return its SHA1, by which it is called."""
    parts = [(_LUA / f"{part}.lua").read_bytes() for part in (prelude, name) if part]
    source = b"".join(parts)
    digest = sha1(source).hexdigest().encode()  # noqa: S324  # it is Redis' name for the script
    SCRIPTS[digest] = source
    return digest


ADMIT = _script("admit", "prelude_rates")
CHARGE = _script("charge", "prelude_rates")
RENEW = _script("renew")
RESERVE = _script("reserve", "prelude_money")
PUT_HOLDS = _script("put_holds", "prelude_money")
DROP_HOLD = _script("drop_hold", "prelude_money")
CONVERT = _script("convert", "prelude_money")
READ_ACCOUNT = _script("read_account", "prelude_money")
RESTORE = _script("restore", "prelude_money")
INVALIDATE = _script("invalidate", "prelude_money")
REGISTER_WORKER = _script("register_worker")
GRANTS = _script("grants")
BREAKERS = _script("breakers")
REPLAY_CLAIM = _script("replay_claim", "prelude_replays")
REPLAY_RENEW = _script("replay_renew", "prelude_replays")
REPLAY_KEEP = _script("replay_keep", "prelude_replays")
REPLAY_RELEASE = _script("replay_release", "prelude_replays")

_once = (ADMIT, CHARGE, PUT_HOLDS, CONVERT, REPLAY_KEEP)
ONCE: frozenset[Part] = frozenset((*_once, *(SCRIPTS[name] for name in _once)))
"""What may not run twice: a rate would be taken twice; a hold that has been converted would be put
there again, and be converted again; an answer kept by the first run would be another's for the
second. All others name the hold, the lease or the version that they are about, and a second run
changes nothing."""
