"""What is logged of sending to Slack: why it failed, and nothing that shows a webhook."""

from __future__ import annotations

import logging
import re

_MAY_BE_SECRET = re.compile(r"(?:(?<=\bURL)|(?<=\s)\(|\S*/).*", re.DOTALL)
"""From where on a message may show a webhook, or a token of one."""


def keep_webhooks_out_of_logs() -> None:
    """Cut off what the library that Prefect sends to Slack by says of a webhook; doing so again does nothing.

    Of a URL that it cannot use it logs the end, which is the secret, and when debugging it logs all of every URL.
    """
    logger = logging.getLogger("apprise")
    logger.setLevel(logging.WARNING)
    logger.addFilter(_cut)


def _cut(record: logging.LogRecord) -> bool:
    record.msg, record.args = _MAY_BE_SECRET.sub("…", record.getMessage()), ()
    return True
