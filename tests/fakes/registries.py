"""Debian's ``docker-registry`` as the registry that a node mirrors, and a token server for it.

Real processes on loopback, each with its own port and folder, ended by their own id. The token
server is the one of the distribution project's token specification: it signs what a user may do,
and the registry checks the signature by the server's certificate.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from pyrsia_node.devnet.stand_in import DebianRegistry, push, running_registry

__all__ = [
    "PASSWORD",
    "USER",
    "DebianRegistry",
    "TokenServer",
    "debian_registry",
    "push",
    "registry_with_password",
    "registry_with_tokens",
    "token_server",
]

USER, PASSWORD = "reader", "a password of tests"
# bcrypt of the password, cost 5.
_HTPASSWD = "reader:$2y$05$n2AJbtL5/3gD6Dbr4AKi1.7HZ5.D6iW47T4BKSisWJTS1Hd0dGfli"


@contextmanager
def debian_registry(folder: Path, *, port: int = 0) -> Iterator[DebianRegistry]:
    """Run a registry that everybody may pull from and push to."""
    with running_registry(folder, port=port) as registry:
        yield registry


@contextmanager
def registry_with_password(folder: Path, *, port: int = 0) -> Iterator[DebianRegistry]:
    """Run a registry that wants ``USER`` and ``PASSWORD`` by Basic authentication."""
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "htpasswd"
    users.write_text(_HTPASSWD + "\n")
    auth = {"htpasswd": {"realm": "tests", "path": str(users)}}
    with running_registry(folder, {"auth": auth}, port=port) as registry:
        yield registry


@contextmanager
def registry_with_tokens(
    folder: Path, tokens: TokenServer, *, port: int = 0
) -> Iterator[DebianRegistry]:
    """Run a registry that wants Bearer tokens of the server (see :func:`token_server`)."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / "tokens.pem"
    bundle.write_bytes(tokens.certificate.public_bytes(serialization.Encoding.PEM))
    auth = {
        "token": {
            "realm": tokens.realm,
            "service": tokens.service,
            "issuer": tokens.issuer,
            "rootcertbundle": str(bundle),
        }
    }
    with running_registry(folder, {"auth": auth}, port=port) as registry:
        yield registry


class TokenServer:
    """Gives tokens to who says ``USER`` and ``PASSWORD``, and for pulls to everybody if public.

    ``asked`` keeps scope and user of each request.
    """

    def __init__(self, *, is_public: bool) -> None:
        self.service, self.issuer = "registry of tests", "tokens of tests"
        self.is_public = is_public
        self.lifetime_s = 300
        self.asked: list[tuple[str, str]] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _self_signed(self._key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def realm(self) -> str:
        """Return the address that registries name in their challenge."""
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the socket."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def token(self, scope: str, user: str) -> str | None:
        """Return a signed token for a scope, or None if the user may not have it."""
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        wanted = actions.split(",") if actions else []
        if not user and not (self.is_public and set(wanted) <= {"pull"}):
            return None
        access = [{"type": kind, "name": name, "actions": wanted}] if scope else []
        now = int(dt.datetime.now(dt.UTC).timestamp())
        return self._sign(
            {
                "iss": self.issuer,
                "sub": user,
                "aud": self.service,
                "nbf": now - 10,
                "iat": now,
                "exp": now + self.lifetime_s,
                "jti": str(len(self.asked)),
                "access": access,
            }
        )

    def _sign(self, claims: dict[str, object]) -> str:
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        signed = (
            f"{_base64url(json.dumps(head).encode())}.{_base64url(json.dumps(claims).encode())}"
        )
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                scope = query.get("scope", [""])[0]
                user = _user_of(self.headers.get("Authorization", ""))
                server.asked.append((scope, user))
                token = server.token(scope, user)
                body = b'{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}'
                if token is not None:
                    body = json.dumps({"token": token, "expires_in": server.lifetime_s}).encode()
                self.send_response(401 if token is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        return Handler


@contextmanager
def token_server(*, is_public: bool = True) -> Iterator[TokenServer]:
    """Run a token server."""
    server = TokenServer(is_public=is_public)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _user_of(authorization: str) -> str:
    expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return USER if authorization == f"Basic {expected}" else ""


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens of tests")])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
