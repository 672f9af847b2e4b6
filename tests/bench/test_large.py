"""Targets and tables of large bodies, gaps and shapes; runs that are put together."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from bench.client import Target
from bench.figures import Result, Row, Run, Table
from bench.fleet import Fleet, Job
from bench.large import Gaps, bodies
from bench.machine import commit
from bench.many_streams import report_rows
from bench.merging import merged, tables, write_table
from bench.provider import Provider
from bench.report import render
from bench.targets import verdicts

from .runs import run_of, with_large


def large_run(later: float = 4.0, event: float = 15.0, longest: float = 45.0) -> Run:
    run = run_of(penstock=[with_large(later, event, longest)], nginx=[with_large(0.5, 10.0)])
    run.subjects["envoy"] = Result("Envoy", "envoy", rounds=[with_large(1.0, 16.0)])
    translated = [with_large(3 * later, event)]
    name = "chat-over-messages"
    run.subjects[name] = Result("translates", "penstock", name, rounds=translated)
    return run


def met(run: Run) -> dict[str, bool | None]:
    return {verdict.target: verdict.met for verdict in verdicts(run)}


def row(text: str, title: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


GAP = "added to the longest gap, ms ≤ 20, passed, a conversation that grows"


@pytest.mark.parametrize(
    ("run", "target", "expected"),
    [
        (large_run(later=5.0), "CPU ms / 1 MB ≤ 5, passed", True),
        (large_run(later=5.1), "CPU ms / 1 MB ≤ 5, passed", False),
        (large_run(later=5.1), "CPU ms / 1 MB ≤ 15, chat-over-messages", False),
        (large_run(), GAP, True),
        (large_run(longest=45.1), GAP, False),
        (large_run(event=15.1), "CPU µs / event, chat: OpenAI, passed ≤ 1.5 x nginx", False),
        (large_run(event=15.9), "CPU µs / event, chat: OpenAI, passed below envoy", True),
        (large_run(event=16.0), "CPU µs / event, chat: OpenAI, passed below envoy", False),
    ],
)
def test_large_figures_are_held_against_their_targets(
    run: Run, target: str, expected: bool
) -> None:
    assert met(run)[target] is expected


def test_third_of_the_earlier_cost_is_enough() -> None:
    run = large_run(later=10.0)
    run.subjects["before"] = Result("before", "before", rounds=[with_large(30.0, 10.0)])
    assert met(run)["CPU ms / 1 MB ≤ 5, passed, or a third of before"] is True
    run.subjects["before"].rounds[0] = with_large(29.0, 10.0)
    assert met(run)["CPU ms / 1 MB ≤ 5, passed, or a third of before"] is False


def test_tables_have_a_row_per_size_shape_and_subject() -> None:
    text = render(large_run())
    assert row(text, "1 MB, passed") == ["4.00 (8.0 x)", "0.50", "1.00 (2.0 x)"]
    assert row(text, "1 MB, chat-over-messages") == ["12.00 (24.0 x)", "-", "-"]
    assert row(text, "chat: OpenAI, passed") == ["15.0 (1.5 x)", "10.0", "16.0 (1.6 x)"]
    assert row(text, "10 kB, passed") == ["-", "-", "-"]
    assert row(text, "penstock")[:6] == ["20.0", "22.0", "25.0", "0.0", "0.0", "20.0"]


def test_runs_of_one_commit_become_one() -> None:
    small = run_of(penstock=[{"saturated_us": 10.0}, {"saturated_us": 11.0}], nginx=[{}, {}])
    large = run_of(penstock=[with_large(4.0, 15.0)], envoy=[with_large(1.0, 16.0)])
    both = merged([small, large])
    assert both.subjects["penstock"].rounds[0] == {"saturated_us": 10.0, **with_large(4.0, 15.0)}
    assert {len(result.rounds) for result in both.subjects.values()} == {2}
    large.commit = "another"
    with pytest.raises(ValueError, match="another"):
        merged([small, large])


def test_what_could_not_be_run_is_taken_from_the_run_that_has_it() -> None:
    without = run_of(penstock=[{"saturated_us": 10.0}], before=[{}])
    without.subjects["before"].failed.append("not installed")
    both = merged([without, run_of(before=[with_large(4.0, 15.0)])])
    assert both.subjects["before"].rounds == [with_large(4.0, 15.0)]
    assert both.subjects["before"].failed == []


def test_result_of_another_bench_stands_in_table_and_targets(tmp_path: Path) -> None:
    rows = [Row("kB / stream, 20,000 open", 28.4, 30, True), Row("opened / s", 1000)]
    table = Table("Many streams", "python -m bench.many_streams", "abcdef0123", rows)
    file = tmp_path / "many.json"
    file.write_bytes(msgspec.json.encode(table))
    run = large_run()
    run.tables = tables([file], run.commit)
    assert met(run)["kB / stream, 20,000 open: 30"] is True
    assert row(render(run), "opened / s") == ["1,000"]
    with pytest.raises(ValueError, match="of commit"):
        tables([file], "fedcba3210")


def test_figures_of_many_streams_are_written_with_their_targets(tmp_path: Path) -> None:
    delays = {"p50": 3.0, "p99": 29.0, "max": 60.0}
    found = {
        "opening": {"failed": 0, "first": {"p50": 90.0, "p99": 501.0}},
        "flowing": {"failed": 1, "widened": delays},
        "kB per stream": 28.0,
        "core": 0.6,
        "core of the clients": 0.4,
        "cores of the upstream": 0.5,
    }
    file = tmp_path / "many.json"
    write_table(file, "Many streams", list(report_rows(found, 20_000)))
    [table] = tables([file], commit()[0])
    verdict = {row.what: row.met for row in table.rows if row.target is not None}
    assert verdict == {
        "streams that failed, of 20,000": False,
        "kB / open stream": True,
        "added to a gap p99, ms": True,
        "first token while they are opened p99, ms": False,
    }


def test_gap_is_the_time_between_two_pieces_with_events() -> None:
    async def measured() -> dict[str, float]:
        now = 1.0
        gaps = Gaps(lambda: now)
        heard = gaps.listener()
        heard(1)

        async def events() -> None:
            nonlocal now
            for events in (1, 0, 2):
                now += 0.25
                heard(events)

        return await gaps.during(events())

    found = asyncio.run(measured())
    assert (found["n"], found["p50"], found["most"]) == (2, 250, 500)


def test_bodies_counts_first_and_later_requests_and_checks_their_answers() -> None:
    async def ran(size: str) -> tuple[dict[str, float], Fleet]:
        async with Provider() as provider:
            target = Target(f"http://127.0.0.1:{provider.port}/v1/messages", "m")
            fleet = Fleet(Job("bodies", target, connections=2, window=0, size=size))
            return await bodies(fleet), fleet

    found, fleet = asyncio.run(ran("10 kB"))
    assert (found["firsts"], found["laters"], fleet.faults) == (2, 8, 0)
