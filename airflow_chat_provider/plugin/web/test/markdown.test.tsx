import { test } from "node:test";
import assert from "node:assert/strict";
import { show } from "./dom";
import { Markdown, markdownNodes } from "../src/lib/markdown";
import { CodeBlock, JsonBlock, prettyJson } from "../src/lib/code";
import { LongText, PlainText, pieceEnd, pieces } from "../src/lib/text";
import { safeUrl, saysTarget } from "../src/lib/links";

const html = async (text: string) => (await show(<Markdown text={text} />)).html;

test("HTML in a text stays text", async () => {
  const root = await show(<Markdown text={'<script>alert(1)</script> a <b onclick="x">b</b>\n\n<img src=x onerror=alert(1)>'} />);
  assert.equal(root.all("script").length + root.all("b").length + root.all("img").length, 0);
  assert.ok(root.text.includes("<script>alert(1)</script>"));
  assert.ok(root.text.includes("<img src=x onerror=alert(1)>"));
});

for (const href of [
  "javascript:alert(1)",
  "JaVaScRiPt:alert(1)",
  "java&#115;cript:alert(1)",
  "javascript&colon;alert(1)",
  "&#x01;javascript:alert(1)",
  "data:text/html,<script>1</script>",
  "vbscript:x",
  "file:///etc/passwd",
  "//evil.example/x",
  "/dags/x",
  "../api/v2/dags",
  "#top",
  "blob:https://airflow.example/1",
  "view-source:https://a.example",
]) {
  test(`a link to ${href} is text`, async () => {
    const root = await show(<Markdown text={`[click](<${href}>) <${href}> [x][r]\n\n[r]: <${href}>`} />);
    assert.deepEqual(root.all("a"), []);
    assert.ok(root.text.includes("click"));
  });
}

test("a link says its host if its text does not", async () => {
  assert.match(await html("[my bank](https://evil.example/login)"), /<a [^>]*href="https:\/\/evil\.example\/login"[^>]*>my bank<\/a><span[^>]*> \(evil\.example\)/);
  assert.match(await html("[https://bank.example](https://evil.example/)"), /leads to evil\.example</);
  assert.match(await html("[bank.example](https://bank.example@evil.example/)"), /leads to evil\.example</);
  assert.doesNotMatch(await html("https://docs.example/a"), /link-host/);
});

test("a link opens in a tab of its own that knows nothing of this one", async () => {
  assert.match(await html("<https://docs.example/a>"), /rel="noopener noreferrer"[^>]* target="_blank"/);
});

test("a host in other letters is shown as the browser reads it", () => {
  assert.equal(safeUrl("https://gоogle.com/")?.host, "xn--gogle-jye.com");
  assert.equal(saysTarget("gоogle.com", safeUrl("https://gоogle.com/")!), false);
});

test("pictures are named and never loaded", async () => {
  const root = await show(<Markdown text={"![a cat](https://tracker.example/p.png?id=1) ![](data:image/png;base64,AAAA)\n\n[![x](http://a.example/i)](http://b.example)"} />);
  assert.deepEqual(root.all("img"), []);
  assert.ok(root.text.includes("a cat") && root.text.includes("tracker.example"));
});

test("lists, task lists, tables and headings keep their structure", async () => {
  const text = "# Title\n\n3. three\n4. four\n\n- [x] done\n- [ ] open\n\n| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n> quoted\n\n~~gone~~ **bold** *it*";
  const root = await show(<Markdown text={text} />);
  assert.equal(root.all("h4").length, 1);
  assert.equal(root.all("input").length, 2);
  assert.deepEqual([root.all("td").length, root.all("th").length, root.all("blockquote").length], [2, 2, 1]);
  assert.deepEqual([root.all("s").length, root.all("strong").length, root.all("em").length], [1, 1, 1]);
  assert.ok(!root.text.includes("[x]"));
});

test("code in a known language is coloured, and nothing of it is lost", async () => {
  const code = 'def f(x):\n    return "<b>" + x  # é';
  const root = await show(<Markdown text={"```python\n" + code + "\n```"} />);
  assert.equal(root.all("code")[0]!.text, code);
  assert.ok(root.html.includes("hljs-keyword"));
});

test("code in an unknown language is shown as it is", async () => {
  const root = await show(<CodeBlock code={"a <b>"} language={'x" onload="y'} />);
  assert.equal(root.all("code")[0]!.text, "a <b>");
  assert.ok(!root.html.includes("onload"));
});

test("characters that reorder or hide text are shown as marks", async () => {
  const root = await show(<PlainText text={"user\u202etxt.exe a\u200bb \u{e0068}\u{e0069}"} />);
  assert.equal(root.text, "userRLOtxt.exe aZWSPb hidden: hi");
});

for (const [where, text] of [
  ["a paragraph", "a\u202eb"],
  ["code", "`a\u202eb`"],
  ["a fence", "```python\na = '\u202eb'\n```"],
  ["JSON", '```json\n{"a\u202e": "\u202eb"}\n```'],
  ["a table", "|a|\n|-|\n|\u202eb|"],
  ["a link", "[\u202eb](https://a.example)"],
  ["a picture", "![\u202eb](https://a.example)"],
] as const) {
  test(`no character that reorders text reaches the page from ${where}`, async () => {
    const root = await show(<Markdown text={text} />);
    assert.ok(!root.text.includes("\u202e") && root.text.includes("RLO"));
  });
}

test("emoji and scripts that join letters have no marks", () => {
  for (const text of ["❤️ 👩‍💻 1️⃣ 👍🏽", "می‌خواهم", "क्‍ष"]) assert.deepEqual(pieces(text), [text]);
});

test("a long run of characters that cannot be seen is one mark", () => {
  const [mark] = pieces("\u200b".repeat(5000));
  assert.deepEqual(typeof mark === "object" && mark.mark, "5,000 invisible".replace(",", ""));
});

test("a text above the limit is plain and comes in pieces", async () => {
  const text = "**word** " + "and more ".repeat(20_000); // few parts, so that only its size counts
  const root = await show(<Markdown text={text} />);
  assert.equal(root.all("strong").length, 0);
  assert.ok(root.text.length < text.length / 2);
  assert.ok(root.all("button").some((button) => button.text === "Show more"));
});

test("the pieces of a text are the text, and cut no character", () => {
  const text = "😀".repeat(30_000);
  const found = [];
  for (let at = 0; at < text.length; ) {
    const end = pieceEnd(text, at, 1001);
    found.push(text.slice(at, end));
    at = end;
  }
  assert.equal(found.join(""), text);
  assert.ok(found.every((piece) => !/\p{Surrogate}/u.test(piece)));
});

test("show more shows the next piece", async () => {
  const root = await show(<LongText text={"line\n".repeat(20_000)} />);
  const before = root.text.length;
  root.all("button")[0]!.fire("click");
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(root.text.length > before + 30_000);
});

for (const [name, text] of Object.entries({
  brackets: "[".repeat(100_000),
  "links that do not end": "[a](".repeat(25_000),
  "emphasis in emphasis": "*".repeat(50_000) + "a" + "*".repeat(50_000),
  "quotes in quotes": "> ".repeat(50_000) + "end",
  "lists in lists": Array.from({ length: 400 }, (_, level) => " ".repeat(level) + "- a").join("\n"),
  "wide tables": "|a".repeat(300) + "\n" + "|-".repeat(300) + "\n" + "|\n".repeat(20_000),
  "many paragraphs": "a\n\n".repeat(33_000),
})) {
  test(`${name} do not break the page`, async () => {
    const root = await show(<Markdown text={text} />);
    assert.ok(root.text.length > 0);
  });
}

test("a text with too many parts is not read as Markdown", () => assert.equal(markdownNodes("a\n\n".repeat(33_000)), null));

test("JSON is laid out without a change to its numbers or keys", async () => {
  const text = '{"id":12345678901234567890,"a":[1.10,{}],"a":[],"e":{"s":"x, y: {z}"}}';
  assert.equal(
    prettyJson(text),
    '{\n  "id": 12345678901234567890,\n  "a": [\n    1.10,\n    {}\n  ],\n  "a": [],\n  "e": {\n    "s": "x, y: {z}"\n  }\n}',
  );
  const root = await show(<JsonBlock text={text} />);
  assert.ok(root.text.includes("12345678901234567890"));
});

test("JSON that was cut is shown as it is", () => assert.equal(prettyJson('{"a": [1'), '{"a": [1'));

test("long JSON is folded and can be opened", async () => {
  const root = await show(<JsonBlock value={Array.from({ length: 300 }, (_, at) => at)} />);
  assert.ok(!root.text.includes("299"));
  const more = root.all("button").find((button) => button.text.startsWith("Show all"))!;
  more.fire("click");
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(root.text.includes("299"));
});
