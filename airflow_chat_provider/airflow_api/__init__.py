"""All that depends on the inside of Airflow."""
