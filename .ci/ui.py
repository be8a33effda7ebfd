"""Starts Airflow with its UI, the embedded model and runs of the examples, for somebody who wants to look at it."""

import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# The developer's own Airflow must not be what is looked at.
for _name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[_name]

from airflow_chat_provider.local_server import LocalServer  # noqa: E402 - see above
from tests.support.airflow_process import Run  # noqa: E402
from tests.support.airflow_site import AirflowSite, password  # noqa: E402

EXAMPLES = ("quickstart", "chained", "mapped", "deferred", "typed_answers", "bulk_reviews")
SECONDS = 1800.0
"""The most that a run takes: the model is slow on a machine that is busy."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="airflow-chat-ui-") as folder:
        home = Path(folder)
        print("Starting the model …", flush=True)
        with LocalServer(port=0) as model:
            print("Starting Airflow, which takes half a minute …", flush=True)
            with AirflowSite(home, model.url, model=model.model) as site:
                show(site, home)


def show(site: AirflowSite, home: Path) -> None:
    print(
        f"\nAirflow is at {site.url}/\n"
        f"Log in as admin with the password {password('admin')}, or as viewer with {password('viewer')}.\n"
        f"Tokens and cost: {site.url}/chat/usage. Ctrl-C ends it.\n"
    )
    for name in EXAMPLES:
        conf = {"output": str(home / "out")} if name.startswith("bulk") else {}
        run = site.trigger(f"example_chat_{name}", conf)
        print(f"{name}: {run.wait_state(SECONDS)}, {page_of(site, run)}", flush=True)
    print("\nAll examples have run.", flush=True)
    while True:
        time.sleep(3600)


def page_of(site: AirflowSite, run: Run) -> str:
    return f"{site.url}/dags/{run.dag_id}/runs/{run.run_id}"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nEnded.")
