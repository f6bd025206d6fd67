-- 0011: which runs count as running.

do $migration$
begin
    if exists (select from public.campaign_migrations where name = '0011_running') then
        return;
    end if;

    -- Without those from before, which are nobody's here.
    create index campaign_runs_running on public.campaign_runs (started_at)
        where status = 'running' and run_name is not null;

    -- Oldest first, [run, campaign's key] each.
    create function public.campaigns_running_runs() returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', coalesce((
            select jsonb_agg(jsonb_build_array(r.run_id, r.campaign_key) order by r.started_at, r.id)
            from public.campaign_runs r where r.status = 'running' and r.run_name is not null), '[]'));
    end
    $$;
    revoke all on function public.campaigns_running_runs() from public, anon, authenticated;
    grant execute on function public.campaigns_running_runs() to service_role;

    insert into public.campaign_migrations (name) values ('0011_running');
    notify pgrst, 'reload schema';
end
$migration$;
