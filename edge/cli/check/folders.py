"""The group `stores`: the journal and the stored objects."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from stat import S_IWOTH

from edge.media.objects import Objects
from edge.server.preflight import journal_fault, objects_fault
from edge.services import objects_of
from middlewares.stores.errors import StoreUnavailable

from . import disk
from .finding import Finding
from .probe import Findings, Probe, in_thread
from .subject import Subject

JOURNAL, OBJECTS = "store.journal", "store.objects"


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe of each."""
    yield Probe(JOURNAL, lambda: _journal(subject))
    objects = objects_of(subject.settings.store)
    folder = objects.folder
    if folder is not None:
        yield Probe(OBJECTS, lambda: _folder(subject, folder))
    else:
        yield Probe(OBJECTS, lambda: _bucket(subject, objects), outward=True)


async def _journal(subject: Subject) -> Findings:
    folder = Path(subject.settings.store.journal)
    if fault := await in_thread(partial(journal_fault, subject.settings)):
        yield Finding(
            "error", JOURNAL, fault.removeprefix(f"{JOURNAL}: "), "make room, or change its owner"
        )
        return
    low = await in_thread(partial(disk.space, JOURNAL, folder))
    if low is not None:
        yield low
    there = await in_thread(folder.exists)
    state = "is writable" if there else "will be created at the first start"
    if low is None or low.state != "error":
        yield Finding("ok", JOURNAL, f"{folder} {state}")
    if there and (await in_thread(folder.stat)).st_mode & S_IWOTH:
        yield Finding(
            "warning",
            JOURNAL,
            f"{folder}: any user of this machine can add ledger rows to it",
            "chmod o-w",
        )
    if kind := await in_thread(partial(disk.shared_file_system, folder)):
        yield Finding(
            "warning",
            JOURNAL,
            f"{folder} is on {kind}, which other machines can write to",
            "move it to a disk of this machine",
        )
    elif await in_thread(partial(disk.in_memory, folder)):
        yield Finding(
            "note",
            JOURNAL,
            f"{folder} is in memory: rows that wait there are lost when the machine or pod ends",
            "move it to a disk",
        )


async def _folder(subject: Subject, folder: Path) -> Findings:
    if fault := await in_thread(partial(objects_fault, folder)):
        yield Finding(
            "error", OBJECTS, fault.removeprefix(f"{OBJECTS}: "), "make room, or change its owner"
        )
        return
    low = await in_thread(partial(disk.space, OBJECTS, folder))
    if low is not None:
        yield low
    if low is None or low.state != "error":
        there = await in_thread(folder.exists)
        state = "is writable" if there else "will be created with the first file"
        yield Finding("ok", OBJECTS, f"{subject.settings.store.objects.shown} {state}")


async def _bucket(subject: Subject, objects: Objects) -> Findings:
    """Write, read and remove a small object."""
    shown = subject.settings.store.objects.shown
    try:
        await objects.check()
    except (StoreUnavailable, FileNotFoundError) as error:  # of an object: its bucket is not there
        said, hint = of_refusal(str(error.__cause__ or error), subject)
        yield Finding("error", OBJECTS, f"{shown}: {said}", hint)
    else:
        yield Finding("ok", OBJECTS, f"{shown} can be written to and read")


def of_refusal(text: str, subject: Subject) -> tuple[str, str]:
    """What a bucket refused, in our words, and what to do. Other texts: their first line."""
    region = subject.settings.store.objects_region or os.environ.get("AWS_REGION", "")
    given = f"objects_region is {region!r}" if region else "objects_region is not given"
    for words, said, hint in (
        (
            ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist"),
            "there is no such bucket",
            "create it, or check its name in store.objects",
        ),
        (
            ("InvalidAccessKeyId", "does not exist in our records"),
            "the access key is not known there",
            "check store.objects_access_key",
        ),
        (
            ("SignatureDoesNotMatch", "signature we calculated"),
            "the secret does not fit the access key",
            "check store.objects_secret_key",
        ),
        (
            ("AuthorizationHeaderMalformed", "PermanentRedirect", "incorrectly configured region"),
            f"the bucket is in another region; {given}",
            "set store.objects_region to the region of the bucket",
        ),
        (
            ("RequestTimeTooSkewed",),
            "the clock of this machine is wrong",
            "keep it with NTP",
        ),
        (
            ("AccessDenied", "403 Forbidden", "AuthorizationFailure"),
            "access is denied",
            "allow s3:PutObject, s3:GetObject and s3:DeleteObject on the bucket",
        ),
        (
            (
                "Connection refused",
                "error trying to connect",
                "dns error",
                "tcp connect",
                "error sending request",
            ),
            "it does not answer",
            "check store.objects_endpoint",
        ),
    ):
        if any(word in text for word in words):
            return said, hint
    return text.partition("\n")[0], ""
