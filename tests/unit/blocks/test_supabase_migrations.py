"""What the migrations make of a database, and who may do what in it then."""

# The parts that queries are put together of stand below.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from supabase_rig import Project

from prefect_campaigns.blocks.supabase.migrate import check_schema, migrate, migrations, pending, whole_sql
from prefect_campaigns.errors import OlderWorkers, StoreError, StoreMisconfigured, StoreUnavailable

NAMES = [migration.name for migration in migrations()]

OUR_TABLES = "relnamespace = 'public'::regnamespace and relkind = 'r' and relname ~ '^campaign(s$|_)'"
OUR_FUNCTIONS = r"pronamespace = 'public'::regnamespace and proname like 'campaigns\_%'"

TABLE_PRIVILEGES = ["select", "insert", "update", "delete", "truncate", "references", "trigger"]


@pytest.fixture
def empty(supabase: Project) -> Iterator[Project]:
    """A project in which nobody has made anything."""
    with supabase.database() as project:
        yield project


def contents(project: Project) -> list[tuple[object, ...]]:
    """Return everything in the public schema, with what would change if it were made again."""
    return project.rows(
        "select 'relation', oid::text, relname::text, relacl::text from pg_class"
        " where relnamespace = 'public'::regnamespace union all"
        " select 'function', oid::text, proname::text, proacl::text from pg_proc"
        " where pronamespace = 'public'::regnamespace order by 1, 2"
    )


class TestApplying:
    async def test_everything_is_pending_until_it_is_applied(self, empty: Project) -> None:
        assert await pending(empty.database_url) == NAMES
        assert await migrate(empty.database_url) == NAMES
        assert await pending(empty.database_url) == []

    async def test_doing_it_again_does_nothing(self, empty: Project) -> None:
        await migrate(empty.database_url)
        before = contents(empty)
        assert await migrate(empty.database_url) == []
        empty.sql(whole_sql())
        for migration in migrations():
            empty.sql(migration.sql)
        assert contents(empty) == before

    async def test_pasting_it_all_at_once_is_as_good(self, empty: Project) -> None:
        empty.sql(whole_sql())
        assert await pending(empty.database_url) == []

    async def test_of_two_at_once_one_does_it(self, empty: Project) -> None:
        applied = await asyncio.gather(migrate(empty.database_url), migrate(empty.database_url))
        assert sorted(applied) == [[], NAMES]

    async def test_a_table_of_somebody_else_is_left_as_it_is(self, empty: Project) -> None:
        empty.sql("create table campaigns (id bigint primary key, name text); insert into campaigns values (1, 'mine')")
        before = contents(empty)
        with pytest.raises(
            StoreError, match=r"0001_tables was refused, and nothing has been changed: public.campaigns"
        ):
            await migrate(empty.database_url)
        with pytest.raises(asyncpg.RaiseError):
            empty.sql(whole_sql())
        assert contents(empty) == before
        assert empty.rows("select * from campaigns") == [(1, "mine")]

    async def test_what_fails_halfway_leaves_nothing(self, empty: Project) -> None:
        empty.sql("create table campaign_alerts ()")
        before = contents(empty)
        with pytest.raises(StoreError, match='nothing has been changed: relation "campaign_alerts" already exists'):
            await migrate(empty.database_url)
        assert contents(empty) == before


class TestSchema:
    def test_all_migrations_are_as_it_should_be(self) -> None:
        check_schema("https://x.supabase.co", NAMES, [])
        check_schema("https://x.supabase.co", NAMES[:-1], NAMES[-1:])

    def test_an_older_one_is_told_what_to_do(self) -> None:
        with pytest.raises(StoreMisconfigured, match=rf"older version \({NAMES[-1]} missing\); run `campaigns db mig"):
            check_schema("https://x.supabase.co", NAMES[:-1], [])

    def test_a_newer_one_is_told_what_to_do(self) -> None:
        with pytest.raises(StoreMisconfigured, match=r"newer prefect-campaigns \(9999_later\); upgrade this one"):
            check_schema("https://x.supabase.co", [*NAMES, "9999_later"], [])

    def test_a_newer_one_that_only_adds_is_as_good(self) -> None:
        check_schema("https://x.supabase.co", NAMES, ["9999_later"])


class TestConnecting:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "not a URL",
            "https://abcdefgh.supabase.co",  # the project's URL, not its database's
            "postgresql:///postgres",  # no host
            "postgresql://postgres:[YOUR-PASSWORD]@db.abcdefgh.supabase.co:5432/postgres",  # the template
            "postgresql://postgres:s3cret#more@db.abcdefgh.supabase.co:5432/postgres",  # not percent-encoded
            "postgresql://postgres:s3cret@db.abcdefgh.supabase.co:port/postgres",
        ],
    )
    async def test_a_url_that_cannot_be_used_is_not_repeated(self, url: str) -> None:
        with pytest.raises(StoreMisconfigured, match="session pooler or direct connection") as raised:
            await migrate(url)
        assert "s3cret" not in str(raised.value)

    async def test_a_wrong_password_is_not_repeated(self, supabase: Project) -> None:
        url = urlsplit(supabase.database_url)
        wrong = url._replace(netloc=f"postgres:s3cret@127.0.0.1:{url.port}").geturl()
        with pytest.raises(StoreMisconfigured, match=r"127\.0\.0\.1 does not accept user and password") as raised:
            await pending(wrong)
        assert "s3cret" not in str(raised.value)

    async def test_a_database_that_is_not_there_is_told(self, supabase: Project) -> None:
        with pytest.raises(StoreMisconfigured, match='database "nobodys" does not exist'):
            await pending(urlsplit(supabase.database_url)._replace(path="/nobodys").geturl())

    async def test_nobody_listening_is_no_fault_of_the_settings(self, free_port: int) -> None:
        with pytest.raises(StoreUnavailable, match=r"the database at 127\.0\.0\.1 does not answer"):
            await pending(f"postgresql://postgres:s3cret@127.0.0.1:{free_port}/postgres")

    async def test_a_host_that_does_not_exist_is_told(self) -> None:
        with pytest.raises(StoreUnavailable, match=r"the database at db\.nobody\.invalid does not answer"):
            await pending("postgresql://postgres:s3cret@db.nobody.invalid/postgres")


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that is ours, and on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class TestPrivileges:
    """Asked of the catalogue, so that whatever a later migration makes is covered."""

    @pytest.mark.parametrize("role", ["anon", "authenticated"])
    def test_nobody_but_the_secret_key_may_touch_a_table(self, supabase: Project, role: str) -> None:
        allowed = supabase.rows(
            "select relname::text, p from pg_class, unnest($1::text[]) p"
            f" where {OUR_TABLES} and (has_table_privilege($2, oid, p)"
            "  or (p in ('select', 'insert', 'update', 'references') and has_any_column_privilege($2, oid, p)))",
            TABLE_PRIVILEGES,
            role,
        )
        assert allowed == []

    @pytest.mark.parametrize("role", ["anon", "authenticated"])
    def test_nobody_but_the_secret_key_may_call_a_function(self, supabase: Project, role: str) -> None:
        query = (
            f"select proname::text from pg_proc where {OUR_FUNCTIONS} and has_function_privilege($1, oid, 'execute')"
        )
        assert supabase.rows(query, role) == []

    @pytest.mark.parametrize("role", ["anon", "authenticated"])
    def test_nobody_but_the_secret_key_may_count(self, supabase: Project, role: str) -> None:
        query = (
            "select sequencename::text from pg_sequences where schemaname = 'public'"
            " and has_sequence_privilege($1, format('public.%I', sequencename), 'usage, select, update')"
        )
        assert supabase.rows(query, role) == []

    def test_the_secret_key_may_do_all_that_is_needed_and_no_more(self, supabase: Project) -> None:
        rows = supabase.rows(
            "select relname::text, array_agg(p order by p)::text[] from pg_class, unnest($1::text[]) p"
            f" where {OUR_TABLES} and has_table_privilege('service_role', oid, p) group by 1",
            TABLE_PRIVILEGES,
        )
        allowed = {name: set(privileges) for name, privileges in rows}
        assert allowed.pop("campaign_ledger") == allowed.pop("campaign_audit") == {"select", "insert"}
        assert allowed.pop("campaign_migrations") == {"select"}
        assert len(allowed) == 15
        assert all(privileges == {"select", "insert", "update", "delete"} for privileges in allowed.values())

    def test_the_secret_key_may_call_every_function(self, supabase: Project) -> None:
        query = (
            "select count(*), count(*) filter (where has_function_privilege('service_role', oid, 'execute'))"
            f" from pg_proc where {OUR_FUNCTIONS}"
        )
        ((all_of_them, allowed),) = supabase.rows(query)
        assert all_of_them == allowed > 40

    def test_every_table_has_row_level_security_and_no_policy(self, supabase: Project) -> None:
        ((tables, secured, policies),) = supabase.rows(
            "select count(*), count(*) filter (where relrowsecurity),"
            " (select count(*) from pg_policies where schemaname = 'public')"
            f" from pg_class where {OUR_TABLES}"
        )
        assert (tables, secured, policies) == (18, 18, 0)

    def test_every_function_acts_for_its_caller_and_finds_only_what_it_names(self, supabase: Project) -> None:
        query = (
            f"select proname::text from pg_proc where {OUR_FUNCTIONS}"
            " and (prosecdef or not coalesce('search_path=\"\"' = any (proconfig), false))"
        )
        assert supabase.rows(query) == []

    def test_no_function_of_ours_stands_twice(self, supabase: Project) -> None:
        """PostgREST cannot tell functions of one name apart by what it is sent."""
        query = f"select proname::text from pg_proc where {OUR_FUNCTIONS} group by 1 having count(*) > 1"
        assert supabase.rows(query) == []

    def test_policies_from_before_are_dropped(self, empty: Project) -> None:
        empty.sql(
            "create table campaigns (id uuid primary key, name text not null, config jsonb not null);"
            "alter table campaigns enable row level security; grant all on campaigns to anon;"
            "grant select (name) on campaigns to authenticated;"
            "create policy everybody on campaigns using (true)"
        )
        empty.sql(whole_sql())
        ((policies, table, column),) = empty.rows(
            "select (select count(*) from pg_policies), has_table_privilege('anon', 'campaigns', 'select'),"
            " has_column_privilege('authenticated', 'campaigns', 'name', 'select')"
        )
        assert (policies, table, column) == (0, False, False)


class TestUpgrading:
    """A project that the version before the emergency stop has written to."""

    @pytest.fixture
    def older(self, empty: Project) -> Project:
        for migration in migrations()[: NAMES.index("0009_origins")]:
            empty.sql(migration.sql)
        empty.sql(
            "insert into campaigns (key, name, config, status, paused_by, pause_reason, paused_since, paused_until)"
            " values ('a', 'A', '{}', 'paused', 'budget', 'daily reached', now(), now()), ('b', 'B', '{}', 'active',"
            " null, null, null, null)"
        )
        return empty

    async def test_nothing_of_it_is_lost(self, older: Project) -> None:
        before = older.rows("select to_jsonb(c) from campaigns c order by key")
        await migrate(older.database_url)
        assert older.rows("select to_jsonb(c) - 'origin' from campaigns c order by key") == before
        assert older.rows("select count(origin) from campaigns") == [(0,)]

    async def test_its_campaigns_may_be_paused_by_the_stop_from_now_on(self, older: Project) -> None:
        await migrate(older.database_url)
        older.sql("update campaigns set paused_by = 'stop' where key = 'a'")
        for nonsense in ("paused_by = 'nobody' where key = 'a'", "paused_by = 'stop' where key = 'b'"):
            with pytest.raises(asyncpg.CheckViolationError):
                older.sql(f"update campaigns set {nonsense}")

    async def test_what_a_process_of_the_older_version_says_is_still_understood(self, older: Project) -> None:
        await migrate(older.database_url)
        older.sql("update campaigns set origin = 'api'")
        older.sql(
            "select campaigns_save(p_key => 'b', p_name => 'B', p_config => '{}', p_deployment_id => null,"
            " p_applied_schedule_active => true, p_now => null)"
        )
        assert older.rows("select applied_schedule_active, origin from campaigns where key = 'b'") == [(True, "api")]


PREVIOUS_RELEASE = "0013_step_sent"
"""The last migration of 0.1.0."""

FUNCTIONS = (
    "select p.proname::text, format_type(p.prorettype, null), a.name, format_type(a.type, null),"
    " a.number > p.pronargs - p.pronargdefaults"
    " from pg_proc p left join unnest(p.proargnames, p.proargtypes::oid[]) with ordinality a (name, type, number)"
    f" on true where {OUR_FUNCTIONS} order by p.proname, a.number"
)
COLUMNS = (
    "select table_name::text, column_name::text, data_type::text, is_nullable::text"
    " from information_schema.columns where table_schema = 'public' and table_name ~ '^campaign(s$|_)'"
)


class TestEarlierRelease:
    """A process of an earlier release, which knows nothing of the migrations since."""

    @pytest.fixture
    def of_previous_release(self, empty: Project) -> Project:
        for migration in migrations()[: NAMES.index(PREVIOUS_RELEASE) + 1]:
            empty.sql(migration.sql)
        return empty

    async def test_it_finds_every_function_and_column_as_it_was(self, of_previous_release: Project) -> None:
        functions, columns = of_previous_release.rows(FUNCTIONS), of_previous_release.rows(COLUMNS)
        await migrate(of_previous_release.database_url)
        kept = of_previous_release.rows(FUNCTIONS)
        assert set(functions) <= set(kept), "whoever names these arguments is understood"
        names = {name for name, *_ in functions}
        added = [argument for argument in set(kept) - set(functions) if argument[0] in names]
        assert [one for one in added if not one[-1]] == [], "nobody need name another"
        assert set(columns) <= set(of_previous_release.rows(COLUMNS))
        new = [
            one for one in set(of_previous_release.rows(COLUMNS)) - set(columns) if one[0] in {c[0] for c in columns}
        ]
        assert [one for one in new if one[3] == "NO" and one[1] != "only_adds"] == [], "nobody need fill another"

    async def test_it_opens_the_books_as_before(self, of_previous_release: Project) -> None:
        query = "select campaigns_opening() -> 'value' ->> 'migrations'"
        before = of_previous_release.rows(query)
        await migrate(of_previous_release.database_url)
        assert of_previous_release.rows(query) == before

    async def test_no_other_migration_comes_while_its_workers_live(self, of_previous_release: Project) -> None:
        await migrate(of_previous_release.database_url)
        of_previous_release.sql("delete from campaign_migrations where name = '0012_step_cost'")
        of_previous_release.sql("drop function campaigns_step_cost")
        of_previous_release.sql("select campaigns_keep_worker(gen_random_uuid(), 'of yesterday', 'campaigns', 60)")
        with pytest.raises(OlderWorkers, match=r"changed, while workers .*: of yesterday\. Stop them"):
            await migrate(of_previous_release.database_url)
        assert await pending(of_previous_release.database_url) == ["0012_step_cost"]
        of_previous_release.sql("update campaign_workers set expires_at = now() where name = 'of yesterday'")
        assert await migrate(of_previous_release.database_url) == ["0012_step_cost"]

    async def test_it_is_refused_by_what_does_not_only_add(self, of_previous_release: Project) -> None:
        await migrate(of_previous_release.database_url)
        of_previous_release.sql("insert into campaign_migrations (name) values ('9999_later')")
        ((known,),) = of_previous_release.rows("select campaigns_opening() -> 'value' -> 'migrations' ? '9999_later'")
        assert known


@pytest.mark.parametrize(
    "change",
    [
        "update campaign_ledger set spent = 0",
        "update campaign_ledger set spent = 0 where false",
        "delete from campaign_ledger",
        "truncate campaign_ledger",
        "truncate campaign_ledger cascade",
        "insert into campaign_ledger overriding system value select * from campaign_ledger"
        " on conflict (id) do update set spent = 0",
    ],
)
def test_the_ledger_is_append_only_even_for_the_databases_owner(clean_supabase: Project, change: str) -> None:
    clean_supabase.sql(
        "insert into campaign_ledger (at, campaign_key, run_id, kind, spent, reserved, campaign_day, account_day)"
        " values (now(), 'x', 'x', 'import', 1, 0, '2026-05-13', '2026-05-13')"
    )
    with pytest.raises(asyncpg.RaiseError, match="the ledger is append-only"):
        clean_supabase.sql(change)
    assert clean_supabase.rows("select spent::text from campaign_ledger") == [("1.000000",)]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("update campaign_audit set actor = 'bob'", "the audit is append-only"),
        ("delete from campaign_audit where false", "the audit is append-only"),
        ("truncate campaign_audit", "the audit is append-only"),
        ("update campaign_approvals set state = 'expired' where run_id = 'x'", "what is approved stays approved"),
    ],
)
def test_what_was_done_stays_done_even_for_the_databases_owner(
    clean_supabase: Project, change: str, complaint: str
) -> None:
    clean_supabase.sql(
        "insert into campaign_audit (at, actor, action, detail) values (now(), 'ada', 'all.stopped', '{}');"
        "insert into campaign_approvals (campaign_key, run_id, step, state, asked_at, expires_at, decided_at,"
        " decided_by) values ('x', 'x', 'x', 'approved', now(), now(), now(), 'ada')"
    )
    with pytest.raises(asyncpg.RaiseError, match=complaint):
        clean_supabase.sql(change)


@pytest.mark.parametrize("statement", ["update", "delete from"])
def test_no_function_changes_a_whole_table(supabase: Project, statement: str) -> None:
    """Supabase refuses the API what has no condition, which the tests' own server does not."""
    query = f"select proname::text, prosrc from pg_proc where {OUR_FUNCTIONS}"
    changes = [
        (name, found.group())
        for name, source in supabase.rows(query)
        for found in re.finditer(rf"(?<!do ){statement} public\.[^;]*", source)
    ]
    assert changes
    assert [change for change in changes if not re.search(r"\swhere\s", change[1])] == []
