"""Whether a mail server can be used is found out without sending anything."""

from __future__ import annotations

import pytest
from prefect.blocks.abstract import NotificationError
from prefect_email import EmailServerCredentials

from prefect_campaigns.blocks.email import check_mail_server
from prefect_campaigns.deployments.demo.smtp_sink import LoopbackServer, SilentServer, SmtpSink

PASSWORD = "correct horse"


def credentials(server: LoopbackServer, **login: str) -> EmailServerCredentials:
    return EmailServerCredentials(smtp_server="127.0.0.1", smtp_port=server.port, smtp_type="INSECURE", **login)


async def failure(credentials: EmailServerCredentials) -> str:
    with pytest.raises(NotificationError) as error:
        await check_mail_server(credentials, limit_seconds=0.5)
    assert PASSWORD not in error.value.log
    return error.value.log


async def test_a_server_that_answers_can_be_used_and_gets_no_mail() -> None:
    with SmtpSink() as server:
        await check_mail_server(credentials(server))
        assert server.messages == []


async def test_the_login_is_tried() -> None:
    with SmtpSink(login=("robot", PASSWORD)) as server:
        await check_mail_server(credentials(server, username="robot", password=PASSWORD))
        said = await failure(credentials(server, username="robot", password=f"{PASSWORD} staple"))
        assert said.startswith(f"127.0.0.1:{server.port}, logging in: the server answered 535 ")


async def test_a_server_that_says_nothing_is_given_up() -> None:
    with SilentServer() as server:
        said = await failure(credentials(server))
    assert said == f"127.0.0.1:{server.port}, connecting: no answer within 0.5 seconds"


async def test_where_nobody_listens_that_is_said() -> None:
    with SmtpSink() as server:
        gone = credentials(server)
    assert "connecting: " in await failure(gone)
