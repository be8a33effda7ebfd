import sys

from airflow_chat_provider.local_server.server import main

sys.exit(main())
