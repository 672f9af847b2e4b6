"""A program of local models that does what the path of a request says."""

import os
import socket
import sys
from collections.abc import Callable

from edge.upstreams.local_media.frames import (
    AnyFrame,
    Cancel,
    Data,
    Done,
    FrameReader,
    Head,
    Open,
    Ready,
    Sent,
    encode,
)


def main(mode: str) -> None:
    """mode: "well", or a way not to start."""
    if mode == "dies":
        os._exit(3)
    connection = socket.socket(fileno=os.dup(0))
    if mode == "talks":
        connection.sendall(encode(Done(1)))

    def send(frame: AnyFrame) -> None:
        connection.sendall(encode(frame))

    send(Ready())
    reader = FrameReader()
    paths: dict[int, str] = {}
    while data := connection.recv(1 << 16):
        for frame in reader.read(data):
            match frame:
                case Open(id=id_, path=path):
                    paths[id_] = path
                    if path == "/dies/at-once":
                        os._exit(9)
                case Sent(id=id_):
                    answer(id_, paths[id_], send)
                case Cancel(id=id_):
                    paths[id_] = "cancelled"
                    for other, path in paths.items():
                        if path == "/cancels":
                            send(Data(other, b"%d cancelled" % id_))
                            send(Done(other))


def answer(id_: int, path: str, send: Callable[[AnyFrame], None]) -> None:
    """The frames of an answer."""
    if path == "/hangs":
        return
    send(Head(id_, 200, "audio/wav"))
    if path in ("/opens", "/cancels"):
        return
    send(Data(id_, b"one"))
    if path == "/dies":
        os._exit(9)
    send(Data(id_, b"two"))
    send(Done(id_, failed=path == "/fails"))


if __name__ == "__main__":
    main(sys.argv[1])
