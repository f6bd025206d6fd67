"""A Supabase project for the tests that ask for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from supabase_rig import Project, Proxy, start_project, what_is_missing


@pytest.fixture(scope="session")
def supabase() -> Iterator[Project]:
    """A project with the package's migrations, for all tests of this process; started when one asks for it."""
    if reason := what_is_missing():
        pytest.skip(reason)
    with start_project() as project:
        project.migrate()
        yield project


@pytest.fixture
def clean_supabase(supabase: Project) -> Project:
    """The same, as empty as after the migrations."""
    supabase.clean()
    return supabase


@pytest.fixture
def supabase_proxy(clean_supabase: Project) -> Iterator[Proxy]:
    """A network before the clean project's API that can be disturbed: use its ``url``."""
    with clean_supabase.proxy() as proxy:
        yield proxy
