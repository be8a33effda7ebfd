"""The example DAG with a dry run, run by the real Airflow."""

from typing import Any

import pytest

from tests.support.running import Run, load_dag


@pytest.fixture
def run(project: Any, run_dag: Any, chat: Any) -> Any:
    """Run an example by its name."""

    def go(name: str, conf: dict[str, Any]) -> Run:
        dag = load_dag(project / "dags_examples" / f"{name}.py", f"example_chat_{name}")
        return Run(run_dag(dag, run_conf=conf))

    return go


@pytest.mark.parametrize(("most_tokens", "sent", "state"), [(10_000, 8, "success"), (100, 0, "skipped")])
def test_preflight_sends_the_batch_only_if_the_dry_run_counts_few_tokens(
    run: Any, chat: Any, tmp_path: Any, most_tokens: int, sent: int, state: str
) -> None:
    finished = run("preflight", {"output": str(tmp_path), "most_tokens": most_tokens})
    assert (finished.state, finished.states()["classify"], len(chat.requests)) == ("success", state, sent)
    plan = finished.xcoms("estimate")["return_value"]
    assert (plan["rows"], plan["output_tokens"]) == (8, 40)
