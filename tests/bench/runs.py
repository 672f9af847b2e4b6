"""Runs of the comparison with made-up figures."""

from bench.figures import Result, Run


def measured(
    plain: float, event: float, *, first: float = 0.4, stream: float = 30
) -> dict[str, object]:
    """A round with the figures that verdicts look at."""
    return {
        "saturated_us": plain,
        "event_us": event,
        "added_ms": {"p50": first, "p90": 2 * first, "p99": 3 * first},
        "stream_kib": stream,
        "event_streams": 200,
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
        plan={"firsts": 100, "held": 1000},
        command="python -m bench.compare",
        import_ms=12.0,
        direct=[],
        subjects={name: Result("a proxy", rounds=rounds) for name, rounds in subjects.items()},
    )
