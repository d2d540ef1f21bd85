"""The page on an address."""

from __future__ import annotations

import secrets
import socket
import tempfile
from pathlib import Path

import torch
import uvicorn
from cryptography import x509

from model.errors import ConfigError
from reenact.page.app import Page
from reenact.page.desk import Desk
from reenact.page.guard import is_loopback, own_names
from reenact.page.live import IN_FLIGHT, MAX_FRAME_BYTES
from reenact.studio import Studio

_GRACE_S = 3
"""For answers that are on their way when the server ends."""


class PageServer:
    """Serves one checkpoint's page until a signal ends it; then all that browsers gave and got is deleted."""

    def __init__(
        self,
        checkpoint: Path,
        device: torch.device,
        *,
        host: str,
        port: int,
        certificate: Path | None = None,
        private_key: Path | None = None,
        consent: Path | None = None,
    ) -> None:
        """Listen, then load the checkpoint.

        Args:
            checkpoint: a round folder, or a run folder for its newest intact round.
            device: where the networks run.
            host: address or name to listen at; other than this machine's own, browsers need the token.
            port: 0 for a free one.
            certificate: chain, PEM, for https.
            private_key: of it, PEM.
            consent: dataset whose people may be drawn, by their records and faces.

        Raises:
            ConfigError: if the address or the certificate cannot be used, or certificate and key do not come together.
            CheckpointError: if the checkpoint cannot be used.
        """
        if (certificate is None) != (private_key is None):
            raise ConfigError("--certificate and --private-key: give both, for https, or none")
        self._socket = _listening(host, port)
        self._host, self._port = host, self._socket.getsockname()[1]
        self._token = "" if is_loopback(host) else secrets.token_urlsafe(24)
        desk = Desk()
        self._root = tempfile.TemporaryDirectory(prefix="fedreenact-page-", ignore_cleanup_errors=True)
        page = Page(
            checkpoint,
            Studio(checkpoint, device, desk.progress),
            desk,
            Path(self._root.name),
            cookie=f"fedreenact-{self._port}",
            token=self._token,
            consent=consent,
            is_secure=certificate is not None,
        )
        self._scheme = "http" if certificate is None else "https"
        self._config = uvicorn.Config(
            page.app(own_names() | {host.lower()} | _names_in(certificate)),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="websockets-sansio",
            ws_max_size=MAX_FRAME_BYTES,
            ws_max_queue=2 * IN_FLIGHT,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=_GRACE_S,
            ssl_certfile=certificate,
            ssl_keyfile=private_key,
        )

    @property
    def address(self) -> str:
        """To open in a browser, with the token where one is needed."""
        if not self._token:
            return f"{self._scheme}://localhost:{self._port}/"
        name = socket.gethostname() if self._host in ("0.0.0.0", "::") else self._host
        place = f"[{name}]" if ":" in name else name
        return f"{self._scheme}://{place}:{self._port}/?token={self._token}"

    @property
    def is_open_to_listeners(self) -> bool:
        """Whether faces travel over a network as they are."""
        return bool(self._token) and self._scheme == "http"

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        with self._root:
            uvicorn.Server(self._config).run(sockets=[self._socket])


def _names_in(certificate: Path | None) -> frozenset[str]:
    """Names that a certificate is for, in lower case; none without one.

    Raises:
        ConfigError: if the file holds no certificate.
    """
    if certificate is None:
        return frozenset()
    try:
        extensions = x509.load_pem_x509_certificates(certificate.read_bytes())[0].extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except ValueError as error:
        raise ConfigError(f"--certificate {certificate}: no certificate in it; wanted PEM") from error
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--host {host} --port {port}: {reason}; choose another") from error
