-- 0005: what becomes of a reservation.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0005_bookings') then
        return;
    end if;

    -- The one place where money moves: reservation, ledger line, totals, and the sums that people read, together.
    create function public.campaigns_book(
        p_row public.campaign_reservations, p_state text, p_booked numeric, p_now timestamptz,
        p_by text default null, p_note text default null
    ) returns public.campaign_reservations
    language plpgsql set search_path = '' as $$
    declare
        v_spent constant numeric(18, 6) := coalesce(p_booked, 0) - coalesce(p_row.booked, 0);
        -- Whatever is booked or released is open no more.
        v_reserved constant numeric(18, 6) := case when p_row.state in ('held', 'sent') then -p_row.estimate else 0 end;
        v_row public.campaign_reservations;
        v_changed integer;
    begin
        update public.campaign_reservations r set state = p_state, booked = p_booked where r.id = p_row.id
        returning * into v_row;
        insert into public.campaign_ledger (
            at, campaign_key, run_id, step, attempt, kind, spent, reserved, campaign_day, account_day, "by", note)
        values (
            p_now, p_row.campaign_key, p_row.run_id, p_row.step, p_row.attempt,
            case p_state when 'settled' then 'settle' when 'released' then 'release'
                         when 'corrected' then 'correct' else p_state end,
            v_spent, v_reserved, p_row.campaign_day, p_row.account_day, p_by, p_note);
        update public.campaign_totals t
        set spent = t.spent + v_spent, reserved = t.reserved + v_reserved
        from public.campaigns_windows(p_row.campaign_key, p_row.campaign_day, p_row.account_day) w
        where t.campaign_key = w.campaign_key and t.period = w.period and t.first_day = w.first_day;
        get diagnostics v_changed = row_count;
        if v_changed <> 6 then
            raise exception 'the totals of % lack a window of %', p_row.campaign_key, p_row.campaign_day
                using errcode = 'PT409';
        end if;
        if v_spent <> 0 then
            update public.campaign_runs r set total_cost = coalesce(r.total_cost, 0) + v_spent
            where r.run_id = p_row.run_id;
            update public.campaigns c set total_cost = coalesce(c.total_cost, 0) + v_spent
            where c.key = p_row.campaign_key;
        end if;
        return v_row;
    end
    $$;

    -- Release what was held, and book what was sent, whose time has passed, of all campaigns.
    create function public.campaigns_see_to_expired(p_now timestamptz) returns void
    language plpgsql set search_path = '' as $$
    declare
        v_row public.campaign_reservations;
    begin
        if not exists (
            select from public.campaign_reservations r where r.state in ('held', 'sent') and r.expires_at <= p_now
        ) then
            return;
        end if;
        -- Looked up again under the lock: another act may have seen to them meanwhile.
        perform public.campaigns_lock_books();
        for v_row in
            select * from public.campaign_reservations r
            where r.state in ('held', 'sent') and r.expires_at <= p_now order by r.id
        loop
            if v_row.state = 'held' then
                perform public.campaigns_book(v_row, 'released', null, p_now);
            else
                perform public.campaigns_book(v_row, 'unconfirmed', v_row.estimate, p_now);
            end if;
        end loop;
    end
    $$;

    create function public.campaigns_reservation_name(p_row public.campaign_reservations) returns text
    language plpgsql immutable set search_path = '' as $$
    begin
        return format('attempt %s of step ''%s'' of run %s', p_row.attempt, p_row.step, p_row.run_id);
    end
    $$;

    create function public.campaigns_illegal(
        p_row public.campaign_reservations, p_deed text, p_allowed text
    ) returns jsonb
    language plpgsql immutable set search_path = '' as $$
    begin
        return public.campaigns_error('StoreError', format(
            '%s is %s and cannot %s; only one that is %s can',
            public.campaigns_reservation_name(p_row), p_row.state, p_deed, p_allowed));
    end
    $$;

    -- The reservation as the books have it, which is what counts, with the books locked; and for whoever brings a
    -- lease (null: nobody needs one) only if it is theirs. p_reservation is {run_id, step, attempt}.
    create function public.campaigns_take_reservation(
        p_lease text, p_reservation text, out reservation public.campaign_reservations, out error jsonb
    )
    language plpgsql set search_path = '' as $$
    declare
        v_lease constant jsonb := p_lease;
        v_wanted constant jsonb := p_reservation;
    begin
        perform public.campaigns_lock_books();
        if p_lease is not null then
            error := public.campaigns_lease_error(p_lease);
            if error is not null then
                return;
            end if;
        end if;
        select * into reservation from public.campaign_reservations r
        where r.run_id = v_wanted ->> 'run_id' and r.step = v_wanted ->> 'step'
          and r.attempt = (v_wanted ->> 'attempt')::integer;
        if not found then
            error := public.campaigns_error('StoreError', format(
                'nothing is reserved for attempt %s of step ''%s'' of run %s', v_wanted ->> 'attempt',
                v_wanted ->> 'step', v_wanted ->> 'run_id'));
        elsif (reservation.campaign_key, reservation.run_id)
              is distinct from (v_lease ->> 'campaign_key', v_lease ->> 'run_id') and p_lease is not null
        then
            error := public.campaigns_error('StoreError', format(
                '%s is not the business of run %s, which brought its lease',
                public.campaigns_reservation_name(reservation), v_lease ->> 'run_id'));
        end if;
    end
    $$;

    create function public.campaigns_attempts(p_run_id text, p_step text) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', coalesce(
            (select jsonb_agg(public.campaigns_reservation(r) order by r.attempt)
             from public.campaign_reservations r where r.run_id = p_run_id and r.step = p_step), '[]'));
    end
    $$;

    -- Bring a held reservation to sent, once: a request must not leave twice.
    create function public.campaigns_mark_sent(p_lease text, p_reservation text) returns jsonb
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
        update public.campaign_reservations r set state = 'sent' where r.id = v_row.id returning * into v_row;
        return jsonb_build_object('value', public.campaigns_reservation(v_row));
    end
    $$;

    create function public.campaigns_book_unconfirmed(
        p_lease text, p_reservation text, p_now timestamptz default null
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
        if v_row.state not in ('sent', 'unconfirmed') then
            return public.campaigns_illegal(v_row, 'be booked as unconfirmed', 'sent');
        end if;
        if v_row.state = 'sent' then
            v_row := public.campaigns_book(
                v_row, 'unconfirmed', v_row.estimate, coalesce(p_now, clock_timestamp()));
        end if;
        return jsonb_build_object('value', public.campaigns_reservation(v_row));
    end
    $$;

    create function public.campaigns_release(
        p_lease text, p_reservation text, p_now timestamptz default null
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
        if v_row.state not in ('held', 'sent', 'released') then
            return public.campaigns_illegal(v_row, 'be released', 'held or sent');
        end if;
        if v_row.state <> 'released' then
            v_row := public.campaigns_book(v_row, 'released', null, coalesce(p_now, clock_timestamp()));
        end if;
        return jsonb_build_object('value', public.campaigns_reservation(v_row));
    end
    $$;

    create function public.campaigns_money(p_amount numeric) returns text
    language plpgsql immutable set search_path = '' as $$
    begin
        return round(p_amount, greatest(2, scale(trim_scale(p_amount))))::text;
    end
    $$;

    -- Book an answer that is heard for the first time. A result speaks for earlier attempts that had none: they
    -- carried the same Idempotency-Key, and what they were booked at is taken back.
    create function public.campaigns_book_answer(
        p_row public.campaign_reservations, p_amount numeric, p_is_result boolean, p_now timestamptz
    ) returns public.campaign_reservations
    language plpgsql set search_path = '' as $$
    declare
        v_earlier public.campaign_reservations;
    begin
        if p_is_result then
            for v_earlier in
                select * from public.campaign_reservations r
                where r.run_id = p_row.run_id and r.step = p_row.step and r.attempt < p_row.attempt
                  and r.state in ('sent', 'unconfirmed') order by r.attempt
            loop
                if v_earlier.state = 'sent' then
                    v_earlier := public.campaigns_book(v_earlier, 'unconfirmed', v_earlier.estimate, p_now);
                end if;
                perform public.campaigns_book(v_earlier, 'corrected', 0, p_now);
            end loop;
        end if;
        return public.campaigns_book(
            p_row, case p_row.state when 'sent' then 'settled' else 'corrected' end, p_amount, p_now);
    end
    $$;

    -- p_result is the finished step, as campaigns_write_steps takes it, or null for what a failed request cost.
    create function public.campaigns_settle(
        p_lease text, p_reservation text, p_amount numeric, p_result text, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' as $$
    declare
        v_is_result constant boolean := p_result is not null;
        v_taken record;
        v_row public.campaign_reservations;
    begin
        v_taken := public.campaigns_take_reservation(p_lease, p_reservation);
        if v_taken.error is not null then
            return v_taken.error;
        end if;
        v_row := v_taken.reservation;
        if v_row.state in ('settled', 'corrected') and v_row.booked <> p_amount then
            return public.campaigns_error('StoreError', format(
                '%s is already %s at %s, not %s', public.campaigns_reservation_name(v_row), v_row.state,
                public.campaigns_money(v_row.booked), public.campaigns_money(p_amount)));
        elsif v_row.state in ('held', 'released') then
            return public.campaigns_illegal(v_row, 'be settled', 'sent or unconfirmed');
        elsif v_is_result and not exists (select from public.campaign_runs r where r.run_id = v_row.run_id) then
            return public.campaigns_never_started(v_row.run_id);
        end if;
        if v_row.state in ('sent', 'unconfirmed') then
            v_row := public.campaigns_book_answer(v_row, p_amount, v_is_result, coalesce(p_now, clock_timestamp()));
        end if;
        if v_is_result then
            perform public.campaigns_write_steps(v_row.run_id, jsonb_build_array(p_result::jsonb));
        end if;
        return jsonb_build_object('value', public.campaigns_reservation(v_row));
    end
    $$;

    -- As campaigns_settle, for a run that may have lost its lease: leaves alone what it is too late or too early for.
    create function public.campaigns_settle_late(
        p_reservation text, p_amount numeric, p_result text, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' as $$
    declare
        v_is_result constant boolean := p_result is not null;
        v_taken record;
        v_row public.campaign_reservations;
        v_later_open boolean;
        v_has_later boolean;
    begin
        v_taken := public.campaigns_take_reservation(null, p_reservation);
        if v_taken.error is not null then
            return v_taken.error;
        end if;
        v_row := v_taken.reservation;
        if v_row.state in ('held', 'released') then
            return public.campaigns_illegal(v_row, 'be settled', 'sent or unconfirmed');
        end if;
        select count(*) > 0, coalesce(bool_or(r.state in ('held', 'sent')), false) into v_has_later, v_later_open
        from public.campaign_reservations r
        where r.run_id = v_row.run_id and r.step = v_row.step and r.attempt > v_row.attempt;
        if v_row.state in ('sent', 'unconfirmed') and not v_later_open then
            v_row := public.campaigns_book_answer(v_row, p_amount, v_is_result, coalesce(p_now, clock_timestamp()));
        end if;
        -- The run's record may have been deleted with its campaign.
        if v_is_result and not v_has_later
           and exists (select from public.campaign_runs r where r.run_id = v_row.run_id for update)
           and not exists (select from public.campaign_run_steps s
                           where s.run_id = v_row.run_id and s.name = p_result::jsonb ->> 'name' and s.status = 'completed')
        then
            perform public.campaigns_write_steps(v_row.run_id, jsonb_build_array(p_result::jsonb));
        end if;
        return jsonb_build_object('value', public.campaigns_reservation(v_row));
    end
    $$;

    create function public.campaigns_unconfirmed(p_campaign_key text, p_now timestamptz default null) returns jsonb
    language plpgsql set search_path = '' as $$
    begin
        perform public.campaigns_see_to_expired(coalesce(p_now, clock_timestamp()));
        return jsonb_build_object('value', coalesce(
            (select jsonb_agg(public.campaigns_reservation(r) order by r.id) from public.campaign_reservations r
             where r.campaign_key = p_campaign_key and r.state = 'unconfirmed'), '[]'));
    end
    $$;

    -- Book what a person found out, and that it was theirs to say.
    create function public.campaigns_correct(
        p_campaign_key text, p_reservation text, p_amount numeric, p_by text, p_note text,
        p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' as $$
    declare
        v_taken record;
        v_row public.campaign_reservations;
    begin
        v_taken := public.campaigns_take_reservation(null, p_reservation);
        if v_taken.error is not null then
            return v_taken.error;
        end if;
        v_row := v_taken.reservation;
        if v_row.campaign_key <> p_campaign_key then
            return public.campaigns_error('StoreError', format(
                '%s is of campaign ''%s'', not of ''%s''', public.campaigns_reservation_name(v_row),
                v_row.campaign_key, p_campaign_key));
        elsif v_row.state <> 'unconfirmed' then
            return public.campaigns_illegal(v_row, 'be corrected', 'unconfirmed');
        end if;
        v_row := public.campaigns_book(
            v_row, 'corrected', p_amount, coalesce(p_now, clock_timestamp()), p_by, p_note);
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

    insert into public.campaign_migrations (name) values ('0005_bookings');
    notify pgrst, 'reload schema';
end
$migration$;
