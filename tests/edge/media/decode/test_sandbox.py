"""Tasks in real processes: results, limits, failures, cancellation."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.media.decode import child
from edge.media.decode.sandbox import Sandbox
from edge.media.decode.tasks import (
    AnyTask,
    ConvertAudio,
    DominantColours,
    ExtractSound,
    InspectImage,
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
from tests.started_processes import StartedProcesses
from tests.waiting import until

from .samples import image, pdf, sound, tone, video

MISBEHAVING = (sys.executable, "-I", str(Path(__file__).with_name("misbehaving.py")))


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox()
    yield sandbox
    await sandbox.aclose()


async def problem_of(code: str, **options: Any) -> Problem:
    """The problem that a misbehaving process gives."""
    sandbox = Sandbox(program=MISBEHAVING, **options)
    with pytest.raises(Problem) as raised:
        await sandbox.run(InspectImage(), code.encode(), param="messages[0].content[1]")
    await sandbox.aclose()
    return raised.value


MEDIA: list[tuple[AnyTask, bytes]] = [
    (InspectImage(), image()),
    (NormaliseImage(longest=20), image("JPEG")),
    (DominantColours(), image("WEBP")),
    (MeasureAudio(), sound("mp3", 1.0)),
    (ConvertAudio(start=0.2, end=0.7), sound("webm", 1.0)),
    (SplitAudio(), sound("flac", 1.0)),
    (ProbeVideo(), video(1)),
    (SampleFrames(), video(1)),
    (ExtractSound(), video(1, sound=tone(1.0))),
    (ReadDocument(), pdf("Words")),
    (RenderPages(numbers=(0,)), pdf("Words")),
]


@pytest.mark.parametrize(("task", "media"), MEDIA, ids=lambda value: type(value).__name__)
async def test_run_every_task_gives_its_result(
    sandbox: Sandbox, task: Task[Any], media: bytes
) -> None:
    assert isinstance(await sandbox.run(task, media), task.result)


async def test_run_source_in_pieces_is_read_whole(sandbox: Sandbox) -> None:
    data = sound("wav", 3.0)

    class Pieces:
        async def pieces(self) -> AsyncIterator[bytes]:
            for at in range(0, len(data), 1000):
                yield data[at : at + 1000]

    assert (await sandbox.run(MeasureAudio(), Pieces())).seconds == 3.0


@pytest.mark.parametrize("task", [task for task, _ in MEDIA], ids=lambda task: type(task).__name__)
async def test_run_broken_media_is_one_error(sandbox: Sandbox, task: Task[Any]) -> None:
    with pytest.raises(Problem) as raised:
        await sandbox.run(task, b"\0broken" * 99, param="messages[0].content[1].image_url.url")
    problem = raised.value
    assert problem.kind == "invalid_media"
    assert problem.param == "messages[0].content[1].image_url.url"
    assert problem.message is not None
    assert "expected" in problem.message


HOSTILE = {
    "memory": "hog = [bytearray(64 << 20) for _ in range(99)]",
    "crash": "import ctypes; ctypes.string_at(0)",
    "killed": "os.kill(os.getpid(), 9)",
    "exit": "os._exit(0)",
    "half a result": "os.write(1, b'\\0\\x95')",
    "another result": "os.write(1, b'\\0\\xc3')",
    "endless result": "while True: os.write(1, bytes(1 << 20))",
    "files": "f = open('/tmp/penstock-test-file', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    "descriptors": "held = [os.dup(0) for _ in range(99)]",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_run_process_that_misbehaves_is_invalid_media(name: str) -> None:
    try:
        problem = await problem_of(HOSTILE[name])
    finally:
        Path("/tmp/penstock-test-file").unlink(missing_ok=True)
    assert problem.kind == "invalid_media"


async def test_run_processor_time_is_bounded() -> None:
    code = "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass"
    problem = await problem_of(code)
    assert problem.kind == "invalid_media"
    assert "status -" in problem.reason  # a signal


def test_limits_are_those_of_the_sandbox() -> None:
    limits = (child.MEMORY, child.CPU, child.FILE_SIZE, child.DESCRIPTORS, child.NICENESS)
    assert limits == (1536 << 20, 20, 64 << 20, 32, 10)


async def test_run_process_sees_limits_and_no_environment(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    os.environ["PENSTOCK_TEST_SECRET"] = "secret"
    try:
        await problem_of(
            "import resource as r\n"
            f"open({str(seen)!r}, 'w').write(repr((r.getrlimit(r.RLIMIT_AS), "
            "r.getrlimit(r.RLIMIT_CPU), r.getrlimit(r.RLIMIT_FSIZE), r.getrlimit(r.RLIMIT_NOFILE),"
            "os.nice(0), os.getcwd(), sorted(os.listdir('/proc/self/fd')),"
            "'PENSTOCK_TEST_SECRET' in os.environ, open('/proc/self/oom_score_adj').read())))"
        )
    finally:
        del os.environ["PENSTOCK_TEST_SECRET"]
    *limits, nice, folder, descriptors, secret, score = eval(seen.read_text())
    assert limits == [
        (child.MEMORY, child.MEMORY),
        (child.CPU, child.CPU),
        (child.FILE_SIZE, child.FILE_SIZE),
        (child.DESCRIPTORS, child.DESCRIPTORS),
    ]
    assert nice >= 10
    assert folder == "/"
    assert len(descriptors) <= 6  # three standard ones, and those that look at themselves
    assert secret is False
    assert score == "1000\n"


async def test_run_process_that_hangs_is_killed_and_its_slot_is_free() -> None:
    children = StartedProcesses()
    sandbox = Sandbox(1, lifetime=1.0, program=MISBEHAVING)
    for _ in range(2):
        with pytest.raises(Problem) as raised:
            await sandbox.run(InspectImage(), b"import time; time.sleep(600)")
        assert raised.value.kind == "upstream_unavailable"
    await sandbox.aclose()
    assert not children()


async def test_run_cancelled_kills_its_process() -> None:
    children = StartedProcesses()
    sandbox = Sandbox(1, program=MISBEHAVING)
    running = asyncio.create_task(sandbox.run(InspectImage(), b"import time; time.sleep(600)"))
    waiting = asyncio.create_task(sandbox.run(InspectImage(), b"os._exit(0)"))
    await until(lambda: bool(children()))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(Problem):  # it had its turn
        await waiting
    await sandbox.aclose()
    assert not children()


async def test_run_queue_is_bounded() -> None:
    children = StartedProcesses()
    sandbox = Sandbox(1, program=MISBEHAVING, waiting=1)
    code = b"import time; time.sleep(600)"
    tasks = [asyncio.create_task(sandbox.run(InspectImage(), code)) for _ in range(2)]
    await until(lambda: bool(children()))
    with pytest.raises(Problem) as raised:
        await sandbox.run(InspectImage(), code)
    assert raised.value.kind == "upstream_unavailable"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await sandbox.aclose()


async def test_run_source_that_fails_gives_the_slot_back() -> None:
    class Broken:
        async def pieces(self) -> AsyncIterator[bytes]:
            yield b"some"
            raise OSError("the disk is gone")

    sandbox = Sandbox(1)
    for _ in range(2):
        with pytest.raises(Problem) as raised:
            await sandbox.run(InspectImage(), Broken())
        assert raised.value.kind == "upstream_unavailable"
    assert (await sandbox.run(InspectImage(), image())).width == 40


async def test_run_program_that_is_missing_is_unavailable() -> None:
    sandbox = Sandbox(1, program=("/does/not/exist",))
    for _ in range(2):
        with pytest.raises(Problem) as raised:
            await sandbox.run(InspectImage(), image())
        assert raised.value.kind == "upstream_unavailable"


@pytest.mark.parametrize(
    ("task", "kind", "library"),
    [
        (InspectImage(), "image", "PIL"),
        (MeasureAudio(), "audio", "av"),
        (ProbeVideo(), "video", "av"),
        (ReadDocument(), "document", "pypdfium2"),
    ],
)
async def test_run_without_its_library_says_what_to_install(
    sandbox: Sandbox,
    task: Task[Any],
    kind: str,
    library: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for _ in range(2):
        with pytest.raises(Problem) as raised:
            await sandbox.run(task, b"media", param="input")
        assert raised.value.kind == f"{kind}_not_supported_by_model"
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 1
    assert "pip install 'penstock[media]'" in warnings[0]


async def test_run_old_ffmpeg_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    code = (
        "from edge.media.decode.tasks import Failure\nimport msgspec\n"
        "os.write(1, b'\\1' + msgspec.msgpack.encode(Failure('outdated', 'FFmpeg 8.1.1')))"
    )
    sandbox = Sandbox(program=MISBEHAVING)
    with pytest.raises(Problem) as raised:
        await sandbox.run(MeasureAudio(), code.encode())
    assert raised.value.kind == "audio_not_supported_by_model"
    assert "FFmpeg 8.1.1 has known security holes" in caplog.text
