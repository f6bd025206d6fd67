import httpx
import pytest

from prefect_campaigns.errors import EngineAnswerInvalid
from prefect_campaigns.flows.answers import failure_in, is_going, is_job, job_urls
from prefect_campaigns.flows.jobs import PollPace, merge_results

ENDPOINT = httpx.URL("http://127.0.0.1:3000/api/analyze?tenant=7")


@pytest.mark.parametrize(
    ("said", "status_code", "expected"),
    [
        # 202 is a job, whatever it says
        ({}, 202, True),
        ({"success": True, "message": "thank you"}, 202, True),
        # unless it says that it is done
        ({"jobId": "j", "status": "completed", "analyzed": 5}, 202, False),
        # a job id is a job, with or without a status
        ({"jobId": "j"}, 200, True),
        ({"job_id": 17}, 200, True),
        ({"job_ids": ["a", "b"]}, 200, True),
        ({"jobId": "j", "status": "queued"}, 200, True),
        ({"jobId": "j", "status": "success", "estimatedCost": 1}, 200, True),  # taken, not done
        ({"jobId": "j", "status": "completed"}, 200, False),
        ({"jobId": None, "analyzed": 5}, 200, False),
        ({"job_ids": []}, 200, False),
        # batchId and id are one beside a status that goes on
        ({"batchId": "b", "status": "processing", "composed": 0}, 200, True),
        ({"id": "i", "status": "PENDING"}, 200, True),
        ({"id": "i", "status": "In-Progress"}, 200, True),
        ({"id": "i", "status": "active"}, 200, False),
        ({"id": "i"}, 200, False),
        # a batchId alone is one only if there is nothing else
        ({"batchId": "b"}, 200, True),
        ({"batchId": "b", "success": True, "message": "on its way"}, 200, True),
        ({"batchId": "b", "composed": 20, "ready": 18, "avgQuality": 80, "cost": 0.04}, 200, False),
        ({"batchId": "b", "emails": [{"to": "x"}]}, 200, False),
        ({"batchId": "b", "status": "sent"}, 200, False),
        # results
        ({"found": 20}, 200, False),
        ({"status": "ok"}, 200, False),
        ([], 200, False),
        ("done", 200, False),
    ],
)
def test_a_job_is_told_from_a_result(said: object, status_code: int, expected: bool) -> None:
    assert is_job(said, status_code) is expected


@pytest.mark.parametrize(
    ("said", "status_code", "expected"),
    [
        ({"status": "queued"}, 200, True),
        ({"status": "pending"}, 200, True),
        ({"status": "running", "progress": 0.5}, 200, True),
        ({"status": "processing"}, 200, True),
        ({"status": "brewing"}, 200, True),  # nobody knows it, and it is no end
        ({"status": "completed"}, 200, False),
        ({"status": "Completed"}, 200, False),
        ({"status": "success"}, 200, False),
        ({"jobId": "j", "progress": 10}, 200, True),
        ({"jobId": "j", "analyzed": 5}, 200, False),
        ({"analyzed": 5}, 200, False),
        ({"analyzed": 5}, 202, True),
        ({}, 200, True),  # an empty answer is no end either
        ([{"company": "A"}], 200, False),
    ],
)
def test_a_poll_tells_whether_the_job_goes_on(said: object, status_code: int, expected: bool) -> None:
    assert is_going(said, status_code) is expected


@pytest.mark.parametrize(
    ("said", "of_job", "expected"),
    [
        ({"success": False, "error": "no credit"}, False, "no credit"),
        ({"success": False}, False, "it does not say why"),
        ({"status": "failed", "error": "no credit"}, False, "no credit"),
        ({"status": "failed"}, False, "its status is failed"),
        ({"error": "no credit"}, False, "no credit"),
        ({"error": {"message": "no credit"}}, False, "no credit"),
        ({"status": "cancelled"}, True, "its status is cancelled"),
        ({"status": "timed-out"}, True, "its status is timed_out"),
        ({"status": "cancelled", "id": 3}, False, None),  # a thing that is cancelled, not a job
        ({"success": True, "error": "one mail bounced"}, False, None),
        ({"error": "one mail bounced", "sent": 19}, False, None),
        ({"error": None}, False, None),
        ({"error": ""}, False, None),
        ({"found": 20}, False, None),
        ({"success": 0}, False, None),
        ([], False, None),
        (None, True, None),
    ],
)
def test_a_failure_is_seen_under_a_status_of_success(said: object, of_job: bool, expected: str | None) -> None:
    assert failure_in(said, of_job=of_job) == expected


@pytest.mark.parametrize(
    ("said", "location", "expected"),
    [
        # Location, then statusUrl, then the job id below the endpoint
        ({"jobId": "j", "statusUrl": "/other"}, "/jobs/1", ["http://127.0.0.1:3000/jobs/1"]),
        ({"jobId": "j", "statusUrl": "/jobs/2?x=1"}, None, ["http://127.0.0.1:3000/jobs/2?x=1"]),
        ({"jobId": "j", "status_url": "jobs/3"}, None, ["http://127.0.0.1:3000/api/jobs/3"]),
        ({"jobId": "j"}, None, ["http://127.0.0.1:3000/api/analyze/j?tenant=7"]),
        ({"job_id": 17}, None, ["http://127.0.0.1:3000/api/analyze/17?tenant=7"]),
        ({"batchId": "b"}, None, ["http://127.0.0.1:3000/api/analyze/b?tenant=7"]),
        ({"id": "i", "status": "queued"}, None, ["http://127.0.0.1:3000/api/analyze/i?tenant=7"]),
        # several, each once
        (
            {"job_ids": ["a", 2, "a"]},
            None,
            ["http://127.0.0.1:3000/api/analyze/a?tenant=7", "http://127.0.0.1:3000/api/analyze/2?tenant=7"],
        ),
        # the same origin, spelled out
        ({}, "http://127.0.0.1:3000/j", ["http://127.0.0.1:3000/j"]),
        # an id is one segment, whatever is in it
        (
            {"jobId": "../a b?c#d%/é"},
            None,
            ["http://127.0.0.1:3000/api/analyze/..%2Fa%20b%3Fc%23d%25%2F%C3%A9?tenant=7"],
        ),
    ],
)
def test_a_job_is_asked_for_where_the_engine_says(said: object, location: str | None, expected: list[str]) -> None:
    urls = job_urls(said, location=location, endpoint=ENDPOINT, where="the engine")
    assert [str(url) for url in urls] == expected


@pytest.mark.parametrize(
    ("said", "location", "complaint"),
    [
        # another host, another port, another scheme
        ({}, "http://evil.example/jobs/1?token=secret", "at http://evil.example/jobs/1; only the endpoint's own"),
        ({}, "http://127.0.0.1:3001/jobs/1", "only the endpoint's own origin"),
        ({}, "https://127.0.0.1:3000/jobs/1", "only the endpoint's own origin"),
        ({"jobId": "j", "statusUrl": "//evil.example/j"}, None, "only the endpoint's own origin"),
        ({"jobId": "j", "statusUrl": "file:///etc/passwd"}, None, "only the endpoint's own origin"),
        # no place at all
        ({}, None, "does not say where to ask for it"),
        ({"jobId": {"value": "j"}}, None, "does not say where to ask for it"),
        ({"job_ids": ["a", None]}, None, "does not say where to ask for it"),
        ({}, "http://[::1", "is no URL"),
    ],
)
def test_a_job_that_cannot_be_asked_for_fails_in_a_clear_sentence(
    said: object, location: str | None, complaint: str
) -> None:
    with pytest.raises(EngineAnswerInvalid) as caught:
        job_urls(said, location=location, endpoint=ENDPOINT, where="the engine")
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)
    # The work is going on, unseen.
    assert caught.value.ambiguous


def test_the_results_of_several_jobs_are_one_result() -> None:
    first = {"runId": "a", "analyzed": 8, "cost": 0.1, "avgQuality": 80, "leads": [1], "costs": {"llm": "0.1"}}
    second = {"runId": "b", "analyzed": 2, "cost": "0.2", "avgQuality": 90, "leads": [2], "costs": {"llm": 0.2}}
    assert merge_results([first, second]) == {
        "runId": "a",
        "analyzed": 10,
        "cost": 0.3,
        "avgQuality": 85.0,
        "leads": [1, 2],
        "costs": {"llm": 0.3},
        "jobs": [first, second],
    }


def test_an_invalid_cost_of_one_job_is_not_hidden_by_the_others() -> None:
    assert merge_results([{"cost": 5}, {"cost": -1}])["cost"] == -1


def test_results_that_are_no_objects_are_kept() -> None:
    assert merge_results([[1], None, {"cost": 1, "x": None}]) == {
        "cost": 1.0,
        "x": None,
        "jobs": [[1], None, {"cost": 1, "x": None}],
    }


def test_polls_become_rarer_up_to_a_limit() -> None:
    pace = PollPace()
    delays = [pace.first_seconds]
    for _ in range(8):
        delays.append(pace.following(delays[-1]))
    assert delays[:3] == [0.5, 0.75, 1.125]
    assert delays[-1] == 5.0
