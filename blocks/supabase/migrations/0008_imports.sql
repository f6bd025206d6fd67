-- 0008: which books were carried over from SQLite files, so that each are once.

do $migration$
declare
    v_function constant text := 'public.campaigns_was_imported(uuid)';
begin
    if exists (select from public.campaign_migrations where name = '0008_imports') then
        return;
    end if;

    -- id is what the file calls it, too.
    create table public.campaign_imports (
        id     uuid primary key,
        source text not null,
        at     timestamptz not null default now()
    );

    alter table public.campaign_imports enable row level security;
    revoke all on public.campaign_imports from public, anon, authenticated, service_role;
    grant select, insert, update, delete on public.campaign_imports to service_role;

    create function public.campaigns_was_imported(p_id uuid) returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', exists (select from public.campaign_imports i where i.id = p_id));
    end
    $$;
    execute format('revoke all on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);

    insert into public.campaign_migrations (name) values ('0008_imports');
    notify pgrst, 'reload schema';
end
$migration$;
