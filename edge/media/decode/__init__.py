"""Decoding of media that callers send, in throw-away processes.

Theory of operation. The decoders are native code, and what they read is hostile. So no worker loads
them: each task runs in a process of its own, which ends with it.

    task       what to do and with which bounds, and the type of its result (`tasks`)
    turn       at most one process per core; owners take turns, the queue is bounded (`turns`)
    process    an empty environment, limits on memory, CPU time, file size and descriptors, low
               priority; it reads the media as standard input and writes the result, of bounded
               size, to standard output (`process`, `child`)
    decoder    Pillow, PyAV or pdfium, each with the formats and codecs that it may read
               (`images`, `audio`, `video`, `documents`; only a child imports them)

`sandbox.Sandbox` is the door: a task and its media in, a result or a `Problem` out.

Only `audio_header` decodes in the worker: a price needs it, and it is plain Python.
"""
