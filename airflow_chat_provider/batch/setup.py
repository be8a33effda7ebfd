"""From the arguments of a batch, as they are once its templates are rendered, to a job that is ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch import checks
from airflow_chat_provider.batch.engine import Engine
from airflow_chat_provider.batch.files import local_path
from airflow_chat_provider.batch.input import open_source
from airflow_chat_provider.batch.job import Job
from airflow_chat_provider.batch.lineage import begun
from airflow_chat_provider.batch.output.history import History
from airflow_chat_provider.batch.output.lines import Shape
from airflow_chat_provider.batch.output.local import LocalStore
from airflow_chat_provider.batch.output.object_store import ObjectStore
from airflow_chat_provider.batch.output.tally import Tally
from airflow_chat_provider.batch.probes import Probes
from airflow_chat_provider.batch.requests import Requests
from airflow_chat_provider.batch.reuse import Reuse
from airflow_chat_provider.batch.twins import Twins
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.task.arguments import ChatArguments
from airflow_chat_provider.task.limits import priced
from airflow_chat_provider.task.lineage import named_model
from airflow_chat_provider.task.xcoms import Upstream
from airflow_chat_provider.transport import server_memory
from airflow_chat_provider.transport.price_list import PriceList

if TYPE_CHECKING:
    from airflow_chat_provider.batch.output.store import Store
    from airflow_chat_provider.batch.vendor.work import Terms
    from airflow_chat_provider.templates.request_template import RequestTemplate


def make_job(task: Any, template: RequestTemplate, terms: Terms | None = None) -> Job:
    """Look up the connection and read the input once. Raises InvalidRequest for what is wrong with the arguments.

    The model is the upstream task's or the connection's, for requests that name none. ``terms`` are those of a job
    that goes through the batch API.
    """
    chat = ChatArguments.from_task(task)
    upstream = Upstream(chat.configuration or {})
    connection = upstream.hook(chat).settings
    schema = load_schema(named_schema := upstream.schema(chat, connection))
    settings = connection._replace(model=upstream.values.get("model") or connection.model)
    settings = settings.override(max_total_tokens=chat.max_total_tokens, max_cost=chat.max_cost)
    if settings.max_cost is not None and (model := named_model(task) or settings.model) is not None:
        priced(model, PriceList(settings), settings.conn_id)  # rows with models of their own have errors of their own
    wanted = chat.wanted()
    server_memory.warn(wanted)
    source = open_source(task.input)
    survey = source.survey()
    if not survey.rows:
        task.log.info("There is nothing to send: %s has no rows", source.name)
    rows = checks.Shard.parse(task.shard).indices(survey.rows)
    configuration = {
        "model": named_model(task) or settings.model,
        "base_url": settings.base_url,
        "request_schema": named_schema,
    }
    task.facts = begun(task, configuration, source, len(rows))
    at_once = int(checks.number("max_concurrency", task.max_concurrency))
    shape = Shape(task.id_key, chat.result_format, task.response_key, chat.on_incomplete, task.keep_row)
    store = make_store(task, at_once)
    reuse = None if task.reuse is None else Reuse(task.reuse, shape, wanted, store)
    has_reuse = reuse is not None and bool(reuse.folders)
    checks.allow_sockets(at_once + (reuse.folders if reuse is not None else 0))
    engine = Engine(
        settings=settings,
        requests=Requests(template, settings, schema, task.id_key, survey.rows, chat.max_attachment_bytes, chat.dag),
        wanted=wanted,
        shape=shape,
        store=store,
        history=History(survey.rows, rows),
        tally=Tally(len(rows), currency=settings.currency),
        max_concurrency=at_once,
        requests_per_minute=checks.optional_number("requests_per_minute", task.requests_per_minute),
        tokens_per_minute=checks.optional_number("tokens_per_minute", task.tokens_per_minute),
        max_failures=checks.most_failures(task.max_failures, len(rows)),
        reuse=reuse if has_reuse else None,
        probes=Probes(rows) if has_reuse and source.is_local else None,
        twins=Twins(store, shape, rows, survey.rows) if task.deduplicate else None,
    )
    if terms is not None:
        from airflow_chat_provider.batch.vendor.job import Stretch, VendorJob

        vendor = terms, Stretch()
        return VendorJob(source, survey, engine, task.shard, task.on_changed, task.max_failures, *vendor)
    return Job(source, survey, engine, task.shard, task.on_changed, task.max_failures)


def make_store(task: Any, in_flight: int) -> Store:
    """The output folder; it is not open yet. ``in_flight``: how many answers may come once it has no more room."""
    part_rows, part_seconds = (
        int(checks.number("part_rows", task.part_rows)),
        checks.number("part_seconds", task.part_seconds),
    )
    mode = checks.file_mode(task.file_mode)
    folder: Any = task.output_path
    if task.shard:
        folder = f"{str(folder).rstrip('/')}/shard-{checks.Shard.parse(task.shard)}"
    local = local_path(folder)
    return ObjectStore(folder, part_rows, part_seconds) if local is None else LocalStore(local, in_flight, mode)
