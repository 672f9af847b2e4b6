"""What mutation begins with: requests, streams and bodies of the golden cases."""

from functools import cache

from tests.golden.case import CASES, Case, parse


@cache
def _cases() -> tuple[Case, ...]:
    paths = sorted(CASES.glob("*/*.txt"))
    return tuple(parse(path.read_text("utf-8")) for path in paths)


def requests(endpoint: str) -> list[bytes]:
    """What callers of `endpoint` send."""
    found = {case.given["caller"].text.encode() for case in _cases() if case.endpoint == endpoint}
    return sorted(found)


def answers(dialect: str) -> list[bytes]:
    """What upstreams of `dialect` answer, streamed and whole."""
    cases = [case for case in _cases() if case.dialect == dialect]
    found = {answer for case in cases for answer in (case.stream(), case.body()) if answer}
    return sorted(found)
