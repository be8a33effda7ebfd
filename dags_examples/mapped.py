"""One task instance for each of a list of texts that an upstream task made."""

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionOperator

with DAG(dag_id="example_chat_mapped", schedule=None, doc_md=__doc__):

    @task
    def reviews() -> list[str]:
        return [
            "Works as described.",
            "Arrived broken, twice.",
            "{{ this is data, and is sent as it stands }}",
        ]

    rate = ChatCompletionOperator.partial(
        task_id="rate",
        system_prompt="Say in one word whether a review is good or bad.",
        request={"temperature": 0, "seed": 1, "max_tokens": 8},
        result_format="text",
    ).expand(prompt=reviews())

    @task
    def collect(answers: list[str]) -> list[str]:
        return [answer.strip() for answer in answers]

    collect(rate.output)
