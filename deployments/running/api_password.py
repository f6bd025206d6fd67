"""The password on the embedded server's API, which it has as soon as another machine could reach it.

Prefect calls it the auth string: what stands in ``Authorization: Basic`` once it is decoded. Whoever has it may do
anything that Prefect's API can.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_SERVER_API_AUTH_STRING

from prefect_campaigns.blocks.supabase_credentials import is_loopback
from prefect_campaigns.errors import ServerError

FILE = "campaigns-api-password"
"""Where it is kept in Prefect's home, for the next start; nobody but its owner may read it."""

USER = "campaigns"
"""So that it can be given to programs that want a user name and a password, too."""


def password_for(host: str, *, home: Path) -> str | None:
    """Return the password of a server that listens at ``host``; None where it needs none.

    What Prefect's own settings name goes first. Off loopback there is always one: it is made the first time, and lies
    in ``home`` for the next.

    Raises:
        ServerError: it can be neither read nor written.
    """
    named: str | None = PREFECT_SERVER_API_AUTH_STRING.value() or None
    if named is not None or is_loopback(host):
        return named
    known: str | None = PREFECT_API_AUTH_STRING.value() or None
    return known or _kept(home)


def file_of(password: str, *, home: Path) -> Path | None:
    """Return the file that keeps this password; None where the settings name it."""
    path = home / FILE
    try:
        return path if path.read_text("utf-8").strip() == password else None
    except OSError:
        return None


def _kept(home: Path) -> str:
    path = home / FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        # Should somebody have copied it here.
        path.chmod(0o600)
        password = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"the password of Prefect's API cannot be kept in {path}: {error}") from error
    if not password:
        raise ServerError(f"{path} is empty, and belongs to the password of Prefect's API; delete it")
    return password


def _make(path: Path) -> None:
    """Write a new password; the file is there with all of it, or not at all."""
    # Made with mode 0600.
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{USER}:{secrets.token_urlsafe(32)}\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            # Another process was quicker: its password is as good.
            return
    finally:
        Path(draft).unlink()
