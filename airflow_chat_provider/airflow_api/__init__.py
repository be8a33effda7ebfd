"""Everything that depends on Airflow's internals."""
