"""What is asked of Airflow on an event loop that belongs to all triggers of a triggerer."""

import asyncio

import pytest
from asgiref.sync import async_to_sync

from airflow_chat_provider.airflow_api.compat import in_thread, uncut


@pytest.mark.parametrize("how", ["on the loop", "in a thread"])
def test_an_exchange_with_airflow_is_not_cut_off_when_its_trigger_is_cancelled(how):
    """Before Airflow 3.3 an answer that nobody reads is taken for that to the next question: the triggerer ends."""

    async def main():
        asked, answer, read = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def exchange():
            asked.set()
            await answer.wait()
            read.set()

        asking = uncut(exchange()) if how == "on the loop" else in_thread(async_to_sync(exchange))
        trigger = asyncio.ensure_future(asking)
        await asked.wait()
        trigger.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trigger
        answer.set()
        await asyncio.wait_for(read.wait(), 10)

    asyncio.run(main())
