"""How long the audio of a file is, for prices that a caller cannot understate."""

from math import ceil
from typing import Protocol

from edge.media.decode.audio_header import WAV_HEAD, wav_seconds
from edge.media.decode.sandbox import Sandbox
from edge.media.decode.tasks import MeasureAudio
from edge.media.forms import Spool
from middlewares.problem import Problem

_LEAST_RATE = 1000
"""Bytes of a second, 8 kbit/s: less than speech takes in the usual formats."""


class AudioLength(Protocol):
    """Measures audio."""

    async def __call__(self, spool: Spool, owner: str, *, exact: bool) -> int:
        """Milliseconds of the audio in a file, at most a little too many. exact: also where that
        costs a decoder."""
        ...


class AudioMeter:
    """Measures audio: by the header of a WAV file, else by its packets, in a process of `sandbox`.

    A file that neither can read has the time of its bytes at a very low rate.
    """

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self._sandbox = sandbox

    async def __call__(self, spool: Spool, owner: str, *, exact: bool) -> int:
        """See `AudioLength`."""
        seconds = wav_seconds(await spool.read(0, WAV_HEAD), spool.size)
        if seconds is None and exact and self._sandbox is not None:
            try:
                seconds = (await self._sandbox.run(MeasureAudio(), spool, owner=owner)).seconds
            except Problem:  # no decoder, or none that reads it: an upstream may
                seconds = None
        return ceil(1000 * (seconds or spool.size / _LEAST_RATE))
