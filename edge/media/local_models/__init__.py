"""Program of the local models: speech, transcription and reading of pictures.

Theory of operation. A worker starts `python -m edge.media.local_models` with a socket as standard
input, and the two exchange `edge.upstreams.local_media.frames`.

    server       requests from frames, answers to frames, one task for each
    call         one request, as a handler sees it
    engines      the models, each loaded when it is first used; one thread runs them step by step,
                 so that requests take turns
    speech       text -> audio, sentence by sentence; `encoding` makes the formats
    listening    audio -> text; `transcripts` makes the formats
    reading      picture -> its words, size and colours
    chat         what is heard or read, as a chat completion

Media of a caller are decoded by the sandbox first: the models get WAV and PNG of its making. Needs
the extras `media` and `local-media`. Nothing is downloaded.
"""
