-- What a hosted project has before its first migration: its roles, and who is granted what without being asked.
-- Run once, as the superuser, in the database that all others are copied from.

create role postgres login password :password nosuperuser createdb createrole replication bypassrls;
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
grant anon, authenticated, service_role to postgres with admin option;

-- Who the API connects as; it becomes one of the three for each request. What @supabase/lite would grant everybody at
-- its first request (everything, on every table) comes to nothing, because this role owns nothing. It may read
-- everything in its own name, which it never does: the server looks up the tables in views that show nobody what he
-- may not read.
create role authenticator login password :password noinherit;
grant anon, authenticated, service_role to authenticator with inherit false, set true;
grant pg_read_all_data to authenticator with inherit true;
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';

-- Functions may be called by everybody unless a migration revokes it; tables are nobody's until one grants them.
grant usage on schema public to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    grant execute on functions to anon, authenticated, service_role;

-- The rig's own things.
create schema rig;

-- The server takes over the request's role only if it finds row level security somewhere at its first request.
create table rig.secured ();
alter table rig.secured enable row level security;

create function rig.tables() returns setof regclass language sql stable as $$
    select c.oid::regclass
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname not in ('rig', 'information_schema') and n.nspname not like 'pg\_%'
$$;

-- Keep what the migrations have put into the tables.
create function rig.remember() returns void language plpgsql as $$
declare
    t regclass;
    filled boolean;
begin
    for t in select rig.tables() loop
        execute format('drop table if exists rig.%I', 'of ' || t::oid);
        execute format('select exists (select from %s)', t) into filled;
        if filled then
            execute format('create table rig.%I as table %s', 'of ' || t::oid, t);
        end if;
    end loop;
end $$;

-- Bring all tables back to what was remembered, past every trigger that forbids it.
create function rig.clean() returns void language plpgsql set session_replication_role = replica as $$
declare
    t regclass;
begin
    for t in select rig.tables() loop
        execute format('delete from %s', t);
        if to_regclass(format('rig.%I', 'of ' || t::oid)) is not null then
            execute format('insert into %s overriding system value select * from rig.%I', t, 'of ' || t::oid);
        end if;
    end loop;
end $$;
