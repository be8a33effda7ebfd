"""The provider without Airflow, HTTP or a clock: what is decided, not how it is done."""
