from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_chat_provider.testing import BatchServer
from tests.support.vendor import VendorBatch


@pytest.fixture
def vendor(nothing_learnt: None) -> Iterator[BatchServer]:
    """A vendor's batch API, which answers each request with its prompt."""
    with BatchServer() as server:
        yield server


@pytest.fixture
def bulk(tmp_path: Path, vendor: BatchServer, connect: Callable[..., str]) -> VendorBatch:
    """A batch that goes through the vendor's batch API."""
    connect(**vendor.connection)
    return VendorBatch(tmp_path, vendor)
