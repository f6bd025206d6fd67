-- 0014: which workers live, and which runs nobody attends to.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0014_workers') then
        return;
    end if;

    create table public.campaign_workers (
        id         uuid primary key,
        name       text not null,
        pool       text not null,
        expires_at timestamptz not null
    );

    alter table public.campaign_workers enable row level security;
    revoke all on public.campaign_workers from public, anon, authenticated, service_role;
    grant select, insert, update, delete on public.campaign_workers to service_role;

    create function public.campaigns_keep_worker(
        p_id uuid, p_name text, p_pool text, p_ttl_seconds double precision, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' as $$
    begin
        insert into public.campaign_workers as w (id, name, pool, expires_at)
        values (p_id, p_name, p_pool, coalesce(p_now, clock_timestamp()) + make_interval(secs => p_ttl_seconds))
        on conflict (id) do update set name = excluded.name, pool = excluded.pool, expires_at = excluded.expires_at;
        return jsonb_build_object('value', null);
    end
    $$;

    create function public.campaigns_remove_worker(p_id uuid) returns jsonb
    language plpgsql set search_path = '' as $$
    begin
        delete from public.campaign_workers w where w.id = p_id;
        return jsonb_build_object('value', null);
    end
    $$;

    create function public.campaigns_list_workers(p_now timestamptz default null) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(jsonb_build_object('id', w.id, 'name', w.name, 'pool', w.pool, 'expires_at', w.expires_at,
                                                'has_expired', w.expires_at <= coalesce(p_now, clock_timestamp()))
                             order by lower(w.name), w.id)
            from public.campaign_workers w), '[]'));
    end
    $$;

    -- Oldest first. A state has a name while the run is suspended.
    create function public.campaigns_unattended_runs(
        p_within_seconds double precision, p_now timestamptz default null
    ) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    declare
        -- As long as campaigns_acquire_lease keeps a place in the queue.
        c_patience constant interval := '30 seconds';
        v_now constant timestamptz := coalesce(p_now, clock_timestamp());
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(jsonb_build_object('run_id', r.run_id, 'campaign_key', r.campaign_key,
                                                'lease_expires_at', l.expires_at,
                                                'has_expired', coalesce(l.expires_at <= v_now, true))
                             order by r.started_at, r.id)
            from public.campaign_runs r
            left join public.campaign_leases l on l.campaign_key = r.campaign_key and l.run_id = r.run_id
            where r.status = 'running' and r.run_name is not null and r.state_name is null
              and (l.expires_at is null or l.expires_at < v_now + make_interval(secs => p_within_seconds))
              and not exists (
                  select from public.campaign_lease_queue q
                  where q.campaign_key = r.campaign_key and q.run_id = r.run_id and q.asked_at >= v_now - c_patience)
        ), '[]'));
    end
    $$;

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace
          and proname in ('campaigns_keep_worker', 'campaigns_remove_worker', 'campaigns_list_workers',
                          'campaigns_unattended_runs')
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name) values ('0014_workers');
    notify pgrst, 'reload schema';
end
$migration$;
