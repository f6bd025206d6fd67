"""What requests carry in their bodies."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request

from prefect_campaigns.checks import check_email
from prefect_campaigns.deployments.api.answers import ComplaintAnswer
from prefect_campaigns.deployments.api.errors import Refused
from prefect_campaigns.errors import Complaint, InvalidCampaign
from prefect_campaigns.loader import load_text
from prefect_campaigns.models import Campaign
from prefect_campaigns.words import json_pointer

SOURCE = "body"
"""What stands for a file in complaints about a body."""

Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Body(BaseModel):
    """A body that is no campaign; nothing unknown in it."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, hide_input_in_errors=True
    )


class PauseBody(_Body):
    """Why a campaign is paused; what else is in it says nothing, as it did to the orchestrators before."""

    model_config = ConfigDict(extra="ignore")

    reason: Reason | None = Field(default=None, description="Shown by the command line and in the Prefect UI.")


class RunBody(_Body):
    """What one run does differently; nothing where nothing is said."""

    params: dict[str, Any] = Field(
        default_factory=dict,
        description='Other values for what stands in the params of steps, this once: `{"steps.NAME.KEY": VALUE}`.',
        examples=[{"steps.prospecting.count": 5}],
    )
    from_step: str | None = Field(
        default=None, description="The step to begin at, with the results of the newest run that has them."
    )
    send_again: bool = Field(
        default=False, description="Whether it begins there though something would be sent a second time."
    )
    dry_run: bool = Field(
        default=False, description="Whether nothing is started, and it is only answered what the run would do."
    )


class StopBody(_Body):
    """How everything is stopped."""

    cancel_running: bool = Field(default=False, description="Whether runs that go on are cancelled.")
    reason: Reason | None = None


class TrialMailBody(_Body):
    """To whom a mail is sent."""

    to: Annotated[str, AfterValidator(check_email), Field(json_schema_extra={"format": "email"})] | None = Field(
        default=None, description="Default: whom mails come from."
    )


B = TypeVar("B", bound=_Body)


async def read_campaign(request: Request) -> Campaign:
    """Return the campaign that the body is.

    Raises:
        InvalidCampaign: it is none that can be used; with all that is wrong.
    """
    body = await request.body()
    # In a thread: a body of a megabyte takes a while.
    return await asyncio.to_thread(load_text, body, source=SOURCE)


def other_name(campaign: Campaign, *, key: str) -> InvalidCampaign:
    """Return the complaint about a body whose name makes another campaign of it."""
    message = (
        f'the name makes the key "{campaign.slug}", and this campaign\'s is "{key}"; a campaign with another key is'
        " another campaign, which POST /api/campaigns makes"
    )
    return InvalidCampaign([Complaint(source=SOURCE, pointer="/name", message=message)])


async def read_body(request: Request, kind: type[B]) -> B:
    """Return what the body says; an empty one says nothing.

    Raises:
        Refused: it cannot be used.
    """
    text = await request.body()
    try:
        data: Any = json.loads(text, parse_constant=_refuse) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        message = f"the body is no JSON: {error}"
        raise Refused(400, message, complaints=[ComplaintAnswer(pointer="", message=message)]) from None
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        complaints = [
            ComplaintAnswer(pointer=json_pointer(fault["loc"]), message=_lower(fault["msg"]))
            for fault in error.errors(include_url=False, include_input=False)
        ]
    allowed = ", ".join(field.alias or name for name, field in kind.model_fields.items())
    said = "\n".join(f"{SOURCE}: {one.pointer or '/'}: {one.message}" for one in complaints)
    raise Refused(400, f"{said}\nallowed is an object with {allowed}, all of them optional", complaints=complaints)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} came; a number in JSON is finite")


def _lower(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return f"{text[:1].lower()}{text[1:]}"
