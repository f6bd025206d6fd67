"""``campaigns demo``: the whole thing on this machine alone, seen from the outside.

A Prefect server, a campaign worker, three engines and a mail server come up on free ports of loopback. The example
campaigns are applied, one of them runs, then one whose engine fails. What is shown is what really came of it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from prefect.client.orchestration import PrefectClient
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from prefect_campaigns.blocks.settings import load_settings, without_env_file
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.deployments.applying.apply import ApplyResult, apply
from prefect_campaigns.deployments.cli.watch import RunView, budget_table, print_run, watch
from prefect_campaigns.deployments.demo.engines import PROSPECT, DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.demo.smtp_sink import ReceivedMail, SmtpSink
from prefect_campaigns.deployments.running.api_password import password_for
from prefect_campaigns.deployments.running.logs import writing_logs
from prefect_campaigns.deployments.running.server import LOOPBACK, EmbeddedServer, connect, free_port, using
from prefect_campaigns.deployments.running.stack import running_worker, say_who_gets_in, saying_it_starts
from prefect_campaigns.loader import load_text
from prefect_campaigns.models import Campaign
from prefect_campaigns.money import format_money

EXAMPLES = ("weekly-restaurant.json", "monthly-retail.json", "test-campaign.json")
SHOWN = "weekly-restaurant-outreach"
PACE_SECONDS = 0.15
RUN_SECONDS = 120.0
MAIL_SECONDS = 30.0
MAX_WIDTH = 100

FAILING = {
    "name": "Demo With A Failing Engine",
    "description": "Its prospecting engine answers 503, three times over.",
    "budget": {"daily": 1},
    "steps": [
        {
            "name": "prospecting",
            "engine": "prospecting",
            "endpoint": "http://localhost:3010/api/prospect",
            "params": {"count": 5},
            "retry": {"attempts": 2, "delay": 500, "backoff": "exponential"},
        },
        {
            "name": "sending",
            "engine": "sender",
            "endpoint": "http://localhost:3001/api/send-batch",
            "params": {"runId": "{{ steps.prospecting.runId }}"},
        },
    ],
    "notifications": {"onFailure": {"email": "ops@example.com"}},
}


class DemoFailed(Exception):
    """Something that the demo shows did not happen."""


async def run_demo(*, console: Console, keep: bool, host: str | None = None) -> bool:
    """Show it all; return whether all of it happened."""
    home = Path(tempfile.mkdtemp(prefix="campaigns-demo-"))
    try:
        async with _stage(home, console, host or LOOPBACK) as stage:
            result = await _apply(stage, console)
            async with running_worker(name="campaigns demo"):
                console.print("[green]✓[/] Campaign worker is waiting for runs\n")
                try:
                    await _show_good_run(stage, result, console)
                    await _show_failing_run(stage, result, console)
                except DemoFailed as error:
                    console.print(f"[red]✗[/] {escape(str(error))}")
                    console.print(f"The logs of server and worker are kept in {home}", soft_wrap=True)
                    return False
                console.print("[green]✓[/] All of it happened.")
                if keep:
                    _say_how_to_go_on(stage.server, _environment(home, stage.mail), console)
                    await asyncio.Event().wait()
        shutil.rmtree(home, ignore_errors=True)
    except asyncio.CancelledError:
        shutil.rmtree(home, ignore_errors=True)
        raise
    return True


def _say_how_to_go_on(server: EmbeddedServer, environment: Mapping[str, str], console: Console) -> None:
    variables = {**environment, "PREFECT_API_URL": server.api_url}
    if server.password is not None and console.is_terminal:
        variables["PREFECT_API_AUTH_STRING"] = server.password
    console.print("\nEverything goes on running, until Ctrl-C.")
    console.print("In another terminal, with these set, every command works on it:\n")
    for name, value in variables.items():
        console.print(f"  export {name}={value}", soft_wrap=True)


class _Stage:
    """What the demo plays on."""

    def __init__(
        self,
        *,
        server: EmbeddedServer,
        engines: DemoEngines,
        addresses: Mapping[str, str],
        mail: SmtpSink,
        client: PrefectClient,
        store: CampaignStore,
    ) -> None:
        self.server = server
        self.engines = engines
        self.addresses = addresses
        self.mail = mail
        self.client = client
        self.store = store

    def campaigns(self) -> list[Campaign]:
        """The example campaigns, with their engines' addresses on this machine."""
        folder = files("prefect_campaigns")
        examples = [load_text(folder.joinpath(name).read_text("utf-8"), source=name) for name in EXAMPLES]
        return [_at_addresses(campaign, self.addresses) for campaign in (*examples, Campaign.model_validate(FAILING))]


def _at_addresses(campaign: Campaign, addresses: Mapping[str, str]) -> Campaign:
    """Point the steps of a campaign to where the engines listen this time."""
    steps = []
    for step in campaign.steps:
        url = urlsplit(step.endpoint)
        here = urlsplit(addresses[url.netloc])
        steps.append(step.model_copy(update={"endpoint": urlunsplit(url._replace(netloc=here.netloc))}))
    return campaign.model_copy(update={"steps": steps})


def _environment(home: Path, mail: SmtpSink) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(home / "prefect"),
        "CAMPAIGNS_DATABASE": str(home / "campaigns.db"),
        "CAMPAIGNS_LOGS": str(home / "logs"),
        "SMTP_HOST": mail.host,
        "SMTP_PORT": str(mail.port),
        "SMTP_TYPE": "INSECURE",
        "SMTP_FROM": "campaigns@example.com",
    }


@contextmanager
def _exported(values: Mapping[str, str]) -> Iterator[None]:
    """Set the environment for as long as the block lasts: nothing of the user's own set-up takes part."""
    dropped = ("SMTP_USER", "SMTP_PASS", "SUPABASE_URL", "SUPABASE_KEY", "PREFECT_API_URL")
    before = {name: os.environ.get(name) for name in (*values, *dropped)}
    os.environ.update(values)
    for name in dropped:
        # Empty is unset, and for Prefect's own settings wins over a .env file.
        os.environ[name] = ""
    try:
        with without_env_file():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@asynccontextmanager
async def _stage(home: Path, console: Console, host: str) -> AsyncIterator[_Stage]:
    engines = DemoEngines(pace=PACE_SECONDS)
    async with AsyncExitStack() as stack:
        mail = stack.enter_context(SmtpSink())
        stack.enter_context(_exported(_environment(home, mail)))
        # Not at the console: the worker runs in this process, and would log into the view of its runs.
        stack.enter_context(writing_logs(load_settings(), console=False))
        addresses = {
            "localhost:3010": await stack.enter_async_context(serve(engines.app("prospecting"))),
            "localhost:3000": await stack.enter_async_context(serve(engines.app("analysis"))),
            "localhost:3001": await stack.enter_async_context(serve(engines.app("outreach"))),
        }
        for engine, address in zip(("Prospecting", "Analysis", "Outreach"), addresses.values(), strict=True):
            console.print(f"[green]✓[/] {engine} engine at {address}")
        console.print(f"[green]✓[/] Mail server at {mail.host}:{mail.port}")
        with saying_it_starts(console):
            prefect = home / "prefect"
            password = password_for(host, home=prefect)
            server = EmbeddedServer(
                home=prefect, port=free_port(), log=home / "server.log", host=host, password=password
            )
            await stack.enter_async_context(server)
            stack.enter_context(using(server))
        console.print(f"[green]✓[/] Prefect server at {server.ui_url}")
        say_who_gets_in(server, console=console)
        client = await stack.enter_async_context(connect())
        store = await stack.enter_async_context(open_store(load_settings()))
        stage = _Stage(server=server, engines=engines, addresses=addresses, mail=mail, client=client, store=store)
        yield stage


async def _apply(stage: _Stage, console: Console) -> ApplyResult:
    result = await apply(stage.campaigns(), store=stage.store, settings=load_settings())
    for one in result.campaigns:
        console.print(f"[green]✓[/] Applied {one.compiled.full_name}")
    return result


async def _run(stage: _Stage, result: ApplyResult, slug: str, console: Console) -> RunView:
    deployment_id = next(one.deployment_id for one in result.campaigns if one.compiled.slug == slug)
    flow_run = await stage.client.create_flow_run_from_deployment(deployment_id)
    try:
        async with asyncio.timeout(RUN_SECONDS):
            view = await watch(console, stage.client, stage.store, flow_run.id)
    except TimeoutError:
        raise DemoFailed(f"the run of {slug} did not end within {RUN_SECONDS:g} seconds") from None
    print_run(console, view)
    return view


async def _show_good_run(stage: _Stage, result: ApplyResult, console: Console) -> None:
    _print_title("A campaign runs", console)
    view = await _run(stage, result, SHOWN, console)
    if view.state_name != "Completed":
        raise DemoFailed(f"the run ended as {view.state_name}, and not as Completed")
    console.print(budget_table(await stage.store.budget_status(SHOWN)))
    booked = view.record.total_cost if view.record else None
    if booked != stage.engines.charged:
        raise DemoFailed(f"the engines charged {stage.engines.charged}, and {booked} was booked")
    console.print(f"\nThe engines charged {format_money(booked)} USD, and that is what is booked.\n")
    _show_mail(await _mail(stage, "Completed", recipient="outreach@example.com"), console)


async def _show_failing_run(stage: _Stage, result: ApplyResult, console: Console) -> None:
    _print_title("A campaign whose engine fails", console)
    stage.engines.fail_next(PROSPECT, status=503, error="out of order <script>alert(1)</script>", times=3)
    before = len(stage.engines.requests_to(PROSPECT))
    view = await _run(stage, result, "demo-with-a-failing-engine", console)
    requests = len(stage.engines.requests_to(PROSPECT)) - before
    if view.state_name != "Failed" or requests != 3:
        raise DemoFailed(f"the run ended as {view.state_name} after {requests} requests, and not as Failed after 3")
    console.print("The engine was asked three times: once, and twice more as the step's retry says.\n")
    _show_mail(await _mail(stage, "Failed", recipient="ops@example.com"), console)


async def _mail(stage: _Stage, state: str, *, recipient: str) -> ReceivedMail:
    """Wait for the mail that the automation sends."""
    deadline = asyncio.get_running_loop().time() + MAIL_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        for mail in stage.mail.messages:
            if recipient in mail.recipients and mail.message["Subject"].startswith(state):
                return mail
        await asyncio.sleep(0.2)
    raise DemoFailed(f"no mail about a run that ended as {state} came to {recipient} within {MAIL_SECONDS:g} seconds")


def _print_title(title: str, console: Console) -> None:
    console.print(Rule(title, align="left"), width=min(console.width, MAX_WIDTH))


def _show_mail(mail: ReceivedMail, console: Console) -> None:
    message = mail.message
    head = f"From: {message['From']}\nTo: {message['To']}\nSubject: {message['Subject']}\n\n"
    panel = Panel(Text(head + mail.text.strip()), title="The mail that arrived", title_align="left")
    console.print(panel, width=min(console.width, MAX_WIDTH))
    console.print()
