"""The command ``campaigns``, as a process, against a real server and worker."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.metadata import version

import pytest
from campaign_files import campaign_json
from operating import but_strays
from prefect.exceptions import ObjectNotFound
from processes import CAMPAIGNS, run, user_environment

from prefect_campaigns.deployments.cli.help_page import IN_FEW_WORDS
from prefect_campaigns.deployments.cli.main import app

COMMANDS = [
    *["validate", "plan", "apply", "list", "show", "budget", "pause", "resume", "delete", "audit"],
    *["run", "runs", "logs", "retry", "cancel", "approve", "stop", "start"],
    *["setup", "settings", "doctor", "test-email", "api", "up", "demo"],
]
DB_COMMANDS = ["db migrate", "db backup", "db restore", "db import"]
NOWHERE = "http://127.0.0.1:9"

MISSPELT = """{
  "name": "Misspelt",
  "steps": [
    { "name": "prospecting", "engine": "prospecting",
      "endpont": "http://127.0.0.1:9/api/prospect", "timeout": "soon" }
  ]
}"""


async def test_validate_says_what_is_right(campaigns, write) -> None:
    write("good/one.json", campaign_json("Good One", NOWHERE))
    ended, as_json = await asyncio.gather(campaigns("validate", "good/"), campaigns("validate", "good/", "--json"))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "✓ good/one.json: Good One (good-one)\n"
    assert (as_json.code, as_json.err) == (0, "")
    assert json.loads(as_json.out) == {
        "success": True,
        "campaigns": [{"file": "good/one.json", "name": "Good One", "slug": "good-one"}],
    }


async def test_validate_says_everything_that_is_wrong_a_line_each_with_its_place(campaigns, write) -> None:
    write("bad/misspelt.json", MISSPELT)
    write("bad/torn.json", '{\n  "name": "Torn",\n')
    write("bad/good.json", campaign_json("Good Among Bad", NOWHERE))
    ended, as_json = await asyncio.gather(campaigns("validate", "bad/"), campaigns("validate", "bad/", "--json"))
    assert (ended.code, ended.out) == (1, "")
    lines = ended.err.splitlines()
    assert len(lines) >= 4
    assert all(line.startswith(("✗ bad/misspelt.json:", "✗ bad/torn.json:")) for line in lines), lines
    (misspelt,) = [line for line in lines if "endpont" in line]
    assert misspelt.startswith("✗ bad/misspelt.json:5:7: /steps/0/endpont: ") and "endpoint" in misspelt
    (soon,) = [line for line in lines if "soon" in line]
    assert soon.startswith("✗ bad/misspelt.json:5:64: /steps/0/timeout: ")

    body = json.loads(as_json.out)
    assert (as_json.code, body["success"]) == (1, False)
    assert [
        f"✗ {one['file']}:{one['line']}:{one['column']}: {one['pointer'] or '/'}: {one['message']}"
        for one in body["complaints"]
    ] == lines


async def test_apply_creates_and_applied_again_changes_nothing(campaigns, write, client, store) -> None:
    folder = "applied"
    write(f"{folder}/one.json", campaign_json("Cli One", NOWHERE, schedule={"cron": "0 9 * * MON", "enabled": False}))
    write(f"{folder}/two.json", {"$schema": "./schema.json", **campaign_json("Cli Two", NOWHERE)})
    created = await campaigns("apply", folder)
    assert (created.code, created.err) == (0, "")
    words = [line.split() for line in created.out.splitlines()]
    assert ["created", "campaign/cli-one", "0", "9", "*", "*", "MON", "(not", "enabled)", "UTC"] in words
    assert ["created", "campaign/cli-two", "by", "hand"] in words

    unchanged = await campaigns("apply", folder, "--json")
    body = json.loads(unchanged.out)
    assert (unchanged.code, body["success"], but_strays(body["notes"])) == (0, True, [])
    assert [(one["slug"], one["change"], one["deployment"]) for one in body["campaigns"]] == [
        ("cli-one", "unchanged", "campaign/cli-one"),
        ("cli-two", "unchanged", "campaign/cli-two"),
    ]
    deployment = await client.read_deployment_by_name("campaign/cli-one")
    assert str(deployment.id) == body["campaigns"][0]["deploymentId"]
    assert (await store.get_campaign("cli-one")).deployment_id == deployment.id


async def test_one_broken_file_among_good_ones_stops_apply_before_anything_is_changed(
    campaigns, write, client, store
) -> None:
    write("half/a-good.json", campaign_json("Never Made", NOWHERE))
    write("half/b-broken.json", MISSPELT)
    ended = await campaigns("apply", "half")
    assert (ended.code, ended.out) == (1, "")
    assert "half/b-broken.json:5:7: /steps/0/endpont: " in ended.err
    with pytest.raises(ObjectNotFound):
        await client.read_deployment_by_name("campaign/never-made")
    assert "never-made" not in [row.key for row in await store.list_campaigns()]


async def test_run_starts_a_campaign_and_runs_lists_it(campaigns, driver, engines) -> None:
    await driver.deploy("Cli Started", engines.url, only=1)
    # By its name as by its slug.
    started, as_json = await asyncio.gather(campaigns("run", "Cli Started"), campaigns("run", "cli-started", "--json"))
    assert (started.code, as_json.code) == (0, 0)
    body = json.loads(as_json.out)
    assert body["success"] and body["url"].endswith(f"/runs/flow-run/{body['runId']}")
    (first, url) = started.out.splitlines()
    run_id = url.rpartition("/")[2]
    assert first.startswith("Started run ") and first.endswith(f"({run_id})")
    for one in (run_id, body["runId"]):
        assert (await driver.ended(one)).state.name == "Completed"

    listed = await campaigns("runs", "cli-started")
    assert (listed.code, listed.err) == (0, "")
    header, *rows = [line.split() for line in listed.out.splitlines()]
    assert header == ["Started", "(UTC)", "Run", "State", "Steps", "Cost", "(USD)"]
    assert len(rows) == 2 and all("Completed" in row and "1/1" in row and "0.012" in row for row in rows)


async def test_run_with_watch_stays_to_the_end_and_says_how_it_was(campaigns, driver, engines) -> None:
    await driver.deploy("Cli Watched", engines.url, budget={"daily": 5})
    await driver.deploy("Cli Failing", engines.url, steps={"analysis": {"endpoint": f"{NOWHERE}/api/analyze"}})
    well, badly = await asyncio.gather(
        campaigns("run", "cli-watched", "--watch"), campaigns("run", "cli-failing", "--watch", "--json")
    )
    assert (well.code, well.err) == (0, "")
    for step in ("prospecting", "analysis", "outreach", "sending"):
        assert f"  {step}: completed\n" in well.out
    words = [line.split() for line in well.out.splitlines()]
    assert ["daily", "0.037", "5.00", "4.963"] in words
    assert "4 of 4 steps, 5 prospects generated" in well.out

    assert badly.code == 1
    body = json.loads(badly.out)
    assert (body["success"], body["run"]["state_name"], body["run"]["status"]) == (False, "Failed", "failed")
    assert "Step 'analysis' failed" in body["run"]["message"]
    assert "  analysis: failed\n" in badly.err, "what is watched is not among the JSON"


# What is said on stderr, in one sentence, beside exit code 1.
REFUSALS = [
    # A near miss is answered with what is near.
    (["run", "cli-nearby-campain"], {}, "there is no campaign 'cli-nearby-campain'; did you mean cli-nearby-campaign?"),
    # No server where one is said to be.
    (["run", "any"], {"PREFECT_API_URL": f"{NOWHERE}/api"}, f"no Prefect API answers at {NOWHERE}/api: "),
    # A setting that cannot be used.
    (["runs", "any"], {"SMTP_PORT": "abc"}, "SMTP_PORT is 'abc' in the environment; allowed is a whole number from 1"),
    # A folder that is not there.
    (["apply"], {}, "campaigns: there is no such file"),
    # A plan of nothing is none.
    (["plan", "nowhere.json"], {}, "nowhere.json: there is no such file"),
]


async def test_what_cannot_be_done_is_said_in_one_sentence(campaigns, driver) -> None:
    await driver.deploy("Cli Nearby Campaign", NOWHERE, only=1)
    refused = await asyncio.gather(*(campaigns(*arguments, env=env) for arguments, env, _ in REFUSALS))
    for ended, (arguments, _, sentence) in zip(refused, REFUSALS, strict=True):
        assert (ended.code, ended.out) == (1, ""), arguments
        assert ended.err.startswith(f"✗ {sentence}") and ended.err.count("\n") == 1, ended.err


# What is said on stderr, beside exit code 2: nothing was asked of anybody yet.
NOT_UNDERSTOOD = [
    (["validate"], "which files? Name campaign files, or folders of them"),
    (["stop"], "it stops everything: campaigns stop --all"),
    (["start"], "it ends the emergency stop: campaigns start --all"),
    (["run", "any", "--watch", "--dry-run"], "--watch and --dry-run are two things"),
    (["run", "any", "--send-again"], "--send-again belongs to --from STEP"),
    (["budget"], "which campaign? campaigns budget NAME shows one"),
    (["budget", "any", "--daily", "5"], "--daily sets a limit of the account"),
    (["budget", "--account", "--daily", "much"], "--daily is 'much'; "),
    (["plan", "one.json", "--prune"], "--prune deletes what has no file in a folder"),
    # What the parser itself refuses: too few, a value of another kind, one out of its range, one word too many.
    (["pause"], "requires an argument"),
    (["runs", "any", "--limit", "many"], "--limit"),
    (["audit", "--limit", "0"], "--limit"),
    (["doctor", "please"], "please"),
    (["db", "mirgate"], "mirgate"),
]


async def test_a_command_that_is_not_understood_ends_with_two(alone) -> None:
    refused = await asyncio.gather(*(alone(*arguments) for arguments, _ in NOT_UNDERSTOOD))
    for ended, (arguments, said) in zip(refused, NOT_UNDERSTOOD, strict=True):
        assert (ended.code, ended.out) == (2, "") and said in ended.err, (arguments, ended)
    asked = [["stop"], ["run"], ["runs", "x", "--limit", "0"], ["runs", "x", "--limti", "1"]]
    for as_json in await asyncio.gather(*(alone(*arguments, "--json") for arguments in asked)):
        assert (as_json.code, as_json.err) == (2, ""), as_json
        body = json.loads(as_json.out)
        assert body["success"] is False and body["error"], body


async def test_who_asks_for_json_gets_json_when_there_is_nothing_and_when_there_is_no_such_thing(
    campaigns, driver
) -> None:
    await driver.deploy("Cli Never Run", NOWHERE, only=1)
    none_yet, unknown = await asyncio.gather(
        campaigns("runs", "cli-never-run", "--json"), campaigns("runs", "zzzzzzzzzz", "--json")
    )
    assert (none_yet.code, json.loads(none_yet.out)) == (0, {"success": True, "count": 0, "runs": []})
    assert (unknown.code, unknown.err) == (1, "")
    assert json.loads(unknown.out) == {
        "success": False,
        "error": "there is no campaign 'zzzzzzzzzz'; `campaigns apply` makes one of a file",
    }


async def test_every_help_fits_a_small_terminal_and_has_an_example(tmp_path) -> None:
    # One process for all, as nearly all that each of them does is import Prefect.
    program = f"""
from prefect_campaigns.deployments.cli.main import app
for command in {COMMANDS + DB_COMMANDS}:
    app([*command.split(), "--help"])
    print("=====")
"""
    printed = await run([sys.executable, "-c", program], env=user_environment(COLUMNS="80"), cwd=tmp_path)
    assert printed.code == 0, printed.err
    pages = printed.out.split("=====\n")
    for command, page in zip(COMMANDS + DB_COMMANDS, pages, strict=False):
        assert page.startswith(f"Usage: campaigns {command} ")
        assert f"Example: campaigns {command}" in page
        lines = page.splitlines()
        assert len(lines) <= 24 and max(map(len, lines)) <= 80, page


async def test_without_arguments_there_is_help_and_a_typing_error_has_a_suggestion(campaigns) -> None:
    bare, version_, command, option = await asyncio.gather(
        campaigns(), campaigns("--version"), campaigns("vlidate"), campaigns("validate", "--jsn", "x.json")
    )
    lines = bare.out.splitlines()
    assert bare.code == 0 and len(lines) <= 24 and "Example: campaigns " in bare.out
    words = {word for line in lines for word in line.split()}
    assert words >= {*COMMANDS, "db"}
    assert (version_.code, version_.out) == (0, f"{version('prefect-campaigns')}\n")
    assert command.code == 2 and 'Did you mean "validate"?' in command.err
    assert option.code == 2 and "Did you mean --json?" in option.err


def test_every_command_stands_on_the_first_page_in_few_words() -> None:
    assert {name for name in app if not name.startswith("-")} <= set(IN_FEW_WORDS)
    assert max(map(len, IN_FEW_WORDS.values())) <= 25


async def test_completion_is_installed_for_the_shell_that_is_named(tmp_path) -> None:
    env = user_environment(HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path / "data"))
    installed = await run([CAMPAIGNS, "--install-completion", "--shell", "bash"], env=env, cwd=tmp_path)
    assert installed.code == 0, installed.err
    (script,) = [path for path in tmp_path.rglob("campaigns") if path.is_file()]
    assert "--cancel-running" in script.read_text()
