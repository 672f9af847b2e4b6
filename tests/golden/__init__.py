"""Whole exchanges as text files: what a caller asks, what the upstream gets, says, and what becomes
of it.

    cases/CALLER-UPSTREAM/NAME.txt    one exchange, streamed and unstreamed
    case      such a file, read and written
    play      the exchange, run through `edge.proxy.translate` with its bytes cut in many ways
    record    `python -m tests.golden.record FILE...` writes what comes out into the files

To add a case: write its head, the caller's request and the upstream's answer; record it; then read
what was written against what the vendors document. Only a case that was read is worth keeping.
"""
