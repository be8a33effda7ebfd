"""A request: put together, typed and checked before anything is sent."""
