"""Who may do what with the REST API.

With keys, every request but ``/api/health`` and the documentation needs one; a browser is asked for it once. Without,
the API listens on loopback alone and whoever works on this machine may do everything; but not the web pages of others
in their browsers (``web_pages``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from starlette.datastructures import Headers

from prefect_campaigns.blocks.api_keys import Access, ApiKey, find_key
from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.supabase_credentials import is_loopback
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.api.sessions import Sessions, session_cookie
from prefect_campaigns.deployments.running.web_pages import SAFE_METHODS, is_sent_by_a_page, names_another_machine
from prefect_campaigns.errors import SettingsError

LOCAL_ACTOR = "local"
"""What the audit calls whoever needs no key."""

OPEN_PATHS = ("/api/health", "/docs", "/openapi.json")

LOGIN = "/login"
_STATIC = "/static/"
_LOGOUT = "/logout"
_PAGES = ("/", "/campaigns", LOGIN, _LOGOUT)
_PAGE_TREES = ("/campaigns/", _STATIC)


def is_page(path: str) -> bool:
    """Whether a path is that of a page for people, or of a part of one."""
    return path in _PAGES or path.startswith(_PAGE_TREES)


@dataclass(frozen=True, kw_only=True)
class Denial:
    """Why a request is not let in.

    Attributes:
        actor: the name of the key that came; empty where none did that is known.
    """

    status_code: int
    message: str
    actor: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What else the answer says."""
        return {"WWW-Authenticate": 'Bearer realm="campaigns"'} if self.status_code == 401 else {}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who sends a request.

    Attributes:
        name: for the audit; empty where none is needed.
        access: what may be done.
        session: the cookie of the session by which a browser is known; empty without one.
    """

    name: str
    access: Access = Access.FULL
    session: str = ""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Who may do what.

    Attributes:
        keys: those that are known; without any, whoever can connect may do everything.
        origins: of which web pages requests are taken.
    """

    keys: Sequence[ApiKey] = ()
    origins: Sequence[str] = ()

    @cached_property
    def sessions(self) -> Sessions:
        """The sessions of browsers."""
        return Sessions(self.keys)

    @classmethod
    def of(cls, settings: Settings, *, host: str) -> Policy:
        """Return what the settings say, for an API that listens on a host.

        Raises:
            SettingsError: it listens off this machine, and there are no keys, or such as can be guessed.
        """
        if not settings.api_keys and not is_loopback(host):
            raise SettingsError(
                f"the REST API would listen on {host}, where others reach it, and CAMPAIGNS_API_KEY is not set; set it,"
                " or listen on 127.0.0.1"
            )
        guessable = [key.name for key in settings.api_keys if key.is_guessable]
        if guessable and not is_loopback(host):
            raise SettingsError(
                f"the REST API would listen on {host}, where others reach it, and these of CAMPAIGNS_API_KEY can be"
                f" guessed: {', '.join(guessable)}; take keys from: python3 -c 'import secrets;"
                " print(secrets.token_urlsafe(32))'"
            )
        return cls(keys=settings.api_keys, origins=settings.api_origins)

    def from_elsewhere(self, method: str, headers: Headers) -> Denial | None:
        """Return why a request is refused that a web page makes, in the browser of somebody who may."""
        # With keys no page gets anything: it has none, and no browser adds one by itself.
        if not self.keys and names_another_machine(headers):
            return Denial(status_code=403, message="the Host header names another machine than this one")
        if is_sent_by_a_page(method, headers, origins=self.origins):
            return Denial(
                status_code=403,
                message="the request comes from a web page whose origin is not in CAMPAIGNS_API_CORS_ORIGINS",
            )
        return None

    def identify(self, method: str, path: str, headers: Headers) -> Caller | Denial:
        """Return who sends the request, or why it is not let in; no name where none is needed."""
        if not self.keys:
            return Caller(name=LOCAL_ACTOR)
        key, session = find_key(self.keys, _presented(headers)), ""
        if key is None and is_page(path):
            session = session_cookie(headers)
            key = self.sessions.owner(session, now=current_clock().now())
        if (path in OPEN_PATHS and method in SAFE_METHODS) or path == LOGIN or path.startswith(_STATIC):
            return Caller(name=key.name, access=key.access, session=session) if key else Caller(name="")
        if key is None:
            return Denial(
                status_code=401,
                message="a key is needed that is in CAMPAIGNS_API_KEY, as Authorization: Bearer KEY or X-API-Key: KEY",
            )
        if key.access is Access.READ and method not in SAFE_METHODS and path != _LOGOUT:
            return Denial(status_code=403, message=f"the key {key.name} is for reading only", actor=key.name)
        return Caller(name=key.name, access=key.access, session=session)


def _presented(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return key.encode("latin-1")


def url_of(host: str, port: int) -> str:
    """Return the URL of an API that listens there, as people write it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"
