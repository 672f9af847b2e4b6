"""What a worker holds and how long its garbage collections take, asked from outside.

`probed(folder)` is an environment in which each forked process of a Python program answers
questions: a file `ask-PID` in the folder, and the answer is in `answer-PID`, as JSON. For measuring
only: counting objects takes seconds, and the callbacks of collections cost a little.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

_PROBE = """
import gc, json, os, sys, threading, time

folder = {folder!r}
pauses, began = [], [0.0]

def note(phase, info):
    if phase == "start":
        began[0] = time.perf_counter()
    else:
        took = (time.perf_counter() - began[0]) * 1e3
        pauses.append((info["generation"], took, info["collected"]))

def answer():
    pid = os.getpid()
    while True:
        time.sleep(0.1)
        ask = os.path.join(folder, f"ask-{{pid}}")
        if not os.path.exists(ask):
            continue
        counted = {{}}
        frames = {{}}
        with_objects = open(ask).read() == "objects"
        if with_objects:
            for one in gc.get_objects():
                kind = type(one)
                name = kind.__module__ + "." + kind.__qualname__
                size, number = counted.get(name, (0, 0))
                try:
                    more = sys.getsizeof(one)
                except Exception:
                    more = 0
                counted[name] = (size + more, number + 1)
                if name == "builtins.coroutine":
                    frames[one.__qualname__] = frames.get(one.__qualname__, 0) + 1
        seen = list(pauses)
        pauses.clear()
        found = {{"pauses": seen, "counts": gc.get_count(), "frozen": gc.get_freeze_count(),
                 "stats": gc.get_stats(), "objects": counted, "coroutines": frames}}
        os.unlink(ask)
        with open(os.path.join(folder, f"answer-{{pid}}.new"), "w") as file:
            json.dump(found, file)
        os.rename(file.name, os.path.join(folder, f"answer-{{pid}}"))

def start():
    gc.callbacks.append(note)
    threading.Thread(target=answer, daemon=True).start()

os.register_at_fork(after_in_child=start)
"""


def probed(folder: Path) -> Mapping[str, str]:
    """The environment of a program to probe. folder: empty, for questions and answers."""
    (folder / "sitecustomize.py").write_text(_PROBE.format(folder=str(folder)))
    return {"PYTHONPATH": str(folder)}


def ask(folder: Path, pid: int, *, objects: bool = False) -> dict[str, Any]:
    """What process `pid` answers: pauses (generation, ms, collected) of all collections since the
    last question, and with `objects` the size and number of objects by type."""
    question, answer = folder / f"ask-{pid}", folder / f"answer-{pid}"
    answer.unlink(missing_ok=True)
    question.write_text("objects" if objects else "")
    end = time.monotonic() + 120
    while not answer.exists():
        if time.monotonic() > end or not Path(f"/proc/{pid}").exists():
            raise RuntimeError(f"process {pid} does not answer")
        time.sleep(0.05)
    found: dict[str, Any] = msgspec.json.decode(answer.read_bytes())
    return found
