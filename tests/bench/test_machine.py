"""Reading what `python -X importtime` prints."""

import pytest

from bench.machine import cumulative_ms, import_ms

PRINTED = """\
import time: self [us] | cumulative | imported package
import time:       120 |        120 |   middlewares.sse
import time:       300 |       7420 | middlewares
"""


def test_the_cumulative_column_of_the_module_is_read() -> None:
    assert cumulative_ms(PRINTED, "middlewares") == 7.42
    assert cumulative_ms(PRINTED, "middlewares.sse") == 0.12


def test_a_module_that_was_not_imported_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was not imported"):
        cumulative_ms(PRINTED, "nothing")


def test_the_interpreter_still_prints_it_so() -> None:
    assert import_ms("colorsys") > 0
