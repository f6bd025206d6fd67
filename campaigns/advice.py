"""What to do about a step that failed, by what its error says."""

from __future__ import annotations

import re

_GO_ON = "campaigns retry {run} goes on at this step"

_ADVICE = (
    (
        r"mails may have gone out",
        "Ask the engine what went out before anything is sent again; campaigns run {campaign} --from {step}"
        " --send-again sends it again.",
    ),
    (r"has sent with the same results already", "It is not sent a second time by itself, and this says so."),
    (
        r"may not be asked: its host is none of CAMPAIGNS_ALLOWED_HOSTS",
        f"Name the host in CAMPAIGNS_ALLOWED_HOSTS, and restart the worker; {_GO_ON}.",
    ),
    (
        r"is not followed: the step's endpoint must be the final address",
        "Write the address that is pointed to into the step's endpoint, and campaigns apply it.",
    ),
    (r"^no connection to ", f"Start the engine, or correct the step's endpoint; {_GO_ON}."),
    (r" answered 40[13]\b", f"Correct the key that the step's headers send; {_GO_ON}."),
    (
        r" answered 40[45]\b",
        "Correct the step's endpoint or method, and campaigns apply it.",
    ),
    (
        r" answered 4(00|13|15|22)\b",
        "campaigns run {campaign} --dry-run shows what is sent: correct the step's params, and campaigns apply them.",
    ),
    (
        r" answered (408|425|429|5\d\d)\b",
        f"The engine was busy or broken: {_GO_ON}. With retry.attempts a run tries again by itself.",
    ),
    (
        r"no whole answer within ",
        f"See why the engine is slow, or raise the step's timeoutSeconds; {_GO_ON}.",
    ),
    (
        r"left and was not answered|broken off while its request was under way",
        f"What the engine did is not known; with its Idempotency-Key the same work is not paid twice: {_GO_ON}.",
    ),
    (
        r"no usable JSON|sent .* is larger than|nested",
        "The engine's answer is none that a campaign understands: correct the engine.",
    ),
    (
        r"left no result|has no (key|item)|\bsteps\.",
        "A step before did not return what this one needs: compare its answer with the reference in params.",
    ),
    (r"secret", f"Set the secret, and restart the worker if it is an environment variable; {_GO_ON}."),
    (r"^budget: ", "Raise the limit in the campaign's file and campaigns apply it, or wait for the next window."),
    (r"was not approved by ", "campaigns run {campaign} --from {step} asks for the approval again."),
)


def what_to_do(error: str, *, campaign_key: str, run: str, step: str) -> str:
    """Return in one sentence what a person can do about a step's failure.

    Args:
        error: the step's error, as the run's report has it.
        run: the run's name, or its id.
    """
    found = next((advice for pattern, advice in _ADVICE if re.search(pattern, error)), None)
    advice = found or f"campaigns logs {{run}} shows what led to it; {_GO_ON}."
    return advice.format(campaign=campaign_key, run=run, step=step)
