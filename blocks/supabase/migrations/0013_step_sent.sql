-- 0013: the step whose request is about to leave is written in the same act as that it is.

do $migration$
begin
    if exists (select from public.campaign_migrations where name = '0013_step_sent') then
        return;
    end if;

    -- Bring a held reservation to sent, once: a request must not leave twice. p_step is the step as it stands then, as
    -- campaigns_write_steps takes it, or null.
    drop function public.campaigns_mark_sent(text, text);
    create function public.campaigns_mark_sent(
        p_lease text, p_reservation text, p_step text default null
    ) returns jsonb
    language plpgsql set search_path = '' as $$
    declare
        v_taken record;
        v_row public.campaign_reservations;
    begin
        v_taken := public.campaigns_take_reservation(p_lease, p_reservation);
        if v_taken.error is not null then
            return v_taken.error;
        end if;
        v_row := v_taken.reservation;
        if v_row.state <> 'held' then
            return public.campaigns_illegal(v_row, 'be marked as sent', 'held');
        end if;
        if p_step is not null then
            perform from public.campaign_runs r where r.run_id = v_row.run_id for no key update;
            if not found then
                return public.campaigns_never_started(v_row.run_id);
            end if;
            perform public.campaigns_write_steps(v_row.run_id, jsonb_build_array(p_step::jsonb));
        end if;
        update public.campaign_reservations r set state = 'sent' where r.id = v_row.id returning * into v_row;
        return jsonb_build_object('value', public.campaigns_reservation(v_row));
    end
    $$;
    revoke all on function public.campaigns_mark_sent(text, text, text) from public, anon, authenticated;
    grant execute on function public.campaigns_mark_sent(text, text, text) to service_role;

    insert into public.campaign_migrations (name) values ('0013_step_sent');
    notify pgrst, 'reload schema';
end
$migration$;
