-- 0010: the emergency stop, approvals, and who did what.

do $migration$
declare
    v_function regprocedure;
    v_name text;
begin
    if exists (select from public.campaign_migrations where name = '0010_approvals') then
        return;
    end if;

    -- One row while the stop stands, none otherwise.
    create table public.campaign_stop (
        one    boolean primary key default true check (one),
        "by"   text not null,
        reason text not null,
        since  timestamptz not null
    );

    create table public.campaign_approvals (
        id           bigint generated always as identity primary key,
        campaign_key text not null,
        run_id       text not null,
        step         text not null,
        state        text not null check (state in ('waiting', 'approved', 'expired', 'withdrawn')),
        asked_at     timestamptz not null,
        expires_at   timestamptz not null,
        decided_at   timestamptz,
        decided_by   text,
        unique (run_id, step),
        check ((decided_at is null) = (state = 'waiting') and (decided_by is null) = (state = 'waiting'))
    );

    create index campaign_approvals_by_campaign on public.campaign_approvals (campaign_key, asked_at);
    create index campaign_approvals_waiting on public.campaign_approvals (asked_at) where state = 'waiting';

    -- Bound to no row of campaigns: what was done to a campaign is known when it is deleted, too. detail is JSON that
    -- keeps every escape (jsonb refuses \u0000 and lone surrogates).
    create table public.campaign_audit (
        id           bigint generated always as identity primary key,
        at           timestamptz not null,
        actor        text not null,
        action       text not null,
        campaign_key text,
        detail       json not null
    );

    create index campaign_audit_by_time on public.campaign_audit (at, id);
    create index campaign_audit_by_campaign on public.campaign_audit (campaign_key, at, id);

    -- What it says is given by the trigger; that of the ledger gives nothing.
    create or replace function public.campaigns_refuse_change() returns trigger
    language plpgsql set search_path = '' as $$
    begin
        raise exception '%', coalesce(tg_argv[0], 'the ledger is append-only');
    end
    $$;

    create trigger campaign_audit_is_append_only
        before update or delete or truncate on public.campaign_audit
        for each statement execute function public.campaigns_refuse_change('the audit is append-only');

    create trigger campaign_approvals_stay_approved
        before update on public.campaign_approvals
        for each row when (old.state = 'approved' and new.state <> 'waiting')
        execute function public.campaigns_refuse_change('what is approved stays approved, until it is asked for anew');

    foreach v_name in array array['campaign_stop', 'campaign_approvals', 'campaign_audit'] loop
        execute format('alter table public.%I enable row level security', v_name);
        execute format('revoke all on public.%I from public, anon, authenticated, service_role', v_name);
        execute format(
            'grant %s on public.%I to service_role',
            case v_name when 'campaign_audit' then 'select, insert' else 'select, insert, update, delete' end, v_name);
    end loop;
    revoke all on sequence public.campaign_approvals_id_seq, public.campaign_audit_id_seq
        from public, anon, authenticated;

    -- A campaign takes the approvals of its runs with it.
    create or replace function public.campaigns_delete(p_key text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_id constant uuid := (select c.id from public.campaigns c where c.key = p_key);
    begin
        if v_id is null then
            return public.campaigns_unknown(p_key);
        end if;
        perform public.campaigns_lock_books();
        delete from public.campaign_runs r where r.campaign_key = p_key or r.campaign_id = v_id;
        delete from public.campaign_approvals a where a.campaign_key = p_key;
        delete from public.campaigns c where c.id = v_id;
        return jsonb_build_object('value', null);
    end
    $$;

    create function public.campaigns_stop_object(p_row public.campaign_stop) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return case when p_row."by" is not null then jsonb_build_object(
            'by', p_row."by", 'reason', p_row.reason, 'since', p_row.since) end;
    end
    $$;

    create function public.campaigns_read_stop() returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', (select public.campaigns_stop_object(s) from public.campaign_stop s));
    end
    $$;

    -- p_stop is {by, reason, since}, which stands from now on unless one does already, or null, which ends the one that
    -- does. Return what stood there before.
    create function public.campaigns_set_stop(p_stop text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_stop constant jsonb := p_stop;
        v_before public.campaign_stop;
    begin
        if p_stop is null then
            -- By a condition: Supabase lets no API delete without one.
            delete from public.campaign_stop s where s.one returning * into v_before;
            return jsonb_build_object('value', public.campaigns_stop_object(v_before));
        end if;
        loop
            insert into public.campaign_stop ("by", reason, since)
            values (v_stop ->> 'by', v_stop ->> 'reason', (v_stop ->> 'since')::timestamptz)
            on conflict do nothing;
            if found then
                return jsonb_build_object('value', null);
            end if;
            select * into v_before from public.campaign_stop;
            -- Unless somebody has ended it in between.
            if found then
                return jsonb_build_object('value', public.campaigns_stop_object(v_before));
            end if;
        end loop;
    end
    $$;

    create function public.campaigns_approval(p_row public.campaign_approvals) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object(
            'campaign_key', p_row.campaign_key, 'run_id', p_row.run_id, 'step', p_row.step, 'state', p_row.state,
            'asked_at', p_row.asked_at, 'expires_at', p_row.expires_at, 'decided_at', p_row.decided_at,
            'decided_by', p_row.decided_by);
    end
    $$;

    -- The one of a step of a run, as it is now.
    create function public.campaigns_get_approval(p_run_id text, p_step text) returns jsonb
    language plpgsql stable set search_path = '' as $$
    declare
        v_row public.campaign_approvals;
    begin
        select * into v_row from public.campaign_approvals a where a.run_id = p_run_id and a.step = p_step;
        if not found then
            return public.campaigns_error('StoreError', format(
                'nobody has asked for an approval of step ''%s'' of run %s', p_step, p_run_id));
        end if;
        return jsonb_build_object('value', public.campaigns_approval(v_row));
    end
    $$;

    -- The step waits from now on, whatever was decided of it before.
    create function public.campaigns_ask_approval(
        p_lease text, p_step text, p_timeout_seconds double precision, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_lease constant jsonb := p_lease;
        v_error constant jsonb := public.campaigns_lease_error(p_lease);
        v_now constant timestamptz := coalesce(p_now, clock_timestamp());
    begin
        if v_error is not null then
            return v_error;
        end if;
        insert into public.campaign_approvals as a (campaign_key, run_id, step, state, asked_at, expires_at)
        values (v_lease ->> 'campaign_key', v_lease ->> 'run_id', p_step, 'waiting', v_now,
                v_now + make_interval(secs => p_timeout_seconds))
        on conflict (run_id, step) do update set
            state = excluded.state, asked_at = excluded.asked_at, expires_at = excluded.expires_at,
            decided_at = null, decided_by = null;
        return public.campaigns_get_approval(v_lease ->> 'run_id', p_step);
    end
    $$;

    -- What was decided first stays.
    create function public.campaigns_decide_approval(
        p_run_id text, p_step text, p_state text, p_by text, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    begin
        if p_state = 'waiting' then
            return public.campaigns_error(
                'StoreError', 'an approval is decided as approved, expired or withdrawn, not as waiting');
        end if;
        update public.campaign_approvals a
        set state = p_state, decided_at = coalesce(p_now, clock_timestamp()), decided_by = p_by
        where a.run_id = p_run_id and a.step = p_step and a.state = 'waiting';
        return public.campaigns_get_approval(p_run_id, p_step);
    end
    $$;

    -- Oldest first: those of a campaign, of a run, or all.
    create function public.campaigns_list_approvals(
        p_campaign_key text, p_run_id text, p_waiting_only boolean
    ) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(public.campaigns_approval(a) order by a.asked_at, a.id)
            from public.campaign_approvals a
            where (p_campaign_key is null or a.campaign_key = p_campaign_key)
              and (p_run_id is null or a.run_id = p_run_id)
              and (not p_waiting_only or a.state = 'waiting')), '[]'));
    end
    $$;

    -- p_entry is {at, actor, action, campaign_key, detail}, the detail JSON in a text of its own.
    create function public.campaigns_record_audit(p_entry text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_entry constant jsonb := p_entry;
    begin
        insert into public.campaign_audit (at, actor, action, campaign_key, detail)
        values ((v_entry ->> 'at')::timestamptz, v_entry ->> 'actor', v_entry ->> 'action',
                v_entry ->> 'campaign_key', (v_entry ->> 'detail')::json);
        return jsonb_build_object('value', null);
    end
    $$;

    create function public.campaigns_audit_line(p_row public.campaign_audit) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object(
            'at', p_row.at, 'actor', p_row.actor, 'action', p_row.action, 'campaign_key', p_row.campaign_key,
            'detail', p_row.detail::text);
    end
    $$;

    -- Newest first; of one campaign, or of all.
    create function public.campaigns_list_audit(p_campaign_key text, p_limit integer) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(public.campaigns_audit_line(l) order by l.at desc, l.id desc)
            from (select * from public.campaign_audit f
                  where p_campaign_key is null or f.campaign_key = p_campaign_key
                  order by f.at desc, f.id desc limit p_limit) l), '[]'));
    end
    $$;

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace and proname like 'campaigns\_%'
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name) values ('0010_approvals');
    notify pgrst, 'reload schema';
end
$migration$;
