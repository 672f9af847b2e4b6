"""The report shows all that was measured, and names what was not."""

import msgspec

from bench.figures import Result, Run
from bench.report import render

from .runs import measured, run_of


def full_run() -> Run:
    run = run_of(
        penstock=[measured(80, 22), measured(100, 24), measured(90, 23)],
        nginx=[measured(20, 12), measured(20, 12), measured(20, 12)],
    )
    run.subjects["penstock"].command = ["/somewhere/bin/penstock", "serve"]
    run.subjects["penstock"].files = {"penstock.toml": "[server]\nport = 1\n"}
    run.subjects["litellm"] = Result("a gateway", failed=["pip said\n`no`"], rounds=[{}, {}, {}])
    return run


def row(text: str, title: str) -> list[str]:
    """The cells of the first table row with this title."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_table_has_median_and_spread_and_the_ratio_to_nginx() -> None:
    text = render(full_run())
    assert row(text, "CPU µs / plain request") == ["90.0 (80.0 to 100.0)", "20.0"]
    assert row(text, "… x nginx") == ["4.50 (4.00 to 5.00)", "1.00"]


def test_what_limits_add_is_a_table_of_differences() -> None:
    run = run_of(foundation=[measured(80, 10), measured(90, 10)], nginx=[measured(20, 9)] * 2)
    run.subjects["limited"] = Result("limited", rounds=[measured(100, 11), measured(130, 11)])
    _, found, rest = render(run).partition("over foundation in the same round")
    assert found
    assert row(rest, "CPU µs / plain request") == ["30.0 (20.0 to 40.0)"]
    assert row(rest, "CPU µs / streamed event") == ["1.0"]
    assert "over foundation" not in render(full_run())


def test_figure_without_a_value_is_a_dash() -> None:
    assert row(render(full_run()), "requests/s at saturation") == ["-", "-"]


def test_what_gave_no_result_is_named_with_its_reason() -> None:
    assert "- litellm, not measured in a round: `pip said no`" in render(full_run())


def test_fewer_streams_than_the_others_are_reported() -> None:
    run = full_run()
    run.subjects["nginx"].rounds[1] = {**measured(20, 12), "event_streams": 50}
    run.subjects["litellm"].rounds[0] = {**measured(900, 800), "event_streams": 10}
    text = render(run)
    assert "- litellm: events with 10 streams, it cannot keep up with more" in text
    assert "- nginx: events with 50 to 200 streams, it cannot keep up with more" in text
    assert "penstock: events with" not in text


def test_machine_versions_commit_commands_and_configurations_are_in_it() -> None:
    run = full_run()
    run.dirty = True
    text = render(run)
    for part in (
        "commit: `abcdef0123`, with changes that are not committed",
        "Z80, 2 cores",
        "Linux 6, CPython 3.11",
        "uvloop 1.2",
        "`python -m bench.compare`, 3 rounds",
        "    /somewhere/bin/penstock serve",
        "port = 1",
    ):
        assert part in text


def test_paths_of_this_machine_are_hidden() -> None:
    text = render(full_run(), {"/somewhere": "HERE"})
    assert "HERE/bin/penstock" in text
    assert "/somewhere" not in text


def test_verdicts_stand_in_the_report() -> None:
    text = render(full_run())
    assert row(text, "CPU µs / plain request ≤ 6.5 x nginx") == ["4.50 x", "**met**"]
    assert row(text, "CPU µs / plain request below tensorzero") == [
        "tensorzero was not measured",
        "not measured",
    ]


def test_a_run_survives_its_json() -> None:
    run = full_run()
    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run
