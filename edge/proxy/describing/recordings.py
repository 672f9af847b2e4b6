"""Sound turned into text: pieces of at most ten minutes, transcribed at once, joined with times."""

import re
from collections.abc import Awaitable, Callable

from edge.media.decode.sandbox import Sandbox
from edge.media.decode.tasks import ConvertAudio, ExtractSound, MeasureAudio, Sound, SplitAudio
from middlewares.problem import Problem

from .together import together

LONGEST_PIECE = 780.0
"""Seconds of 16 kHz mono that fit into 25 MB."""
LONGEST = 4 * 3600.0
SILENT = 0.003
"""The loudest sample of a recording, of 1, in which nothing is heard."""
NO_SPEECH = "[no speech]"
_TIMED = re.compile(r"\[\d+:\d\d\]")


Transcribe = Callable[[Sound], Awaitable[str]]
"""Transcribes one piece."""


async def transcript(
    sandbox: Sandbox,
    content: bytes,
    transcribe: Transcribe,
    *,
    param: str,
    owner: str,
    film: bool = False,
) -> str:
    """The transcript of a recording, or of the sound of a film; NO_SPEECH if it is silent.

    Raises Problem, and what `transcribe` raises.
    """

    async def piece(start: float, end: float | None) -> str:
        task = ExtractSound if film else ConvertAudio
        sound = await sandbox.run(task(start=start, end=end), content, param=param, owner=owner)
        if sound.peak < SILENT:
            return NO_SPEECH
        return await transcribe(sound)

    measured = await sandbox.run(MeasureAudio(), content, param=param, owner=owner)
    if measured.seconds > LONGEST:
        raise Problem(
            "invalid_media",
            message=f"The audio at `{param}` is longer than {LONGEST / 3600:g} hours.",
            param=param,
        )
    if measured.seconds <= LONGEST_PIECE:
        return await piece(0.0, None)
    cut = await sandbox.run(SplitAudio(), content, param=param, owner=owner)
    made = await together(piece(start, end) for start, end in cut.pieces)
    return "\n".join(
        text if _TIMED.match(text) else f"[{clock(start)}] {text}"
        for (start, _), text in zip(cut.pieces, made, strict=True)
    )


def clock(seconds: float) -> str:
    """A time as mm:ss."""
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
