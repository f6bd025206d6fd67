-- 0009: where a campaign came from, what its runs come to, runs that wait for a person, and pauses by the emergency stop.

do $migration$
declare
    v_function regprocedure;
    v_name text;
begin
    if exists (select from public.campaign_migrations where name = '0009_origins') then
        return;
    end if;

    -- The folder of its file, or 'api'; null where nobody wrote that down.
    alter table public.campaigns add column if not exists origin text;

    for v_name in
        select c.conname from pg_constraint c
        join pg_attribute a on a.attrelid = c.conrelid and c.conkey = array[a.attnum]
        where c.conrelid = 'public.campaigns'::regclass and c.contype = 'c' and a.attname = 'paused_by'
    loop
        execute format('alter table public.campaigns drop constraint %I', v_name);
    end loop;
    alter table public.campaigns add constraint campaigns_paused_by_check
        check (paused_by in ('budget', 'person', 'stop'));

    -- Runs that have begun are counted by this, however many there are; one that was skipped has not.
    create index campaign_runs_begun on public.campaign_runs (campaign_key, started_at)
        where state_name is distinct from 'Skipped';

    create or replace function public.campaigns_record(p_row public.campaigns) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object(
            'id', p_row.id, 'key', p_row.key, 'name', p_row.name,
            -- As text: not every reader of JSON keeps every digit of a number.
            'config', p_row.config::text, 'origin', p_row.origin,
            'deployment_id', p_row.deployment_id, 'applied_schedule_active', p_row.applied_schedule_active,
            'pause', public.campaigns_pause_of(p_row),
            'created_at', coalesce(p_row.created_at, 'epoch'),
            'updated_at', coalesce(p_row.updated_at, p_row.created_at, 'epoch'));
    end
    $$;

    -- Under the old name another one would stand beside it, and nobody could tell which is meant. p_origin comes last and
    -- may be left out, so that processes of the older version can go on until they end.
    drop function public.campaigns_save(text, text, text, uuid, boolean, timestamptz);
    create function public.campaigns_save(
        p_key text, p_name text, p_config text, p_deployment_id uuid, p_applied_schedule_active boolean,
        p_now timestamptz default null, p_origin text default null
    ) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_now constant timestamptz := coalesce(p_now, clock_timestamp());
        v_config constant jsonb := p_config::jsonb;
        v_zone constant text := v_config #>> '{schedule,timezone}';
        v_row public.campaigns;
    begin
        if not public.campaigns_knows_zone(v_zone) then
            return public.campaigns_error('StoreError', format(
                'this database does not know the timezone ''%s'' of campaign ''%s'': its time zone database is another'
                ' than that of this machine; choose a timezone that both know', v_zone, p_key));
        end if;
        insert into public.campaigns as c (
            key, name, description, config, schedule_cron, status, total_cost, origin, deployment_id,
            applied_schedule_active, created_at, updated_at)
        values (
            p_key, p_name, v_config ->> 'description', v_config, v_config #>> '{schedule,cron}', 'active',
            -- What one of the same key has spent before.
            coalesce((select sum(t.spent) from public.campaign_totals t
                      where t.campaign_key = p_key and t.period = 'monthly'), 0),
            p_origin, p_deployment_id, p_applied_schedule_active, v_now, v_now)
        on conflict (key) do update set
            name = excluded.name, config = excluded.config, schedule_cron = excluded.schedule_cron,
            description = coalesce(excluded.description, c.description),
            status = case c.status when 'paused' then 'paused' else 'active' end,
            -- When it runs next is Prefect's business; what stood there was somebody else's plan.
            next_run_at = null,
            origin = coalesce(excluded.origin, c.origin),
            deployment_id = coalesce(excluded.deployment_id, c.deployment_id),
            applied_schedule_active = coalesce(excluded.applied_schedule_active, c.applied_schedule_active),
            updated_at = excluded.updated_at
        returning * into v_row;
        if v_config #>> '{metadata,project_id}' is not null then
            begin
                execute format('update public.campaigns set project_id = %L where id = %L',
                               v_config #>> '{metadata,project_id}', v_row.id);
            exception
                -- In some databases it is a UUID, or refers to a table of projects: only what fits is taken.
                when invalid_text_representation or foreign_key_violation or string_data_right_truncation then null;
            end;
        end if;
        return jsonb_build_object('value', public.campaigns_record(v_row));
    end
    $$;

    -- What the runs of every campaign come to, by key: those that have begun, and the cents, each of one month.
    create function public.campaigns_figures() returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_object_agg(c.key, jsonb_build_object(
                'runs', coalesce(r.runs, 0), 'last_run_at', r.last_run_at,
                'cost', coalesce(t.cost, 0)::numeric(18, 6)::text))
            from public.campaigns c
            left join (
                select b.campaign_key, count(*) as runs, max(b.started_at) as last_run_at from public.campaign_runs b
                where b.state_name is distinct from 'Skipped' group by b.campaign_key) r on r.campaign_key = c.key
            left join (
                select m.campaign_key, sum(m.spent) as cost from public.campaign_totals m
                where m.period = 'monthly' group by m.campaign_key) t on t.campaign_key = c.key
            where c.key is not null), '{}'));
    end
    $$;

    -- The run waits for a person; it goes on counting as running.
    create function public.campaigns_suspend_run(p_lease text, p_report text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_report constant jsonb := p_report;
        v_error constant jsonb := public.campaigns_report_error(p_lease, v_report);
    begin
        if v_error is not null then
            return v_error;
        end if;
        update public.campaign_runs r
        set status = 'running', state_name = v_report ->> 'state_name', message = v_report ->> 'message',
            completed_at = null
        where r.run_id = v_report ->> 'run_id';
        if not found then
            return public.campaigns_never_started(v_report ->> 'run_id');
        end if;
        return jsonb_build_object('value', null);
    end
    $$;

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace and proname like 'campaigns\_%'
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name) values ('0009_origins');
    notify pgrst, 'reload schema';
end
$migration$;
