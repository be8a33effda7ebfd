"""The rules of tools, their names, their schemas, and the choice among them."""

from __future__ import annotations

from tests.core.rule_requests import (
    EMPTY,
    HI,
    Case,
    E,
    O,
    W,
    allowed,
    answer,
    call,
    calls,
    choice,
    custom,
    json_schema,
    request,
    strict,
    takes,
    talk,
    tool,
    tools,
)

M1 = "$.messages[1]"
CLOSED = {"additionalProperties": False}
CASES = [
    # Rows 8 to 11: tools and the choice among them
    Case(
        E,
        "tool_choice_without_tools",
        "$.tool_choice",
        request(tool_choice="auto"),
        request(tool_choice="none"),
    ),
    Case(
        E,
        "parallel_tool_calls_without_tools",
        "$.parallel_tool_calls",
        request(parallel_tool_calls=False),
        tools(tool(), parallel_tool_calls=False),
    ),
    Case(
        E,
        "function_call_without_functions",
        "$.function_call",
        request(function_call="auto"),
        request(function_call=None),
    ),
    Case(
        E,
        "undefined_tool",
        "$.tool_choice.function.name",
        tools(tool(), custom("g"), tool_choice=choice("function", "g")),
        tools(tool(), custom("g"), tool_choice=choice("custom", "g")),
    ),
    Case(
        E,
        "undefined_tool",
        "$.tool_choice.allowed_tools.tools[1].custom.name",
        tools(tool(), tool_choice=allowed(choice("function", "f"), choice("custom", "c"))),
        tools(tool(), custom(), tool_choice=allowed(choice("function", "f"), choice("custom", "c"))),
    ),
    Case(
        E,
        "undefined_tool",
        "$.function_call.name",
        request(functions=[{"name": "f"}], function_call={"name": "g"}),
        request(function_call=None),
    ),
    Case(O, "empty_tools", "$.tools", tools(), tools(tool())),
    Case(
        O,
        "too_many_tools",
        "$.tools",
        tools(*(tool(f"f{i}") for i in range(129))),
        tools(*(tool(f"f{i}") for i in range(128))),
    ),
    # Rows 12 to 14: names
    Case(E, "function_name", "$.tools[0].function.name", tools(tool("get weather")), tools(tool("a" * 64))),
    Case(E, "function_name", "$.tools[1].custom.name", tools(tool(), custom("c" * 65)), tools(tool(), custom())),
    Case(
        E,
        "function_name",
        f"{M1}.tool_calls[0].function.name",
        talk(calls(call(name="a.b")), answer()),
        talk(calls(call(name="a-b")), answer()),
    ),
    Case(
        E,
        "function_name",
        f"{M1}.tool_calls[0].custom.name",
        talk(calls({"id": "c1", **custom("a.b", input="x")}), answer()),
        talk(calls({"id": "c1", **custom("a-b", input="x")}), answer()),
    ),
    Case(
        E,
        "json_schema_name",
        "$.response_format.json_schema.name",
        json_schema(name="the answer\n", schema={}),
        json_schema(name="the_answer", schema={}),
    ),
    Case(
        W,
        "duplicate_tool_name",
        "$.tools[1].custom.name",
        tools(tool(), custom("f")),
        tools(tool(), custom()),
    ),
    Case(
        W,
        "message_name",
        "$.messages[0].name",
        request({**HI, "name": "Ann Lee"}),
        request({**HI, "name": "Ann_Lee"}),
    ),
    Case(
        E,
        "function_name",
        "$.functions[0].name",
        request(functions=[{"name": "a.b"}]),
        request(functions=None),
    ),
    Case(
        E,
        "function_name",
        f"{M1}.function_call.name",
        talk({"role": "assistant", "function_call": {"name": "a.b", "arguments": "{}"}}),
        talk(calls(call(name="a-b")), answer()),
    ),
    # Rows 15 to 17: the schemas of tools
    Case(O, "parameters_root", "$.tools[0].function.parameters", takes({"type": "string"}), takes(EMPTY)),
    Case(W, "parameters_properties", "$.tools[0].function.parameters", takes({"type": "object"}), takes(EMPTY)),
    Case(
        O,
        "array_without_items",
        "$.tools[0].function.parameters.properties['of all'].anyOf[1]",
        takes({**EMPTY, "properties": {"of all": {"anyOf": [{"type": "null"}, {"type": "array"}]}}}),
        takes({**EMPTY, "properties": {"of all": {"anyOf": [{"type": "array", "items": {}}]}}}),
    ),
    Case(
        W,
        "tool_description",
        "$.tools[0].custom.description",
        tools(custom(description="x" * 1025)),
        tools(custom()),
    ),
    Case(
        O,
        "strict_schema",
        "$.tools[0].function.parameters",
        takes(strict(), strict=True),
        takes(strict(**CLOSED), strict=True),
    ),
    Case(
        O,
        "strict_schema",
        "$.response_format.json_schema.schema.properties.a",
        json_schema(name="a", strict=True, schema=strict(**CLOSED, required=[])),
        json_schema(name="a", strict=False, schema=strict(**CLOSED, required=[])),
    ),
]
