"""Counting the bytes of request bodies under way."""

import copy

import pytest

from middlewares.problem import Problem
from middlewares.uploads import SMALL_BODY, Upload, Uploads


def refusal(upload: Upload, more: int) -> str:
    """Kind of the problem that `more` bytes are, which are then not counted."""
    before = upload.size
    with pytest.raises(Problem) as raised:
        upload.add(more)
    assert upload.size == before
    assert raised.value.retry_after == 1
    return raised.value.kind


def test_upload_add_beyond_the_share_of_one_is_refused() -> None:
    uploads = Uploads(total=1000, each=600)
    first, second = Upload(uploads, "a"), Upload(uploads, "a")
    first.add(400)
    second.add(200)
    assert refusal(second, 1) == "rate_limited"
    Upload(uploads, "b").add(400)
    assert uploads.held == 1000


def test_upload_add_beyond_the_total_is_refused_until_one_closes() -> None:
    size = 10 * SMALL_BODY
    uploads = Uploads(total=size, each=size)
    first, second = Upload(uploads, "a"), Upload(uploads, "b")
    first.add(size)
    assert refusal(second, SMALL_BODY + 1) == "upstream_unavailable"
    first.close()
    second.add(size)
    assert uploads.held == size


def test_upload_small_bodies_have_room_of_their_own() -> None:
    size = 10 * SMALL_BODY
    uploads = Uploads(total=size, each=size)
    Upload(uploads, "a").add(size)
    small = Upload(uploads, "b")
    small.add(SMALL_BODY)
    assert refusal(small, 1) == "upstream_unavailable"  # no longer small
    assert refusal(Upload(uploads, "c"), 1) == "upstream_unavailable"  # the tenth is used up


def test_upload_close_gives_back_once() -> None:
    uploads = Uploads(total=10, each=10)
    first, second = Upload(uploads, "a"), Upload(uploads, "a")
    first.add(4)
    second.add(3)
    for _ in range(2):
        first.close()
    assert uploads.held == 3
    second.close()
    assert uploads.held == 0
    Upload(uploads, "a").add(10)


def test_upload_expect_reserves_nothing() -> None:
    uploads = Uploads(total=10, each=10)
    Upload(uploads, "a").expect(10)
    assert uploads.held == 0
    Upload(uploads, "b").add(1)
    with pytest.raises(Problem):
        Upload(uploads, "b").expect(10)


def test_uploads_make_room_lets_one_largest_body_through() -> None:
    uploads = Uploads(total=10, each=5)
    uploads.make_room(30)
    Upload(uploads, "a").add(30)
    uploads.make_room(3)  # never less than before
    assert refusal(Upload(uploads, "a"), 1) == "rate_limited"


def test_uploads_copy_is_itself() -> None:
    uploads = Uploads(total=10, each=5)
    assert copy.deepcopy(uploads) is uploads


@pytest.mark.parametrize(("total", "each"), [(0, 0), (5, 6), (5, 0)])
def test_uploads_without_room_are_refused(total: int, each: int) -> None:
    with pytest.raises(ValueError, match="expected bytes"):
        Uploads(total=total, each=each)


def test_upload_extend_counts_what_a_body_refers_to_up_to_the_share_of_one() -> None:
    uploads = Uploads(total=100, each=60)
    first, second = Upload(uploads, "ann"), Upload(uploads, "ann")
    first.add(10)
    first.extend(500)  # too large by itself, which others say
    assert (first.size, uploads.held) == (60, 60)
    assert refusal(second, 1) == "rate_limited"
    first.close()
    assert uploads.held == 0
