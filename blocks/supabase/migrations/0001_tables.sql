-- 0001: the tables. Forward only: a change is a new file, run after the last one.
--
-- `campaigns db migrate` runs these files, or they are pasted into Supabase's SQL editor in their order. Each is one
-- statement, so that it happens as a whole or not at all, and one that has been applied before does nothing.
--
-- public.campaigns and public.campaign_runs may be there already, made for the orchestrator that came before this
-- package. They are taken forward: no row and no column is lost. Nobody but the secret key may touch any table then.

do $migration$
declare
    v_column record;
    v_name text;
    v_function regprocedure;
begin
    if to_regclass('public.campaign_migrations') is not null then
        if exists (select from public.campaign_migrations where name = '0001_tables') then
            return;
        end if;
    end if;

    create table if not exists public.campaign_migrations (
        name       text primary key,
        applied_at timestamptz not null default now()
    );

    -- Campaigns and runs: what a table must have, then whatever else it may lack.

    for v_column in
        select * from (values
            ('campaigns', 'id', array['uuid']),
            ('campaigns', 'name', array['text', 'character varying']),
            ('campaigns', 'config', array['jsonb']),
            ('campaign_runs', 'id', array['uuid']),
            ('campaign_runs', 'campaign_id', array['uuid'])
        ) as needed (table_name, name, types)
        where to_regclass('public.' || needed.table_name) is not null and not exists (
            select from pg_attribute a
            where a.attrelid = to_regclass('public.' || needed.table_name)
              and a.attname = needed.name and format_type(a.atttypid, null) = any (needed.types)
        )
    loop
        raise exception 'public.% has no column % of type %: it belongs to some other program, and is left as it is',
            v_column.table_name, v_column.name, v_column.types[1]
            using hint = 'Rename it, or use another Supabase project.';
    end loop;

    create table if not exists public.campaigns (
        id     uuid primary key default gen_random_uuid(),
        name   text not null,
        config jsonb not null
    );

    create table if not exists public.campaign_runs (
        id          uuid primary key default gen_random_uuid(),
        campaign_id uuid references public.campaigns (id) on delete cascade
    );

    alter table public.campaigns
        add column if not exists description   text,
        add column if not exists schedule_cron text,
        add column if not exists status        text default 'active'
                                               check (status in ('active', 'paused', 'completed', 'error')),
        add column if not exists last_run_at   timestamptz,
        add column if not exists next_run_at   timestamptz,
        add column if not exists total_runs    integer default 0,
        add column if not exists total_cost    numeric(18, 6) default 0,
        add column if not exists project_id    text,
        add column if not exists created_at    timestamptz default now(),
        add column if not exists updated_at    timestamptz default now(),
        -- Ours. The key is the slug of the name; rows from before get theirs when the store is first opened.
        add column if not exists key           text check (key <> ''),
        add column if not exists deployment_id uuid,
        add column if not exists applied_schedule_active boolean,
        add column if not exists paused_by     text check (paused_by in ('budget', 'person')),
        add column if not exists pause_reason  text,
        add column if not exists paused_since  timestamptz,
        add column if not exists paused_until  timestamptz,
        add column if not exists awaited_run_id uuid,
        add constraint campaigns_pause_is_whole check (
            (pause_reason is null) = (paused_by is null) and (paused_since is null) = (paused_by is null)
            and (paused_by is not null or (paused_until is null and awaited_run_id is null)));

    alter table public.campaign_runs
        add column if not exists started_at      timestamptz default now(),
        add column if not exists completed_at    timestamptz,
        add column if not exists status          text default 'running',
        add column if not exists steps_completed integer default 0,
        add column if not exists steps_failed    integer default 0,
        add column if not exists results         jsonb,
        add column if not exists total_cost      numeric(18, 6) default 0,
        add column if not exists errors          jsonb,
        add column if not exists trigger_type    text default 'scheduled',
        -- Ours. run_id is the flow run's id, which is the row's own id, too, wherever it is a UUID; rows from before
        -- get theirs with the key of their campaign.
        add column if not exists run_id          text,
        add column if not exists run_name        text,
        add column if not exists campaign_key    text,
        add column if not exists campaign_name   text,
        add column if not exists state_name      text,
        add column if not exists message         text,
        -- A run that was skipped may be of a campaign that has no row.
        alter column campaign_id drop not null;

    -- Exact amounts, and instants that mean the same everywhere.
    alter table public.campaigns alter column total_cost type numeric(18, 6);
    alter table public.campaign_runs alter column total_cost type numeric(18, 6);
    for v_column in
        select a.attrelid::regclass as relation, a.attname as name from pg_attribute a
        where a.attrelid in ('public.campaigns'::regclass, 'public.campaign_runs'::regclass)
          and a.atttypid = 'timestamp without time zone'::regtype and not a.attisdropped
    loop
        execute format('alter table %s alter column %I type timestamptz using %2$I at time zone ''UTC''',
                       v_column.relation, v_column.name);
    end loop;

    -- The old check knew no `partial`. Rows with a status that nobody knows are left alone, without a check then.
    for v_name in
        select c.conname from pg_constraint c
        join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
        where c.conrelid = 'public.campaign_runs'::regclass and c.contype = 'c' and a.attname = 'status'
    loop
        execute format('alter table public.campaign_runs drop constraint %I', v_name);
    end loop;
    if not exists (
        select from public.campaign_runs
        where status not in ('running', 'completed', 'partial', 'failed', 'aborted')
    ) then
        alter table public.campaign_runs add constraint campaign_runs_status_check
            check (status in ('running', 'completed', 'partial', 'failed', 'aborted'));
    end if;

    create unique index campaigns_by_key on public.campaigns (key);
    create unique index campaign_runs_by_run_id on public.campaign_runs (run_id);
    create index campaign_runs_by_campaign on public.campaign_runs (campaign_key, started_at desc nulls last);
    -- Cascades from a campaign, and rows from before that have not been seen to.
    create index campaign_runs_by_campaign_id on public.campaign_runs (campaign_id);
    create index campaign_runs_from_before on public.campaign_runs (campaign_id) where run_id is null;

    -- detail is what the engine said, as text that keeps every escape (jsonb refuses \u0000 and lone surrogates);
    -- counts and error repeat of it what people read.
    create table public.campaign_run_steps (
        run_id       text not null references public.campaign_runs (run_id) on delete cascade,
        name         text not null,
        position     integer not null,
        engine       text not null,
        status       text not null,
        attempts     integer not null,
        started_at   timestamptz,
        completed_at timestamptz,
        cost         numeric(18, 6),
        counts       jsonb not null,
        error        text,
        detail       json not null,
        primary key (run_id, name)
    );

    -- One row per campaign that was ever run, for ever: the fence must go on growing after a lease is given back.
    create table public.campaign_leases (
        campaign_key text primary key,
        fence        bigint not null default 0,
        run_id       text,
        run_name     text,
        holder       text,
        expires_at   timestamptz,
        check ((holder is null) = (run_id is null) and (holder is null) = (expires_at is null))
    );

    -- Ids are compared byte by byte, as everywhere else, and not as the database's language sorts.
    create table public.campaign_lease_queue (
        campaign_key  text not null,
        run_id        text collate "C" not null,
        run_name      text not null,
        waiting_since timestamptz not null,
        asked_at      timestamptz not null,
        primary key (campaign_key, run_id)
    );

    -- Kept by campaign key, like the ledger and the totals, and bound to no row of campaigns: what was spent stays
    -- spent when a campaign is deleted and created again.
    -- The two days are those of the moment of the reservation, in the timezones of the campaign and of the account;
    -- week (from Sunday) and month follow from them, and whatever is booked later is booked into them.
    create table public.campaign_reservations (
        id           bigint generated always as identity primary key,
        campaign_key text not null,
        run_id       text not null,
        step         text not null,
        attempt      integer not null check (attempt >= 1),
        state        text not null
                     check (state in ('held', 'sent', 'settled', 'released', 'unconfirmed', 'corrected')),
        -- Between, because NaN is not negative either.
        estimate     numeric(18, 6) not null check (estimate between 0 and 1000000000),
        booked       numeric(18, 6) check (booked between 0 and 1000000000),
        campaign_day date not null,
        account_day  date not null,
        reserved_at  timestamptz not null,
        expires_at   timestamptz not null,
        unique (run_id, step, attempt),
        check ((booked is null) = (state in ('held', 'sent', 'released')))
    );

    -- What has expired, of whatever campaign; what a person is asked about; what a step has cost; whether it was ever
    -- answered for nothing. Each is read by one of these, however many reservations there are.
    create index campaign_reservations_open on public.campaign_reservations (expires_at)
        where state in ('held', 'sent');
    create index campaign_reservations_unconfirmed on public.campaign_reservations (campaign_key, id)
        where state = 'unconfirmed';
    create index campaign_reservations_paid on public.campaign_reservations (campaign_key, step, id) include (booked)
        where booked > 0;
    create index campaign_reservations_free on public.campaign_reservations (campaign_key, step)
        where state = 'settled' and booked = 0;

    -- spent and reserved are changes: their sums over a window are its row in campaign_totals.
    create table public.campaign_ledger (
        id           bigint generated always as identity primary key,
        at           timestamptz not null,
        campaign_key text not null,
        run_id       text not null,
        -- Neither for what the orchestrator before us spent: it kept books by run.
        step         text,
        attempt      integer,
        kind         text not null
                     check (kind in ('reserve', 'settle', 'release', 'unconfirmed', 'correct', 'import')),
        spent        numeric(18, 6) not null,
        reserved     numeric(18, 6) not null,
        campaign_day date not null,
        account_day  date not null,
        -- Who corrected it, and why; null where an engine said so.
        "by"         text,
        note         text,
        check ((step is null) = (kind = 'import') and (attempt is null) = (kind = 'import')),
        check (("by" is null) = (note is null) and ("by" is null or kind = 'correct'))
    );

    create index campaign_ledger_by_run on public.campaign_ledger (run_id) include (spent);

    -- Those of all campaigns together stand under '@account'; no slug holds an @.
    create table public.campaign_totals (
        campaign_key text not null,
        period       text not null check (period in ('daily', 'weekly', 'monthly')),
        first_day    date not null,
        spent        numeric(18, 6) not null check (spent >= 0),
        reserved     numeric(18, 6) not null check (reserved >= 0),
        primary key (campaign_key, period, first_day)
    );

    -- The limits for all campaigns together: one row.
    create table public.campaign_account (
        one      boolean primary key default true check (one),
        daily    numeric(18, 6) check (daily between 0 and 1000000000),
        weekly   numeric(18, 6) check (weekly between 0 and 1000000000),
        monthly  numeric(18, 6) check (monthly between 0 and 1000000000),
        timezone text not null default 'UTC'
    );
    insert into public.campaign_account (one) values (true);

    -- Of the account ('@account') once, whichever campaign came upon it.
    create table public.campaign_alerts (
        campaign_key text not null,
        alert_key    text not null,
        claimed_at   timestamptz not null,
        told_at      timestamptz,
        primary key (campaign_key, alert_key)
    );

    create function public.campaigns_refuse_change() returns trigger
    language plpgsql set search_path = '' as $$
    begin
        raise exception 'the ledger is append-only';
    end
    $$;

    create trigger campaign_ledger_is_append_only
        before update or delete or truncate on public.campaign_ledger
        for each statement execute function public.campaigns_refuse_change();

    -- Who may do what. The secret key is the role service_role, which row-level security does not bind; everybody else
    -- is shut out twice, by having no privilege and by having no policy.

    for v_column in
        select schemaname, tablename, policyname from pg_policies
        where schemaname = 'public' and tablename in ('campaigns', 'campaign_runs')
    loop
        raise warning 'the policy "%" on public.% is dropped: campaigns are managed with the secret key only',
            v_column.policyname, v_column.tablename;
        execute format('drop policy %I on public.%I', v_column.policyname, v_column.tablename);
    end loop;

    -- A view reads as its owner does, whom row-level security does not bind; so does a view of a view.
    for v_column in
        with recursive views (oid) as (
            select r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid
            where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
              and d.refobjid in ('public.campaigns'::regclass, 'public.campaign_runs'::regclass)
            union
            select r.ev_class from views v
            join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = v.oid
                            and d.classid = 'pg_rewrite'::regclass
            join pg_rewrite r on r.oid = d.objid
        )
        select c.oid::regclass as relation from views v join pg_class c on c.oid = v.oid
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('v', 'm') order by c.relname
    loop
        raise warning 'the view % shows campaigns or their runs: from now on it is read with the secret key only',
            v_column.relation;
        execute format('revoke all on %s from public, anon, authenticated', v_column.relation);
    end loop;

    foreach v_name in array array[
        'campaigns', 'campaign_runs', 'campaign_run_steps', 'campaign_leases', 'campaign_lease_queue',
        'campaign_reservations', 'campaign_ledger', 'campaign_totals', 'campaign_account', 'campaign_alerts',
        'campaign_migrations'
    ] loop
        execute format('alter table public.%I enable row level security', v_name);
        execute format('revoke all on public.%I from public, anon, authenticated, service_role', v_name);
        execute format(
            'grant %s on public.%I to service_role',
            case v_name when 'campaign_ledger' then 'select, insert'
                        when 'campaign_migrations' then 'select'
                        else 'select, insert, update, delete' end,
            v_name);
    end loop;
    revoke all on sequence public.campaign_reservations_id_seq, public.campaign_ledger_id_seq
        from public, anon, authenticated;

    -- Older projects of Supabase let every API key execute every new function.
    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace and proname like 'campaigns\_%'
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name) values ('0001_tables');
    notify pgrst, 'reload schema';
end
$migration$;
