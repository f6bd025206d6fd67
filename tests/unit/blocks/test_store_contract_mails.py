"""What every store keeps of the mails that are owed, and of those that were sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from store_cases import KEY, NOON, RUN_1

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import MailRecord, MailState

OWED = MailRecord(
    event_id=uuid4(),
    recipient="ops@example.com",
    campaign_key=KEY,
    run_id=RUN_1,
    subject="Failed: Spring Outreach: “Ürün” 🌴 (azure-fox)",
    state=MailState.OWED,
    attempts=1,
    owed_since=NOON + timedelta(microseconds=1),
    next_try_at=NOON + timedelta(minutes=2),
    error="mail.example.com:25, addressing: the server answered 451 later",
)
SENT = replace(OWED, state=MailState.SENT, attempts=2, sent_at=NOON, next_try_at=None, error=None)
BARE = MailRecord(event_id=uuid4(), recipient="o@example.com", subject="", state=MailState.GIVEN_UP, owed_since=NOON)


@pytest.mark.parametrize("mail", [OWED, SENT, BARE], ids=lambda mail: mail.state)
async def test_what_was_written_is_read_back(store: CampaignStore, mail: MailRecord) -> None:
    await store.record_mails([mail])
    assert await store.mails_about([mail.event_id, uuid4()]) == [mail]
    assert {state: await store.list_mails(state) for state in MailState} == {
        state: [mail] if state is mail.state else [] for state in MailState
    }


async def test_a_mail_is_one_event_and_one_recipient_and_what_is_written_last_holds(store: CampaignStore) -> None:
    other = replace(OWED, recipient="other@example.com")
    await store.record_mails([OWED, other])
    await store.record_mails([SENT])
    found = {mail.recipient: mail for mail in await store.mails_about([OWED.event_id])}
    assert found == {SENT.recipient: SENT, other.recipient: other}
    assert await store.list_mails(MailState.OWED) == [other]


async def test_nothing_is_known_of_what_nobody_wrote_down(store: CampaignStore) -> None:
    await store.record_mails([])
    assert await store.mails_about([]) == []
    assert await store.mails_about([uuid4()]) == []


async def test_the_newest_come_first_and_no_more_than_asked_for(store: CampaignStore) -> None:
    mails = [replace(OWED, event_id=uuid4(), owed_since=NOON + timedelta(minutes=number)) for number in range(5)]
    await store.record_mails([mails[number] for number in (2, 0, 4, 1, 3)])
    assert await store.list_mails(MailState.OWED) == mails[::-1]
    assert await store.list_mails(MailState.OWED, limit=2) == mails[:2:-1]
    assert await store.list_mails(MailState.OWED, limit=0) == []
