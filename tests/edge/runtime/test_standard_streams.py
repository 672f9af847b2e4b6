"""Standard streams that no process reads."""

import subprocess
import sys

from tests.waiting import DEADLINE

SCRIPT = """
import os, signal, sys
from edge.runtime import standard_streams
reader, writer = os.pipe()
os.dup2(writer, 2)
os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"x" * 4096)
except BlockingIOError:
    pass
os.set_blocking(2, True)
standard_streams.dump_stacks_on_sigquit()
os.kill(os.getpid(), signal.SIGQUIT)
assert os.get_blocking(2)  # others have it too
lines = []
standard_streams.print_to_log(lines.append)
print("one\\ntwo", file=sys.stderr)
assert lines == [b"one", b"two"], lines
os.read(reader, 1 << 20)
os.kill(os.getpid(), signal.SIGQUIT)
assert b"most recent call first" in os.read(reader, 1 << 20)
end, start = os.pipe()
os.dup2(start, 1)
os.close(end)
os.close(start)
standard_streams.write_stdout("ready\\n")
sys.exit(5)
"""


def test_standard_streams_full_or_broken_pipe_does_not_block() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 5, done.stderr
