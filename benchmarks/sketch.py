"""The least that calls a chat completions API from a task and checks the request: what does everything else cost?

For comparison only. It has no retries, no wall clock, no limits, no truth about what a 200 holds, one XCom.
"""

from __future__ import annotations

import http.client
import json
from functools import cache
from importlib.resources import files
from urllib.parse import urlsplit

from airflow.sdk import BaseHook, BaseOperator


class Sketch(BaseOperator):
    template_fields = ("request",)

    def __init__(self, *, request, conn_id="chat_default", **kwargs):
        super().__init__(**kwargs)
        self.request = request
        self.conn_id = conn_id

    def render_template(self, content, context, jinja_env=None, seen_oids=None):
        if isinstance(content, str) and "{" not in content:
            return content
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context):  # noqa: ARG002 - the signature is Airflow's
        validate(self.request)
        connection = BaseHook.get_connection(self.conn_id)
        url = urlsplit(connection.host)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        client = kind(url.netloc, timeout=600)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {connection.password}"}
        client.request("POST", f"{url.path}/chat/completions", json.dumps(self.request), headers)
        response = client.getresponse()
        body = json.loads(response.read())
        client.close()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}")
        return {"body": body, "status": response.status}


def validate(request):
    for error in validator().iter_errors(request):
        raise error


@cache
def validator():
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    plain_one_of, plain_enum = (Draft202012Validator.VALIDATORS[name] for name in ("oneOf", "enum"))

    def one_of(self, branches, instance, schema):
        discriminator = schema.get("discriminator")
        branch = discriminator and discriminator["mapping"].get(instance.get(discriminator["propertyName"]))
        if branch:
            yield from self.descend(instance, {"$ref": branch})
        else:
            fitting = [branch for branch in branches if "type" not in branch or self.is_type(instance, branch["type"])]
            yield from plain_one_of(self, fitting, instance, schema)

    def enum(self, allowed, instance, schema):
        if not isinstance(instance, str) or instance not in allowed:
            yield from plain_enum(self, allowed, instance, schema)

    return extend(Draft202012Validator, {"oneOf": one_of, "enum": enum})(schema())


@cache
def schema():
    path = files("airflow_chat_provider") / "core" / "schemas" / "2026-11.json"
    return json.loads(path.read_text("utf-8"))
