-- 0002: campaigns, and taking over those from before.
--
-- Each function is one act of a store, and one transaction. It answers {"value": …}, or {"error": {"kind", "message"}}
-- for what its caller may do wrong, with nothing written then. Amounts are text, instants are ISO 8601 in UTC, and
-- p_now is for tests: null means the database's clock, which all machines share. What is JSON comes in as text.
--
-- Locks are taken in this order, so that no two acts wait for each other: the books, a lease, a run, its campaign.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0002_campaigns') then
        return;
    end if;

    create function public.campaigns_error(p_kind text, p_message text) returns jsonb
    language plpgsql immutable set search_path = '' as $$
    begin
        return jsonb_build_object('error', jsonb_build_object('kind', p_kind, 'message', p_message));
    end
    $$;

    create function public.campaigns_unknown(p_key text) returns jsonb
    language plpgsql immutable set search_path = '' as $$
    begin
        return public.campaigns_error('UnknownCampaign', format(
            'the store has no campaign ''%s''; `campaigns apply` puts it there', p_key));
    end
    $$;

    -- Only one act at a time changes money: the totals of the account are common to all campaigns.
    create function public.campaigns_lock_books() returns void
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    begin
        -- "camp" in ASCII, and 1 for the books.
        perform pg_advisory_xact_lock(1667329392, 1);
    end
    $$;

    -- The date at an instant in a timezone of the time zone database; invalid_parameter_value for any other.
    -- Never `at time zone p_zone`: that takes CET, EET, MET and WET for abbreviations, which know no summer time. What
    -- is set here ends with the function, because the function sets it, too.
    create function public.campaigns_local_day(p_at timestamptz, p_zone text) returns date
    language plpgsql stable strict set search_path = '' set timezone = 'UTC' as $$
    begin
        -- An offset (5) is taken, too, and so is utc for UTC; what is set then is another text.
        if set_config('timezone', p_zone, true) <> p_zone then
            raise exception 'the time zone database has no %', p_zone using errcode = 'invalid_parameter_value';
        end if;
        return p_at::date;
    end
    $$;

    create function public.campaigns_knows_zone(p_zone text) returns boolean
    language plpgsql stable strict set search_path = '' as $$
    begin
        perform public.campaigns_local_day('epoch', p_zone);
        return true;
    exception when invalid_parameter_value then
        return false;
    end
    $$;

    -- What the store asks first: which of its tables and functions are there, and what is left to take over.
    create function public.campaigns_opening() returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', jsonb_build_object(
            'migrations', (select jsonb_agg(m.name order by m.name) from public.campaign_migrations m),
            'without_key', coalesce(
                (select jsonb_agg(jsonb_build_object('id', c.id, 'name', c.name))
                 from public.campaigns c where c.key is null), '[]'),
            'has_old_runs', exists (
                select from public.campaign_runs r where r.run_id is null and r.campaign_id is not null)));
    end
    $$;

    -- Give campaigns from before their keys, and book what their runs have cost; once, whoever asks how often.
    -- p_slugs is {id: slug of the name}. Of several with one slug the oldest active one gets it, the others slug-2,
    -- slug-3 and so on.
    create function public.campaigns_adopt(p_slugs text, p_now timestamptz default null) returns jsonb
    language plpgsql set search_path = '' as $$
    declare
        v_slugs constant jsonb := p_slugs;
        v_row record;
        v_number integer;
    begin
        perform public.campaigns_lock_books();
        for v_row in
            select c.id, v_slugs ->> c.id::text as slug, row_number() over (
                partition by v_slugs ->> c.id::text
                order by c.status is distinct from 'active', c.created_at, c.id) as place
            from public.campaigns c
            where c.key is null and v_slugs ->> c.id::text is not null
            -- All that can have their own slug first: a numbered one must not take the slug of another's name.
            order by place, c.created_at, c.id
        loop
            v_number := 1;
            while exists (
                select from public.campaigns c
                where c.key = v_row.slug || case v_number when 1 then '' else '-' || v_number end
            ) loop
                v_number := v_number + 1;
            end loop;
            update public.campaigns c
            set key = v_row.slug || case v_number when 1 then '' else '-' || v_number end
            where c.id = v_row.id;
        end loop;
        perform public.campaigns_book_old_runs(coalesce(p_now, clock_timestamp()));
        return jsonb_build_object('value', null);
    end
    $$;

    -- A run from before is booked in the windows in which it began, as far as anything says when; else in today's,
    -- where it cannot be spent again. Failed ones have cost money, too.
    create function public.campaigns_book_old_runs(p_now timestamptz) returns void
    language plpgsql set search_path = '' as $$
    declare
        -- No column of ours, nor of the orchestrator before.
        v_has_created_at constant boolean := exists (
            select from pg_attribute a
            where a.attrelid = 'public.campaign_runs'::regclass and a.attname = 'created_at'
              and a.atttypid = 'timestamptz'::regtype);
    begin
        with taken as (
            update public.campaign_runs r
            set run_id = r.id::text, campaign_key = c.key, campaign_name = c.name
            from public.campaigns c
            where c.id = r.campaign_id and c.key is not null and r.run_id is null
              -- One that still goes on will cost more than stands there; one of yesterday does not go on.
              -- Without a status or a start nothing says that it goes on: `not (null)` would keep it out for ever.
              and (r.status = 'running' and r.completed_at is null and r.started_at > p_now - interval '1 day')
                  is not true
            returning r.id, r.run_id, r.campaign_key, r.total_cost as cost,
                      coalesce(
                          r.started_at, r.completed_at,
                          case when v_has_created_at then (to_jsonb(r) ->> 'created_at')::timestamptz end,
                          p_now) as began,
                      case when public.campaigns_knows_zone(c.config #>> '{schedule,timezone}')
                           then c.config #>> '{schedule,timezone}' else 'UTC' end as zone
        ), lines as (
            insert into public.campaign_ledger
                (at, campaign_key, run_id, kind, spent, reserved, campaign_day, account_day)
            select p_now, t.campaign_key, t.run_id, 'import', t.cost, 0,
                   public.campaigns_local_day(t.began, t.zone), public.campaigns_local_day(t.began, a.timezone)
            from taken t
            cross join public.campaign_account a
            where t.cost > 0
            order by t.began, t.id
            returning campaign_key, campaign_day, account_day, spent
        ), sums as (
            select w.campaign_key, w.period, w.first_day, sum(l.spent) as spent
            from lines l
            cross join lateral public.campaigns_windows(l.campaign_key, l.campaign_day, l.account_day) w
            group by w.campaign_key, w.period, w.first_day
        ), totals as (
            insert into public.campaign_totals as t (campaign_key, period, first_day, spent, reserved)
            select s.campaign_key, s.period, s.first_day, s.spent, 0 from sums s
            on conflict (campaign_key, period, first_day) do update set spent = t.spent + excluded.spent
        )
        -- The sum that stood there was rounded, left failed runs out, and lost costs of runs that ended together.
        update public.campaigns c
        set total_cost = greatest(c.total_cost, s.spent)
        from (select l.campaign_key, sum(l.spent) as spent from lines l group by l.campaign_key) s
        where c.key = s.campaign_key;
    end
    $$;

    create function public.campaigns_pause_object(
        p_by text, p_reason text, p_since timestamptz, p_until timestamptz, p_awaited_run_id uuid
    ) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return case when p_by is not null then jsonb_build_object(
            'by', p_by, 'reason', p_reason, 'since', p_since, 'until', p_until, 'awaited_run_id', p_awaited_run_id) end;
    end
    $$;

    create function public.campaigns_pause_of(p_row public.campaigns) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        -- A status without a reason was written by somebody else: a person at the table, or the orchestrator before.
        if p_row.paused_by is null and p_row.status = 'paused' then
            return public.campaigns_pause_object(
                'person', 'paused by hand', coalesce(p_row.updated_at, p_row.created_at, 'epoch'), null, null);
        end if;
        return public.campaigns_pause_object(
            p_row.paused_by, p_row.pause_reason, p_row.paused_since, p_row.paused_until, p_row.awaited_run_id);
    end
    $$;

    create function public.campaigns_record(p_row public.campaigns) returns jsonb
    language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
    begin
        return jsonb_build_object(
            'id', p_row.id, 'key', p_row.key, 'name', p_row.name,
            -- As text: not every reader of JSON keeps every digit of a number.
            'config', p_row.config::text,
            'deployment_id', p_row.deployment_id, 'applied_schedule_active', p_row.applied_schedule_active,
            'pause', public.campaigns_pause_of(p_row),
            'created_at', coalesce(p_row.created_at, 'epoch'),
            'updated_at', coalesce(p_row.updated_at, p_row.created_at, 'epoch'));
    end
    $$;

    create function public.campaigns_save(
        p_key text, p_name text, p_config text, p_deployment_id uuid, p_applied_schedule_active boolean,
        p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_now constant timestamptz := coalesce(p_now, clock_timestamp());
        v_config constant jsonb := p_config::jsonb;
        v_zone constant text := v_config #>> '{schedule,timezone}';
        v_row public.campaigns;
    begin
        if not public.campaigns_knows_zone(v_zone) then
            return public.campaigns_error('StoreError', format(
                'this database does not know the timezone ''%s'' of campaign ''%s'': its time zone database is another'
                ' than that of this machine; choose a timezone that both know', v_zone, p_key));
        end if;
        insert into public.campaigns as c (
            key, name, description, config, schedule_cron, status, total_cost, deployment_id,
            applied_schedule_active, created_at, updated_at)
        values (
            p_key, p_name, v_config ->> 'description', v_config, v_config #>> '{schedule,cron}', 'active',
            -- What one of the same key has spent before.
            coalesce((select sum(t.spent) from public.campaign_totals t
                      where t.campaign_key = p_key and t.period = 'monthly'), 0),
            p_deployment_id, p_applied_schedule_active, v_now, v_now)
        on conflict (key) do update set
            name = excluded.name, config = excluded.config, schedule_cron = excluded.schedule_cron,
            description = coalesce(excluded.description, c.description),
            status = case c.status when 'paused' then 'paused' else 'active' end,
            -- When it runs next is Prefect's business; what stood there was somebody else's plan.
            next_run_at = null,
            deployment_id = coalesce(excluded.deployment_id, c.deployment_id),
            applied_schedule_active = coalesce(excluded.applied_schedule_active, c.applied_schedule_active),
            updated_at = excluded.updated_at
        returning * into v_row;
        if v_config #>> '{metadata,project_id}' is not null then
            begin
                execute format('update public.campaigns set project_id = %L where id = %L',
                               v_config #>> '{metadata,project_id}', v_row.id);
            exception
                -- In some databases it is a UUID, or refers to a table of projects: only what fits is taken.
                when invalid_text_representation or foreign_key_violation or string_data_right_truncation then null;
            end;
        end if;
        return jsonb_build_object('value', public.campaigns_record(v_row));
    end
    $$;

    create function public.campaigns_get(p_key text) returns jsonb
    language plpgsql stable set search_path = '' as $$
    declare
        v_row public.campaigns;
    begin
        select * into v_row from public.campaigns c where c.key = p_key;
        if not found then
            return public.campaigns_unknown(p_key);
        end if;
        return jsonb_build_object('value', public.campaigns_record(v_row));
    end
    $$;

    create function public.campaigns_list() returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', coalesce(
            (select jsonb_agg(public.campaigns_record(c) order by lower(c.name) collate "C", c.key collate "C")
             from public.campaigns c where c.key is not null), '[]'));
    end
    $$;

    create function public.campaigns_delete(p_key text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_id constant uuid := (select c.id from public.campaigns c where c.key = p_key);
    begin
        if v_id is null then
            return public.campaigns_unknown(p_key);
        end if;
        perform public.campaigns_lock_books();
        delete from public.campaign_runs r where r.campaign_key = p_key or r.campaign_id = v_id;
        delete from public.campaigns c where c.id = v_id;
        return jsonb_build_object('value', null);
    end
    $$;

    -- p_pause and p_replacing are {by, reason, since, until, awaited_run_id}, or null for none.
    create function public.campaigns_set_pause(p_key text, p_pause text, p_replacing text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_row public.campaigns;
        v_pause record;
        v_replacing jsonb;
    begin
        select * into v_row from public.campaigns c where c.key = p_key for no key update;
        if not found then
            return public.campaigns_unknown(p_key);
        end if;
        select public.campaigns_pause_object(p."by", p.reason, p.since, p.until, p.awaited_run_id) into v_replacing
        from jsonb_to_record(coalesce(p_replacing, '{}')::jsonb) as p
            ("by" text, reason text, since timestamptz, until timestamptz, awaited_run_id uuid);
        if public.campaigns_pause_of(v_row) is distinct from v_replacing then
            return jsonb_build_object('value', false);
        end if;
        select * into v_pause
        from jsonb_to_record(coalesce(p_pause, '{}')::jsonb) as p
            ("by" text, reason text, since timestamptz, until timestamptz, awaited_run_id uuid);
        update public.campaigns c
        set paused_by = v_pause."by", pause_reason = v_pause.reason, paused_since = v_pause.since,
            paused_until = v_pause.until, awaited_run_id = v_pause.awaited_run_id,
            status = case when v_pause."by" is null then 'active' else 'paused' end
        where c.id = v_row.id;
        return jsonb_build_object('value', true);
    end
    $$;

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace and proname like 'campaigns\_%'
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name) values ('0002_campaigns');
    notify pgrst, 'reload schema';
end
$migration$;
