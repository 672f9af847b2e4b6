"""Runs of the comparison with made-up figures."""

from bench.figures import Result, Run


def measured(
    plain: float, event: float, *, first: float = 0.4, stream: float = 30, start: float = 500
) -> dict[str, object]:
    """A round with the figures that verdicts look at."""
    return {
        "saturated_us": plain,
        "event_us": event,
        "added_ms": {"p50": first, "p90": 2 * first, "p99": 3 * first},
        "stream_kib": stream,
        "event_streams": 200,
        "start_ms": start,
    }


def with_large(later: float, event: float, longest: float = 30.0) -> dict[str, object]:
    """A round with figures of large bodies, of an event in one shape, and of gaps.

    later: CPU ms of 1 MB. longest: gap while the caller sends; 25 ms alone.
    """
    alone = {"p50": 20.0, "p99": 22.0, "most": 25.0, "result": None}
    return {
        "bodies": {"1 MB": {"first_ms": 2 * later, "later_ms": later}},
        "shapes": {"chat: OpenAI": {"event_us": event, "streams": 200}},
        "gaps": {"alone": alone, "grown": {**alone, "most": longest, "result": 5.0}},
    }


def run_of(**subjects: list[dict[str, object]]) -> Run:
    """A run with these rounds by subject."""
    return Run(
        date="2026-01-02",
        commit="abcdef0123",
        dirty=False,
        machine={
            "cpu": "Z80",
            "cores": 2,
            "memory_gib": 1.0,
            "kernel": "Linux 6",
            "python": "CPython 3.11",
            "libraries": {"uvloop": "1.2"},
        },
        plan={"firsts": 100, "held": 1000, "gap_streams": 100},
        command="python -m bench.compare",
        starts={"penstock --help": 240.0, "import middlewares": 12.0, "import edge": 0.5},
        direct=[],
        subjects={
            name: Result("a proxy", name, rounds=rounds) for name, rounds in subjects.items()
        },
    )
