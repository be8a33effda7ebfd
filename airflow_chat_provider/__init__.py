"""A chat completion as an Apache Airflow task."""

__version__ = "0.1.0"
