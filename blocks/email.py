"""The mail block: how people hear of the end of a run.

Prefect's server renders ``email_templates`` when a run ends, loads a CampaignEmail in its own process and
calls ``notify``: whatever goes wrong here must neither hold that process up nor look to it like anything but
a NotificationError, the only exception it takes for a failed notification (any other is tried four times).
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from functools import lru_cache
from typing import cast

import aiosmtplib
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect_email import EmailServerCredentials
from prefect_email.credentials import SMTPServer, SMTPType
from pydantic import Field, HttpUrl, PrivateAttr, field_validator

from prefect_campaigns.blocks.email_composing import (
    RunNotice,
    compose,
    parse_address,
)
from prefect_campaigns.blocks.visible_text import one_line
from prefect_campaigns.clock import Clock, SystemClock

LIMIT_SECONDS = 10.0
"""How long one mail may take in all. Prefect's server works off two actions at a time; the others wait."""

QUIT_SECONDS = 1.0
"""How long the goodbye may take once the mail was accepted; within the limit above."""

LATE = timedelta(seconds=90)
"""How long after an event an automation still mails about it. What waits in line for longer, because the mail server is
slow or was away, is sent by whoever sends what is owed: it waits until nobody else may be at it any more."""

LOG_CHARACTERS = 700


@lru_cache(maxsize=8)
def _tls_context(verify: bool, *trusted: str | None) -> ssl.SSLContext:
    """Return a client's context; ``trusted`` are the variables that decide which certificates it loads."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _hello_name() -> str:
    # Not socket.getfqdn: its look-up can outlast the whole limit where the name server is silent.
    name = socket.gethostname()
    return name if "." in name and re.fullmatch(r"[A-Za-z0-9.-]+", name) else "[127.0.0.1]"


_OF_ONE_MAIL = ("addressing", "sending")
"""What is done for one mail alone; all that comes before fails for every other mail, too."""


class MailFailed(NotificationError):
    """A mail was not sent, or nobody knows whether it was.

    Attributes:
        is_refused: the mail server is there, and did not take this one.
    """

    def __init__(self, log: str, *, is_refused: bool) -> None:
        super().__init__(log)
        self.is_refused = is_refused


def _is_answer(error: Exception) -> bool:
    """Whether it is what a mail server has said."""
    return isinstance(error, aiosmtplib.SMTPNotSupported) or (
        isinstance(error, aiosmtplib.SMTPResponseException) and error.code >= 0
    )


@dataclass
class _Progress:
    doing: str = "preparing the mail"


def _reason(error: Exception, limit_seconds: float) -> str:
    """Return what went wrong, in the server's own words where it said any."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        # Below zero is aiosmtplib's own code for what is no SMTP at all; the message then repeats the line.
        code = f"{error.code} " if error.code >= 0 else ""
        return f"the server answered {code}{error.message}"
    if isinstance(error, TimeoutError):
        return f"no answer within {limit_seconds:g} seconds"
    for cause in (error, error.__cause__):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(error, (aiosmtplib.SMTPException, OSError)):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}"


class CampaignEmail(NotificationBlock):
    """
    Mails one recipient about the end of a campaign's run, as plain text and HTML.

    Made for the Send Notification action of an automation. One block holds one recipient; the server
    credentials are shared by all of them.

    Attributes:
        credentials: The mail server and how to log in to it.
        sender: The address the mails come from.
        recipient: The address the mails go to.

    Example:
        Load a saved block and send a mail; without `raise_on_failure` a failure is logged:
        ```python
        from prefect_campaigns.blocks.email import CampaignEmail

        campaign_email = CampaignEmail.load("BLOCK_NAME")
        with campaign_email.raise_on_failure():
            await campaign_email.notify("The list is ready.", subject="Restaurants")
        ```
    """

    _block_type_name = "Campaign Email"
    _block_type_slug = "campaign-email"
    _logo_url = HttpUrl(
        "https://cdn.sanity.io/images/3ugk85nk/production/82bc6ed16ca42a2252a5512c72233a253b8a58eb-250x250.png"
    )
    _documentation_url = HttpUrl(
        "https://docs.prefect.io/v3/automate/events/automations-triggers#sending-notifications-with-automations"
    )

    credentials: EmailServerCredentials = Field(default=..., description="The mail server and how to log in to it.")
    sender: str = Field(
        default=...,
        description="The address the mails come from.",
        examples=["Campaigns <campaigns@example.com>"],
    )
    recipient: str = Field(default=..., description="The address the mails go to.", examples=["ops@example.com"])

    _limit_seconds: float = PrivateAttr(default=LIMIT_SECONDS)
    _clock: Clock = PrivateAttr(default_factory=SystemClock)

    @field_validator("sender", "recipient")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parse_address(value)
        return value

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Send a mail, within ten seconds.

        An event that Prefect's server has heard of more than 90 seconds ago is not mailed about: that mail is owed,
        and a worker sends it.

        As with Prefect's own blocks, a failure is raised inside ``with block.raise_on_failure():``, where
        automations call this. It is logged in any case.

        Raises:
            NotificationError: the mail was not sent, or nobody knows whether it was; its ``log`` repeats what
                the mail server said.
        """
        try:
            await self._attempt(body, subject, refuses_late=True)
        except NotificationError as error:
            self.logger.error(error.log)
            if self._raise_on_failure:
                raise

    def _refuse_what_is_late(self, body: str) -> None:
        notice = RunNotice.parse(body)
        received_at = notice.received_at if notice else None
        if received_at is not None and self._clock.now() - received_at > LATE:
            late = f"its turn came more than {LATE.total_seconds():g} seconds late"
            raise MailFailed(f"The mail to {self.recipient} is left to a worker: {late}", is_refused=False)

    async def send(self, body: str, subject: str | None = None) -> None:
        """Send a mail, within ten seconds, and log nothing.

        Raises:
            MailFailed: as for ``notify``.
        """
        await self._attempt(body, subject, refuses_late=False)

    async def _attempt(self, body: str, subject: str | None, *, refuses_late: bool) -> None:
        progress = _Progress()
        try:
            if refuses_late:
                self._refuse_what_is_late(body)
            await self._send(body, subject, progress)
        except MailFailed:
            raise
        except Exception as error:  # whatever it is, the server must take it for a failed notification
            log, is_refused = self._explain(error, progress), _is_answer(error) and progress.doing in _OF_ONE_MAIL
        else:
            return
        raise MailFailed(log, is_refused=is_refused)

    async def _send(self, body: str, subject: str | None, progress: _Progress) -> None:
        deadline = asyncio.get_running_loop().time() + self._limit_seconds
        sender, recipient = parse_address(self.sender), parse_address(self.recipient)
        mail = compose(body, subject=subject, sender=sender, recipient=recipient, sent_at=self._clock.now())
        async with asyncio.timeout_at(deadline):
            client = await self._client()
            try:
                await self._deliver(client, mail, sender, recipient, progress)
            except BaseException:
                _hang_up(client)
                raise
        # From here on the mail is the server's. No goodbye that goes wrong may make it look unsent.
        try:
            with suppress(Exception):
                async with asyncio.timeout(QUIT_SECONDS), asyncio.timeout_at(deadline):
                    await client.quit()
        finally:
            _hang_up(client)

    async def _client(self) -> aiosmtplib.SMTP:
        host, port, smtp_type = self._server()
        context = None
        if smtp_type is not SMTPType.INSECURE:
            # Loading the trusted certificates takes some 70 ms: in a thread, and once.
            trusted = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
            context = await asyncio.to_thread(_tls_context, self.credentials.verify is not False, *trusted)
        return aiosmtplib.SMTP(
            hostname=host,
            port=port,
            local_hostname=_hello_name(),
            timeout=self._limit_seconds,
            use_tls=smtp_type is SMTPType.SSL,
            # Done by hand below, so that a failure can be told from one to connect.
            start_tls=False,
            tls_context=context,
        )

    async def _log_in(self, client: aiosmtplib.SMTP, progress: _Progress) -> None:
        progress.doing = "connecting"
        await client.connect()
        if self._server()[2] is SMTPType.STARTTLS:
            progress.doing = "starting TLS"
            await client.starttls()
        if self.credentials.username:
            progress.doing = "logging in"
            await client.login(self.credentials.username, self.credentials.password.get_secret_value())

    async def _deliver(
        self,
        client: aiosmtplib.SMTP,
        mail: EmailMessage,
        sender: Address,
        recipient: Address,
        progress: _Progress,
    ) -> None:
        await self._log_in(client, progress)
        # Not send_message, which would wait for one more answer before it tells of a refusal.
        progress.doing = "addressing"
        is_ascii = (sender.addr_spec + recipient.addr_spec).isascii()
        if not is_ascii:
            await client.ehlo()
            if not client.supports_extension("SMTPUTF8"):
                raise aiosmtplib.SMTPNotSupported("the server takes no addresses beyond ASCII (SMTPUTF8)")
        encoding, options = ("ascii", []) if is_ascii else ("utf-8", ["SMTPUTF8"])
        content = mail.as_bytes(policy=policy.SMTP if is_ascii else policy.SMTPUTF8)
        await client.mail(sender.addr_spec, options=options, encoding=encoding)
        await client.rcpt(recipient.addr_spec, encoding=encoding)
        progress.doing = "sending"
        await client.data(content)

    def _server(self) -> tuple[str, int, SMTPType]:
        server, smtp_type = self.credentials.smtp_server, self.credentials.smtp_type
        if not isinstance(smtp_type, SMTPType):
            smtp_type = SMTPType[smtp_type.upper()]
        host = server.value if isinstance(server, SMTPServer) else server
        return host, self.credentials.smtp_port or smtp_type.value, smtp_type

    async def _greet(self) -> None:
        """Do everything that comes before a mail; raise NotificationError where it fails."""
        progress = _Progress()
        try:
            async with asyncio.timeout(self._limit_seconds):
                client = await self._client()
                try:
                    await self._log_in(client, progress)
                    progress.doing = "greeting"
                    await client.ehlo()
                finally:
                    _hang_up(client)
        except Exception as error:  # as in notify: one kind of failure, whatever it is
            failure = one_line(self._redacted(self._failure(error, progress)), LOG_CHARACTERS)
        else:
            return
        raise NotificationError(failure)

    def _failure(self, error: Exception, progress: _Progress) -> str:
        host, port, _ = self._server()
        return f"{host}:{port}, {progress.doing}: {_reason(error, self._limit_seconds)}"

    def _explain(self, error: Exception, progress: _Progress) -> str:
        """Return why the mail was not sent, with what the server said and without what it must not repeat."""
        # The content may have left, and nobody has read an answer to it.
        lost = progress.doing == "sending" and not _is_answer(error)
        fate = "may or may not have been sent" if lost else "was not sent"
        log = f"The mail to {self.recipient} {fate}: {self._failure(error, progress)}"
        return one_line(self._redacted(log), LOG_CHARACTERS)

    def _redacted(self, text: str) -> str:
        # Servers have been seen to repeat the AUTH line they refuse.
        password = self.credentials.password.get_secret_value()
        if not password:
            return text
        plain = f"\0{self.credentials.username or ''}\0{password}"
        encoded = (base64.b64encode(secret.encode(errors="replace")).decode() for secret in (plain, password))
        for secret in (*encoded, password):
            text = text.replace(secret, "********")
        return text


async def check_mail_server(credentials: EmailServerCredentials, *, limit_seconds: float = LIMIT_SECONDS) -> None:
    """Greet a mail server and log in to it, and send nothing.

    Raises:
        NotificationError: it cannot be used, or says nothing; its ``log`` says why, with what the server said.
    """
    nobody = "nobody@example.com"
    block = CampaignEmail(credentials=credentials, sender=nobody, recipient=nobody)
    block._limit_seconds = limit_seconds
    await block._greet()


def _hang_up(client: aiosmtplib.SMTP) -> None:
    # Not close alone: over TLS it waits, in the background, for a goodbye that a silent server never sends.
    if client.transport is not None:
        cast(asyncio.WriteTransport, client.transport).abort()
    client.close()
