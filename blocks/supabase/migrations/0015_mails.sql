-- 0015: which mails are owed, and which were sent.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0015_mails') then
        return;
    end if;

    create table public.campaign_mails (
        event_id     uuid not null,
        recipient    text not null,
        campaign_key text,
        run_id       text,
        subject      text not null,
        state        text not null check (state in ('owed', 'sent', 'given up')),
        attempts     integer not null check (attempts >= 0),
        owed_since   timestamptz not null,
        next_try_at  timestamptz,
        sent_at      timestamptz,
        error        text,
        primary key (event_id, recipient),
        check ((sent_at is not null) = (state = 'sent'))
    );

    create index campaign_mails_by_state on public.campaign_mails (state, owed_since);

    alter table public.campaign_mails enable row level security;
    revoke all on public.campaign_mails from public, anon, authenticated, service_role;
    grant select, insert, update, delete on public.campaign_mails to service_role;

    -- p_mails is an array of objects with the columns of the table.
    create function public.campaigns_record_mails(p_mails text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    begin
        insert into public.campaign_mails as m
        select * from jsonb_populate_recordset(null::public.campaign_mails, p_mails::jsonb)
        on conflict (event_id, recipient) do update set
            campaign_key = excluded.campaign_key, run_id = excluded.run_id, subject = excluded.subject,
            state = excluded.state, attempts = excluded.attempts, owed_since = excluded.owed_since,
            next_try_at = excluded.next_try_at, sent_at = excluded.sent_at, error = excluded.error;
        return jsonb_build_object('value', null);
    end
    $$;

    -- p_event_ids is an array of UUIDs.
    create function public.campaigns_mails_about(p_event_ids text) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(to_jsonb(m)) from public.campaign_mails m
            where m.event_id in (select e::uuid from jsonb_array_elements_text(p_event_ids::jsonb) e)), '[]'));
    end
    $$;

    -- Newest first.
    create function public.campaigns_list_mails(p_state text, p_limit integer) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(to_jsonb(m) order by m.owed_since desc, m.event_id, m.recipient) from (
                select * from public.campaign_mails m where m.state = p_state
                order by m.owed_since desc, m.event_id, m.recipient limit p_limit) m), '[]'));
    end
    $$;

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace
          and proname in ('campaigns_record_mails', 'campaigns_mails_about', 'campaigns_list_mails')
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name) values ('0015_mails');
    notify pgrst, 'reload schema';
end
$migration$;
