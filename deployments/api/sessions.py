"""Sessions of browsers: who has given a key once need not give it again for a while.

A session is a cookie that says whose it is and until when, signed with what is known of the key: it ends when the key
is changed. The REST API itself takes no cookie, so that no other page can use one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from prefect_campaigns.blocks.api_keys import ApiKey

COOKIE = "campaigns_session"
SESSION = timedelta(hours=12)
"""How long somebody who has given a key is known by the cookie."""


class Sessions:
    """Makes sessions and reads them, for the keys that there are."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = {key.name: key for key in keys}
        self._own = secrets.token_bytes(32)
        """What forms are signed with where nobody needs a key."""

    def begin(self, key: ApiKey, *, now: datetime) -> str:
        """Return the value of the cookie of a new session."""
        return self._signed(key, int((now + SESSION).timestamp()))

    def owner(self, cookie: str, *, now: datetime) -> ApiKey | None:
        """Return whose key a session was begun with; None where it is none, or is over."""
        name, _, rest = cookie.partition("~")
        key = self._keys.get(name)
        expires, _, _ = rest.partition("~")
        if key is None or not (expires.isascii() and expires.isdecimal()) or len(expires) > 12:
            return None
        if not hmac.compare_digest(cookie.encode(), self._signed(key, int(expires)).encode()):
            return None
        return key if now < datetime.fromtimestamp(int(expires), UTC) else None

    def _signed(self, key: ApiKey, expires: int) -> str:
        return f"{key.name}~{expires}~{_signature(key.digest, f'session {key.name} {expires}')}"

    def form_token(self, cookie: str) -> str:
        """Return what every form of a session has to send: no page of another origin can know it."""
        name, _, _ = cookie.partition("~")
        key = self._keys.get(name)
        return _signature(key.digest if key else self._own, f"form {cookie}")

    def seal(self, text: str) -> str:
        """Return what shows that a text in an address is this server's own, and not that of whoever wrote a link."""
        return _signature(self._own, f"said {text}")

    def is_form_token(self, token: str, cookie: str) -> bool:
        """Whether a form was made for this session."""
        return hmac.compare_digest(token.encode(), self.form_token(cookie).encode())


def _signature(secret: bytes, text: str) -> str:
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def session_cookie(headers: Headers) -> str:
    """Return the cookie of the session that came with a request; nothing where none did."""
    # Others on the same host have cookies, too, and not all are such as the standard library likes.
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
