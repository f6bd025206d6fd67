"""What has arrived at the mail server of the tests."""

from __future__ import annotations

from typing import Protocol

from driving import until

from prefect_campaigns.deployments.demo.smtp_sink import ReceivedMail, SmtpSink


class WithMail(Protocol):
    """A set-up that has a mail server."""

    mail: SmtpSink


async def mails_to(stack: WithMail, address: str, count: int) -> list[ReceivedMail]:
    """Wait until so many mails have come for somebody, and return all that have come by then."""

    async def look() -> list[ReceivedMail] | None:
        found = [mail for mail in stack.mail.messages if address in mail.recipients]
        return found if len(found) >= count else None

    return await until(look, f"{count} mails to {address}")
