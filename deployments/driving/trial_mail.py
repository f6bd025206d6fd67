"""A mail that is really sent, to see whether mails go out and arrive."""

from __future__ import annotations

import socket

from prefect.blocks.abstract import NotificationError

from prefect_campaigns.blocks.email import CampaignEmail
from prefect_campaigns.blocks.email_composing import is_address
from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.applying.saved_mail import MailServer, mail_in_use
from prefect_campaigns.errors import CampaignsError, MailNotSent
from prefect_campaigns.words import shown

SUBJECT = "Test mail of prefect-campaigns"


async def send_trial_mail(settings: Settings, saved: MailServer | None, *, to: str | None) -> str:
    """Send a mail by the mail server of the settings, or else by the saved one, within ten seconds.

    Args:
        to: one address; None for the one that mails come from.

    Returns:
        To whom it went.

    Raises:
        MailNotSent: it did not go out; says what the mail server said, or that there is none.
        CampaignsError: ``to`` is no address.
    """
    if to is not None and not is_address(to):
        raise CampaignsError(f"{shown(to)} is no mail address; allowed is one such as ops@example.com")
    mail = mail_in_use(settings, saved)
    if mail is None:
        raise MailNotSent("no mail server is set up, so nobody is mailed; set SMTP_HOST (.env.template says how)")
    if mail.sender is None:
        raise MailNotSent("nobody says who mails come from; set SMTP_FROM")
    recipient = to or mail.sender
    block = CampaignEmail(credentials=mail.credentials, sender=mail.sender, recipient=recipient)
    try:
        await block.send(f"Mails about campaigns arrive as this one did. It came from {socket.gethostname()}.", SUBJECT)
    except NotificationError as error:
        raise MailNotSent(error.log) from error
    return recipient
