"""One chat completion as a task: prompt and temperature are templates, the answer's text is the return value."""

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionOperator

with DAG(
    dag_id="example_chat_quickstart",
    schedule=None,
    params={"topic": "data pipelines", "temperature": 0.2},
    doc_md=__doc__,
):
    ask = ChatCompletionOperator(
        task_id="ask",
        system_prompt="You are a helpful assistant. Answer in one sentence.",
        prompt="What are {{ params.topic }} good for?",
        request={"temperature": "{{ params.temperature }}", "max_tokens": 60},
        result_format="text",
    )

    @task
    def show(answer: str) -> None:
        print(f"The answer: {answer}")  # noqa: T201 - a task's log

    show(ask.output)
