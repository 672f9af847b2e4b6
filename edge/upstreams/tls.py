"""TLS contexts for connections to upstreams: always verified, at least TLS 1.2."""

import ssl
from pathlib import Path

import certifi


def tls_context(
    *,
    ca: str | Path | None = None,
    client_cert: str | Path | None = None,
    client_key: str | Path | None = None,
    protocols: tuple[str, ...] = ("http/1.1",),
) -> ssl.SSLContext:
    """A client context that checks the certificate chain and the host name.

    ca: PEM file or directory of the only authorities to trust. Default: the system's (with
        `SSL_CERT_FILE` and `SSL_CERT_DIR`), or certifi's if the system has none.
    client_cert, client_key: PEM files; the key may be in the certificate's file.
    protocols: offered by ALPN, best first.

    Raises ValueError that names a file that cannot be read or is not PEM.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    try:
        if ca is not None:
            path = Path(ca)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if path.is_dir():
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        elif ssl.get_default_verify_paths().cafile is None and not context.get_ca_certs():
            context.load_verify_locations(cafile=certifi.where())
    except OSError as error:
        raise ValueError(f"ca {str(ca)!r} is not a readable PEM file: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    if client_cert is not None:
        try:
            context.load_cert_chain(str(client_cert), str(client_key) if client_key else None)
        except OSError as error:
            raise ValueError(f"client certificate {str(client_cert)!r}: {error}") from None
    elif client_key is not None:
        raise ValueError("client_key needs client_cert, which is not set")
    return context
