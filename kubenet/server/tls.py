"""A private CA and a server certificate for 127.0.0.1, made once per session; and the kubeconfig that trusts them.

kubectl sends no credentials over plain http, so there must be TLS. Keys are ECDSA P-256; they, the token and the kubeconfig are
0600 in the session's directory.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import secrets
import ssl
from pathlib import Path

from kubenet.server.session import Session


def _private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_suffix(".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    temporary.replace(path)


def token(session: Session) -> str:
    """The bearer token of the session; made at the first call."""
    path = session.dir / "token"
    if not path.exists():
        _private(path, secrets.token_urlsafe(32).encode())
    return path.read_text()


def server_context(session: Session) -> ssl.SSLContext:
    """What the listener needs; CA and certificate are made if they are not there."""
    pem = session.dir / "tls.pem"
    if not pem.exists() or not (session.dir / "ca.pem").exists():
        _mint(session)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pem)
    return context


def _mint(session: Session) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)
    begin, end = now - datetime.timedelta(days=1), now + datetime.timedelta(days=3650)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"kubenet {session.name} CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubenet")])
    ca = (
        x509.CertificateBuilder().subject_name(ca_name).issuer_name(ca_name).public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    cert = (
        x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _private(session.dir / "ca.pem", ca.public_bytes(encoding))
    _private(session.dir / "tls.pem", secret + cert.public_bytes(encoding))


def write_kubeconfig(session: Session, port: int) -> None:
    """`kubectl --kubeconfig FILE` reaches this session."""
    authority = base64.b64encode((session.dir / "ca.pem").read_bytes()).decode()
    _private(session.kubeconfig, f"""apiVersion: v1
kind: Config
clusters:
- name: kubenet
  cluster:
    server: https://127.0.0.1:{port}
    certificate-authority-data: {authority}
users:
- name: kubenet
  user:
    token: {token(session)}
contexts:
- name: kubenet
  context: {{cluster: kubenet, user: kubenet}}
current-context: kubenet
""".encode())
