"""A real Supabase project for the tests: PostgreSQL and Supabase's own small API server on loopback, no Docker."""

from supabase_rig.project import Project, start_project
from supabase_rig.proxy import Proxy
from supabase_rig.requirements import what_is_missing

__all__ = ["Project", "Proxy", "start_project", "what_is_missing"]
