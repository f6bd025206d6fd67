-- 0018: removing what engines said, while the books stay.

do $migration$
declare
    v_function regprocedure;
begin
    if exists (select from public.campaign_migrations where name = '0018_personal_data') then
        return;
    end if;

    -- When nothing was left of what engines said in a run.
    alter table public.campaign_runs add column cleared_at timestamptz;

    -- Of a run from before nobody may have written down when it ended.
    create index campaign_runs_uncleared on public.campaign_runs (coalesce(completed_at, started_at))
        where cleared_at is null;

    -- {run_id, message, steps, earlier}, each step's detail in a text of its own, and of a run without steps, from before,
    -- the columns of JSON that its table has.
    create function public.campaigns_words(p_run public.campaign_runs) returns jsonb
    language plpgsql stable set search_path = '' as $$
    declare
        v_steps constant jsonb := coalesce((
            select jsonb_object_agg(s.name, s.detail::text) from public.campaign_run_steps s
            where s.run_id = p_run.run_id), '{}');
    begin
        return jsonb_build_object(
            'run_id', p_run.run_id, 'message', p_run.message, 'steps', v_steps,
            'earlier', case when v_steps = '{}' then jsonb_strip_nulls(jsonb_build_object(
                'results', p_run.results::text, 'errors', p_run.errors::text)) else '{}' end);
    end
    $$;

    -- Of runs that ended before then; those that ended first come first.
    create function public.campaigns_uncleared_runs(p_ended_before timestamptz, p_limit integer) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(public.campaigns_words(r) order by coalesce(r.completed_at, r.started_at), r.run_id)
            from (select * from public.campaign_runs f
                  where f.cleared_at is null and coalesce(f.completed_at, f.started_at) < p_ended_before
                    and f.status <> 'running' and f.run_id is not null
                  order by coalesce(f.completed_at, f.started_at), f.run_id limit p_limit) r), '[]'));
    end
    $$;

    -- p_texts is an array of texts in lower case; so many runs are looked through for them, by id, after that of p_after.
    create function public.campaigns_runs_mentioning(p_texts text, p_after text, p_limit integer) returns jsonb
    language plpgsql stable set search_path = '' as $$
    declare
        v_texts constant text[] := array(select jsonb_array_elements_text(p_texts::jsonb));
        v_last text;
        v_number bigint;
    begin
        select max(n.run_id collate "C"), count(*) into v_last, v_number
        from (select f.run_id from public.campaign_runs f where f.run_id collate "C" > p_after
              order by f.run_id collate "C" limit p_limit) n;
        return jsonb_build_object('value', jsonb_build_object(
            'after', case when v_number = p_limit and v_number > 0 then v_last end,
            'found', coalesce((
                select jsonb_agg(public.campaigns_words(r) order by r.run_id collate "C")
                from public.campaign_runs r
                where r.run_id collate "C" > p_after and r.run_id collate "C" <= v_last and exists (
                    select from unnest(v_texts) t
                    where strpos(lower(r.message), t) > 0 or strpos(lower(r.results::text), t) > 0
                       or strpos(lower(r.errors::text), t) > 0
                       or exists (select from public.campaign_run_steps s
                                  where s.run_id = r.run_id and strpos(lower(s.detail::text), t) > 0))), '[]')));
    end
    $$;

    -- p_old and p_new are what campaigns_words returns; p_new has each step's error beside, as a column has it. Write the
    -- new words if the old ones are what the run says, and return whether they were.
    create function public.campaigns_replace_words(
        p_old text, p_new text, p_cleared boolean, p_now timestamptz default null
    ) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_old constant jsonb := p_old;
        v_new constant jsonb := p_new;
        v_run public.campaign_runs;
    begin
        select * into v_run from public.campaign_runs r where r.run_id = v_old ->> 'run_id' for no key update;
        if not found or public.campaigns_words(v_run) <> v_old or (p_cleared and v_run.status = 'running') then
            return jsonb_build_object('value', false);
        end if;
        update public.campaign_run_steps s
        set detail = (v_new -> 'steps' ->> s.name)::json, error = v_new -> 'step_errors' ->> s.name
        where s.run_id = v_run.run_id;
        update public.campaign_runs r
        set message = v_new ->> 'message',
            cleared_at = case when p_cleared then coalesce(p_now, clock_timestamp()) else r.cleared_at end
        where r.run_id = v_run.run_id;
        if v_old -> 'steps' = '{}' then
            update public.campaign_runs r
            set results = (v_new -> 'earlier' ->> 'results')::jsonb, errors = (v_new -> 'earlier' ->> 'errors')::jsonb
            where r.run_id = v_run.run_id and v_old -> 'earlier' <> '{}';
        else
            perform public.campaigns_write_steps(v_run.run_id, '[]');
        end if;
        return jsonb_build_object('value', true);
    end
    $$;

    create function public.campaigns_remove_mails(p_before timestamptz, p_to text) returns jsonb
    language plpgsql set search_path = '' set lock_timeout = '8s' as $$
    declare
        v_number bigint;
    begin
        delete from public.campaign_mails m
        where m.state <> 'owed' and m.owed_since < p_before and (p_to is null or lower(m.recipient) = lower(p_to));
        get diagnostics v_number = row_count;
        return jsonb_build_object('value', v_number);
    end
    $$;

    -- A run that begins anew says something again.
    create function public.campaigns_not_cleared() returns trigger
    language plpgsql set search_path = '' as $$
    begin
        new.cleared_at := null;
        return new;
    end
    $$;

    create trigger campaign_runs_begin_anew
        before update of status on public.campaign_runs
        for each row when (new.status = 'running' and new.cleared_at is not null)
        execute function public.campaigns_not_cleared();

    -- So does one of which a step is written, as it is late.
    create function public.campaigns_run_not_cleared() returns trigger
    language plpgsql set search_path = '' as $$
    begin
        update public.campaign_runs r set cleared_at = null where r.run_id = new.run_id and r.cleared_at is not null;
        return null;
    end
    $$;

    create trigger campaign_run_steps_say_something
        after insert or update of status on public.campaign_run_steps
        for each row execute function public.campaigns_run_not_cleared();

    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'public'::regnamespace
          and proname in ('campaigns_words', 'campaigns_uncleared_runs', 'campaigns_runs_mentioning',
                          'campaigns_replace_words', 'campaigns_remove_mails', 'campaigns_not_cleared',
                          'campaigns_run_not_cleared')
    loop
        execute format('revoke all on function %s from public, anon, authenticated', v_function);
        execute format('grant execute on function %s to service_role', v_function);
    end loop;

    insert into public.campaign_migrations (name, only_adds) values ('0018_personal_data', true);
    notify pgrst, 'reload schema';
end
$migration$;
