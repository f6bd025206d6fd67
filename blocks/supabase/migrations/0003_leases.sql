-- 0003: the lease on a campaign, and the queue before it.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0003_leases') then
        return;
    end if;

    -- Return null, with the lease locked, if p_lease is the campaign's lease; one that ran out is, until somebody
    -- takes it. p_lease is {campaign_key, run_id, run_name, holder, fence}.
    create function public.campaigns_lease_error(p_lease text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_lease constant jsonb := p_lease;
        v_current public.campaign_leases;
    begin
        select * into v_current from public.campaign_leases l
        where l.campaign_key = v_lease ->> 'campaign_key'
        for update;
        if v_current.fence = (v_lease ->> 'fence')::bigint and v_current.run_id = v_lease ->> 'run_id'
           and v_current.holder = v_lease ->> 'holder'
        then
            return null;
        end if;
        return public.campaigns_error('LeaseLost', format(
            'run %s no longer holds the lease of campaign %s: %s', v_lease ->> 'run_name', v_lease ->> 'campaign_key',
            case when v_current.holder is null then 'it was given back'
                 when v_current.run_id = v_lease ->> 'run_id' then 'another execution of the same run has it now'
                 else format('run %s has it now', v_current.run_name) end));
    end
    $$;

    -- Give the lease (to its holder: a longer one), or queue the run and say who is in the way:
    -- {"lease": …} or {"held": …}.
    create function public.campaigns_acquire_lease(
        p_campaign_key text, p_run_id text, p_run_name text, p_holder text, p_ttl_seconds double precision,
        p_waiting_since timestamptz, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set timezone = 'UTC' set lock_timeout = '8s' as $$
    declare
        -- How long a waiting run that does not ask again still keeps its place.
        c_patience constant interval := '30 seconds';
        v_now timestamptz;
        v_current public.campaign_leases;
        v_is_own boolean;
        v_held jsonb;
    begin
        insert into public.campaign_leases (campaign_key) values (p_campaign_key) on conflict do nothing;
        select * into v_current from public.campaign_leases l where l.campaign_key = p_campaign_key for update;
        -- Read once the lease is locked: who waited does not act on an instant gone by.
        v_now := coalesce(p_now, clock_timestamp());
        v_is_own := (v_current.run_id, v_current.holder) is not distinct from (p_run_id, p_holder);
        if not v_is_own and v_current.expires_at > v_now then
            v_held := jsonb_build_object('run_id', v_current.run_id, 'run_name', v_current.run_name,
                                         'expires_at', v_current.expires_at);
        elsif not v_is_own then
            -- Of two that came at once the smaller id goes first. An entry of this run's own, from an earlier try, is
            -- not in its way. Whoever is loses its place at expires_at, unless it asks again.
            select jsonb_build_object('run_id', q.run_id, 'run_name', q.run_name,
                                      'expires_at', q.asked_at + c_patience)
            into v_held
            from public.campaign_lease_queue q
            where q.campaign_key = p_campaign_key and q.asked_at >= v_now - c_patience
              and (q.waiting_since, q.run_id) < (p_waiting_since, p_run_id) and q.run_id <> p_run_id
            order by q.waiting_since, q.run_id limit 1;
        end if;
        if v_held is not null then
            delete from public.campaign_lease_queue q
            where q.campaign_key = p_campaign_key and q.asked_at < v_now - c_patience;
            insert into public.campaign_lease_queue as q (campaign_key, run_id, run_name, waiting_since, asked_at)
            values (p_campaign_key, p_run_id, p_run_name, p_waiting_since, v_now)
            on conflict (campaign_key, run_id) do update set
                run_name = excluded.run_name, waiting_since = excluded.waiting_since, asked_at = excluded.asked_at;
            return jsonb_build_object('value', jsonb_build_object('held', v_held));
        end if;
        update public.campaign_leases l
        set fence = l.fence + case when v_is_own then 0 else 1 end, run_id = p_run_id, run_name = p_run_name,
            holder = p_holder, expires_at = v_now + make_interval(secs => p_ttl_seconds)
        where l.campaign_key = p_campaign_key
        returning * into v_current;
        delete from public.campaign_lease_queue q where q.campaign_key = p_campaign_key and q.run_id = p_run_id;
        return jsonb_build_object('value', jsonb_build_object('lease', jsonb_build_object(
            'fence', v_current.fence, 'expires_at', v_current.expires_at)));
    end
    $$;

    create function public.campaigns_leave_queue(p_campaign_key text, p_run_id text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    begin
        delete from public.campaign_lease_queue q where q.campaign_key = p_campaign_key and q.run_id = p_run_id;
        return jsonb_build_object('value', null);
    end
    $$;

    create function public.campaigns_renew_lease(
        p_lease text, p_ttl_seconds double precision, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set timezone = 'UTC' as $$
    declare
        v_error constant jsonb := public.campaigns_lease_error(p_lease);
        v_expires_at timestamptz;
    begin
        if v_error is not null then
            return v_error;
        end if;
        update public.campaign_leases l
        set expires_at = coalesce(p_now, clock_timestamp()) + make_interval(secs => p_ttl_seconds)
        where l.campaign_key = p_lease::jsonb ->> 'campaign_key'
        returning l.expires_at into v_expires_at;
        return jsonb_build_object('value', v_expires_at);
    end
    $$;

    -- Give the lease back if it is still this one; the fence stays.
    create function public.campaigns_release_lease(p_lease text) returns jsonb
    language plpgsql set search_path = '' as $$
    begin
        if public.campaigns_lease_error(p_lease) is null then
            update public.campaign_leases l
            set run_id = null, run_name = null, holder = null, expires_at = null
            where l.campaign_key = p_lease::jsonb ->> 'campaign_key';
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

    insert into public.campaign_migrations (name) values ('0003_leases');
    notify pgrst, 'reload schema';
end
$migration$;
