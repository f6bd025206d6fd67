"""The page of ``campaigns --help``: every command on one small screen."""

from __future__ import annotations

from itertools import zip_longest

from cyclopts.help import DefaultFormatter, HelpPanel
from rich.box import ROUNDED
from rich.console import Console, ConsoleOptions
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

IN_A_COLUMN = 12
"""How many commands are listed in one column, with the first sentence of their help; more come in two, in few words."""

IN_FEW_WORDS = {
    "api": "serve the REST API",
    "apply": "deploy campaign files",
    "approve": "let a waiting run go on",
    "audit": "who did what",
    "budget": "money spent and left",
    "cancel": "end a run",
    "db": "look after the books",
    "delete": "a campaign and its runs",
    "demo": "see it all work here",
    "doctor": "is each part well?",
    "erase": "remove a person",
    "list": "how campaigns stand",
    "logs": "what a run has said",
    "pause": "until somebody resumes",
    "plan": "what apply would do",
    "purge": "remove old results",
    "report": "on a run or a month",
    "resume": "a paused campaign",
    "retry": "go on at the failed step",
    "run": "start a campaign now",
    "runs": "a campaign's runs",
    "settings": "which are in force",
    "setup": "save .env on the server",
    "show": "all about a campaign",
    "start": "end the emergency stop",
    "stop": "stop everything at once",
    "test-email": "send a mail to try it",
    "up": "run it all here",
    "validate": "check campaign files",
}


def print_commands(console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
    """Print a panel of a help page; one of many commands in two columns."""
    if panel.format != "command" or len(panel.entries) <= IN_A_COLUMN:
        DefaultFormatter()(console, options, panel)
        return
    every = [entry.names[0] for entry in panel.entries]
    names, options_too = (sorted(name for name in every if name.startswith("-") is flag) for flag in (False, True))
    half = -(-len(names) // 2)
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(no_wrap=True)
    for left, right in zip_longest(names[:half], names[half:], fillvalue=""):
        table.add_row(left, IN_FEW_WORDS.get(left, ""), right, IN_FEW_WORDS.get(right, ""))
    console.print(Panel(table, box=ROUNDED, title="Commands", title_align="left", expand=True))
    console.print(Text(f"Besides: {', '.join(options_too)}"))
    console.print(Text("Example: campaigns run --help"))
