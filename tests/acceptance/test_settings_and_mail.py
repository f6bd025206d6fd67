"""``campaigns settings`` lists what is set and where, and ``campaigns test-email`` sends a mail."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from processes import Ended
from real_stack import Stack

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.demo.smtp_sink import SmtpSink

TOKEN, PASSWORD = "a-token-for-a-login", "swordfish-7"
NOTHING = {"SMTP_HOST": "", "SMTP_FROM": "", "SMTP_PORT": "", "SMTP_TYPE": ""}


def listed(ended: Ended) -> dict[str, dict[str, Any]]:
    assert ended.code == 0, ended.text
    return {one["name"]: one for one in json.loads(ended.out)["settings"]}


@pytest.mark.usefixtures("no_blocks")
async def test_each_setting_is_listed_with_its_value_and_where_it_came_from(campaigns, stack: Stack, write) -> None:
    env_file = write(".env", f"SMTP_USER={TOKEN}\nSMTP_PASS={PASSWORD}\nLOG_LEVEL=warn\nPORT=\n")
    of_prefect = {"PREFECT_API_AUTH_STRING": f"ada:{PASSWORD}"}
    as_table, as_json = await asyncio.gather(
        campaigns("settings", env=of_prefect), campaigns("settings", "--json", env=of_prefect)
    )
    found = listed(as_json)
    prefects = {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_UI_URL", "PREFECT_HOME"}
    assert set(found) == {name.upper() for name in Settings.model_fields} | prefects
    assert all(one["meaning"] for one in found.values())

    def of(name: str) -> tuple[str | None, str, str | None]:
        return found[name]["value"], found[name]["from"], found[name]["where"]

    assert of("SMTP_HOST") == (stack.mail.host, "environment", None)
    assert of("LOG_LEVEL") == ("warn", "file", str(env_file))
    # An empty value is no value.
    assert of("PORT") == ("3020", "default", None)
    assert of("SMTP_USER") == of("SMTP_PASS") == ("********", "file", str(env_file))
    assert of("SUPABASE_KEY") == (None, "default", None)
    assert of("PREFECT_API_URL") == (stack.server.api_url, "environment", None)
    assert of("PREFECT_API_AUTH_STRING") == ("********", "environment", None)
    assert as_table.code == 0 and "who the mails come from" in as_table.out
    for ended in (as_table, as_json):
        assert TOKEN not in ended.text and PASSWORD not in ended.text

    assert (await campaigns("setup", env={"SMTP_PASS": "", "SMTP_USER": ""})).code == 1, "half a login is none"
    env_file.unlink()
    assert (await campaigns("setup")).code == 0
    found = listed(await campaigns("settings", "--json", env=NOTHING))
    block = "email-server-credentials/campaigns-smtp"
    assert of("SMTP_HOST") == (stack.mail.host, "block", block)
    assert of("SMTP_PORT") == (str(stack.mail.port), "block", block)
    assert of("SMTP_FROM") == ("campaigns@example.com", "block", "variable campaigns_smtp_from")


async def test_settings_are_listed_without_a_server_and_no_login_of_a_url_is(alone, tmp_path: Path) -> None:
    ended = await alone("settings", "--json", env={"PREFECT_API_URL": f"http://ada:{PASSWORD}@127.0.0.1:9/api"})
    assert listed(ended)["PREFECT_API_URL"]["value"] == "…@127.0.0.1:9/api"
    (note,) = json.loads(ended.out)["notes"]
    assert note.startswith(
        "what is saved on the Prefect server is not known: no Prefect API answers at http://127.0.0.1:9"
    )
    assert PASSWORD not in ended.text
    # Commands that end by themselves write no logs.
    assert not (tmp_path / "logs").exists()


@pytest.mark.usefixtures("no_blocks")
async def test_a_mail_is_sent_by_the_settings_or_else_by_what_was_saved(campaigns, stack: Stack) -> None:
    before = len(stack.mail.messages)
    to_sender = await campaigns("test-email")
    assert (to_sender.code, to_sender.err) == (0, "")
    assert to_sender.out == "✓ The mail server took a mail to campaigns@example.com. See whether it arrives.\n"
    none_set = await campaigns("test-email", env=NOTHING)
    assert none_set.code == 1
    assert none_set.err.startswith("✗ no mail server is set up, so nobody is mailed; set SMTP_HOST")

    assert (await campaigns("setup")).code == 0
    saved = await campaigns("test-email", "--to", "ada@example.com", "--json", env=NOTHING)
    assert json.loads(saved.out) == {"success": True, "to": "ada@example.com"}
    first, second = stack.mail.messages[before:]
    assert (first.recipients, second.recipients) == (("campaigns@example.com",), ("ada@example.com",))
    assert second.message["Subject"] == "Test mail of prefect-campaigns"


async def test_what_the_mail_server_says_is_said_in_one_line(campaigns) -> None:
    with SmtpSink(login=("robot", "correct horse")) as mail:
        login = {"SMTP_PORT": str(mail.port), "SMTP_USER": "robot", "SMTP_PASS": PASSWORD}
        refused, no_address = await asyncio.gather(
            campaigns("test-email", env=login), campaigns("test-email", "--to", "nobody", "--json", env=login)
        )
        assert mail.messages == []
    assert (refused.code, refused.out) == (1, "")
    (line,) = refused.err.splitlines()
    assert line.startswith(
        f"✗ The mail to campaigns@example.com was not sent: 127.0.0.1:{mail.port}, logging in: the server answered 535 "
    )
    assert PASSWORD not in line
    assert no_address.code == 1
    assert json.loads(no_address.out)["error"] == '"nobody" is no mail address; allowed is one such as ops@example.com'
