"""Who else may use the Prefect server: its API knows no users, and whoever reaches it may do everything."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.settings import get_current_settings

from prefect_campaigns.blocks.supabase_credentials import is_loopback
from prefect_campaigns.deployments.checking.findings import Finding, doubtful, well
from prefect_campaigns.words import why_failed

PART = "API access"
SOME_PAGE = "https://a-page.example"

_REMEDY = "where the server is started, set PREFECT_SERVER_API_AUTH_STRING"


async def check_api_access(client: PrefectClient) -> Finding:
    """Say whether the Prefect server lets everybody in, and every web page in the browsers of those it lets in."""
    url = str(client.api_url).rstrip("/")
    try:
        # As a stranger: without the password that this client has.
        async with httpx.AsyncClient(timeout=10, verify=_certificates()) as stranger:
            answer = await stranger.get(f"{url}/admin/version", headers={"Origin": SOME_PAGE})
    except httpx.HTTPError as error:
        return well(PART, f"not known, since a stranger gets no answer: {why_failed(error)}")
    if not answer.is_success:
        return well(PART, f"whoever uses the server has to say who it is (a stranger gets {answer.status_code})")
    if not is_loopback(urlsplit(url).hostname or ""):
        return doubtful(PART, "whoever reaches the server may do everything, and read all secrets there", _REMEDY)
    if answer.headers.get("access-control-allow-origin") in ("*", SOME_PAGE):
        return doubtful(
            PART,
            "any web page that is open on this machine may use the server, and read all secrets there",
            f"{_REMEDY}, or PREFECT_SERVER_CORS_ALLOWED_ORIGINS",
        )
    return well(PART, "whoever works on this machine, and no web page of others")


def _certificates() -> ssl.SSLContext:
    """Return whom Prefect's settings trust to say who a server is."""
    api = get_current_settings().api
    context = ssl.create_default_context(cafile=api.ssl_cert_file)
    if api.tls_insecure_skip_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
