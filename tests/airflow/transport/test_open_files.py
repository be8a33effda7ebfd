"""A triggerer makes a connection for each call under way: its own limit of open files is raised as far as it may be."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource
from airflow_chat_provider.transport import open_files
open_files._ENOUGH = {enough}
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, 512))
open_files.allow_all()
print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
"""


@pytest.mark.parametrize(("soft", "enough", "raised"), [(64, 1 << 16, 512), (64, 256, 256), (400, 256, 400)])
def test_the_soft_limit_is_raised_and_never_lowered(soft, enough, raised):
    command = [sys.executable, "-c", SCRIPT.format(soft=soft, enough=enough)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [raised, 512]
