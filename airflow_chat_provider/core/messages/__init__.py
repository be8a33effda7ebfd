"""Lists of messages, and what their parts say."""
