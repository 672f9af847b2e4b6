"""The arithmetic of the comparison: medians, ratios per round, verdicts."""

import pytest

from bench.figures import FIGURES, Result, Run, Spread, added, difference, ratio, spread
from bench.fleet import percentiles
from bench.targets import verdicts

from .runs import measured, run_of


def met(run: Run) -> dict[str, bool | None]:
    """Verdicts by target."""
    return {verdict.target: verdict.met for verdict in verdicts(run)}


def test_percentiles_are_samples_by_nearest_rank_in_milliseconds() -> None:
    found = percentiles([number / 1000 for number in range(100, -1, -1)])
    assert found == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "most": 100.0, "n": 101}


def test_no_samples_have_no_percentiles() -> None:
    assert percentiles([]) == {"n": 0}


def test_added_time_is_the_difference_of_each_percentile() -> None:
    through = {"p50": 1.5, "p90": 3.0, "p99": 9.0, "n": 10}
    direct = {"p50": 1.0, "p90": 1.0, "p99": 10.0, "n": 12}
    assert added(through, direct) == {"p50": 0.5, "p90": 2.0, "p99": -1.0}


def test_a_ratio_is_taken_in_each_round_before_the_median() -> None:
    ours = Result("us", rounds=[measured(10, 1), measured(40, 1), measured(90, 1)])
    base = Result("them", rounds=[measured(10, 1), measured(20, 1), measured(30, 1)])
    assert ratio(ours, base, FIGURES["plain"]) == Spread(2.0, 1.0, 3.0)


def test_a_figure_missing_in_one_round_does_not_shift_the_others() -> None:
    ours = Result("us", rounds=[{}, measured(40, 1), measured(90, 1)])
    base = Result("them", rounds=[measured(10, 1), {}, measured(30, 1)])
    assert ratio(ours, base, FIGURES["plain"]) == Spread(3.0, 3.0, 3.0)
    assert spread(ours, FIGURES["plain"]) == Spread(65.0, 40.0, 90.0)
    assert spread(Result("none", rounds=[{}]), FIGURES["plain"]) is None


def test_a_difference_is_taken_in_each_round_before_the_median() -> None:
    ours = Result("us", rounds=[measured(10, 1), measured(40, 1), {}, measured(90, 1)])
    base = Result("them", rounds=[measured(12, 1), measured(20, 1), measured(1, 1), measured(0, 1)])
    assert difference(ours, base, FIGURES["plain"]) == Spread(20.0, -2.0, 90.0)
    assert difference(ours, Result("none", rounds=[{}] * 4), FIGURES["plain"]) is None


@pytest.mark.parametrize(("limited", "met_by_it"), [(65.0, True), (65.1, False)])
def test_limits_are_held_against_nginx(limited: float, met_by_it: bool) -> None:
    run = run_of(nginx=[measured(10, 10)])
    run.subjects["limited"] = Result("limited", rounds=[measured(limited, 12)])
    run.subjects["limited-redis"] = Result("redis", rounds=[{}])
    assert met(run) == {
        "CPU µs / plain request, limited ≤ 6.5 x nginx": met_by_it,
        "CPU µs / plain request, limited-redis ≤ 10 x nginx": None,
    }


def test_targets_are_met_up_to_their_limits() -> None:
    run = run_of(
        penstock=[measured(65, 15, first=1.0, stream=40.0, start=700)],
        nginx=[measured(10, 10)],
        envoy=[measured(20, 16)],
        tensorzero=[measured(66, 16)],
    )
    assert set(met(run).values()) == {True}


@pytest.mark.parametrize(
    ("penstock", "missed"),
    [
        (measured(65.1, 10), "CPU µs / plain request ≤ 6.5 x nginx"),
        (measured(10, 15.1), "CPU µs / streamed event ≤ 1.5 x nginx"),
        (measured(10, 18), "CPU µs / streamed event below envoy"),
        (measured(10, 10, start=701), "start to first answer, ms ≤ 700"),
        (measured(60, 10), "CPU µs / plain request below tensorzero"),
        (measured(10, 19), "CPU µs / streamed event below tensorzero"),
        (measured(10, 10, first=1.01), "added to first token p50"),
        (measured(10, 10, stream=40.1), "RSS / open stream, KiB ≤ 40"),
    ],
)
def test_a_target_missed_is_said_to_be(penstock: dict[str, object], missed: str) -> None:
    run = run_of(
        penstock=[penstock],
        nginx=[measured(10, 10)],
        envoy=[measured(20, 18)],
        tensorzero=[measured(60, 19)],
    )
    assert [value for target, value in met(run).items() if target.startswith(missed)] == [False]


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = met(run_of(penstock=[measured(10, 10)], nginx=[{}]))
    assert found["CPU µs / plain request ≤ 6.5 x nginx"] is None
    assert found["CPU µs / plain request below tensorzero"] is None


def test_there_are_no_verdicts_without_the_gateway() -> None:
    assert verdicts(run_of(nginx=[measured(10, 10)])) == []
    assert verdicts(run_of(penstock=[{}], nginx=[measured(10, 10)])) == []
