"""The media sandbox of a worker: tasks in throw-away processes, results or Problems out."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from time import monotonic
from typing import Any, Literal

import msgspec

from middlewares.problem import Problem

from .process import PROGRAM, Media, ResultTooLarge, SandboxProcess
from .tasks import Failure, Kind, Result, Task
from .turns import QueueFull, Turns

_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode

LIFETIME = 30.0
"""Seconds of one process, with its start."""
WAITING = 256
WAITING_PER_OWNER = 64
INSTALL = {
    "PIL": "Pillow: pip install 'penstock[media]'",
    "av": "PyAV: pip install 'penstock[media]'",
    "pypdfium2": "pypdfium2: pip install 'penstock[media]'",
}
_EXPECTED: dict[Kind, str] = {
    "image": "a PNG, JPEG, WebP, GIF or AVIF of at most 50 megapixels",
    "audio": "WAV, MP3, FLAC, AAC, Ogg, MP4 or WebM, with sound in AAC, MP3, Opus, Vorbis, FLAC or "
    "PCM",
    "video": "MP4, WebM, Matroska or AVI, with pictures in H.264, HEVC, VP8, VP9, AV1, MPEG-4 or "
    "MJPEG, at most 4096 pixels wide and high and 60 frames per second",
    "document": "a PDF without a password",
}


Outcome = Literal["done", "invalid", "unavailable", "missing", "cancelled"]
_OUTCOMES: dict[str, Outcome] = {"invalid_media": "invalid", "upstream_unavailable": "unavailable"}
"""By kind of problem."""


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Sandbox:
    """Processes of one worker that decode media.

    processes: most at once, at most one for each core. report: gets the outcome of each task.
    lifetime: seconds after which a process is killed. waiting, waiting_per_owner: most tasks that
    wait for a process. program: what a process runs.
    """

    def __init__(
        self,
        processes: int = 1,
        *,
        report: Callable[[Kind, Outcome], object] = lambda *_: None,
        lifetime: float = LIFETIME,
        waiting: int = WAITING,
        waiting_per_owner: int = WAITING_PER_OWNER,
        program: tuple[str, ...] = PROGRAM,
    ) -> None:
        slots = max(1, min(processes, cores()))
        self._report = report
        self._turns = Turns(slots, waiting=waiting, per_owner=waiting_per_owner)
        self._lifetime = lifetime
        self._program = program
        self._ending: set[asyncio.Task[Any]] = set()
        self._warned: set[str] = set()

    @property
    def waiting(self) -> int:
        """Tasks that wait for a process."""
        return self._turns.waiting

    async def run(
        self, task: Task[Result], media: Media, *, param: str | None = None, owner: str = ""
    ) -> Result:
        """The result of `task` for `media`.

        param: path of the media in the request, for errors. owner: whose turn it takes.
        Raises Problem: `invalid_media` for media that cannot be decoded within the bounds,
        `<kind>_not_supported_by_model` where no decoder is installed, `upstream_unavailable` where
        none is free or the process could not run. Cancelling kills the process.
        """
        outcome: Outcome = "cancelled"
        try:
            found = await self._run(task, media, param, owner)
            outcome = "done"
        except Problem as problem:
            outcome = _OUTCOMES.get(problem.kind, "missing")
            raise
        finally:
            self._report(task.kind, outcome)
        return found

    async def _run(self, task: Task[Result], media: Media, param: str | None, owner: str) -> Result:
        self._check_installed(task, param)
        try:
            await self._turns.take(owner)
        except QueueFull:
            raise _unavailable("too many media wait to be decoded") from None
        try:
            process = await SandboxProcess.start(self._program, _encode(task), media)
        except OSError as error:
            self._turns.give()
            raise _unavailable(f"no process for media: {error}") from None
        except BaseException:
            self._turns.give()
            raise
        began = monotonic()
        written, timed_out = b"", False
        try:
            async with asyncio.timeout(self._lifetime):
                written = await process.result()
        except TimeoutError:
            timed_out = True
        except ResultTooLarge:
            raise _invalid(task.kind, param, "its result is too large") from None
        finally:
            ending = self._keep(self._end(process))
        ended = await asyncio.shield(ending)
        if timed_out:
            raise _unavailable(f"decoding of {task.kind} took longer than {self._lifetime:g} s")
        if not written:
            reason = f"the decoder ended with {ended} after {monotonic() - began:.1f} s"
            raise _invalid(task.kind, param, reason)
        try:
            if written[0]:
                failure = msgspec.msgpack.decode(memoryview(written)[1:], type=Failure)
                raise self._problem(failure, task, param)
            found: Result = msgspec.msgpack.decode(memoryview(written)[1:], type=task.result)
        except msgspec.MsgspecError:
            raise _invalid(task.kind, param, f"half a result; it ended with {ended}") from None
        return found

    async def aclose(self) -> None:
        """Wait for the end of the processes that were killed. New tasks are the caller's fault."""
        while self._ending:
            await asyncio.wait(self._ending)

    async def _end(self, process: SandboxProcess) -> str:
        """End a process; its slot is free when it is gone."""
        try:
            return await process.end()
        finally:
            self._turns.give()

    def _keep(self, work: Coroutine[None, None, str]) -> asyncio.Task[str]:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    def _check_installed(self, task: Task[Any], param: str | None) -> None:
        for library in task.libraries:
            if find_spec(library) is None:
                raise self._problem(Failure("missing", library), task, param)

    def _problem(self, failure: Failure, task: Task[Any], param: str | None) -> Problem:
        if failure.reason in ("missing", "outdated"):
            self._warn(failure, task.kind)
            return _not_supported(task.kind, param, f"{failure.reason}: {failure.detail}")
        return _invalid(task.kind, param, f"{failure.reason}: {failure.detail}")

    def _warn(self, failure: Failure, kind: Kind) -> None:
        """Log what to install, once for each library."""
        if failure.detail in self._warned:
            return
        self._warned.add(failure.detail)
        if failure.reason == "missing":
            install = INSTALL.get(failure.detail, failure.detail)
            _log.warning("%s cannot be decoded: %s", kind, install)
        else:
            _log.warning(
                "%s is not decoded: %s has known security holes: "
                "pip install --upgrade 'penstock[media]'",
                kind,
                failure.detail,
            )


def _unavailable(reason: str) -> Problem:
    return Problem("upstream_unavailable", reason=reason)


def _not_supported(kind: Kind, param: str | None, reason: str) -> Problem:
    return Problem(f"{kind}_not_supported_by_model", param=param, reason=reason)


def _invalid(kind: Kind, param: str | None, reason: str) -> Problem:
    """The one error for media that cannot be read. It says nothing of the decoder."""
    expected = f"expected {_EXPECTED[kind]}"
    where = f" at `{param}`" if param else ""
    return Problem(
        "invalid_media",
        message=f"The {kind}{where} could not be read: {expected}.",
        param=param,
        issue=expected,
        reason=reason,
    )
