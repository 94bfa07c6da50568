"""A delivery as the task of a workflow engine (Prefect, Airflow, Dagster): safe to retry, because the journal remembers.

A retry goes on where the try before it ended, whatever ended it. What cannot be mended by trying again is told apart.

    python examples/as_a_task.py SOURCE INDEX ARCHIVE JOURNAL
"""

import sys

from upload_adapters.index_file import read_index
from upload_core import LockHeldError, NothingToDoError, UploadClient
from upload_core.outcomes import Summary


class TryAgain(Exception):  # noqa: N818 - what a workflow engine's retry policy is told to catch
    """Another try, later, may well end it: the archive was out of reach, or somebody else is at it."""


def deliver(source: str, index: str, archive: str, journal: str) -> Summary:
    """Deliver, or go on with it; raises `TryAgain` where a retry makes sense."""
    client = UploadClient(
        dataset="example",
        delivery_id="3",
        file_index=read_index(index),
        transfer_type="staging",
        source=source,
        to=f"file://{archive}",
        journal=journal,
        n_threads=0,
    )
    try:
        summary = client.run()
    except LockHeldError as error:
        raise TryAgain(str(error)) from error
    except NothingToDoError:
        return client.summary()
    if summary.exit_code in (6, 8):  # the validator stopped, the archive was out of reach
        raise TryAgain(summary.message)
    return summary


# With Prefect:   @task(retries=5, retry_delay_seconds=600, retry_condition_fn=...)   def task(...): return deliver(...)
# With Airflow:   PythonOperator(python_callable=deliver, retries=5, retry_delay=timedelta(minutes=10), ...)
# With Dagster:   @op(retry_policy=RetryPolicy(max_retries=5, delay=600))             def op(...): deliver(...)


if __name__ == "__main__":
    done = deliver(*sys.argv[1:5])
    print(done.outcome, done.counts)
    sys.exit(done.exit_code)
