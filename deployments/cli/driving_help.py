"""What the commands are called that drive campaigns and runs, and what each is for; what they do lies elsewhere.

Nothing here imports Prefect: help is there at once.
"""

from __future__ import annotations

from cyclopts import App

_CAMPAIGN = "prefect_campaigns.deployments.cli.campaign_commands"
_EMERGENCY = "prefect_campaigns.deployments.cli.emergency_commands"
_LOGS = "prefect_campaigns.deployments.cli.log_commands"
_MONEY = "prefect_campaigns.deployments.cli.money_commands"
_PERSONAL_DATA = "prefect_campaigns.deployments.cli.personal_data_commands"
_REPORT = "prefect_campaigns.deployments.cli.report_commands"
_RUN = "prefect_campaigns.deployments.cli.run_commands"
_STATE = "prefect_campaigns.deployments.cli.state_commands"


def add_driving_commands(app: App) -> None:
    """Let the app have the commands of campaigns, of runs, and of all campaigns together."""
    _add_campaigns(app)
    _add_runs(app)
    _add_all_together(app)


def _add_campaigns(app: App) -> None:
    app.command(
        f"{_STATE}:list_command",
        name="list",
        usage="Usage: campaigns list [--json]",
        help="""List the campaigns: how they stand, and what they have spent.

        Example: campaigns list""",
    )
    app.command(
        f"{_CAMPAIGN}:show_command",
        name="show",
        usage="Usage: campaigns show NAME [--json]",
        help="""Show all there is to know of a campaign.

        Its next fire times, steps, budget, who is told, and its last runs.

        Example: campaigns show weekly-restaurant-outreach""",
    )
    app.command(
        f"{_MONEY}:budget_command",
        name="budget",
        usage="Usage: campaigns budget NAME | --account [options]",
        help="""Show what a campaign has spent, and when its money runs out.

        A campaign's own limits stand in its file; those of all campaigns together
        are set here: campaigns budget --account --daily 50

        Example: campaigns budget weekly-restaurant-outreach""",
    )
    app.command(
        f"{_REPORT}:report_command",
        name="report",
        usage="Usage: campaigns report NAME|RUN | --week|--month [NAME] [--out FILE]",
        help="""Report on a run, or on a week or a month.

        Leads, steps, cost per lead and what to do about errors; as a page for a
        client with --out report.html, which needs nothing else.

        Example: campaigns report --month weekly-restaurant-outreach --out may.html""",
    )
    app.command(
        f"{_STATE}:pause_command",
        name="pause",
        usage="Usage: campaigns pause NAME [--reason TEXT] [--json]",
        help="""Pause a campaign until somebody resumes it.

        Its schedule rests. A run that goes on is not cancelled, and whoever says
        campaigns run gets one all the same.

        Example: campaigns pause weekly-restaurant-outreach --reason holidays""",
    )
    app.command(
        f"{_STATE}:resume_command",
        name="resume",
        usage="Usage: campaigns resume NAME [--json]",
        help="""Resume a campaign, whoever paused it.

        While a limit of its budget holds, its runs are refused all the same, and
        it says so. While everything is stopped, nothing resumes.

        Example: campaigns resume weekly-restaurant-outreach""",
    )
    app.command(
        f"{_CAMPAIGN}:delete_command",
        name="delete",
        usage="Usage: campaigns delete NAME [--yes] [--json]",
        help="""Delete a campaign and its runs, once what goes on is cancelled.

        What it has spent stays in the ledger: made again, it has no fresh budget.

        Example: campaigns delete weekly-restaurant-outreach""",
    )
    app.command(
        f"{_CAMPAIGN}:audit_command",
        name="audit",
        usage="Usage: campaigns audit [NAME] [--limit INT] [--json]",
        help="""List who did what to campaigns and runs, newest first.

        What was done to a campaign stays listed when it is deleted.

        Example: campaigns audit weekly-restaurant-outreach""",
    )


def _add_runs(app: App) -> None:
    app.command(
        f"{_RUN}:run_command",
        name="run",
        usage="Usage: campaigns run NAME [options]",
        help="""Start a campaign now.

        With --watch the exit code says how it ended: 0 well, 1 not, 3 it waits for
        somebody to approve a step, 4 no worker has taken it up.

        Example: campaigns run NAME --param steps.prospecting.count=5 --watch""",
    )
    app.command(
        f"{_RUN}:runs_command",
        name="runs",
        usage="Usage: campaigns runs NAME [--limit INT] [--watch] [--json]",
        help="""List a campaign's runs, newest first.

        With --watch it goes on: how they ended, what each cost, and how far the
        one is that goes on.

        Example: campaigns runs weekly-restaurant-outreach --watch""",
    )
    app.command(
        f"{_LOGS}:logs_command",
        name="logs",
        usage="Usage: campaigns logs RUN|NAME [--follow] [--json]",
        help="""Print what a run has said; of a campaign, its newest run.

        Example: campaigns logs weekly-restaurant-outreach --follow""",
    )
    app.command(
        f"{_RUN}:retry_command",
        name="retry",
        usage="Usage: campaigns retry RUN [--watch] [--json]",
        help="""Let a run that has failed go on at the step that failed.

        What has been done is not done again, nor sent again. The time of a step
        is counted anew, without the pause before the retry; its cost adds up.

        Example: campaigns retry azure-fox --watch""",
    )
    app.command(
        f"{_RUN}:cancel_command",
        name="cancel",
        usage="Usage: campaigns cancel RUN [--json]",
        help="""Cancel a run: one that goes on, waits, is due, or is suspended.

        Of one that has ended in Prefect, and goes on in the books, it puts the
        books right.

        Example: campaigns cancel azure-fox""",
    )
    app.command(
        f"{_RUN}:approve_command",
        name="approve",
        usage="Usage: campaigns approve RUN [--watch] [--json]",
        help="""Approve the step that a run waits for, and let it go on.

        campaigns show NAME says which run of a campaign waits, and until when.

        Example: campaigns approve azure-fox --watch""",
    )


def _add_all_together(app: App) -> None:
    app.command(
        f"{_EMERGENCY}:stop_command",
        name="stop",
        usage="Usage: campaigns stop --all [--cancel-running] [--reason TEXT] [--json]",
        help="""Stop everything: nothing begins until campaigns start --all.

        Every campaign that is not paused is paused. Safe to repeat. What goes on
        is left to its end unless you add --cancel-running.

        Example: campaigns stop --all --cancel-running --reason "wrong list\"""",
    )
    app.command(
        f"{_EMERGENCY}:start_command",
        name="start",
        usage="Usage: campaigns start --all [--json]",
        help="""End the emergency stop, and resume what it has paused.

        What a person or the budget had paused before stays paused.

        Example: campaigns start --all""",
    )
    app.command(
        f"{_PERSONAL_DATA}:purge_command",
        name="purge",
        usage="Usage: campaigns purge [--older-than AGE] [--yes] [--json]",
        help="""Remove what engines said in runs that ended long ago.

        Results, messages, logs and what Prefect keeps of these runs go. That they
        were, what was counted and what they cost stays in the books.

        Example: campaigns purge --older-than 180d""",
    )
    app.command(
        f"{_PERSONAL_DATA}:erase_command",
        name="erase",
        usage="Usage: campaigns erase --email ADDRESS [--email …] [--yes] [--json]",
        help="""Remove a person from all that engines said.

        A lead goes with all that stands beside the address; the books stay. On
        each machine with a worker: results and logs lie on its disk.

        Example: campaigns erase --email bob@example.com""",
    )
