"""The group `oidc`: the discovery document and the keys of the sign-in's provider."""

from collections.abc import Iterator

from edge.config.model import OidcConfig
from edge.dashboard.oidc.provider import IdentityProvider, ProviderUnavailable

from .amounts import counted
from .finding import Finding
from .probe import Findings, Probe
from .subject import Subject

WHAT = "dashboard.oidc"


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe, where people sign in by OpenID Connect."""
    oidc = subject.settings.dashboard.oidc
    if oidc is not None and subject.settings.dashboard.enabled:
        yield Probe(WHAT, lambda: _check(oidc), outward=True)


async def _check(oidc: OidcConfig) -> Findings:
    provider = IdentityProvider(oidc)
    try:
        await provider.metadata()
    except ProviderUnavailable as error:
        yield Finding("error", WHAT, f"discovery document: {error}", _hint(str(error)))
        return
    try:
        keys = await provider.keys(lambda key: True)
    except ProviderUnavailable as error:
        yield Finding("error", WHAT, f"key set: {error}", _hint(str(error)))
        return
    if not keys:
        yield Finding("error", WHAT, "its key set is empty, so no one can sign in")
        return
    said = f"{oidc.issuer} has its discovery document and {counted(len(keys), 'key')}"
    yield Finding("ok", WHAT, said)


def _hint(reason: str) -> str:
    if "its issuer is" in reason:
        return "write dashboard.oidc.issuer exactly as the provider names itself"
    if "answers 404" in reason:
        return "check dashboard.oidc.issuer: its discovery document is not there"
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return "name the authority as dashboard.oidc.ca"
    return "check dashboard.oidc.issuer, and that the provider works"
