"""How long and of how many targets it is remembered what they do not take."""

from edge.proxy.corrections.change import NO_STREAM_OPTIONS, Correction
from edge.proxy.corrections.learned import LearnedCorrections
from middlewares.exchange import Target

PATH = b"/v1/images/generations"
A, B, C = (Target("up", name) for name in "abc")
OTHER = Correction("drop", "store", lasting=True)
ONCE = Correction("drop", "thinking")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lasting_changes_are_remembered_of_their_target_alone() -> None:
    learned = LearnedCorrections()
    assert not learned
    learned.add(A, PATH, [ONCE])
    assert not learned
    learned.add(A, PATH, [NO_STREAM_OPTIONS, ONCE])
    learned.add(A, PATH, [OTHER])
    assert learned
    assert learned.of(A, PATH) == (NO_STREAM_OPTIONS, OTHER)
    assert learned.of(B, PATH) == ()
    assert learned.of(A, b"/v1/audio/speech") == ()


def test_a_change_is_forgotten_after_its_time() -> None:
    clock = Clock()
    learned = LearnedCorrections(ttl=60, clock=clock)
    learned.add(A, PATH, [NO_STREAM_OPTIONS])
    clock.now = 30
    learned.add(A, PATH, [OTHER])
    clock.now = 60
    assert learned.of(A, PATH) == (OTHER,)
    clock.now = 90
    assert learned.of(A, PATH) == ()
    assert not learned


def test_memory_is_bounded() -> None:
    learned = LearnedCorrections(max_targets=2, max_per_target=1)
    for target in (A, B, C):
        learned.add(target, PATH, [NO_STREAM_OPTIONS, OTHER])
    assert [len(learned.of(target, PATH)) for target in (A, B, C)] == [0, 1, 1]
