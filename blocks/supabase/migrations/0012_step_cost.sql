-- 0012: what a step would reserve, for whoever only asks.

do $migration$
begin
    if exists (select from public.campaign_migrations where name = '0012_step_cost') then
        return;
    end if;

    -- As campaigns_reserve has it, which reserves it; null where the step has never been answered.
    create function public.campaigns_step_cost(p_campaign_key text, p_step text) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', public.campaigns_last_cost(p_campaign_key, p_step)::text);
    end
    $$;
    revoke all on function public.campaigns_step_cost(text, text) from public, anon, authenticated;
    grant execute on function public.campaigns_step_cost(text, text) to service_role;

    insert into public.campaign_migrations (name) values ('0012_step_cost');
    notify pgrst, 'reload schema';
end
$migration$;
