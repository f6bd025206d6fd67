"""What the library that sends to Slack may log: why something failed, and never a webhook."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from prefect_campaigns.deployments.running.webhook_logs import keep_webhooks_out_of_logs

# What it says, and what is logged of that.
SAID = [
    ("Unparseable URL https://c...m/hooks/swordfish", "Unparseable URL…"),
    ("Unparseable URL swordfish and more", "Unparseable URL…"),
    ("Could not load Slack URL: slack://swordfish", "Could not load Slack URL…"),
    ("An invalid Slack (first) Token (swordfish) was specified.", "An invalid Slack …"),
    ("Retry 1/2 for https://hooks.slack.com/services/T0/B0/swordfish", "Retry …"),
    # Why a notification did not arrive.
    ("A Connection error occurred posting to Slack.", "A Connection error occurred posting to Slack."),
    ("There are no service(s) to notify", "There are no service(s) to notify"),
]


@pytest.mark.parametrize(("said", "logged"), SAID)
def test_a_reason_is_logged_without_the_webhook(said: str, logged: str, caplog: pytest.LogCaptureFixture) -> None:
    keep_webhooks_out_of_logs()
    logging.getLogger("apprise").error("%s", said)
    logging.getLogger("apprise").debug("Slack POST URL: %s", said)
    assert [record.getMessage() for record in caplog.records] == [logged]


PROGRAM = """
import sys
from {module} import main
sys.argv[1:] = ["--version"]
try:
    main()
except SystemExit:
    pass
from prefect.blocks.notifications import SlackWebhook
from prefect.logging.configuration import setup_logging
setup_logging()
SlackWebhook(url="https://chat.example.com/hooks/swordfish")
"""


@pytest.mark.parametrize(
    "module",
    [
        "prefect_campaigns.deployments.cli.main",
        # The embedded server, which loads the block for each notification.
        "prefect_campaigns.deployments.running.server_process",
    ],
)
def test_no_process_of_ours_prints_a_webhook_that_cannot_be_used(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(module=module)], capture_output=True, text=True
    )
    assert ended.returncode == 0 and "Unparseable URL" in ended.stderr, ended.stderr
    assert "swordfish" not in ended.stdout + ended.stderr
