"""Who else may use the Prefect server: its API knows no users, and whoever reaches it may do everything."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.supabase_credentials import is_loopback
from prefect_campaigns.deployments.checking.findings import Finding, doubtful, well

PART = "API access"
SOME_PAGE = "https://a-page.example"

_REMEDY = "where the server is started, set PREFECT_SERVER_API_AUTH_STRING"


async def check_api_access(client: PrefectClient) -> Finding:
    """Say whether the Prefect server lets everybody in, and every web page in the browsers of those it lets in.

    Raises:
        httpx.HTTPError: it does not answer.
    """
    url = str(client.api_url).rstrip("/")
    # As a stranger: without the password that this client has.
    async with httpx.AsyncClient(timeout=10, trust_env=False) as stranger:
        answer = await stranger.get(f"{url}/admin/version", headers={"Origin": SOME_PAGE})
    if answer.status_code in (401, 403):
        return well(PART, "whoever uses the server needs its password")
    if not is_loopback(urlsplit(url).hostname or ""):
        return doubtful(PART, "whoever reaches the server may do everything, and read all secrets there", _REMEDY)
    if answer.headers.get("access-control-allow-origin") in ("*", SOME_PAGE):
        return doubtful(
            PART,
            "any web page that is open on this machine may use the server, and read all secrets there",
            f"{_REMEDY}, or PREFECT_SERVER_CORS_ALLOWED_ORIGINS",
        )
    return well(PART, "whoever works on this machine, and no web page of others")
