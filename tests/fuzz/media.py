"""Broken media for the sandbox: seeds, changes, and what must hold.

Each input runs in a sandbox process of its own, as in the gateway, so what a decoder does to that
process is seen as the gateway would see it.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

from edge.media.decode.sandbox import Sandbox
from edge.media.decode.tasks import (
    AnyTask,
    ConvertAudio,
    DominantColours,
    ExtractSound,
    InspectImage,
    Kind,
    MeasureAudio,
    NormaliseImage,
    ProbeVideo,
    ReadDocument,
    RenderPages,
    SampleFrames,
    SplitAudio,
    Task,
)
from middlewares.problem import Problem
from tests.edge.media.decode import samples
from tests.started_processes import StartedProcesses

TASKS: dict[Kind, tuple[AnyTask, ...]] = {
    "image": (NormaliseImage(), InspectImage(), DominantColours()),
    "audio": (ConvertAudio(), MeasureAudio(), SplitAudio(target=1.0, tolerance=0.3)),
    "video": (SampleFrames(), ProbeVideo(), ExtractSound()),
    "document": (ReadDocument(), RenderPages(numbers=(0,))),
}


@cache
def seeds(kind: Kind) -> list[bytes]:
    """Valid media of a kind."""
    if kind == "image":
        plain = [samples.image(name, (90, 60)) for name in ("PNG", "JPEG", "WEBP", "GIF", "AVIF")]
        return [*plain, *(samples.animation(name) for name in ("GIF", "WEBP", "PNG"))]
    if kind == "audio":
        return [samples.sound(name, 2.0) for name in samples.SOUNDS]
    if kind == "video":
        return [
            samples.video(2, sound=samples.tone(1.0)),
            samples.video(2, codec="libvpx", container="webm"),
            samples.video(2, codec="libvpx-vp9", container="matroska"),
            samples.video(2, codec="mpeg4", container="avi"),
            samples.video(2, codec="mjpeg", container="avi"),
            samples.video(2, codec="libx265"),
        ]
    return [samples.pdf("Some words", "More of them", ""), samples.pdf("One page")]


def run(kind: Kind, data: bytes) -> None:
    """Every task ends with a result, or with the one error for broken media."""
    started = StartedProcesses()
    asyncio.run(_run(kind, data))
    left = started()
    assert not left, f"processes are left: {left}"


async def _run(kind: Kind, data: bytes) -> None:
    sandbox = Sandbox(2)
    task: Task[Any] = TASKS[kind][len(data) % len(TASKS[kind])]
    try:
        found = await sandbox.run(task, data, param="input")
    except Problem as problem:
        assert problem.kind == "invalid_media", f"{problem.kind}: {problem.reason}"
        # An error of our own code would hide behind this kind.
        assert not problem.reason.endswith(("NameError", "AttributeError", "ImportError"))
    else:
        assert isinstance(found, task.result)
    finally:
        await sandbox.aclose()


_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def broken(data: bytes, random: Random, pool: Sequence[bytes]) -> bytes:
    """`data` with one to six changes, half of them in its first bytes, where the headers are."""
    for _ in range(random.randint(1, 6)):
        size = len(data)
        at = random.randint(0, min(size, 600) if random.random() < 0.5 else size)
        match random.randrange(7):
            case 0:
                number = random.choice(_NUMBERS).to_bytes(4, random.choice(("big", "little")))
                data = data[:at] + number + data[at + 4 :]
            case 1 | 2:
                data = data[:at] + random.randbytes(1) + data[at + 1 :]
            case 3:
                data = data[: max(at, 1)]
            case 4:
                other = random.choice(pool)
                start = random.randint(0, len(other))
                data = data[:at] + other[start : start + random.randint(1, 2000)] + data[at:]
            case 5:
                data = data[:at] + data[at + random.randint(1, 400) :]
            case 6:
                data = data[:at] + data[max(0, at - random.randint(1, 3000)) : at] + data[at:]
    return data
