-- 0004: what may be spent, what stands against it, and reserving it.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0004_budget') then
        return;
    end if;

    -- The six windows that an amount counts in: day, week from Sunday and month, of the campaign and of the account.
    create function public.campaigns_windows(p_campaign_key text, p_campaign_day date, p_account_day date)
    returns table (scope text, campaign_key text, period text, first_day date)
    language plpgsql immutable rows 6 set search_path = '' as $$
    begin
        return query values
            ('campaign', p_campaign_key, 'daily', p_campaign_day),
            ('campaign', p_campaign_key, 'weekly', p_campaign_day - extract(dow from p_campaign_day)::integer),
            ('campaign', p_campaign_key, 'monthly', p_campaign_day - extract(day from p_campaign_day)::integer + 1),
            ('account', '@account', 'daily', p_account_day),
            ('account', '@account', 'weekly', p_account_day - extract(dow from p_account_day)::integer),
            ('account', '@account', 'monthly', p_account_day - extract(day from p_account_day)::integer + 1);
    end
    $$;

    -- A campaign's limits and its day, read from its row. A budget that cannot be read is no reason to spend: error.
    create function public.campaigns_terms(
        p_campaign_key text, p_now timestamptz,
        out budget jsonb, out zone text, out day date, out error jsonb
    )
    language plpgsql stable set search_path = '' as $$
    declare
        v_reason text;
    begin
        select coalesce(nullif(c.config -> 'budget', 'null'), '{}'),
               coalesce(c.config #>> '{schedule,timezone}', 'UTC')
        into budget, zone from public.campaigns c where c.key = p_campaign_key;
        if not found then
            error := public.campaigns_unknown(p_campaign_key);
            return;
        end if;
        if jsonb_typeof(budget) <> 'object' then
            v_reason := 'it is no object';
        else
            select format('%s is %s', b.key, b.value) into v_reason from jsonb_each(budget) b
            where b.key not in ('daily', 'weekly', 'monthly', 'perRun', 'perLead', 'alertAt')
               or (b.key <> 'alertAt' and b.value <> 'null' and b.value #>> '{}' !~ '^\d+(\.\d+)?$')
            limit 1;
        end if;
        begin
            day := public.campaigns_local_day(p_now, zone);
        exception when invalid_parameter_value then
            v_reason := format('its timezone is %s', zone);
        end;
        if v_reason is not null then
            error := public.campaigns_error('StoreError', format(
                'the row of campaign ''%s'' holds no budget that can be read: %s', p_campaign_key, v_reason));
        end if;
    end
    $$;

    -- The limits that hold (null: none) and what stands against them; p_campaign_key null: of the account alone.
    create function public.campaigns_limits(
        p_campaign_key text, p_campaign_day date, p_budget jsonb, p_account public.campaign_account, p_account_day date
    ) returns table (
        place bigint, scope text, period text, first_day date, amount_limit numeric, spent numeric, reserved numeric
    )
    language plpgsql stable rows 6 set search_path = '' as $$
    begin
        return query
            select w.place, w.scope, w.period, w.first_day,
                   case when w.scope = 'campaign' then (p_budget ->> w.period)::numeric
                        when w.period = 'daily' then p_account.daily
                        when w.period = 'weekly' then p_account.weekly
                        else p_account.monthly end,
                   coalesce(t.spent, 0::numeric(18, 6)), coalesce(t.reserved, 0::numeric(18, 6))
            from public.campaigns_windows(p_campaign_key, p_campaign_day, p_account_day)
                 with ordinality as w (scope, campaign_key, period, first_day, place)
            left join public.campaign_totals t
                   on t.campaign_key = w.campaign_key and t.period = w.period and t.first_day = w.first_day
            where w.campaign_key is not null;
    end
    $$;

    create function public.campaigns_limit_object(
        p_scope text, p_period text, p_first_day date, p_limit numeric, p_spent numeric, p_reserved numeric
    ) returns jsonb
    language plpgsql immutable set search_path = '' as $$
    begin
        return jsonb_build_object(
            'scope', p_scope, 'period', p_period, 'first_day', p_first_day, 'limit', p_limit::text,
            'spent', p_spent::numeric(18, 6)::text, 'reserved', p_reserved::numeric(18, 6)::text);
    end
    $$;

    -- What a campaign has spent and reserved now (null: all campaigns together), expired reservations seen to.
    create function public.campaigns_budget_status(p_campaign_key text, p_now timestamptz default null) returns jsonb
    language plpgsql set search_path = '' set timezone = 'UTC' as $$
    declare
        v_now constant timestamptz := coalesce(p_now, clock_timestamp());
        v_terms record;
        v_answer jsonb;
    begin
        select t.* into v_terms from public.campaigns_terms(p_campaign_key, v_now) t where p_campaign_key is not null;
        if v_terms.error is not null then
            return v_terms.error;
        end if;
        perform public.campaigns_see_to_expired(v_now);
        select jsonb_build_object('value', jsonb_build_object(
            'at', v_now, 'zone', v_terms.zone, 'account_zone', a.timezone,
            'limits', jsonb_agg(public.campaigns_limit_object(
                l.scope, l.period, l.first_day, l.amount_limit, l.spent, l.reserved) order by l.place)))
        into v_answer
        from public.campaign_account a
        cross join lateral public.campaigns_limits(
            p_campaign_key, v_terms.day, v_terms.budget, a, public.campaigns_local_day(v_now, a.timezone)) l
        group by a.timezone;
        return v_answer;
    end
    $$;

    create function public.campaigns_account_budget() returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return (select jsonb_build_object('value', jsonb_build_object(
            'daily', a.daily::text, 'weekly', a.weekly::text, 'monthly', a.monthly::text, 'timezone', a.timezone))
            from public.campaign_account a);
    end
    $$;

    create function public.campaigns_set_account_budget(
        p_daily numeric, p_weekly numeric, p_monthly numeric, p_timezone text
    ) returns jsonb
    language plpgsql set search_path = '' as $$
    begin
        if public.campaigns_knows_zone(p_timezone) is not true then
            return public.campaigns_error('StoreError', format(
                'the timezone of the account, ''%s'', is not in the time zone database; a name such as'
                ' America/New_York is', p_timezone));
        end if;
        perform public.campaigns_lock_books();
        insert into public.campaign_account as a (one, daily, weekly, monthly, timezone)
        values (true, p_daily, p_weekly, p_monthly, p_timezone)
        on conflict (one) do update set
            daily = excluded.daily, weekly = excluded.weekly, monthly = excluded.monthly,
            timezone = excluded.timezone;
        return jsonb_build_object('value', null);
    end
    $$;

    create function public.campaigns_reservation(p_row public.campaign_reservations) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object(
            'campaign_key', p_row.campaign_key, 'run_id', p_row.run_id, 'step', p_row.step,
            'attempt', p_row.attempt, 'state', p_row.state, 'estimate', p_row.estimate::text,
            'booked', p_row.booked::text, 'reserved_at', p_row.reserved_at, 'expires_at', p_row.expires_at);
    end
    $$;

    -- The largest of the step's last five costs; null where it has never been answered. Requests that failed for
    -- nothing, or that a later answer spoke for, say nothing about what the step costs.
    create function public.campaigns_last_cost(p_campaign_key text, p_step text) returns numeric
    language plpgsql stable set search_path = '' as $$
    declare
        v_cost numeric;
    begin
        select max(recent.booked) into v_cost from (
            select r.booked from public.campaign_reservations r
            where r.campaign_key = p_campaign_key and r.step = p_step and r.booked > 0
            order by r.id desc limit 5
        ) recent;
        if v_cost is null and exists (
            select from public.campaign_reservations r
            where r.campaign_key = p_campaign_key and r.step = p_step and r.state = 'settled' and r.booked = 0
        ) then
            return 0;
        end if;
        return v_cost;
    end
    $$;

    -- Reserve the estimate (null: what the step's last requests cost) against all limits at once: the reservation as
    -- value, or {"refused": …} with the limits in the way.
    create function public.campaigns_reserve(
        p_lease text, p_step text, p_attempt integer, p_estimate numeric, p_hold_seconds double precision,
        p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set timezone = 'UTC' as $$
    declare
        v_key constant text := p_lease::jsonb ->> 'campaign_key';
        v_run_id constant text := p_lease::jsonb ->> 'run_id';
        v_now timestamptz;
        v_account public.campaign_account;
        v_account_day date;
        v_terms record;
        v_row public.campaign_reservations;
        -- null: nobody knows what the step costs, and it is refused where a limit is reached already.
        v_amount numeric(18, 6);
        v_answer jsonb;
    begin
        perform public.campaigns_lock_books();
        v_answer := public.campaigns_lease_error(p_lease);
        if v_answer is not null then
            return v_answer;
        end if;
        v_now := coalesce(p_now, clock_timestamp());
        v_terms := public.campaigns_terms(v_key, v_now);
        if v_terms.error is not null then
            return v_terms.error;
        end if;
        perform public.campaigns_see_to_expired(v_now);
        select * into v_row from public.campaign_reservations r
        where r.run_id = v_run_id and r.step = p_step and r.attempt = p_attempt;
        if found then
            return jsonb_build_object('value', public.campaigns_reservation(v_row));
        end if;

        select * into strict v_account from public.campaign_account;
        v_account_day := public.campaigns_local_day(v_now, v_account.timezone);
        v_amount := coalesce(p_estimate, public.campaigns_last_cost(v_key, p_step));
        select jsonb_build_object('refused', jsonb_build_object(
            'amount', v_amount::text, 'zone', v_terms.zone, 'account_zone', v_account.timezone,
            'limits', jsonb_agg(public.campaigns_limit_object(
                l.scope, l.period, l.first_day, l.amount_limit, l.spent, l.reserved) order by l.place)))
        into v_answer
        from (
            select * from public.campaigns_limits(v_key, v_terms.day, v_terms.budget, v_account, v_account_day)
            union all
            select 7, 'run', null, null, (v_terms.budget ->> 'perRun')::numeric, coalesce(sum(r.booked), 0),
                   coalesce(sum(r.estimate) filter (where r.state in ('held', 'sent')), 0)
            from public.campaign_reservations r where r.run_id = v_run_id
        ) l
        where case when v_amount is null then l.spent + l.reserved >= l.amount_limit
                   else v_amount > 0 and l.spent + l.reserved + v_amount > l.amount_limit end
        having count(*) > 0;
        if found then
            return v_answer;
        end if;

        insert into public.campaign_reservations (
            campaign_key, run_id, step, attempt, state, estimate, campaign_day, account_day, reserved_at, expires_at)
        values (v_key, v_run_id, p_step, p_attempt, 'held', coalesce(v_amount, 0), v_terms.day, v_account_day, v_now,
                v_now + make_interval(secs => p_hold_seconds))
        returning * into v_row;
        insert into public.campaign_ledger (
            at, campaign_key, run_id, step, attempt, kind, spent, reserved, campaign_day, account_day)
        values (v_now, v_key, v_run_id, p_step, p_attempt, 'reserve', 0, v_row.estimate, v_terms.day, v_account_day);
        insert into public.campaign_totals as t (campaign_key, period, first_day, spent, reserved)
        select w.campaign_key, w.period, w.first_day, 0, v_row.estimate
        from public.campaigns_windows(v_key, v_terms.day, v_account_day) w
        on conflict (campaign_key, period, first_day) do update set reserved = t.reserved + excluded.reserved;
        return jsonb_build_object('value', public.campaigns_reservation(v_row));
    end
    $$;

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace and proname like 'campaigns\_%'
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name) values ('0004_budget');
    notify pgrst, 'reload schema';
end
$migration$;
