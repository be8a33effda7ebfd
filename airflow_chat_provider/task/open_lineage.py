"""What OpenLineage is told of a task, in the classes of its provider: nothing imports this where that is not installed.

The facet follows the rules for custom facets of https://github.com/OpenLineage/OpenLineage/blob/main/spec/OpenLineage.md;
its schema is in docs/openlineage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.sdk import Asset
from attrs import define
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import RunFacet, input_statistics_input_dataset, output_statistics_output_dataset

from airflow_chat_provider import __version__
from airflow_chat_provider.core.request.attachments import shown
from airflow_chat_provider.core.request.schema import NAMES
from airflow_chat_provider.provider_info import get_provider_info

if TYPE_CHECKING:
    from airflow_chat_provider.task.lineage import Facts, File

KEY = "airflowChat_completion"
_SITE = get_provider_info()["integrations"][0]["external-doc-url"]
_PRODUCER = f"{_SITE}?version={__version__}"
_SCHEMA = f"{_SITE}openlineage/1-0-0/AirflowChatCompletionRunFacet.json#/$defs/AirflowChatCompletionRunFacet"
_WITH_CONNECTION = r"^(s3[an]?|gcs|gs)://[^/@]*@"


@define
class AirflowChatCompletionRunFacet(RunFacet):  # type: ignore[misc] # it is Any where the package is missing
    """``usage`` has the keys of the XCom, ``rows`` those of a batch's manifest."""

    model: str | None = None
    endpoint: str | None = None
    requestSchema: str | None = None  # noqa: N815 - as OpenLineage writes names
    usage: dict[str, Any] | None = None
    rows: dict[str, Any] | None = None

    @staticmethod
    def _get_schema() -> str:
        return _SCHEMA


def operator_lineage(facts: Facts, inlets: Iterable[Any] = (), outlets: Iterable[Any] = ()) -> OperatorLineage:
    """What a task is about to do, or has come to, well or not. ``inlets`` and ``outlets`` are those of the task."""
    lineage = OperatorLineage(run_facets=_facets(facts))
    if facts.inputs or facts.outputs:  # or else the provider itself looks at hooks, inlets and outlets
        lineage.inputs = [*map(_input, facts.inputs), *_declared(inlets)]
        lineage.outputs = [*map(_output, facts.outputs), *_declared(outlets)]
    return lineage


def _facets(facts: Facts) -> dict[str, Any]:
    """The run facet, if anything is known."""
    told = facts.configuration
    schema, url = told.get("request_schema"), told.get("base_url")
    known = {
        "model": told.get("model"),
        "endpoint": shown(url) if url else None,
        "requestSchema": schema if schema is None or schema in NAMES else "custom",
        "usage": facts.usage,
        "rows": facts.rows,
    }
    given: dict[str, Any] = {name: value for name, value in known.items() if value}
    facet: Any = AirflowChatCompletionRunFacet  # whose arguments mypy cannot see where the package is missing
    return {KEY: facet(**given, producer=_PRODUCER)} if given else {}


def _input(file: File) -> InputDataset:
    namespace, name = _named(file.uri)
    facet = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=file.rows, fileCount=1)
    return InputDataset(namespace, name, inputFacets={"inputStatistics": facet})


def _output(file: File) -> OutputDataset:
    namespace, name = _named(file.uri)
    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=file.rows)
    return OutputDataset(namespace, name, outputFacets={"outputStatistics": facet})


def _named(uri: str) -> tuple[str, str]:
    """Namespace and name of a file, as OpenLineage names it: without the connection that Airflow's URI may have."""
    uri = re.sub(_WITH_CONNECTION, r"\1://", uri)
    by_provider = translate_airflow_asset(Asset(uri=uri), None)
    found = by_provider or ExtractorManager.convert_to_ol_dataset_from_object_storage_uri(uri)
    return found.namespace, found.name


def _declared(assets: Iterable[Any]) -> list[Dataset]:
    """Inlets or outlets of the task, as far as OpenLineage has names for them."""
    found = (
        translate_airflow_asset(asset, None)  # earlier versions of the manager know no assets
        if isinstance(asset, Asset)
        else ExtractorManager.convert_to_ol_dataset(asset)
        for asset in assets
    )
    return [dataset for dataset in found if dataset is not None]
