-- 0017: which migrations only add, so that an older release, which does not know them, goes on with the tables.

do $migration$
begin
    if exists (select from public.campaign_migrations where name = '0017_additions') then
        return;
    end if;

    -- One that only adds makes tables and functions that nobody has asked for before, and changes none. Others leave
    -- this false: processes of older releases are refused then.
    alter table public.campaign_migrations add column only_adds boolean not null default false;
    update public.campaign_migrations m set only_adds = true
    where m.name in ('0014_workers', '0015_mails', '0016_engines');
    insert into public.campaign_migrations (name, only_adds) values ('0017_additions', true);

    -- What an older release does not know of migrations, it refuses; so it is told of no additions.
    create or replace function public.campaigns_opening() returns jsonb
    language plpgsql stable set search_path = '' as $$
    begin
        return jsonb_build_object('value', jsonb_build_object(
            'migrations', (
                select jsonb_agg(m.name order by m.name) from public.campaign_migrations m where not m.only_adds),
            'additions', (
                select jsonb_agg(m.name order by m.name) from public.campaign_migrations m where m.only_adds),
            'without_key', coalesce(
                (select jsonb_agg(jsonb_build_object('id', c.id, 'name', c.name))
                 from public.campaigns c where c.key is null), '[]'),
            'has_old_runs', exists (
                select from public.campaign_runs r where r.run_id is null and r.campaign_id is not null)));
    end
    $$;

    notify pgrst, 'reload schema';
end
$migration$;
