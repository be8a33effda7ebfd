"""A stream's chunks, put together into the body that the same call returns unstreamed."""
