import { test } from "node:test";
import assert from "node:assert/strict";
import type { Json } from "../src/lib/api";
import { callsById, choicesOf, errorIn, replyWith, structured, turnOf } from "../src/conversation/turns";

const blocks = (message: Json) => turnOf(message, 0).blocks;

test("text, refusals, reasoning and calls each become a part", () => {
  const found = blocks({
    role: "assistant",
    content: "Hello",
    refusal: "No.",
    reasoning_content: "Hm.",
    tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: "{}" } }],
  });
  assert.deepEqual(found.map((block) => block.kind), ["reasoning", "text", "refusal", "call"]);
});

test("reasoning under two names is shown once", () => {
  const found = blocks({ role: "assistant", content: "x", reasoning: "Hm.", reasoning_content: "Hm." });
  assert.equal(found.filter((block) => block.kind === "reasoning").length, 1);
});

test("thoughts between tags at the beginning of a text are reasoning", () => {
  assert.deepEqual(blocks({ role: "assistant", content: "<think>Hm.</think>\n\nYes" }), [
    { kind: "reasoning", text: "Hm." },
    { kind: "text", text: "Yes" },
  ]);
  assert.deepEqual(blocks({ role: "assistant", content: "Write <think>x</think> tags" }).length, 1);
});

test("parts of a content become pictures, files, attachments and text, in their order", () => {
  const found = blocks({
    role: "user",
    content: [
      { type: "text", text: "Look" },
      { type: "image_url", image_url: { url: "https://a.example/x.png" } },
      { type: "input_audio", input_audio: { data: "AAAA", format: "wav" } },
      { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,AAAAAAAA" } },
      { type: "text", text: "[attachment: s3://bucket/a.png]" },
      { type: "thinking", thinking: [{ type: "text", text: "Hm" }] },
    ],
  });
  assert.deepEqual(found, [
    { kind: "text", text: "Look" },
    { kind: "picture", source: "https://a.example/x.png" },
    { kind: "file", name: "sound.wav", media: "audio", bytes: 3 },
    { kind: "file", name: "a.pdf", media: "application/pdf", bytes: 6 },
    { kind: "attachment", path: "s3://bucket/a.png" },
    { kind: "reasoning", text: "Hm" },
  ]);
});

test("a text that only begins like an attachment is text", () => {
  assert.equal(blocks({ role: "user", content: [{ type: "text", text: "[attachment: a]\nrun this" }] })[0]!.kind, "text");
});

test("the older function_call and a custom tool are calls", () => {
  const found = blocks({
    role: "assistant",
    function_call: { name: "f", arguments: { a: 1 } },
    tool_calls: [{ id: "1", type: "custom", custom: { name: "g", input: "select 1" } }],
  });
  assert.deepEqual(found, [
    { kind: "call", id: "1", name: "g", args: "select 1" },
    { kind: "call", id: null, name: "f", args: '{"a":1}' },
  ]);
});

for (const message of [null, 1, "x", [], {}, { role: 5 }, { content: 5 }, { content: [[]] }, { tool_calls: {} }, { tool_calls: [null, { function: [] }] }, { annotations: [null, 1, { url_citation: null }] }, { audio: 1 }, { reasoning_details: [null, { text: 3 }] }] as Json[]) {
  test(`${JSON.stringify(message)} in the place of a message is shown somehow`, () => {
    assert.ok(Array.isArray(blocks(message)));
  });
}

test("a tool's result is matched to its call", () => {
  const turns = [
    { role: "assistant", tool_calls: [{ id: "a", function: { name: "f" } }] },
    { role: "tool", tool_call_id: "a", content: "1" },
  ].map((message, index) => turnOf(message as unknown as Json, index));
  assert.deepEqual(callsById(turns).get("a"), { name: "f", called: 0, answered: 1 });
});

test("the reply has what only the body has", () => {
  const body = { choices: [{ message: { role: "assistant", content: "x", annotations: [1], refusal: null } }] };
  assert.deepEqual(replyWith({ role: "assistant", content: "pre-x" }, body), { role: "assistant", content: "pre-x", annotations: [1] });
});

test("choices of any body are a list", () => {
  for (const body of [null, "x", {}, { choices: 1 }, { choices: [null, 1] }] as Json[]) assert.deepEqual(choicesOf(body), []);
  assert.deepEqual(choicesOf({ choices: [{ text: "old" }] }), [{ message: { role: "assistant", content: "old" }, finishReason: null }]);
});

test("what a server says of an error is found in the usual places", () => {
  assert.equal(errorIn({ error: { message: "no" } }), "no");
  assert.equal(errorIn({ error: "no" }), "no");
  assert.equal(errorIn({ detail: "no" }), "no");
  assert.equal(errorIn({ error: { code: 3 } }), '{"code":3}');
  assert.equal(errorIn("no"), null);
});

test("only a text that is all JSON is laid out as JSON", () => {
  assert.equal(structured({ kind: "text", text: ' {"a": 1}\n' }), '{"a": 1}');
  assert.equal(structured({ kind: "text", text: "[see below]" }), null);
  assert.equal(structured({ kind: "text", text: "12" }), null);
});
