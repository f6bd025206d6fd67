"""The command ``campaigns``: what its commands are called, what each is for, and how each of them ends.

Nothing here imports Prefect, which takes seconds: help, complaints about files and typing errors are there at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.completion.detect import ShellDetectionError
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from prefect_campaigns.deployments.cli.driving_help import add_driving_commands
from prefect_campaigns.deployments.cli.entry import EXIT_INTERRUPTED
from prefect_campaigns.deployments.cli.help_page import print_commands
from prefect_campaigns.deployments.running.interrupts import ignore_signals, interrupt_on_signals
from prefect_campaigns.deployments.running.timezones import remember_timezones
from prefect_campaigns.deployments.running.webhook_logs import keep_webhooks_out_of_logs
from prefect_campaigns.errors import CampaignsError, Complaint, InvalidCampaign, UsageError
from prefect_campaigns.loader import LoadedCampaign, load_many

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
EXIT_CHANGES = 2
"""Of ``campaigns plan --exit-code``: there is something to apply."""
EXIT_SUSPENDED = 3
"""Of a command that watches: the run waits for somebody to approve its next step."""
EXIT_NOT_TAKEN_UP = 4
"""Of a command that watches: no worker has taken the run up within two minutes; it begins when one does."""

EXIT_CODES = {
    EXIT_OK: "well; of what watches a run: Completed, Partial too",
    EXIT_FAILED: "not: what was asked for was refused or failed, or the run that was watched did not complete",
    EXIT_USAGE: "a command that is not understood, or of which something is missing; of `campaigns plan --exit-code`:"
    " there is something to apply",
    EXIT_SUSPENDED: "of what watches a run: it is suspended, and goes on when somebody approves it",
    EXIT_NOT_TAKEN_UP: "of what watches a run: no worker has taken it up within two minutes; it begins when one does",
    EXIT_INTERRUPTED: "interrupted by Ctrl-C, SIGTERM or SIGHUP",
}
"""With what a command ends, and what that means."""

PIPE_WIDTH = 100_000
"""How wide tables may become in a file or a pipe, where nobody's window says it: nothing is broken or cut."""

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of tables.")]

_COMMANDS = "prefect_campaigns.deployments.cli.stack_commands"
_PLAN = "prefect_campaigns.deployments.cli.plan_commands"
_STORE = "prefect_campaigns.deployments.cli.store_commands"
_SETUP = "prefect_campaigns.deployments.cli.setup_commands"
_API = "prefect_campaigns.deployments.cli.api_commands"

app = App(
    name="campaigns",
    help="Run lead-generation campaigns, written as JSON, on Prefect.",
    help_format="rich",
    default_parameter=Parameter(negative="", show_default=lambda value: value or None),
    result_action="return_value",
    group_commands=Group("Commands", help_formatter=print_commands),
)


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


out = _console()
err = _console(stderr=True)


def say(text: str | Text, *, to: Console | None = None) -> None:
    """Print a sentence or a line, which in a file or a pipe is one line, however long.

    At a terminal what does not fit goes on under the words that it belongs to, and not under their indent or mark.
    """
    console = to or out
    if console.is_terminal:
        console.print(_hanging(Text.from_markup(text) if isinstance(text, str) else text, console))
    else:
        console.print(text, soft_wrap=True)


_MARK = re.compile(r"\s*(?:[!✗✓+~=-] )?")


def _hanging(text: Text, console: Console) -> Text:
    found = _MARK.match(text.plain)
    mark = found.end() if found else 0
    if not mark or text.cell_len <= console.width:
        return text
    head, body = text.divide([mark])
    lines = body.wrap(console, console.width - mark)
    for line in lines:
        line.rstrip()
    return Text.assemble(head, Text(f"\n{' ' * mark}").join(lines))


def error_json(problems: Sequence[str]) -> dict[str, str]:
    """Return what an object of JSON says besides ``success: false``; nothing where nothing went wrong."""
    return {"error": "\n".join(problems)} if problems else {}


def print_json(data: Any) -> None:
    """Print what another program reads."""
    print(json.dumps(data, ensure_ascii=False, indent=2, default=str))


@app.command(name="validate", usage="Usage: campaigns validate FILE|FOLDER… [--json]")
def validate_command(*files: Path, json: AsJson = False) -> int:
    """Check campaign files, and say all that is wrong with them.

    Example: campaigns validate campaigns/

    Parameters
    ----------
    files
        Campaign files, or folders of them.
    """
    if not files:
        raise UsageError("which files? Name campaign files, or folders of them: campaigns validate campaigns/")
    loaded = load_many(files)
    if json:
        print_json({"success": True, "campaigns": [_loaded_json(one) for one in loaded]})
    else:
        for one in loaded:
            say(f"[green]✓[/] {escape(str(one.path))}: {escape(one.campaign.name)} ({one.campaign.slug})")
    return EXIT_OK


def _loaded_json(loaded: LoadedCampaign) -> dict[str, Any]:
    return {"file": str(loaded.path), "name": loaded.campaign.name, "slug": loaded.campaign.slug}


app.command(
    f"{_PLAN}:plan_command",
    name="plan",
    usage="Usage: campaigns plan [FILE|FOLDER…] [--prune] [--exit-code] [--json]",
    help="""Show what apply would do, and what to expect of it; nothing is changed.

    Field by field, with what somebody has changed on the Prefect server, the
    next runs, what a week will likely cost, and what looks wrong.

    Example: campaigns plan campaigns/""",
)
app.command(
    f"{_PLAN}:apply_command",
    name="apply",
    usage="Usage: campaigns apply [FILE|FOLDER…] [--prune] [--json]",
    help="""Deploy campaigns on the Prefect server, any number of times.

    Every file is checked before anything is changed, and then what the plan
    says is done. What a person paused stays paused.

    Example: campaigns apply campaigns/""",
)
app.command(
    f"{_API}:api_command",
    name="api",
    usage="Usage: campaigns api [--host HOST] [--port INT]",
    help="""Serve the REST API, for programs that make, run and watch campaigns.

    Open to this machine; on any other address it needs CAMPAIGNS_API_KEY.
    campaigns up serves it, too. Ctrl-C ends it.

    Example: campaigns api --port 8080""",
)
app.command(
    f"{_COMMANDS}:up_command",
    name="up",
    usage="Usage: campaigns up [FILE|FOLDER…] [options]",
    help="""Run it all here: server, worker, REST API, and a folder's campaigns.

    A Prefect server that PREFECT_API_URL names is used where it answers.
    Ctrl-C ends everything.

    Example: campaigns up campaigns/""",
)
app.command(
    f"{_COMMANDS}:demo_command",
    name="demo",
    usage="Usage: campaigns demo [--keep] [--host ADDRESS]",
    help="""See it all work on this machine alone, mails included.

    Runs an example campaign, then one whose engine fails, and shows the mails
    that arrive. Its engines are made up, and so is what they cost.

    Example: campaigns demo --keep""",
)
app.command(
    f"{_SETUP}:setup_command",
    name="setup",
    usage="Usage: campaigns setup [--new-books] [--json]",
    help="""Save what .env says on the Prefect server, once it works.

    The Supabase project and the mail server are tried out, and saved as
    blocks. Whoever uses that server then needs no .env for them. It is
    refused while a SQLite file holds books that nobody has carried over.

    Example: campaigns setup""",
)
app.command(
    f"{_SETUP}:test_email_command",
    name="test-email",
    usage="Usage: campaigns test-email [--to ADDRESS] [--json]",
    help="""Send a mail, and say what the mail server answers.

    By the mail server that SMTP_HOST names, or else by the one that was saved.

    Example: campaigns test-email --to ops@example.com""",
)
app.command(
    f"{_SETUP}:settings_command",
    name="settings",
    usage="Usage: campaigns settings [--json]",
    help="""List all settings: what they are, what they mean, where they come from.

    Nothing secret is shown.

    Example: campaigns settings""",
)
app.command(
    f"{_SETUP}:doctor_command",
    name="doctor",
    usage="Usage: campaigns doctor [--json]",
    help="""Look at each part, and say what to do where it is not well.

    ✓ is well, ! may be a problem, ✗ is broken: the exit code is 1 then.

    Example: campaigns doctor""",
)

db = App(
    name="db",
    usage="Usage: campaigns db COMMAND",
    help="""Look after the store of campaigns, runs and the ledger.

    Example: campaigns db backup campaigns-backup.db""",
)
app.command(db)
db.command(
    f"{_STORE}:migrate_command",
    name="migrate",
    usage="Usage: campaigns db migrate [--sql] [--json]",
    help="""Make or upgrade the tables in Supabase.

    It needs SUPABASE_DB_URL, or prints the SQL for the dashboard's SQL editor.
    A SQLite file upgrades itself.

    Example: campaigns db migrate --sql > campaigns.sql""",
)
db.command(
    f"{_STORE}:backup_command",
    name="backup",
    usage="Usage: campaigns db backup FILE [--json]",
    help="""Copy the SQLite file as it is now; runs may go on.

    Example: campaigns db backup campaigns-backup.db""",
)
db.command(
    f"{_STORE}:restore_command",
    name="restore",
    usage="Usage: campaigns db restore FILE [--yes] [--json]",
    help="""Put a backup in the place of the SQLite file.

    Shows first what both hold, and asks. What is replaced is kept beside it.
    A backup from before an import opens closed books again.

    Example: campaigns db restore campaigns-backup.db""",
)
db.command(
    f"{_STORE}:import_command",
    name="import",
    usage="Usage: campaigns db import FILE [--json]",
    help="""Carry the books of a SQLite file over to Supabase, and close the file.

    End the workers first. It needs SUPABASE_DB_URL, and the tables of
    campaigns db migrate. All is carried over or nothing, and only once. The
    way back is campaigns db restore with a backup from before.

    Example: campaigns db import ~/.prefect/campaigns.db""",
)


add_driving_commands(app)


@app.command(name="--install-completion", usage="Usage: campaigns --install-completion [--shell SHELL]")
def install_completion_command(*, shell: Literal["bash", "fish", "zsh"] | None = None) -> int:
    """Let your shell complete commands and options.

    Example: campaigns --install-completion

    Parameters
    ----------
    shell
        Which shell; by default the one that you use.
    """
    try:
        path = app.install_completion(shell=shell)
    except ShellDetectionError:
        raise UsageError("it is not clear which shell you use; name it: --shell bash, fish or zsh") from None
    except OSError as error:
        raise CampaignsError(f"the completion could not be installed: {error}") from None
    say(f"[green]✓[/] Completion is installed in {escape(str(path))}; it is there in the next shell that you start.")
    return EXIT_OK


def complaint_json(complaint: Complaint) -> dict[str, Any]:
    """Return a complaint about a file as programs read it."""
    return {
        "file": complaint.source,
        "line": complaint.line,
        "column": complaint.column,
        "pointer": complaint.pointer,
        "message": complaint.message,
    }


def _print_error(error: CampaignsError, *, as_json: bool) -> None:
    if as_json:
        body: dict[str, Any] = {"success": False, "error": str(error)}
        if isinstance(error, InvalidCampaign):
            body["complaints"] = [complaint_json(one) for one in error.complaints]
        print_json(body)
        return
    if error.is_logged:
        return
    for line in str(error).splitlines():
        say(f"[red]✗[/] {escape(line)}", to=err)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 well, 1 not, 2 not understood, 130 interrupted; EXIT_CODES has them all."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    # Prefect reports its first use from a terminal to its makers; this command asks nobody to.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    remember_timezones()
    keep_webhooks_out_of_logs()
    as_json = "--json" in tokens
    try:
        interrupt_on_signals()
        code = app(tokens, print_error=not as_json, exit_on_error=False)
    except CycloptsError as error:
        # For people it has been printed.
        if as_json:
            print_json({"success": False, "error": str(error)})
        code = EXIT_USAGE
    except CampaignsError as error:
        _print_error(error, as_json=as_json)
        code = EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    except BrokenPipeError:
        # Whoever reads has read enough: `campaigns … | head`. What is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        ignore_signals()
        code = EXIT_INTERRUPTED
    sys.exit(code if isinstance(code, int) else EXIT_OK)
