-- 0007: runs and their steps.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0007_runs') then
        return;
    end if;

    create function public.campaigns_never_started(p_run_id text) returns jsonb
    language plpgsql immutable set search_path = '' as $$
    begin
        return public.campaigns_error('StoreError', format(
            'the store has no run %s; start_run comes first', p_run_id));
    end
    $$;

    -- Insert or replace steps, each {name, position, engine, status, attempts, started_at, completed_at, cost, counts,
    -- error, detail}, and bring what people read of the run up to date. The run is locked by whoever calls this.
    create function public.campaigns_write_steps(p_run_id text, p_steps jsonb) returns void
    language plpgsql set search_path = '' as $$
    begin
        insert into public.campaign_run_steps as s (
            run_id, name, position, engine, status, attempts, started_at, completed_at, cost, counts, error, detail)
        select p_run_id, n.name, n.position, n.engine, n.status, n.attempts, n.started_at, n.completed_at, n.cost,
               n.counts, n.error, n.detail::json
        from jsonb_to_recordset(p_steps) as n (
            name text, position integer, engine text, status text, attempts integer, started_at timestamptz,
            completed_at timestamptz, cost numeric, counts jsonb, error text, detail text)
        on conflict (run_id, name) do update set
            position = excluded.position, engine = excluded.engine, status = excluded.status,
            attempts = excluded.attempts, started_at = excluded.started_at, completed_at = excluded.completed_at,
            cost = excluded.cost, counts = excluded.counts, error = excluded.error, detail = excluded.detail;
        update public.campaign_runs r
        set (steps_completed, steps_failed, results, errors) = (
            select count(*) filter (where s.status = 'completed'), count(*) filter (where s.status = 'failed'),
                   coalesce(jsonb_object_agg(s.name, jsonb_build_object(
                       'status', s.status, 'cost', s.cost, 'counts', s.counts)), '{}'),
                   coalesce(jsonb_agg(jsonb_build_object('step', s.name, 'error', s.error) order by s.position)
                            filter (where s.error is not null), '[]')
            from public.campaign_run_steps s where s.run_id = p_run_id)
        where r.run_id = p_run_id;
    end
    $$;

    -- p_report is {run_id, run_name, campaign_key, campaign_name, status, state_name, message, trigger_type,
    -- started_at, completed_at, steps}. Return whether there was no record of the run before.
    create function public.campaigns_insert_run(p_report jsonb) returns boolean
    language plpgsql set search_path = '' as $$
    declare
        v_run_id constant text := p_report ->> 'run_id';
    begin
        insert into public.campaign_runs (
            id, campaign_id, run_id, run_name, campaign_key, campaign_name, status, state_name, message, trigger_type,
            started_at, completed_at, total_cost, steps_completed, steps_failed)
        values (
            case when v_run_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then v_run_id::uuid
                 else gen_random_uuid() end,
            (select c.id from public.campaigns c where c.key = p_report ->> 'campaign_key' for key share),
            v_run_id, p_report ->> 'run_name', p_report ->> 'campaign_key', p_report ->> 'campaign_name',
            p_report ->> 'status', p_report ->> 'state_name', p_report ->> 'message', p_report ->> 'trigger_type',
            (p_report ->> 'started_at')::timestamptz, (p_report ->> 'completed_at')::timestamptz,
            (select coalesce(sum(l.spent), 0) from public.campaign_ledger l where l.run_id = v_run_id), 0, 0)
        on conflict (run_id) do nothing;
        if not found then
            return false;
        end if;
        perform public.campaigns_write_steps(v_run_id, p_report -> 'steps');
        return true;
    end
    $$;

    -- Return null, with the lease locked, if it is the lease of the run that the report is about.
    create function public.campaigns_report_error(p_lease text, p_report jsonb) returns jsonb
    language plpgsql set search_path = '' as $$
    declare
        v_error constant jsonb := public.campaigns_lease_error(p_lease);
        v_lease constant jsonb := p_lease;
    begin
        if v_error is null
           and (v_lease ->> 'run_id', v_lease ->> 'campaign_key')
               <> (p_report ->> 'run_id', p_report ->> 'campaign_key')
        then
            return public.campaigns_error('StoreError', format(
                'the lease is for run %s of %s, and the report is about run %s of %s', v_lease ->> 'run_id',
                v_lease ->> 'campaign_key', p_report ->> 'run_id', p_report ->> 'campaign_key'));
        end if;
        return v_error;
    end
    $$;

    create function public.campaigns_start_run(p_lease text, p_report text) returns jsonb
    language plpgsql set search_path = '' as $$
    declare
        v_report constant jsonb := p_report;
        v_error jsonb;
    begin
        -- It writes to both the run and its campaign, as bookings do.
        perform public.campaigns_lock_books();
        v_error := public.campaigns_report_error(p_lease, v_report);
        if v_error is not null then
            return v_error;
        end if;
        if public.campaigns_insert_run(v_report) then
            update public.campaigns c
            set total_runs = coalesce(c.total_runs, 0) + 1, last_run_at = (v_report ->> 'started_at')::timestamptz
            where c.key = v_report ->> 'campaign_key';
        else
            update public.campaign_runs r
            set status = 'running', state_name = null, message = null, completed_at = null
            where r.run_id = v_report ->> 'run_id';
        end if;
        return jsonb_build_object('value', null);
    end
    $$;

    create function public.campaigns_save_step(p_lease text, p_step text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_run_id constant text := p_lease::jsonb ->> 'run_id';
        v_error constant jsonb := public.campaigns_lease_error(p_lease);
    begin
        if v_error is not null then
            return v_error;
        end if;
        -- Before its steps, as bookings do.
        perform from public.campaign_runs r where r.run_id = v_run_id for no key update;
        if not found then
            return public.campaigns_never_started(v_run_id);
        end if;
        perform public.campaigns_write_steps(v_run_id, jsonb_build_array(p_step::jsonb));
        return jsonb_build_object('value', null);
    end
    $$;

    create function public.campaigns_finish_run(
        p_lease text, p_report text, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_report constant jsonb := p_report;
        v_error constant jsonb := public.campaigns_report_error(p_lease, v_report);
    begin
        if v_error is not null then
            return v_error;
        end if;
        update public.campaign_runs r
        set status = v_report ->> 'status', state_name = v_report ->> 'state_name', message = v_report ->> 'message',
            completed_at = coalesce((v_report ->> 'completed_at')::timestamptz, p_now, clock_timestamp())
        where r.run_id = v_report ->> 'run_id';
        if not found then
            return public.campaigns_never_started(v_report ->> 'run_id');
        end if;
        return jsonb_build_object('value', null);
    end
    $$;

    create function public.campaigns_record_skipped_run(p_report text) returns jsonb
    language plpgsql set search_path = '' as $$
    begin
        -- Its campaign may be deleted at this moment, and this very run with it.
        perform public.campaigns_lock_books();
        perform public.campaigns_insert_run(p_report::jsonb);
        return jsonb_build_object('value', null);
    end
    $$;

    -- A run with its steps; one from before has no name and no steps. What it cost is what the ledger says.
    create function public.campaigns_run(p_row public.campaign_runs) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object(
            'run_id', p_row.run_id, 'run_name', coalesce(p_row.run_name, left(p_row.run_id, 8)),
            'campaign_key', p_row.campaign_key, 'campaign_name', p_row.campaign_name, 'status', p_row.status,
            'state_name', p_row.state_name, 'message', p_row.message,
            'trigger_type', coalesce(p_row.trigger_type, 'manual'),
            'started_at', coalesce(p_row.started_at, p_row.completed_at, 'epoch'),
            'completed_at', p_row.completed_at,
            'total_cost', public.campaigns_run_cost(p_row.run_id) -> 'value',
            'steps', coalesce((
                select jsonb_agg(jsonb_build_object(
                    'name', s.name, 'position', s.position, 'engine', s.engine, 'status', s.status,
                    'attempts', s.attempts, 'started_at', s.started_at, 'completed_at', s.completed_at,
                    'cost', s.cost::text, 'detail', s.detail::text) order by s.position, s.name)
                from public.campaign_run_steps s where s.run_id = p_row.run_id), '[]'));
    end
    $$;

    create function public.campaigns_get_run(p_run_id text) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', (
            select public.campaigns_run(r) from public.campaign_runs r
            where r.run_id = p_run_id and r.campaign_key is not null));
    end
    $$;

    -- Newest first.
    create function public.campaigns_list_runs(p_campaign_key text, p_limit integer) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(public.campaigns_run(r) order by r.started_at desc nulls last, r.id)
            from (select * from public.campaign_runs f where f.campaign_key = p_campaign_key
                  order by f.started_at desc nulls last, f.id limit p_limit) r), '[]'));
    end
    $$;

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace and proname like 'campaigns\_%'
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name) values ('0007_runs');
    notify pgrst, 'reload schema';
end
$migration$;
