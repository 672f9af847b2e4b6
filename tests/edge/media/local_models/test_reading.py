"""Rows of words from boxes."""

from edge.media.local_models.reading import rows


def test_rows_are_from_the_top_and_from_the_left() -> None:
    boxes = [
        (52.0, 70.0, 200.0, "right"),
        (50.0, 70.0, 10.0, "left"),
        (10.0, 30.0, 10.0, "title"),
        (65.0, 85.0, 10.0, "below"),
    ]
    assert rows(boxes) == ["title", "left right", "below"]


def test_rows_of_nothing_are_none() -> None:
    assert rows([]) == []
