"""Mail servers on loopback that keep what they get, or say nothing at all: for the demo, and for tests.

Each runs in a thread of its own, so that it answers whatever the caller's event loop does.
"""

from __future__ import annotations

import asyncio
import email
import socket
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Literal, Self, cast

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session

START_SECONDS = 10.0
STOP_SECONDS = 10.0


class LoopbackServer(ABC):
    """A TCP server on 127.0.0.1, running inside ``with``.

    Args:
        port: 0 takes a free one.

    Attributes:
        host, port: where it listens, once it runs.
    """

    host = "127.0.0.1"

    def __init__(self, *, port: int = 0) -> None:
        self.port = port
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._transports: list[asyncio.WriteTransport] = []
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start serving.

        Raises:
            OSError: the port is taken.
        """
        listener = socket.create_server((self.host, self.port))
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener)), name=type(self).__name__, daemon=True
        )
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise TimeoutError(f"{type(self).__name__} did not start within {START_SECONDS:g} seconds")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving and cut every connection."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_SECONDS)

    @abstractmethod
    def _protocol(self) -> asyncio.Protocol:
        """Return what serves one connection."""

    def _connected(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(cast(asyncio.WriteTransport, transport))

    def _tls(self) -> ssl.SSLContext | None:
        """Return the context of a server that speaks TLS from the first byte."""
        return None

    async def _serve(self, listener: socket.socket) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(self._protocol, sock=listener, ssl=self._tls())
        self._started.set()
        await self._stopping.wait()
        server.close()
        for transport in self._transports:
            transport.abort()
        # One turn of the loop, in which the connections are closed.
        await asyncio.sleep(0)


class _SilentProtocol(asyncio.Protocol):
    def __init__(self, server: SilentServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._server._connected(transport)
        self._server._first.set()


class SilentServer(LoopbackServer):
    """Accepts connections and says nothing, as a mail server behind a broken firewall does."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self._first = threading.Event()

    def _protocol(self) -> asyncio.Protocol:
        return _SilentProtocol(self)

    def wait_for_connection(self, *, timeout_seconds: float) -> bool:
        """Wait until somebody has connected; return whether somebody has. Blocks the thread."""
        return self._first.wait(timeout_seconds)

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return len(self._transports)


@dataclass(frozen=True, kw_only=True)
class ReceivedMail:
    """A mail that the sink accepted.

    Attributes:
        message: the mail itself, parsed.
        sender, recipients: what the envelope said, whatever the headers say.
        login: the name the client logged in by; None without a login.
        tls: whether it came over TLS.
    """

    message: EmailMessage
    sender: str
    recipients: tuple[str, ...]
    login: str | None
    tls: bool

    @property
    def text(self) -> str:
        """The plain part; empty when there is none."""
        return self._part("plain")

    @property
    def html(self) -> str:
        """The HTML part; empty when there is none."""
        return self._part("html")

    def _part(self, subtype: str) -> str:
        body = self.message.get_body((subtype,))
        return str(body.get_content()) if body is not None else ""


Command = Literal["AUTH", "MAIL", "RCPT", "DATA", "QUIT"]


class SmtpSink(LoopbackServer):
    """An SMTP server that keeps every mail and passes none on.

    Args:
        port: 0 takes a free one.
        login: the only name and password it takes; then no mail is taken without them.
        tls_context: with a server's certificate; then nothing is taken before STARTTLS.
        implicit_tls: TLS from the first byte instead of STARTTLS.
        replies: what to answer instead of OK, by command. A string is answered always; of a list each is answered
            once, and then OK: ``{"DATA": ["451 4.3.0 try later"]}`` refuses the first mail only.

    Example:
        ``with SmtpSink() as sink: …; mail, = sink.wait_for(1, timeout_seconds=5)``
    """

    def __init__(
        self,
        *,
        port: int = 0,
        login: tuple[str, str] | None = None,
        tls_context: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        replies: Mapping[Command, str | Sequence[str]] | None = None,
    ) -> None:
        super().__init__(port=port)
        self._login = login
        self._tls_context = tls_context
        self._implicit_tls = implicit_tls
        self._replies = {
            command: reply if isinstance(reply, str) else list(reply) for command, reply in (replies or {}).items()
        }
        self._received: list[ReceivedMail] = []
        self._arrived = threading.Condition()

    @property
    def messages(self) -> list[ReceivedMail]:
        """The mails accepted so far, oldest first."""
        with self._arrived:
            return list(self._received)

    def wait_for(self, count: int, *, timeout_seconds: float) -> list[ReceivedMail]:
        """Wait until that many mails were accepted, and return all there are. Blocks the thread.

        Raises:
            TimeoutError: fewer came.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._received) >= count, timeout_seconds):
                raise TimeoutError(f"{len(self._received)} of {count} mails came in {timeout_seconds:g} seconds")
            return list(self._received)

    def _tls(self) -> ssl.SSLContext | None:
        return self._tls_context if self._implicit_tls else None

    def _protocol(self) -> asyncio.Protocol:
        return _SinkProtocol(self, None if self._implicit_tls else self._tls_context)

    def _reply(self, command: Command, otherwise: Any) -> Any:
        scripted = self._replies.get(command)
        if isinstance(scripted, list):
            return scripted.pop(0) if scripted else otherwise
        return otherwise if scripted is None else scripted

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
    ) -> AuthResult:
        expected = self._login and tuple(part.encode() for part in self._login)
        return AuthResult(success=expected == (given.login, given.password), handled=False, auth_data=given)

    # What aiosmtpd calls, by name: what it gets is sent; MISSING is aiosmtpd's word for doing it itself.

    async def handle_AUTH(self, server: SMTP, session: Session, envelope: Envelope, args: list[str]) -> Any:
        """Answer a login."""
        return self._reply("AUTH", MISSING)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> Any:
        """Answer the envelope's sender."""
        if self._login is not None and not session.authenticated:
            return "530 5.7.0 Authentication required"
        reply = self._reply("MAIL", "250 OK")
        if reply == "250 OK":
            envelope.mail_from = address
        return reply

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> Any:
        """Answer one recipient."""
        reply = self._reply("RCPT", "250 OK")
        if reply == "250 OK":
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> Any:
        """Keep the mail, unless the script refuses it."""
        reply = self._reply("DATA", "250 OK")
        if reply == "250 OK":
            received = ReceivedMail(
                message=email.message_from_bytes(envelope.original_content or b"", policy=policy.default),
                sender=envelope.mail_from or "",
                recipients=tuple(envelope.rcpt_tos),
                login=cast(LoginPassword, session.auth_data).login.decode() if session.authenticated else None,
                tls=self._implicit_tls or session.ssl is not None,
            )
            with self._arrived:
                self._received.append(received)
                self._arrived.notify_all()
        return reply

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> Any:
        """Answer the goodbye."""
        return self._reply("QUIT", MISSING)


class _SinkProtocol(SMTP):
    def __init__(self, sink: SmtpSink, starttls: ssl.SSLContext | None) -> None:
        super().__init__(
            sink,
            # Else aiosmtpd asks the name server for one.
            hostname="localhost",
            enable_SMTPUTF8=True,
            tls_context=starttls,
            require_starttls=starttls is not None,
            # aiosmtpd knows no TLS but STARTTLS, and would offer no login over the other. Whether a login is needed
            # is decided in handle_MAIL, for auth_required warns where there is no TLS.
            auth_require_tls=False,
            auth_exclude_mechanism=() if sink._login else ("LOGIN", "PLAIN"),
            authenticator=sink._authenticate,
            loop=asyncio.get_running_loop(),
        )
        self._sink = sink

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sink._connected(transport)
        super().connection_made(transport)
