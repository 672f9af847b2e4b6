"""A real provider of OpenID Connect on this machine: `node/oidc-provider.mjs`."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .programs import FOLDER, NODE

CLIENT = "penstock"
CLIENT_SECRET = "canary-client-9b1f"


class OidcProvider:
    """A running provider. url: its issuer. Anyone may sign in under any name, `admin-…` as a member
    of the group "ops"."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self._process = process
        self.url = url

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def oidc_provider(redirect_uri: str, folder: Path) -> Iterator[OidcProvider]:
    """Run a provider that knows one client, which comes back to `redirect_uri`."""
    env = {"CLIENT_ID": CLIENT, "CLIENT_SECRET": CLIENT_SECRET, "REDIRECT_URI": redirect_uri}
    script = str(FOLDER / "oidc-provider.mjs")
    with (
        (folder / "oidc-provider.log").open("w") as log,
        subprocess.Popen(
            [str(NODE), script], env=env, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, (folder / "oidc-provider.log").read_text()
            yield OidcProvider(process, url)
        finally:
            process.kill()
