"""When a place counts as broken, in simulated time."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewares.exchange import Target
from middlewares.stores.health.base import Health, State, UpstreamHealth
from middlewares.stores.health.breakers import BreakerPolicy, Breakers
from tests.simulated import EPOCH

from .outcomes import Outcome, report

PLACE = Target("one", "m")
OTHER = Target("two", "m")


class Simulation:
    """Breakers, the time, and what changed."""

    def __init__(self, terms: BreakerPolicy | None = None, most: int = 10_000) -> None:
        self.now = EPOCH
        self.chance = 0.5  # no jitter
        self.changes: list[tuple[Target, State, str]] = []
        self.breakers = Breakers(
            terms,
            most=most,
            changed=lambda place, state, reason: self.changes.append((place, state, reason)),
            clock=lambda: self.now,
            random=lambda: self.chance,
        )

    def tried(
        self,
        outcome: Outcome,
        times: int = 1,
        place: Target = PLACE,
        *,
        seconds: float = 0.0,
        retry_after: int | None = None,
    ) -> None:
        for _ in range(times):
            mark = self.breakers.began(place)
            report(self.breakers, place, outcome, mark, seconds=seconds, retry_after=retry_after)

    @contextmanager
    def trying(self, outcome: Outcome, retry_after: int | None = None) -> Iterator[None]:
        """A try is under way."""
        mark = self.breakers.began(PLACE)
        yield
        report(self.breakers, PLACE, outcome, mark, retry_after=retry_after)

    @property
    def state(self) -> str:
        return self.breakers.conditions()[PLACE].state

    @property
    def states(self) -> list[State]:
        return [state for _, state, _ in self.changes]


@pytest.fixture
def simulation() -> Simulation:
    return Simulation()


def test_they_are_health() -> None:
    health: Health = Breakers()
    assert health.admits(PLACE)
    assert health.conditions() == {}


# Closed


def test_unknown_target_is_admitted(simulation: Simulation) -> None:
    assert simulation.breakers.admits(PLACE)
    assert simulation.breakers.wait(PLACE) == 0.0
    assert simulation.breakers.in_flight(PLACE) == 0
    assert simulation.breakers.latency(PLACE) == 0.0


def test_as_many_failures_as_it_takes(simulation: Simulation) -> None:
    simulation.tried("bad", 4)
    assert simulation.breakers.admits(PLACE)
    simulation.tried("bad")
    assert not simulation.breakers.admits(PLACE)
    assert simulation.breakers.admits(OTHER)
    assert simulation.changes == [(PLACE, "open", "5 of 5 requests failed within 30 s")]


@pytest.mark.parametrize(("good", "broken"), [(11, True), (12, False)])
def test_their_share_has_to_be_large_enough(
    simulation: Simulation, good: int, broken: bool
) -> None:
    simulation.tried("good", good)
    simulation.tried("bad", 5)
    assert simulation.breakers.admits(PLACE) is not broken


def test_what_nothing_can_be_said_of_does_not_count(simulation: Simulation) -> None:
    simulation.tried("none", 100)
    simulation.tried("bad", 4)
    simulation.tried("none", 100)
    assert simulation.breakers.admits(PLACE)
    simulation.tried("bad")
    assert simulation.changes[0][2] == "5 of 5 requests failed within 30 s"


def test_failures_are_forgotten(simulation: Simulation) -> None:
    for _ in range(50):  # one in 8 s: no five of them within 30
        simulation.tried("bad")
        simulation.now += 8
    assert simulation.breakers.admits(PLACE)


def test_old_successes_hide_nothing(simulation: Simulation) -> None:
    simulation.tried("good", 10_000)
    simulation.now += 31
    simulation.tried("bad", 5)
    assert not simulation.breakers.admits(PLACE)


def test_a_long_answer_counts_when_it_begins(simulation: Simulation) -> None:
    """Minutes before it ends: streams under way are no reason to take a place for broken."""
    breakers = simulation.breakers
    marks = [breakers.began(PLACE) for _ in range(20)]
    for mark in marks:
        breakers.answered(PLACE, mark, seconds=1.0)
    simulation.tried("bad", 5)
    assert simulation.state == "closed"
    simulation.now += 120
    for mark in marks:
        breakers.ended(PLACE, "none", mark)
    simulation.tried("bad", 5)
    assert simulation.changes == [(PLACE, "open", "5 of 5 requests failed within 30 s")]


def test_an_answer_that_breaks_off_counts_as_both(simulation: Simulation) -> None:
    for _ in range(5):
        mark = simulation.breakers.began(PLACE)
        simulation.breakers.answered(PLACE, mark)
        simulation.breakers.ended(PLACE, "bad", mark)
    assert simulation.changes == [(PLACE, "open", "5 of 10 requests failed within 30 s")]


def test_a_late_begin_of_an_answer_counts_as_that(simulation: Simulation) -> None:
    mark = simulation.breakers.began(PLACE)
    simulation.now += 120
    report(simulation.breakers, PLACE, "good", mark, seconds=119.0)
    simulation.tried("bad", 5)
    assert simulation.changes[0][2] == "5 of 6 requests failed within 30 s"


def test_what_is_remembered_of_a_place_does_not_grow(simulation: Simulation) -> None:
    simulation.tried("bad")
    known = simulation.breakers._targets[PLACE]
    simulation.tried("good", 5000)
    simulation.now += 1e6
    simulation.tried("bad")
    assert len(known.good) == len(known.bad) == 10
    assert (sum(known.good), sum(known.bad)) == (0, 1)


def test_by_upstream_is_the_worst_of_its_targets(simulation: Simulation) -> None:
    breakers = simulation.breakers
    assert breakers.by_upstream() == {}
    same = Target("one", "n")
    simulation.tried("good", 3, OTHER)
    simulation.tried("bad", 5)
    breakers.began(same)
    breakers.began(OTHER)
    found = breakers.by_upstream()["one"]
    assert (found.state, found.broken, found.in_flight) == ("open", 1, 1)
    assert found.until == pytest.approx(EPOCH + 5)
    assert breakers.by_upstream()["two"] == UpstreamHealth("closed", 0, 0.0, 1)
    simulation.tried("bad", 5, same)
    found = breakers.by_upstream()["one"]
    assert (found.state, found.broken) == ("open", 2)
    simulation.now += 6
    breakers.began(PLACE)
    found = breakers.by_upstream()["one"]
    assert (found.state, found.until, found.in_flight) == ("open", 0.0, 2)


# Open, and the probe


def test_after_a_pause_one_attempt_sees(simulation: Simulation) -> None:
    simulation.tried("bad", 5)
    assert simulation.breakers.wait(PLACE) == pytest.approx(5)
    assert simulation.breakers.conditions()[PLACE].until == pytest.approx(EPOCH + 5)
    simulation.now += 4.9
    assert not simulation.breakers.admits(PLACE)
    simulation.now += 0.11
    assert simulation.breakers.admits(PLACE)
    with simulation.trying("good"):
        assert simulation.state == "half_open"
        assert not simulation.breakers.admits(PLACE)
        assert simulation.breakers.wait(PLACE) == pytest.approx(10)  # as if it failed
    assert simulation.breakers.admits(PLACE)
    assert simulation.states == ["open", "half_open", "closed"]
    simulation.tried("bad", 4)  # of before nothing is remembered
    assert simulation.state == "closed"
    simulation.tried("bad")
    assert simulation.state == "open"
    assert simulation.breakers.wait(PLACE) == pytest.approx(5)


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest(simulation: Simulation) -> None:
    simulation.tried("bad", 5)
    pauses = []
    for _ in range(80):
        pauses.append(simulation.breakers.wait(PLACE))
        simulation.now += pauses[-1] + 0.001
        assert simulation.breakers.admits(PLACE)
        simulation.tried("bad")
        assert not simulation.breakers.admits(PLACE)
    assert pauses[:6] == pytest.approx([5, 10, 20, 40, 80, 120], rel=1e-3)
    assert pauses[6:] == pytest.approx([120] * 74, rel=1e-3)


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 4.5), (1.0, 5.5)])
def test_pauses_are_not_all_the_same(simulation: Simulation, chance: float, pause: float) -> None:
    simulation.chance = chance
    simulation.tried("bad", 5)
    assert simulation.breakers.wait(PLACE) == pytest.approx(pause)


def test_no_pause_is_longer_than_the_longest() -> None:
    simulation = Simulation(BreakerPolicy(open_for=100.0, max_open_for=60.0))
    simulation.chance = 1.0
    simulation.tried("bad", 5)
    assert simulation.breakers.wait(PLACE) == pytest.approx(60)


def test_a_probe_that_says_nothing_gives_the_chance_to_the_next(simulation: Simulation) -> None:
    simulation.tried("bad", 5)
    simulation.now += 5.1
    simulation.tried("none")
    assert simulation.state == "half_open"
    assert simulation.breakers.admits(PLACE)
    simulation.tried("good")
    assert simulation.states == ["open", "half_open", "closed"]


def test_attempts_of_before_do_not_close_it(simulation: Simulation) -> None:
    with simulation.trying("good"):
        simulation.tried("bad", 5)
    assert simulation.state == "open"
    with simulation.trying("good"):
        simulation.now += 5.1
        with simulation.trying("bad"), simulation.trying("good"):  # the probe, and one that is none
            pass
        assert simulation.state == "open"
    assert simulation.state == "open"
    assert simulation.breakers.wait(PLACE) == pytest.approx(10)


def test_attempts_of_before_do_not_extend_it(simulation: Simulation) -> None:
    with simulation.trying("bad"), simulation.trying("bad"):
        simulation.tried("bad", 5)
        simulation.now += 4
    assert simulation.breakers.wait(PLACE) == pytest.approx(1)
    with simulation.trying("bad"):
        simulation.now += 1.01
        with simulation.trying("good"):
            pass
        assert simulation.state == "closed"
    simulation.tried("bad", 4)  # that one is of a past that is forgotten
    assert simulation.state == "closed"


def test_where_nothing_is_left_a_broken_place_is_tried_and_stays_broken(
    simulation: Simulation,
) -> None:
    simulation.tried("bad", 5)
    simulation.tried("good", 20)
    simulation.tried("bad", 20)
    assert simulation.state == "open"
    assert simulation.breakers.wait(PLACE) == pytest.approx(5)
    simulation.now += 5.1
    simulation.tried("good")  # without a question whether it may; it is time all the same
    assert simulation.state == "closed"


def test_the_only_place_is_seen_to_be_well_by_any_attempt_that_is_due(
    simulation: Simulation,
) -> None:
    simulation.tried("bad", 5)
    for _ in range(6):
        simulation.now += 1
        simulation.tried("good")
    assert simulation.states == ["open", "half_open", "closed"]


# Asked to be left alone


def test_a_place_that_asks_is_left_alone(simulation: Simulation) -> None:
    simulation.tried("bad", retry_after=7)
    assert not simulation.breakers.admits(PLACE)
    assert simulation.breakers.wait(PLACE) == pytest.approx(7)
    condition = simulation.breakers.conditions()[PLACE]
    assert condition.state == "closed"
    assert condition.until == pytest.approx(EPOCH + 7)
    simulation.now += 7.01
    for _ in range(3):  # no probe: as ever
        assert simulation.breakers.admits(PLACE)
        simulation.breakers.began(PLACE)
    assert simulation.changes == []
    assert simulation.breakers.wait(PLACE) == 0.0


def test_but_not_for_longer_than_the_longest(simulation: Simulation) -> None:
    simulation.tried("bad", retry_after=86400)
    assert simulation.breakers.wait(PLACE) == pytest.approx(120)


def test_the_longest_wish_counts(simulation: Simulation) -> None:
    simulation.tried("bad", retry_after=60)
    simulation.tried("bad", retry_after=1)
    simulation.now += 2
    assert simulation.breakers.wait(PLACE) == pytest.approx(58)


def test_a_later_answer_ends_it_early_and_an_earlier_one_does_not(simulation: Simulation) -> None:
    with simulation.trying("good"):
        simulation.tried("bad", retry_after=60)
    assert not simulation.breakers.admits(PLACE)
    simulation.tried("good")
    assert simulation.breakers.admits(PLACE)
    assert simulation.breakers.conditions()[PLACE].until == 0.0


def test_broken_and_asked(simulation: Simulation) -> None:
    """Both have to be over."""
    simulation.tried("bad", 5, retry_after=20)
    assert simulation.state == "open"
    assert simulation.breakers.wait(PLACE) == pytest.approx(20)
    simulation.now += 6
    assert not simulation.breakers.admits(PLACE)
    simulation.now += 14.1
    assert simulation.breakers.admits(PLACE)
    with simulation.trying("good"):
        assert not simulation.breakers.admits(PLACE)
    assert simulation.breakers.admits(PLACE)


def test_probe_with_retry_after_waits_for_it(simulation: Simulation) -> None:
    simulation.tried("bad", 5)
    simulation.now += 5.1
    simulation.tried("bad", retry_after=90)
    assert simulation.breakers.wait(PLACE) == pytest.approx(90)
    simulation.now += 20  # the breaker's own 10 s are over
    assert not simulation.breakers.admits(PLACE)


# What it shares with other processes


def test_latency_is_an_average_that_follows(simulation: Simulation) -> None:
    simulation.tried("good", seconds=1.0)
    assert simulation.breakers.latency(PLACE) == 1.0
    simulation.tried("good", seconds=2.0)
    assert simulation.breakers.latency(PLACE) == pytest.approx(1.2)
    simulation.tried("bad")
    simulation.tried("good", seconds=0.0)  # a refusal that says nothing of how fast it is
    assert simulation.breakers.latency(PLACE) == pytest.approx(1.2)
    simulation.tried("good", 50, seconds=3.0)
    assert simulation.breakers.latency(PLACE) == pytest.approx(3.0, abs=0.001)


def test_what_is_under_way_is_counted(simulation: Simulation) -> None:
    with simulation.trying("good"):
        with simulation.trying("none"), simulation.trying("bad"):
            assert simulation.breakers.in_flight(PLACE) == 3
        assert simulation.breakers.conditions()[PLACE].in_flight == 1
    assert simulation.breakers.in_flight(PLACE) == 0


def test_failures_are_forgotten_also_after_a_clock_was_set_back(simulation: Simulation) -> None:
    simulation.tried("good", 10)
    simulation.now -= 86_400
    for _ in range(20):  # one in each window: it never is broken
        simulation.tried("good", 2)
        simulation.tried("bad")
        simulation.now += 31
    assert simulation.changes == []


def test_a_clock_that_is_set_back(simulation: Simulation) -> None:
    simulation.tried("bad", 5)
    simulation.tried("bad", retry_after=30)
    simulation.now -= 86400  # what was to last seconds must not last a day
    assert simulation.breakers.wait(PLACE) == 0.0
    assert simulation.breakers.admits(PLACE)
    simulation.tried("good")
    assert simulation.state == "closed"
    simulation.tried("bad", 5)
    assert simulation.state == "open"


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_failures": 0},
        {"failure_rate": 0},
        {"failure_rate": 101},
        {"window": 0.0},
        {"open_for": -1.0},
        {"max_open_for": float("inf")},
    ],
)
def test_terms_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*expected"):
        BreakerPolicy(**wrong)  # type: ignore[arg-type]


def test_room_for_no_place() -> None:
    with pytest.raises(ValueError, match="most=0"):
        Breakers(most=0)


# Names without end


def test_the_places_that_are_remembered_are_bounded() -> None:
    simulation = Simulation(most=100)
    broken = Target("one", "broken")
    simulation.tried("bad", 5, broken)
    busy = Target("one", "busy")
    mark = simulation.breakers.began(busy)
    for n in range(1000):
        simulation.now += 0.001
        simulation.tried("good", place=Target("one", f"made up {n}"))
        assert len(simulation.breakers.conditions()) <= 100
    assert not simulation.breakers.admits(broken)
    assert simulation.breakers.in_flight(busy) == 1
    report(simulation.breakers, busy, "good", mark)
    assert Target("one", "made up 999") in simulation.breakers.conditions()
    assert Target("one", "made up 0") not in simulation.breakers.conditions()


def test_broken_places_without_end() -> None:
    simulation = Simulation(most=40)
    for n in range(400):
        simulation.tried("bad", 5, Target("one", f"made up {n}"))
        assert len(simulation.breakers.conditions()) <= 40


def test_a_place_under_way_is_not_forgotten() -> None:
    simulation = Simulation(most=4)
    places = [Target("one", str(n)) for n in range(8)]
    marks = {place: simulation.breakers.began(place) for place in places}
    for place, mark in marks.items():
        simulation.breakers.ended(place, "bad", mark)
    assert all(simulation.breakers.in_flight(place) == 0 for place in places)
    simulation.tried("good", place=OTHER)
    assert len(simulation.breakers.conditions()) <= 8


# What others tell


def test_a_probe_that_is_under_way_here_says_more_than_another_process(
    simulation: Simulation,
) -> None:
    simulation.tried("bad", 5)
    simulation.now += 5.1
    with simulation.trying("good"):
        simulation.breakers.adopt_open(PLACE, 3, 60.0)
        assert simulation.state == "half_open"
    assert simulation.state == "closed"


def test_what_is_heard_is_not_for_longer_than_the_longest(simulation: Simulation) -> None:
    simulation.breakers.adopt_open(PLACE, 9, 86400.0)
    simulation.breakers.adopt_deferral(OTHER, 86400.0)
    assert simulation.breakers.wait(PLACE) == simulation.breakers.wait(OTHER) == pytest.approx(120)


def test_what_another_process_found_is_one_change(simulation: Simulation) -> None:
    simulation.breakers.adopt_open(PLACE, 1, 10.0)
    simulation.breakers.adopt_open(PLACE, 2, 10.0)
    assert simulation.changes == [(PLACE, "open", "another process found it broken")]
    simulation.now += 10.1
    simulation.tried("bad")
    assert simulation.breakers.wait(PLACE) == pytest.approx(20)
    simulation.breakers.adopt_closed(PLACE)
    simulation.breakers.adopt_closed(PLACE)
    assert simulation.states == ["open", "half_open", "open", "closed"]
    assert simulation.breakers.admits(PLACE)


def test_where_others_are_a_probe_needs_leave(simulation: Simulation) -> None:
    news: list[tuple[Target, str]] = []
    simulation.breakers.share(lambda place, what: news.append((place, what)))
    simulation.tried("bad", 5)
    assert news == [(PLACE, "opened")]
    simulation.breakers.alone = False
    simulation.now += 5.1
    assert not simulation.breakers.admits(PLACE)
    assert news[1:] == [(PLACE, "wanted")]
    simulation.breakers.grant_probe(PLACE, True)
    assert simulation.breakers.admits(PLACE)
    simulation.tried("good")
    assert news[-1] == (PLACE, "closed")
    simulation.breakers.grant_probe(PLACE, True)  # comes too late
    simulation.tried("bad", 5)
    simulation.now += 5.1
    assert not simulation.breakers.admits(PLACE)


# Whatever happens

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.booleans()),
        st.tuples(
            st.just("end"),
            st.integers(0, 30),
            st.sampled_from(["good", "bad", "bad", "none"]),
            st.sampled_from([None, None, None, 1, 40, 1000]),
        ),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.3, 2.0, 5.6, 31.0, 130.0])),
    ),
    max_size=120,
)


@settings(max_examples=150)
@given(STEPS, st.floats(0.0, 1.0))
def test_whatever_happens(steps: list[tuple[object, ...]], chance: float) -> None:
    """One probe at a time, and no request is admitted while it is open or rests."""
    simulation = Simulation(
        BreakerPolicy(min_failures=3, failure_rate=50, window=10.0, max_open_for=60.0)
    )
    simulation.chance = chance
    breakers = simulation.breakers
    under_way: list[float] = []
    probe: float | None = None
    quiet = in_a_row = 0.0
    for step in steps:
        changes = len(simulation.changes)
        match step:
            case ("begin", last_resort):
                admitted = breakers.admits(PLACE)
                wait = breakers.wait(PLACE)
                assert (wait == 0.0) is admitted
                assert not admitted or simulation.now >= quiet
                if not admitted and not last_resort:
                    continue
                known = breakers._targets.get(PLACE)
                was = "closed" if known is None else known.state
                mark = breakers.began(PLACE)
                assert mark not in under_way
                under_way.append(mark)
                if (
                    (admitted and was != "closed")
                    or simulation.states[changes:] == ["half_open"]
                    or (breakers._targets[PLACE].probe == mark)
                ):
                    assert probe is None
                    probe = mark
            case ("end", int(which), verdict, wish) if under_way:
                mark = under_way.pop(which % len(under_way))
                before = simulation.state
                report(breakers, PLACE, verdict, mark, retry_after=wish)  # type: ignore[arg-type]
                if before != "closed" and mark != probe:
                    assert simulation.state == before
                if mark == probe:
                    probe = None
                    expected = {"good": "closed", "bad": "open", "none": "half_open"}
                    assert simulation.state == expected[str(verdict)]
            case ("pass", float(seconds)):
                simulation.now += seconds
        for state in simulation.states[changes:]:
            if state == "open":
                quiet = simulation.now + 0.9 * min(5.0 * 2**in_a_row, 60.0)
                in_a_row += 1
            elif state == "closed":
                in_a_row = 0
        assert breakers.in_flight(PLACE) == len(under_way)
        assert breakers.wait(PLACE) <= 60.0
    follows = {"closed": {"open"}, "open": {"half_open"}, "half_open": {"open", "closed"}}
    for before, after in zip(["closed", *simulation.states], simulation.states, strict=False):
        assert after in follows[before]


@settings(max_examples=50)
@given(st.integers(1, 20), st.integers(1, 100), st.floats(0.01, 3.0), st.floats(0.0, 1.0))
def test_a_place_that_always_fails_is_tried_once_in_a_pause(
    failures: int, share: int, gap: float, chance: float
) -> None:
    terms = BreakerPolicy(min_failures=failures, failure_rate=share, window=30.0 + 4 * failures)
    simulation = Simulation(terms)
    simulation.chance = chance
    tried = 0
    for _ in range(int(600 / gap)):
        if simulation.breakers.admits(PLACE):
            tried += 1
            simulation.tried("bad")
        simulation.now += gap
    # 4.5 s, 9, 18, 36, 72, and then 108 each: 600 s have room for nine.
    assert tried <= failures + 9
