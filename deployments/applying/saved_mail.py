"""The mail server, as the Prefect server keeps it: its login as a block, and whom mails come from as a variable."""

from __future__ import annotations

from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect_email import EmailServerCredentials

from prefect_campaigns.blocks.email_composing import parse_address
from prefect_campaigns.blocks.settings import Settings, SmtpSettings
from prefect_campaigns.deployments.applying.saved_blocks import Saving, load_block, save_if_changed, saving_of

SMTP_BLOCK_NAME = "campaigns-smtp"

SENDER_VARIABLE = "campaigns_smtp_from"


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """What mails are sent by.

    Attributes:
        sender: the address that mails come from; None when nobody has said so and the login is no address.
    """

    credentials: EmailServerCredentials
    sender: str | None


def mail_server_of(smtp: SmtpSettings) -> MailServer:
    """Return the mail server of the settings."""
    return MailServer(credentials=smtp.credentials(), sender=smtp.sender)


async def saving_of_mail(client: PrefectClient, smtp: SmtpSettings) -> Saving:
    """Say what saving the mail server of the settings would come to; nothing is written."""
    saving = await saving_of(smtp.credentials(), SMTP_BLOCK_NAME, client=client)
    before = await client.read_variable_by_name(SENDER_VARIABLE)
    is_same = before is not None and before.value == smtp.sender
    return Saving.CHANGED if saving is Saving.UNCHANGED and not is_same else saving


async def save_mail(client: PrefectClient, smtp: SmtpSettings) -> Saving:
    """Save the mail server of the settings, unless it is there just so."""
    saving = (await save_if_changed(smtp.credentials(), SMTP_BLOCK_NAME)).saving
    before = await client.read_variable_by_name(SENDER_VARIABLE)
    if before is None:
        await client.create_variable(VariableCreate(name=SENDER_VARIABLE, value=smtp.sender))
    elif before.value != smtp.sender:
        await client.update_variable(VariableUpdate(name=SENDER_VARIABLE, value=smtp.sender))
    else:
        return saving
    return Saving.CHANGED if saving is Saving.UNCHANGED else saving


async def load_mail(client: PrefectClient) -> MailServer | None:
    """Return the mail server that was saved; None when none was."""
    credentials = await load_block(EmailServerCredentials, SMTP_BLOCK_NAME)
    if credentials is None:
        return None
    saved = await client.read_variable_by_name(SENDER_VARIABLE)
    sender = str(saved.value) if saved is not None else _address(credentials.username)
    return MailServer(credentials=credentials, sender=sender)


def mail_in_use(settings: Settings, saved: MailServer | None) -> MailServer | None:
    """Return what mails are sent by: what the settings name, or else what was saved; None where nobody is mailed."""
    return saved if settings.smtp is None else mail_server_of(settings.smtp)


def _address(login: str | None) -> str | None:
    """Return the login, if it is an address."""
    try:
        parse_address(login or "")
    except ValueError:
        return None
    return login
