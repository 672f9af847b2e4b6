"""The group `alerts`: the address to which alerts are posted. Nothing is posted to it."""

import asyncio
import ssl
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

from edge.config.secrets import Secret
from middlewares.dns import LookupFailed, lookup, shown

from .certificates import Certificates
from .finding import Finding
from .probe import PATIENCE, Findings, Probe
from .subject import Subject

WHAT = "alerts.webhook"


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe, where alerts are sent."""
    webhook = subject.settings.alerts.webhook
    if webhook is not None:
        certificates = Certificates()
        context = certificates.context() if webhook.reveal().startswith("https:") else None
        yield Probe(WHAT, partial(_check, webhook, certificates, context), outward=True)


async def _check(
    webhook: Secret, certificates: Certificates, context: ssl.SSLContext | None
) -> Findings:
    parts = urlsplit(webhook.reveal())
    host = parts.hostname or ""
    port = parts.port or (443 if context else 80)
    step = "name lookup"
    try:
        async with asyncio.timeout(PATIENCE - 0.3):
            addresses = await lookup(host, port)
            step = "TCP connection"
            _, writer = await asyncio.open_connection(shown(addresses[0]), port)
            try:
                if context is not None:
                    step = "TLS handshake"
                    await writer.start_tls(context, server_hostname=host)
            finally:
                writer.close()
    except TimeoutError:
        yield Finding("error", WHAT, f"{step} with {host}: no answer in time")
        return
    except LookupFailed as error:
        yield Finding("error", WHAT, str(error), f"check {WHAT}")
        return
    except OSError as error:  # ssl.SSLError is one
        yield Finding("error", WHAT, f"{step} with {host} failed: {error}", f"check {WHAT}")
        return
    said = ", ".join(filter(None, (f"{host} accepts connections", certificates.shown(host))))
    yield Finding("ok", WHAT, said, "`penstock alerts test` sends an event")
    if ending := certificates.ending(WHAT, host):
        yield ending
