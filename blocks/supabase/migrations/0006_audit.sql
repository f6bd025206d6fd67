-- 0006: adding up the ledger, and alerts.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0006_audit') then
        return;
    end if;

    create function public.campaigns_run_cost(p_run_id text) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', (
            select coalesce(sum(l.spent), 0)::numeric(18, 6)::text
            from public.campaign_ledger l where l.run_id = p_run_id));
    end
    $$;

    -- Where totals or reservations differ from the ledger of a campaign (null: of all, against the account's). Being
    -- stable, it sees one moment and holds nobody up.
    create function public.campaigns_verify_totals(p_campaign_key text) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return (
            with days as (
                select 'ledger' as source,
                       case when p_campaign_key is null then l.account_day else l.campaign_day end as day,
                       sum(l.spent) as spent, sum(l.reserved) as reserved,
                       -- What was imported was never reserved.
                       sum(l.spent) filter (where l.kind <> 'import') as own_spent
                from public.campaign_ledger l
                where p_campaign_key is null or l.campaign_key = p_campaign_key group by 2
                union all
                select 'reservations', case when p_campaign_key is null then r.account_day else r.campaign_day end,
                       coalesce(sum(r.booked), 0),
                       coalesce(sum(r.estimate) filter (where r.state in ('held', 'sent')), 0), null
                from public.campaign_reservations r
                where p_campaign_key is null or r.campaign_key = p_campaign_key group by 2
            ), sums as (
                select d.source, w.period, w.first_day, sum(d.spent) as spent, sum(d.reserved) as reserved,
                       coalesce(sum(d.own_spent), 0) as own_spent
                from days d cross join lateral public.campaigns_windows('', d.day, d.day) w
                where w.scope = 'campaign' group by d.source, w.period, w.first_day
                union all
                select 'totals', t.period, t.first_day, t.spent, t.reserved, null from public.campaign_totals t
                where t.campaign_key = coalesce(p_campaign_key, '@account')
            ), pairs as (
                select k.source, k.period, k.first_day, coalesce(have.spent, 0) as spent,
                       coalesce(have.reserved, 0) as reserved,
                       coalesce(case k.source when 'totals' then line.spent else line.own_spent end, 0) as line_spent,
                       coalesce(line.reserved, 0) as line_reserved
                from (select distinct o.source, s.period, s.first_day
                      from sums s cross join (values ('totals'), ('reservations')) as o (source)) k
                left join sums have on (have.source, have.period, have.first_day) = (k.source, k.period, k.first_day)
                left join sums line on (line.source, line.period, line.first_day) = ('ledger', k.period, k.first_day)
            )
            select jsonb_build_object('value', coalesce(jsonb_agg(jsonb_build_object(
                'window', p.period || ':' || to_char(p.first_day, 'YYYY-MM-DD'), 'source', p.source,
                'spent', p.spent::numeric(18, 6)::text, 'reserved', p.reserved::numeric(18, 6)::text,
                'line_spent', p.line_spent::numeric(18, 6)::text,
                'line_reserved', p.line_reserved::numeric(18, 6)::text)
                order by p.source desc, p.period, p.first_day), '[]'))
            from pairs p
            where (p.spent, p.reserved) <> (p.line_spent, p.line_reserved)
        );
    end
    $$;

    -- Under whose key an alert stands: one of the account is one for all campaigns.
    create function public.campaigns_alert_owner(p_campaign_key text, p_alert_key text) returns text
    language plpgsql immutable set search_path = '' as $$
    begin
        return case when starts_with(p_alert_key, 'account') then '@account' else p_campaign_key end;
    end
    $$;

    create function public.campaigns_claim_alerts(
        p_campaign_key text, p_alert_keys text, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    begin
        insert into public.campaign_alerts (campaign_key, alert_key, claimed_at)
        select public.campaigns_alert_owner(p_campaign_key, k.alert_key), k.alert_key,
               coalesce(p_now, clock_timestamp())
        from jsonb_array_elements_text(p_alert_keys::jsonb) k (alert_key)
        -- In one order, so that two who claim the same do not wait for each other.
        order by 1, 2
        on conflict do nothing;
        return jsonb_build_object('value', coalesce(
            (select jsonb_agg(k.alert_key order by k.position)
             from jsonb_array_elements_text(p_alert_keys::jsonb) with ordinality k (alert_key, position)
             join public.campaign_alerts a on a.alert_key = k.alert_key
              and a.campaign_key = public.campaigns_alert_owner(p_campaign_key, k.alert_key)
             where a.told_at is null), '[]'));
    end
    $$;

    create function public.campaigns_alert_told(
        p_campaign_key text, p_alert_key text, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_now constant timestamptz := coalesce(p_now, clock_timestamp());
    begin
        insert into public.campaign_alerts as a (campaign_key, alert_key, claimed_at, told_at)
        values (public.campaigns_alert_owner(p_campaign_key, p_alert_key), p_alert_key, v_now, v_now)
        on conflict (campaign_key, alert_key) do update set told_at = coalesce(a.told_at, excluded.told_at);
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

    insert into public.campaign_migrations (name) values ('0006_audit');
    notify pgrst, 'reload schema';
end
$migration$;
