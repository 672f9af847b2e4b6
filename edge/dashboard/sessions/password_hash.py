"""Make and compare argon2id hashes. Loading argon2 takes time, which a worker's start need not."""

import re

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from edge.config.secrets import LANES, MEMORY, TIME

LEAST = 12
LONGEST = 300
"""Characters of a password."""
_WELL_KNOWN = re.compile(
    r"(admin|administrator|changeme|default|gateway|letmein|passphrase|password|penstock|qwerty"
    r"|root|secret|test|welcome)+"
)


class PasswordRefused(ValueError):
    """A password that is not taken; the message says why."""


def new_hash(password: str) -> str:
    """The argon2id hash of a new password in the PHC string format. Raises PasswordRefused."""
    if len(password) < LEAST:
        raise PasswordRefused(f"expected at least {LEAST} characters")
    if len(password) > LONGEST or not password.isprintable():
        raise PasswordRefused(f"expected at most {LONGEST} printable characters")
    letters = re.sub(r"[\W\d_]+", "", password.lower())
    if len(set(password)) < 6 or not letters or _WELL_KNOWN.fullmatch(letters):
        raise PasswordRefused("is easily guessed; expected several words or random characters")
    return PasswordHasher(TIME, MEMORY, LANES).hash(password)


def matches(hashed: str, password: str) -> bool:
    """Whether `password` has this hash."""
    try:
        return PasswordHasher().verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
