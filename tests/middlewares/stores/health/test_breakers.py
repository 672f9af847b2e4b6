"""When a place counts as broken, in simulated time."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewares.exchange import Target
from middlewares.stores.health.base import Health, State
from middlewares.stores.health.breakers import BreakerPolicy, Breakers
from tests.simulated import EPOCH

from .outcomes import Outcome, report

PLACE = Target("one", "m")
OTHER = Target("two", "m")


class World:
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
def world() -> World:
    return World()


def test_they_are_health() -> None:
    health: Health = Breakers()
    assert health.admits(PLACE)
    assert health.conditions() == {}


# Closed


def test_unknown_target_is_admitted(world: World) -> None:
    assert world.breakers.admits(PLACE)
    assert world.breakers.wait(PLACE) == 0.0
    assert world.breakers.in_flight(PLACE) == 0
    assert world.breakers.latency(PLACE) == 0.0


def test_as_many_failures_as_it_takes(world: World) -> None:
    world.tried("bad", 4)
    assert world.breakers.admits(PLACE)
    world.tried("bad")
    assert not world.breakers.admits(PLACE)
    assert world.breakers.admits(OTHER)
    assert world.changes == [(PLACE, "open", "5 of 5 requests failed within 30 s")]


@pytest.mark.parametrize(("good", "broken"), [(11, True), (12, False)])
def test_their_share_has_to_be_large_enough(world: World, good: int, broken: bool) -> None:
    world.tried("good", good)
    world.tried("bad", 5)
    assert world.breakers.admits(PLACE) is not broken


def test_what_nothing_can_be_said_of_does_not_count(world: World) -> None:
    world.tried("none", 100)
    world.tried("bad", 4)
    world.tried("none", 100)
    assert world.breakers.admits(PLACE)
    world.tried("bad")
    assert world.changes[0][2] == "5 of 5 requests failed within 30 s"


def test_failures_are_forgotten(world: World) -> None:
    for _ in range(50):  # one in 8 s: no five of them within 30
        world.tried("bad")
        world.now += 8
    assert world.breakers.admits(PLACE)


def test_old_successes_hide_nothing(world: World) -> None:
    world.tried("good", 10_000)
    world.now += 31
    world.tried("bad", 5)
    assert not world.breakers.admits(PLACE)


def test_a_long_answer_counts_when_it_begins(world: World) -> None:
    """Minutes before it ends: streams under way are no reason to take a place for broken."""
    breakers = world.breakers
    marks = [breakers.began(PLACE) for _ in range(20)]
    for mark in marks:
        breakers.answered(PLACE, mark, seconds=1.0)
    world.tried("bad", 5)
    assert world.state == "closed"
    world.now += 120
    for mark in marks:
        breakers.ended(PLACE, "none", mark)
    world.tried("bad", 5)
    assert world.changes == [(PLACE, "open", "5 of 5 requests failed within 30 s")]


def test_an_answer_that_breaks_off_counts_as_both(world: World) -> None:
    for _ in range(5):
        mark = world.breakers.began(PLACE)
        world.breakers.answered(PLACE, mark)
        world.breakers.ended(PLACE, "bad", mark)
    assert world.changes == [(PLACE, "open", "5 of 10 requests failed within 30 s")]


def test_a_late_begin_of_an_answer_counts_as_that(world: World) -> None:
    mark = world.breakers.began(PLACE)
    world.now += 120
    report(world.breakers, PLACE, "good", mark, seconds=119.0)
    world.tried("bad", 5)
    assert world.changes[0][2] == "5 of 6 requests failed within 30 s"


def test_what_is_remembered_of_a_place_does_not_grow(world: World) -> None:
    world.tried("bad")
    known = world.breakers._targets[PLACE]
    world.tried("good", 5000)
    world.now += 1e6
    world.tried("bad")
    assert len(known.good) == len(known.bad) == 10
    assert (sum(known.good), sum(known.bad)) == (0, 1)


# Open, and the probe


def test_after_a_pause_one_try_sees(world: World) -> None:
    world.tried("bad", 5)
    assert world.breakers.wait(PLACE) == pytest.approx(5)
    assert world.breakers.conditions()[PLACE].until == pytest.approx(EPOCH + 5)
    world.now += 4.9
    assert not world.breakers.admits(PLACE)
    world.now += 0.11
    assert world.breakers.admits(PLACE)
    with world.trying("good"):
        assert world.state == "half_open"
        assert not world.breakers.admits(PLACE)
        assert world.breakers.wait(PLACE) == pytest.approx(10)  # as if it failed
    assert world.breakers.admits(PLACE)
    assert world.states == ["open", "half_open", "closed"]
    world.tried("bad", 4)  # of before nothing is remembered
    assert world.state == "closed"
    world.tried("bad")
    assert world.state == "open"
    assert world.breakers.wait(PLACE) == pytest.approx(5)


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest(world: World) -> None:
    world.tried("bad", 5)
    pauses = []
    for _ in range(80):
        pauses.append(world.breakers.wait(PLACE))
        world.now += pauses[-1] + 0.001
        assert world.breakers.admits(PLACE)
        world.tried("bad")
        assert not world.breakers.admits(PLACE)
    assert pauses[:6] == pytest.approx([5, 10, 20, 40, 80, 120], rel=1e-3)
    assert pauses[6:] == pytest.approx([120] * 74, rel=1e-3)


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 4.5), (1.0, 5.5)])
def test_pauses_are_not_all_the_same(world: World, chance: float, pause: float) -> None:
    world.chance = chance
    world.tried("bad", 5)
    assert world.breakers.wait(PLACE) == pytest.approx(pause)


def test_no_pause_is_longer_than_the_longest() -> None:
    world = World(BreakerPolicy(open_for=100.0, max_open_for=60.0))
    world.chance = 1.0
    world.tried("bad", 5)
    assert world.breakers.wait(PLACE) == pytest.approx(60)


def test_a_probe_that_says_nothing_gives_the_chance_to_the_next(world: World) -> None:
    world.tried("bad", 5)
    world.now += 5.1
    world.tried("none")
    assert world.state == "half_open"
    assert world.breakers.admits(PLACE)
    world.tried("good")
    assert world.states == ["open", "half_open", "closed"]


def test_tries_of_before_do_not_close_it(world: World) -> None:
    with world.trying("good"):
        world.tried("bad", 5)
    assert world.state == "open"
    with world.trying("good"):
        world.now += 5.1
        with world.trying("bad"), world.trying("good"):  # the probe, and one that is none
            pass
        assert world.state == "open"
    assert world.state == "open"
    assert world.breakers.wait(PLACE) == pytest.approx(10)


def test_tries_of_before_do_not_extend_it(world: World) -> None:
    with world.trying("bad"), world.trying("bad"):
        world.tried("bad", 5)
        world.now += 4
    assert world.breakers.wait(PLACE) == pytest.approx(1)
    with world.trying("bad"):
        world.now += 1.01
        with world.trying("good"):
            pass
        assert world.state == "closed"
    world.tried("bad", 4)  # that one is of a past that is forgotten
    assert world.state == "closed"


def test_where_nothing_is_left_a_broken_place_is_tried_and_stays_broken(world: World) -> None:
    world.tried("bad", 5)
    world.tried("good", 20)
    world.tried("bad", 20)
    assert world.state == "open"
    assert world.breakers.wait(PLACE) == pytest.approx(5)
    world.now += 5.1
    world.tried("good")  # without a question whether it may; it is time all the same
    assert world.state == "closed"


def test_the_only_place_is_seen_to_be_well_by_any_try_that_is_due(world: World) -> None:
    world.tried("bad", 5)
    for _ in range(6):
        world.now += 1
        world.tried("good")
    assert world.states == ["open", "half_open", "closed"]


# Asked to be left alone


def test_a_place_that_asks_is_left_alone(world: World) -> None:
    world.tried("bad", retry_after=7)
    assert not world.breakers.admits(PLACE)
    assert world.breakers.wait(PLACE) == pytest.approx(7)
    condition = world.breakers.conditions()[PLACE]
    assert condition.state == "closed"
    assert condition.until == pytest.approx(EPOCH + 7)
    world.now += 7.01
    for _ in range(3):  # no probe: as ever
        assert world.breakers.admits(PLACE)
        world.breakers.began(PLACE)
    assert world.changes == []
    assert world.breakers.wait(PLACE) == 0.0


def test_but_not_for_longer_than_the_longest(world: World) -> None:
    world.tried("bad", retry_after=86400)
    assert world.breakers.wait(PLACE) == pytest.approx(120)


def test_the_longest_wish_counts(world: World) -> None:
    world.tried("bad", retry_after=60)
    world.tried("bad", retry_after=1)
    world.now += 2
    assert world.breakers.wait(PLACE) == pytest.approx(58)


def test_a_later_answer_ends_it_early_and_an_earlier_one_does_not(world: World) -> None:
    with world.trying("good"):
        world.tried("bad", retry_after=60)
    assert not world.breakers.admits(PLACE)
    world.tried("good")
    assert world.breakers.admits(PLACE)
    assert world.breakers.conditions()[PLACE].until == 0.0


def test_broken_and_asked(world: World) -> None:
    """Both have to be over."""
    world.tried("bad", 5, retry_after=20)
    assert world.state == "open"
    assert world.breakers.wait(PLACE) == pytest.approx(20)
    world.now += 6
    assert not world.breakers.admits(PLACE)
    world.now += 14.1
    assert world.breakers.admits(PLACE)
    with world.trying("good"):
        assert not world.breakers.admits(PLACE)
    assert world.breakers.admits(PLACE)


def test_probe_with_retry_after_waits_for_it(world: World) -> None:
    world.tried("bad", 5)
    world.now += 5.1
    world.tried("bad", retry_after=90)
    assert world.breakers.wait(PLACE) == pytest.approx(90)
    world.now += 20  # the breaker's own 10 s are over
    assert not world.breakers.admits(PLACE)


# What it shares with other processes


def test_latency_is_an_average_that_follows(world: World) -> None:
    world.tried("good", seconds=1.0)
    assert world.breakers.latency(PLACE) == 1.0
    world.tried("good", seconds=2.0)
    assert world.breakers.latency(PLACE) == pytest.approx(1.2)
    world.tried("bad")
    world.tried("good", seconds=0.0)  # a refusal that says nothing of how fast it is
    assert world.breakers.latency(PLACE) == pytest.approx(1.2)
    world.tried("good", 50, seconds=3.0)
    assert world.breakers.latency(PLACE) == pytest.approx(3.0, abs=0.001)


def test_what_is_under_way_is_counted(world: World) -> None:
    with world.trying("good"):
        with world.trying("none"), world.trying("bad"):
            assert world.breakers.in_flight(PLACE) == 3
        assert world.breakers.conditions()[PLACE].in_flight == 1
    assert world.breakers.in_flight(PLACE) == 0


def test_failures_are_forgotten_also_after_a_clock_was_set_back(world: World) -> None:
    world.tried("good", 10)
    world.now -= 86_400
    for _ in range(20):  # one in each window: it never is broken
        world.tried("good", 2)
        world.tried("bad")
        world.now += 31
    assert world.changes == []


def test_a_clock_that_is_set_back(world: World) -> None:
    world.tried("bad", 5)
    world.tried("bad", retry_after=30)
    world.now -= 86400  # what was to last seconds must not last a day
    assert world.breakers.wait(PLACE) == 0.0
    assert world.breakers.admits(PLACE)
    world.tried("good")
    assert world.state == "closed"
    world.tried("bad", 5)
    assert world.state == "open"


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
    world = World(most=100)
    broken = Target("one", "broken")
    world.tried("bad", 5, broken)
    busy = Target("one", "busy")
    mark = world.breakers.began(busy)
    for n in range(1000):
        world.now += 0.001
        world.tried("good", place=Target("one", f"made up {n}"))
        assert len(world.breakers.conditions()) <= 100
    assert not world.breakers.admits(broken)
    assert world.breakers.in_flight(busy) == 1
    report(world.breakers, busy, "good", mark)
    assert Target("one", "made up 999") in world.breakers.conditions()
    assert Target("one", "made up 0") not in world.breakers.conditions()


def test_broken_places_without_end() -> None:
    world = World(most=40)
    for n in range(400):
        world.tried("bad", 5, Target("one", f"made up {n}"))
        assert len(world.breakers.conditions()) <= 40


def test_a_place_under_way_is_not_forgotten() -> None:
    world = World(most=4)
    places = [Target("one", str(n)) for n in range(8)]
    marks = {place: world.breakers.began(place) for place in places}
    for place, mark in marks.items():
        world.breakers.ended(place, "bad", mark)
    assert all(world.breakers.in_flight(place) == 0 for place in places)
    world.tried("good", place=OTHER)
    assert len(world.breakers.conditions()) <= 8


# What others tell


def test_a_probe_that_is_under_way_here_says_more_than_another_process(world: World) -> None:
    world.tried("bad", 5)
    world.now += 5.1
    with world.trying("good"):
        world.breakers.adopt_open(PLACE, 3, 60.0)
        assert world.state == "half_open"
    assert world.state == "closed"


def test_what_is_heard_is_not_for_longer_than_the_longest(world: World) -> None:
    world.breakers.adopt_open(PLACE, 9, 86400.0)
    world.breakers.adopt_deferral(OTHER, 86400.0)
    assert world.breakers.wait(PLACE) == world.breakers.wait(OTHER) == pytest.approx(120)


def test_what_another_process_found_is_one_change(world: World) -> None:
    world.breakers.adopt_open(PLACE, 1, 10.0)
    world.breakers.adopt_open(PLACE, 2, 10.0)
    assert world.changes == [(PLACE, "open", "another process found it broken")]
    world.now += 10.1
    world.tried("bad")
    assert world.breakers.wait(PLACE) == pytest.approx(20)
    world.breakers.adopt_closed(PLACE)
    world.breakers.adopt_closed(PLACE)
    assert world.states == ["open", "half_open", "open", "closed"]
    assert world.breakers.admits(PLACE)


def test_where_others_are_a_probe_needs_leave(world: World) -> None:
    news: list[tuple[Target, str]] = []
    world.breakers.share(lambda place, what: news.append((place, what)))
    world.tried("bad", 5)
    assert news == [(PLACE, "opened")]
    world.breakers.alone = False
    world.now += 5.1
    assert not world.breakers.admits(PLACE)
    assert news[1:] == [(PLACE, "wanted")]
    world.breakers.grant_probe(PLACE, True)
    assert world.breakers.admits(PLACE)
    world.tried("good")
    assert news[-1] == (PLACE, "closed")
    world.breakers.grant_probe(PLACE, True)  # comes too late
    world.tried("bad", 5)
    world.now += 5.1
    assert not world.breakers.admits(PLACE)


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
    world = World(BreakerPolicy(min_failures=3, failure_rate=50, window=10.0, max_open_for=60.0))
    world.chance = chance
    breakers = world.breakers
    under_way: list[float] = []
    probe: float | None = None
    quiet = in_a_row = 0.0
    for step in steps:
        changes = len(world.changes)
        match step:
            case ("begin", last_resort):
                admitted = breakers.admits(PLACE)
                wait = breakers.wait(PLACE)
                assert (wait == 0.0) is admitted
                assert not admitted or world.now >= quiet
                if not admitted and not last_resort:
                    continue
                known = breakers._targets.get(PLACE)
                was = "closed" if known is None else known.state
                mark = breakers.began(PLACE)
                assert mark not in under_way
                under_way.append(mark)
                if (
                    (admitted and was != "closed")
                    or world.states[changes:] == ["half_open"]
                    or (breakers._targets[PLACE].probe == mark)
                ):
                    assert probe is None
                    probe = mark
            case ("end", int(which), verdict, wish) if under_way:
                mark = under_way.pop(which % len(under_way))
                before = world.state
                report(breakers, PLACE, verdict, mark, retry_after=wish)  # type: ignore[arg-type]
                if before != "closed" and mark != probe:
                    assert world.state == before
                if mark == probe:
                    probe = None
                    expected = {"good": "closed", "bad": "open", "none": "half_open"}
                    assert world.state == expected[str(verdict)]
            case ("pass", float(seconds)):
                world.now += seconds
        for state in world.states[changes:]:
            if state == "open":
                quiet = world.now + 0.9 * min(5.0 * 2**in_a_row, 60.0)
                in_a_row += 1
            elif state == "closed":
                in_a_row = 0
        assert breakers.in_flight(PLACE) == len(under_way)
        assert breakers.wait(PLACE) <= 60.0
    follows = {"closed": {"open"}, "open": {"half_open"}, "half_open": {"open", "closed"}}
    for before, after in zip(["closed", *world.states], world.states, strict=False):
        assert after in follows[before]


@settings(max_examples=50)
@given(st.integers(1, 20), st.integers(1, 100), st.floats(0.01, 3.0), st.floats(0.0, 1.0))
def test_a_place_that_always_fails_is_tried_once_in_a_pause(
    failures: int, share: int, gap: float, chance: float
) -> None:
    terms = BreakerPolicy(min_failures=failures, failure_rate=share, window=30.0 + 4 * failures)
    world = World(terms)
    world.chance = chance
    tried = 0
    for _ in range(int(600 / gap)):
        if world.breakers.admits(PLACE):
            tried += 1
            world.tried("bad")
        world.now += gap
    # 4.5 s, 9, 18, 36, 72, and then 108 each: 600 s have room for nine.
    assert tried <= failures + 9
