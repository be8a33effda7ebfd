"""Certificates for TLS tests, made anew each time: no key is ever kept in the repository."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files for the client, TLS contexts for the server."""

    ca: Path
    client_cert: Path
    client_key: Path
    server_tls: ssl.SSLContext
    mutual_tls: ssl.SSLContext
    """Refuses clients without the client certificate."""


def make_certificates(folder: Path, *names: str) -> Certificates:
    """A new CA, a server certificate for `names` (default: localhost, 127.0.0.1) and one for a client."""
    authority = trustme.CA()
    server = authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
    client = authority.issue_cert("client@example.org")
    paths = folder / "ca.pem", folder / "client.pem", folder / "client.key"
    authority.cert_pem.write_to_path(paths[0])
    client.cert_chain_pems[0].write_to_path(paths[1])
    client.private_key_pem.write_to_path(paths[2])
    mutual = _context(server)
    mutual.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(mutual)
    return Certificates(*paths, server_tls=_context(server), mutual_tls=mutual)


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
