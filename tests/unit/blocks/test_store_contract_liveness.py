"""What every store knows of the workers that live, and of the runs that nobody attends to."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from store_cases import KEY, NOON, RUN_1, RUN_2, SettableClock, ask_lease, make_report, take_lease

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import LeaseHeld, UnattendedRun, WorkerRecord
from prefect_campaigns.results import RunStatus


class TestWorkers:
    async def test_one_that_is_kept_lives_until_it_expires(self, store: CampaignStore, clock: SettableClock) -> None:
        id = uuid4()
        await store.keep_worker(id, name="laptop", pool="campaigns", ttl_seconds=60)
        assert await self.known(store) == {id: ("laptop", NOON + timedelta(seconds=60), False)}
        clock.advance(seconds=59)
        assert not (await self.known(store))[id][2]
        clock.advance(seconds=1)
        assert (await self.known(store))[id][2]

    async def test_keeping_it_again_pushes_its_expiry(self, store: CampaignStore, clock: SettableClock) -> None:
        id = uuid4()
        await store.keep_worker(id, name="laptop", pool="campaigns", ttl_seconds=60)
        clock.advance(seconds=90)
        await store.keep_worker(id, name="laptop", pool="campaigns", ttl_seconds=60)
        assert await self.known(store) == {id: ("laptop", NOON + timedelta(seconds=150), False)}

    async def test_two_of_one_name_are_two_and_they_come_by_name(self, store: CampaignStore) -> None:
        for name in ("b", "a", "B"):
            await store.keep_worker(uuid4(), name=name, pool="campaigns", ttl_seconds=60)
        assert [worker.name.lower() for worker in await store.list_workers()] == ["a", "b", "b"]

    async def test_one_that_is_removed_is_forgotten_and_twice_is_once(self, store: CampaignStore) -> None:
        gone, left = uuid4(), uuid4()
        for id in (gone, left):
            await store.keep_worker(id, name="laptop", pool="campaigns", ttl_seconds=60)
        for _ in range(2):
            await store.remove_worker(gone)
        assert list(await self.known(store)) == [left]

    async def known(self, store: CampaignStore) -> dict[UUID, tuple[str, object, bool]]:
        return {one.id: (one.name, one.expires_at, one.has_expired) for one in await self.workers(store)}

    async def workers(self, store: CampaignStore) -> list[WorkerRecord]:
        return list(await store.list_workers())


class TestUnattendedRuns:
    async def unattended(self, store: CampaignStore, *, within_seconds: float = 30) -> list[UnattendedRun]:
        return list(await store.unattended_runs(within_seconds=within_seconds))

    async def test_one_that_keeps_its_lease_is_attended(self, store: CampaignStore, clock: SettableClock) -> None:
        lease = await take_lease(store, ttl_seconds=60)
        await store.start_run(lease, make_report())
        assert await self.unattended(store) == []
        clock.advance(seconds=29)
        await store.renew_lease(lease, ttl_seconds=60)
        clock.advance(seconds=29)
        assert await self.unattended(store) == []

    async def test_one_whose_lease_is_about_to_expire_may_be_unattended(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        await store.start_run(await take_lease(store, ttl_seconds=60), make_report())
        expires_at = NOON + timedelta(seconds=60)
        clock.advance(seconds=31)
        suspect = UnattendedRun(run_id=RUN_1, campaign_key=KEY, lease_expires_at=expires_at, has_expired=False)
        assert await self.unattended(store) == [suspect]
        clock.advance(seconds=29)
        assert [one.has_expired for one in await self.unattended(store)] == [True]

    async def test_one_whose_lease_another_run_has_holds_none(self, store: CampaignStore, clock: SettableClock) -> None:
        await store.start_run(await take_lease(store, "run-1", ttl_seconds=60), make_report())
        clock.advance(seconds=61)
        await store.start_run(await take_lease(store, "run-2", ttl_seconds=60), make_report("run-2"))
        lost = UnattendedRun(run_id=RUN_1, campaign_key=KEY, lease_expires_at=None, has_expired=True)
        assert await self.unattended(store) == [lost]

    async def test_one_that_asks_for_its_turn_is_attended_for_half_a_minute(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        await store.start_run(await take_lease(store, "run-1", ttl_seconds=60), make_report())
        clock.advance(seconds=61)
        await take_lease(store, "run-2", ttl_seconds=600)
        assert isinstance(await ask_lease(store, "run-1", holder="on another worker"), LeaseHeld)
        clock.advance(seconds=30)
        assert await self.unattended(store) == []
        clock.advance(seconds=1)
        assert [one.run_id for one in await self.unattended(store)] == [RUN_1]

    @pytest.mark.parametrize("status", [status for status in RunStatus if status is not RunStatus.RUNNING])
    async def test_one_that_has_ended_needs_nobody(self, store: CampaignStore, status: RunStatus) -> None:
        lease = await take_lease(store)
        await store.start_run(lease, make_report())
        await store.finish_run(lease, make_report(status=status, completed_at=NOON))
        await store.release_lease(lease)
        assert await self.unattended(store) == []

    async def test_one_that_is_suspended_needs_nobody_until_it_goes_on(self, store: CampaignStore) -> None:
        lease = await take_lease(store)
        await store.start_run(lease, make_report())
        await store.suspend_run(lease, make_report(state_name="Suspended"))
        await store.release_lease(lease)
        assert await self.unattended(store) == []
        lease = await take_lease(store, holder="on another worker")
        await store.start_run(lease, make_report())
        await store.release_lease(lease)
        assert [one.run_id for one in await self.unattended(store)] == [RUN_1]

    async def test_they_come_oldest_first(self, store: CampaignStore) -> None:
        for number, run in enumerate(("run-2", "run-1")):
            lease = await take_lease(store, run)
            await store.start_run(lease, make_report(run, started_at=NOON + timedelta(seconds=number)))
            await store.release_lease(lease)
        assert [one.run_id for one in await self.unattended(store)] == [RUN_2, RUN_1]
