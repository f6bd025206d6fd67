-- 0019: what reports and pages read of many runs at once. None of it costs more because more was done long ago.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0019_reports') then
        return;
    end if;

    -- The newest runs of each campaign, newest first; p_keys is an array of keys (null: of all campaigns).
    create function public.campaigns_latest_runs(p_limit integer, p_keys text) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(jsonb_build_object(
                'campaign_key', r.campaign_key, 'run_id', r.run_id,
                'run_name', coalesce(r.run_name, left(r.run_id, 8)), 'status', r.status, 'state_name', r.state_name,
                'started_at', coalesce(r.started_at, r.completed_at, 'epoch'), 'completed_at', r.completed_at,
                'total_cost', public.campaigns_run_cost(r.run_id) -> 'value')
                order by r.campaign_key, r.started_at desc nulls last, r.id)
            from public.campaigns c
            cross join lateral (
                select * from public.campaign_runs f where f.campaign_key = c.key
                order by f.started_at desc nulls last, f.id limit p_limit) r
            where p_keys is null or c.key in (select jsonb_array_elements_text(p_keys::jsonb))), '[]'));
    end
    $$;

    -- {key: status} of the newest run of each campaign that has one.
    create function public.campaigns_last_outcomes() returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_object_agg(c.key, r.status)
            from public.campaigns c
            cross join lateral (
                select f.status from public.campaign_runs f where f.campaign_key = c.key
                order by f.started_at desc nulls last, f.id limit 1) r
            where r.status is not null), '{}'));
    end
    $$;

    -- A step's detail without what its engine answered. PostgreSQL cannot take JSON apart that holds U+0000 or half of
    -- a surrogate pair; then it is left whole.
    create function public.campaigns_outline(p_detail json) returns text
    language plpgsql immutable set search_path = '' as $$
    begin
        if p_detail::text ~* '\\u(0000|d[89a-f])' then
            return p_detail::text;
        end if;
        return (select json_object_agg(d.key, d.value)::text from json_each(p_detail) d where d.key <> 'result');
    end
    $$;

    -- The newest runs that began from p_since on and before p_until (null: whenever), of one campaign or of all that
    -- have a row, as campaigns_run has them, without what engines answered.
    create function public.campaigns_run_outlines(
        p_campaign_key text, p_since timestamptz, p_until timestamptz, p_limit integer
    ) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(jsonb_build_object(
                'run_id', r.run_id, 'run_name', coalesce(r.run_name, left(r.run_id, 8)),
                'campaign_key', r.campaign_key, 'campaign_name', r.campaign_name, 'status', r.status,
                'state_name', r.state_name, 'message', r.message,
                'trigger_type', coalesce(r.trigger_type, 'manual'),
                'started_at', coalesce(r.started_at, r.completed_at, 'epoch'), 'completed_at', r.completed_at,
                'total_cost', public.campaigns_run_cost(r.run_id) -> 'value',
                'steps', coalesce((
                    select jsonb_agg(jsonb_build_object(
                        'name', s.name, 'position', s.position, 'engine', s.engine, 'status', s.status,
                        'attempts', s.attempts, 'started_at', s.started_at, 'completed_at', s.completed_at,
                        'cost', s.cost::text, 'detail', public.campaigns_outline(s.detail))
                        order by s.position, s.name)
                    from public.campaign_run_steps s where s.run_id = r.run_id), '[]'))
                order by r.started_at desc nulls last, r.id)
            from (
                select f.* from public.campaigns c
                join public.campaign_runs f on f.campaign_key = c.key
                where (p_campaign_key is null or c.key = p_campaign_key)
                  and (p_since is null or f.started_at >= p_since) and (p_until is null or f.started_at < p_until)
                order by f.started_at desc nulls last, f.id limit p_limit) r), '[]'));
    end
    $$;

    -- {day: spent} of a campaign (null: of all together) from one local day to another, both included.
    create function public.campaigns_spent_by_day(p_campaign_key text, p_since date, p_until date) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_object_agg(t.first_day, t.spent::numeric(18, 6)::text) from public.campaign_totals t
            where t.campaign_key = coalesce(p_campaign_key, '@account') and t.period = 'daily'
              and t.first_day between p_since and p_until), '{}'));
    end
    $$;

    -- {key: as campaigns_budget_status has it} of the campaigns of p_keys (null: of all) whose budget can be read, expired
    -- reservations seen to.
    create function public.campaigns_budget_statuses(p_keys text, p_now timestamptz default null) returns jsonb
    language plpgsql set search_path = '' set timezone = 'UTC' as $$
    declare
        v_now constant timestamptz := coalesce(p_now, clock_timestamp());
    begin
        perform public.campaigns_see_to_expired(v_now);
        return jsonb_build_object('value', coalesce((
            select jsonb_object_agg(c.key, s.status)
            from public.campaigns c
            cross join public.campaign_account a
            cross join lateral public.campaigns_terms(c.key, v_now) t
            cross join lateral (
                select jsonb_build_object(
                    'at', v_now, 'zone', t.zone, 'account_zone', a.timezone,
                    'limits', jsonb_agg(public.campaigns_limit_object(
                        l.scope, l.period, l.first_day, l.amount_limit, l.spent, l.reserved) order by l.place)) as status
                from public.campaigns_limits(
                    c.key, t.day, t.budget, a, public.campaigns_local_day(v_now, a.timezone)) l) s
            where t.error is null
              and (p_keys is null or c.key in (select jsonb_array_elements_text(p_keys::jsonb)))), '{}'));
    end
    $$;

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace
          and proname in ('campaigns_latest_runs', 'campaigns_last_outcomes', 'campaigns_outline', 'campaigns_run_outlines',
                          'campaigns_spent_by_day', 'campaigns_budget_statuses')
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name, only_adds) values ('0019_reports', true);
    notify pgrst, 'reload schema';
end
$migration$;
