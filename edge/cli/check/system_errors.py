"""Errors of the system in plain words: what Python and OpenSSL put around them is left out."""

import os
import re

_CALL_FAILED = re.compile(r"\[Errno (\d+)\] Connect call failed \([^()]*\)")
_NUMBER = re.compile(r"\[Errno -?\d+\] ")
_TYPE = re.compile(r"\b[A-Z]\w*(?:Error|Timeout|Exception): ")
_OPENSSL = re.compile(r"\[SSL(?:: \w+)?\] | \(_ssl\.c:\d+\)")


def plain(text: str) -> str:
    """`text` without names of exceptions, numbers of errors and places in a source."""
    text = _CALL_FAILED.sub(lambda found: os.strerror(int(found[1])), text)
    for pattern in (_NUMBER, _TYPE, _OPENSSL):
        text = pattern.sub("", text)
    return text
