"""What is secret in a campaign as it is written, taken out of it. Pure: same campaign, same output, no I/O.

A Slack webhook URL is secret, and so is what stands literally in a header's value. Each becomes a block on the Prefect
server, and the campaign refers to that block in its place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from slugify import slugify

from prefect_campaigns.checks import HEADER_BLOCK_PREFIX, MIN_SECRET
from prefect_campaigns.models import SLACK_BLOCK_PREFIX, Campaign, Recipients, Step
from prefect_campaigns.references import AnyReference, pieces

SLACK_WEBHOOK_PREFIX = "campaigns-slack-"
"""What the names of the blocks begin with that hold a campaign file's Slack webhooks."""

SHOWN_HEADERS = frozenset(
    {"accept", "accept-charset", "accept-language", "cache-control", "content-language", "prefer", "user-agent"}
)
"""Headers, in lower case, whose values say what kind of answer is wanted of whom: they stay as they are written."""

MAX_PLAIN_WORD = 7
"""A value of up to this many characters is taken for a plain word, such as a version or a region, unless its header's
name says that it is a credential. Hidden in all that engines answer, a plain word would spoil names and addresses."""

_CREDENTIAL = re.compile(r"auth|cookie|credential|key|pass|pin|pwd|secret|session|sign|token", re.IGNORECASE)
_SCHEME = r"(?:basic|bearer|digest|token|api-?key|key)\b"
_LEADING_SCHEME = re.compile(rf"\s*{_SCHEME}\s+", re.IGNORECASE)
_BETWEEN_SECRETS = re.compile(rf"(?:{_SCHEME}|[\s:;,=\"'/]){{0,10}}", re.IGNORECASE)
_MAX_SLUG = 40


class SecretKind(StrEnum):
    """What a secret of a campaign file is."""

    SLACK = "slack"
    HEADER = "header"


@dataclass(frozen=True, kw_only=True)
class CompiledSecret:
    """Something secret from a campaign file, on its way into a block. Its repr does not show the value."""

    kind: SecretKind
    block_name: str
    value: str = field(repr=False)


def without_secrets(campaign: Campaign) -> tuple[Campaign, tuple[CompiledSecret, ...]]:
    """Return the campaign with nothing secret in it, and what was, each once."""
    campaign, webhooks = _without_webhooks(campaign)
    secrets = {secret.block_name: secret for secret in webhooks}
    steps = []
    for step in campaign.steps:
        headers = {}
        for name, value in step.headers.items():
            fragments = list(_header_fragments(campaign, step, name, value))
            headers[name] = "".join(text for text, _ in fragments)
            secrets |= {secret.block_name: secret for _, secret in fragments if secret is not None}
        steps.append(step.model_copy(update={"headers": headers}) if headers != step.headers else step)
    return campaign.model_copy(update={"steps": steps}), tuple(secrets.values())


def _header_fragments(
    campaign: Campaign, step: Step, name: str, value: str
) -> Iterator[tuple[str, CompiledSecret | None]]:
    """Yield what a header's value becomes, fragment by fragment, each with the secret that it stood for."""
    for position, piece in enumerate(_fragments(value)):
        if not isinstance(piece, str):
            yield piece.text, None
        elif _may_be_shown(name, piece):
            yield piece, None
        else:
            block_name = _header_block(campaign, step, name, position)
            yield (
                f"{{{{ secret.{block_name} }}}}",
                CompiledSecret(kind=SecretKind.HEADER, block_name=block_name, value=piece),
            )


def _fragments(value: str) -> Iterator[str | AnyReference]:
    """Yield the pieces of a header's value, a leading scheme such as ``Bearer`` apart from what follows it.

    An engine that repeats the token alone repeats the block's whole value then, by which it is found.
    """
    scheme = _LEADING_SCHEME.match(value)
    if scheme:
        yield scheme[0]
    yield from pieces(value[scheme.end() :] if scheme else value)


def _may_be_shown(header: str, literal: str) -> bool:
    if header.lower() in SHOWN_HEADERS or len(literal) < MIN_SECRET or _BETWEEN_SECRETS.fullmatch(literal):
        return True
    return len(literal) <= MAX_PLAIN_WORD and not _CREDENTIAL.search(header)


def _header_block(campaign: Campaign, step: Step, name: str, position: int) -> str:
    """Return the name of the block of a fragment: by its place, so that a new value changes nothing but the block.

    The engine's address is part of the place: a run of an older version must not give one engine what is another's.
    """
    readable = "-".join(slugify(text, max_length=_MAX_SLUG) for text in (campaign.slug, step.name, name))
    # The digest tells apart what a slug does not: "a b" and "a-b", or two names in another script.
    address = urlsplit(step.endpoint)
    engine = f"{address.scheme}://{address.netloc}"
    place = "\n".join((campaign.slug, step.name, name.lower(), str(position), engine))
    return f"{HEADER_BLOCK_PREFIX}{readable}-{digest(place)}"


def _without_webhooks(campaign: Campaign) -> tuple[Campaign, list[CompiledSecret]]:
    """Replace every webhook URL by the name of the block that will hold it."""
    if campaign.notifications is None:
        return campaign, []
    secrets: list[CompiledSecret] = []
    replaced: dict[str, Recipients] = {}
    for kind in type(campaign.notifications).model_fields:
        recipients: Recipients | None = getattr(campaign.notifications, kind)
        if recipients is None or recipients.slack is None or recipients.slack.startswith(SLACK_BLOCK_PREFIX):
            continue
        # By its URL: one channel is one block and one automation, however many campaigns tell it.
        name = f"{SLACK_WEBHOOK_PREFIX}{digest(recipients.slack)}"
        secrets.append(CompiledSecret(kind=SecretKind.SLACK, block_name=name, value=recipients.slack))
        replaced[kind] = recipients.model_copy(update={"slack": f"{SLACK_BLOCK_PREFIX}{name}"})
    notifications = campaign.notifications.model_copy(update=replaced)
    return campaign.model_copy(update={"notifications": notifications}), secrets


def digest(text: str) -> str:
    """Return twelve characters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
