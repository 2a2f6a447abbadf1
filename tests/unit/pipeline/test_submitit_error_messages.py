"""What submitit raises for a job that died is one sentence."""

from submitit.core.utils import FailedJobError, UncompletedJobError

from locheads.pipeline.error_messages import explain


def test_a_job_that_failed_is_one_sentence() -> None:
    error = FailedJobError("Job (task=0) failed during processing with trace:\n----\nValueError: no such thing")
    assert (explain(error) or "").startswith("A job of the queue did not end well (ValueError: no such thing): its log")
    assert "UncompletedJobError" in (explain(UncompletedJobError()) or "")
