"""Mails that could not be sent at once: whoever has to be told is told, once, as soon as it can be done."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from campaign_files import PROSPECT
from driving import Driver, until
from prefect.client.schemas.objects import FlowRun
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger
from prefect.states import Completed
from prefect_email import EmailServerCredentials

from prefect_campaigns.blocks.email import CampaignEmail
from prefect_campaigns.blocks.email_composing import message_id, parse_address
from prefect_campaigns.blocks.store_types import MailRecord, MailState
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.smtp_sink import SmtpSink
from prefect_campaigns.flows.lease import if_alone
from prefect_campaigns.flows.mailing import OwedMails

logger = logging.getLogger(__name__)
FAILURES = 10
BACK_SECONDS = 120.0


class Told:
    """Somebody who is told of the end of one run, by a mail server of its own."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self._name = name
        self.address = f"{name.lower().replace(' ', '-')}@example.com"
        self.mails = OwedMails(driver.client, logger=logger)
        self.run: FlowRun | None = None

    async def begin(self, server: SmtpSink, *, is_silent: bool = False) -> None:
        """Make a run whose end is mailed by that server.

        Args:
            is_silent: whether Prefect's server never comes to it, as when it is killed with the mail pending.
        """
        told = {"onComplete": {"email": self.address}}
        deployment = await self._driver.deploy(self._name, "http://127.0.0.1:1", only=1, notifications=told)
        await point_at(self._driver, await self.automation(), self.address, server)
        if is_silent:
            automation = await self.automation()
            assert isinstance(automation.trigger, EventTrigger)
            automation.trigger.threshold = 1_000
            changed = AutomationCore(**automation.model_dump(exclude={"id", "owner_resource"}))
            await self._driver.client.update_automation(automation.id, changed)
        self.run = await self._driver.start_later(deployment)

    async def automation(self) -> Automation:
        (found,) = await self._driver.client.read_automations_by_name(f"campaigns: complete → {self.address}")
        return found

    async def end_run(self) -> None:
        assert self.run is not None
        await self._driver.client.set_flow_run_state(self.run.id, Completed(message="All is done."), force=True)

    async def look(self, *, after: timedelta = timedelta(0)) -> MailRecord | None:
        """Look for what is owed, so much later; return what is known of the mail then."""
        await self.mails.look(self._driver.store, now=datetime.now(UTC) + after)
        return await self.record()

    async def record(self) -> MailRecord | None:
        found = await self._driver.store.mails_about([await self.event_id()])
        return found[0] if found else None

    async def event_id(self) -> UUID:
        assert self.run is not None
        state = (await self._driver.client.read_flow_run(self.run.id)).state
        assert state is not None
        return state.id

    async def message_id(self) -> str:
        """Return the Message-ID that its mail has, whoever sends it, and however often."""
        return message_id(str(await self.event_id()), parse_address(self.address), domain="example.com")

    async def is_owed(self) -> MailRecord:
        """Look until it is known that the mail has failed; Prefect's events of it come a little late."""

        async def look() -> MailRecord | None:
            return await self.look()

        return await until(look, "the mail is owed")


async def point_at(driver: Driver, automation: Automation, address: str, server: SmtpSink) -> None:
    """Let an automation's mails go to a mail server."""
    document = await driver.client.read_block_document(automation.actions[0].block_document_id)
    credentials = EmailServerCredentials(
        username=None, password="", smtp_server=server.host, smtp_port=server.port, smtp_type="INSECURE"
    )
    block = CampaignEmail(credentials=credentials, sender="campaigns@example.com", recipient=address)
    await block.asave(document.name, overwrite=True)


@pytest.fixture
async def alone(driver: Driver) -> AsyncIterator[None]:
    """Let the stack's worker send nothing that is owed: the test does."""

    async def is_free() -> bool:
        async with if_alone(driver.store, "mail", who="a test", logger=logger) as is_alone:
            return is_alone

    await until(is_free, "nobody sends mails")
    async with if_alone(driver.store, "mail", who="a test", logger=logger) as is_alone:
        assert is_alone
        yield


async def test_ten_failures_while_the_mail_server_is_down_are_ten_mails_when_it_is_back(
    driver: Driver, engines: DemoEngines
) -> None:
    address = "down@example.com"
    engines.fail_next(PROSPECT, times=FAILURES, status=400)
    deployment = await driver.deploy(
        "Mailed When It Is Back", engines.url, only=1, notifications={"onFailure": {"email": address}}
    )
    with SmtpSink() as sink:
        pass
    (automation,) = await driver.client.read_automations_by_name(f"campaigns: failure → {address}")
    await point_at(driver, automation, address, sink)
    runs = [await driver.start(deployment) for _ in range(FAILURES)]
    ended = await driver.all_ended([run.id for run in runs], seconds=100)
    states = [run.state for run in ended if run.state]
    assert {state.name for state in states} == {"Failed"}

    async def owed(state: MailState) -> bool:
        found = await driver.store.mails_about([state.id for state in states])
        return Counter(mail.state for mail in found)[state] == FAILURES

    await until(lambda: owed(MailState.OWED), "ten mails are owed")
    with SmtpSink(port=sink.port) as back:
        await until(lambda: owed(MailState.SENT), "ten mails are sent", seconds=BACK_SECONDS)
        mails = back.messages
    assert len(mails) == FAILURES
    assert len({mail.message["Message-ID"] for mail in mails}) == FAILURES
    assert {mail.message["Subject"] for mail in mails} == {
        f"Failed: Mailed When It Is Back ({run.name})" for run in runs
    }


@pytest.mark.usefixtures("alone")
class TestOneMail:
    async def test_one_that_was_sent_is_not_sent_again(self, driver: Driver) -> None:
        told = Told(driver, "Owed No More")
        with SmtpSink() as sink:
            await told.begin(sink)
            await told.end_run()
            await asyncio.to_thread(sink.wait_for, 1, timeout_seconds=30)

            async def is_known() -> bool:
                record = await told.look()
                assert record is None or record.state is MailState.SENT
                return record is not None

            await until(is_known, "Prefect says that it was sent")
            for later in (1, 10, 60):
                await told.look(after=timedelta(minutes=later))
            (mail,) = sink.messages
            assert mail.message["Message-ID"] == await told.message_id()

    async def test_one_that_the_server_never_came_to_is_taken_over(self, driver: Driver) -> None:
        told = Told(driver, "Owed From The Start")
        with SmtpSink() as sink:
            told.mails = OwedMails(driver.client, logger=logger, taken_over_seconds=0)
            await told.begin(sink, is_silent=True)
            await told.end_run()
            record = await told.look()
            assert record is not None
            assert (record.state, record.attempts) == (MailState.SENT, 1)
            (mail,) = sink.messages
            assert mail.message["Subject"] == record.subject
            assert "All is done." in mail.text
            assert mail.message["Message-ID"] == await told.message_id()
            # Another worker, which remembers nothing.
            told.mails = OwedMails(driver.client, logger=logger, taken_over_seconds=0)
            await told.look()
            assert len(sink.messages) == 1

    async def test_one_that_was_refused_is_tried_again_after_ever_longer(self, driver: Driver) -> None:
        told = Told(driver, "Owed And Refused")
        refusal = "451 4.7.1 greylisted, try later"
        # By Prefect's automation, and twice more.
        with SmtpSink(replies={"DATA": [refusal] * 3}) as sink:
            await told.begin(sink)
            await told.end_run()
            record = await told.is_owed()
            assert (record.state, record.attempts) == (MailState.OWED, 1)
            assert refusal in (record.error or "")
            # It is left in peace for a minute, and then for two.
            for seconds, attempts in ((50, 1), (70, 2), (130, 2)):
                tried = await told.look(after=timedelta(seconds=seconds))
                assert tried is not None
                assert (tried.state, tried.attempts) == (MailState.OWED, attempts)
            assert sink.messages == []
            sent = await told.look(after=timedelta(seconds=200))
            assert sent is not None
            assert (sent.state, sent.attempts, sent.error) == (MailState.SENT, 3, None)
            assert len(sink.messages) == 1

    async def test_a_day_later_it_is_given_up_and_said_on_the_run(self, driver: Driver) -> None:
        told = Told(driver, "Owed In Vain")
        with SmtpSink(replies={"RCPT": "550 5.1.1 no such user"}) as sink:
            await told.begin(sink)
            await told.end_run()
            await told.is_owed()
            given_up = await told.look(after=timedelta(hours=25))
            assert given_up is not None
            assert given_up.state is MailState.GIVEN_UP
            assert sink.messages == []
        assert told.run is not None
        await driver.logged(told.run.id, f"{told.address} was not told: Completed: Owed In Vain", "550 5.1.1")

    async def test_whom_a_person_wants_not_told_is_not_told(self, driver: Driver) -> None:
        told = Told(driver, "Owed To Nobody")
        with SmtpSink() as sink:
            await told.begin(sink)
            await driver.client.pause_automation((await told.automation()).id)
            await told.end_run()
            assert await told.look() is None
            # Nor what happened before that person wanted it again.
            await driver.client.resume_automation((await told.automation()).id)
            assert await told.look() is None
            assert sink.messages == []
