-- 0016: by which engines runs fail, one after the other.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0016_engines') then
        return;
    end if;

    create table public.campaign_engines (
        endpoint           text primary key,
        runs             integer not null check (runs > 0),
        last_run_id      text not null,
        since            timestamptz not null,
        left_alone_since timestamptz,
        left_alone_until timestamptz,
        error            text not null,
        check ((left_alone_since is null) = (left_alone_until is null))
    );

    alter table public.campaign_engines enable row level security;
    revoke all on public.campaign_engines from public, anon, authenticated, service_role;
    grant select, insert, update, delete on public.campaign_engines to service_role;

    create function public.campaigns_engine_troubles() returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(to_jsonb(e) order by e.endpoint collate "C") from public.campaign_engines e), '[]'));
    end
    $$;

    -- Count the run, unless it was the last one that was counted, and leave the engine alone after enough of them.
    create function public.campaigns_engine_failed(
        p_endpoint text, p_run_id text, p_error text, p_after_runs integer, p_pause_seconds double precision,
        p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set timezone = 'UTC' set lock_timeout = '8s' as $$
    declare
        v_now constant timestamptz := coalesce(p_now, clock_timestamp());
        v_row public.campaign_engines;
    begin
        insert into public.campaign_engines as e (endpoint, runs, last_run_id, since, error)
        values (p_endpoint, 1, p_run_id, v_now, p_error)
        on conflict (endpoint) do update set
            runs = e.runs + case when e.last_run_id <> excluded.last_run_id then 1 else 0 end,
            last_run_id = excluded.last_run_id, error = excluded.error
        returning * into v_row;
        if v_row.runs >= p_after_runs then
            update public.campaign_engines e
            set left_alone_since = coalesce(e.left_alone_since, v_now),
                left_alone_until = v_now + make_interval(secs => p_pause_seconds)
            where e.endpoint = p_endpoint
            returning * into v_row;
        end if;
        return jsonb_build_object('value', to_jsonb(v_row));
    end
    $$;

    create function public.campaigns_engine_answered(p_endpoint text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    begin
        delete from public.campaign_engines e where e.endpoint = p_endpoint;
        return jsonb_build_object('value', null);
    end
    $$;

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace and proname like 'campaigns\_engine\_%'
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name) values ('0016_engines');
    notify pgrst, 'reload schema';
end
$migration$;
