"""What the models of `cases.py` answer, each by its name; those of the examples do what they are asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from airflow_chat_provider.testing import Received, Reply, replies
from tests.support.obliging import obliging

RICH = """# A heading

Some **bold** and *slanted* words, `code`, and a [link](https://example.com/page).

1. first
2. second

| Product | Left |
|---|---:|
| kettle | 12 |

```python
def total(orders):
    return sum(order.amount for order in orders)
```

```json
{"kettle": [12, true, null]}
```
"""
SHOWN = """Two problems:

| Problem | Who can help |
|---|---|
| **The kettle leaks.** | returns |
| **Mails are not answered.** | customer service |

As JSON, for the task downstream:

```json
{"problems": ["leaks", "no answer"], "wants_reply": true}
```
"""
"""For the pictures of the documentation."""
MARKUP = """<script>document.title = "owned"; alert(1)</script>
<img src=x onerror="alert(2)"><svg onload="alert(3)"><iframe srcdoc="<script>alert(4)</script>"></iframe>
<style>body {{ display: none }}</style><a href="javascript:alert(5)">click</a><base href="{elsewhere}/">
<form action="{elsewhere}/form"><input autofocus onfocus="alert(6)"></form><object data="{elsewhere}/o"></object>

Inside of *emphasis <b onclick="alert(7)">bold</b>* and `<script>alert(8)</script>`:

```html
<img src=x onerror="alert(9)"><script>alert(10)</script>
```
"""
LINKS = """[script](javascript:alert(1)) [spaced]( java&#x09;script:alert(2))
[data](data:text/html,<script>alert(3)</script>)
[vb](vbscript:msgbox(1)) [file](file:///etc/passwd) [blob](blob:null/x) [relative](../api/v2/dags)

![picture]({elsewhere}/picture.png) ![svg](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDQpIi8+)
[![both]({elsewhere}/both.png)]({elsewhere}/link)

[elsewhere]({elsewhere}/page "a title") <{elsewhere}/auto> {elsewhere}/bare

[reference][one]

[one]: {elsewhere}/reference
"""
ENTITIES = (
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x onerror=alert(2)&#62; &amp;lt;b&amp;gt; &copy; &nothing;"
)
BIDI = "The key is \u202eterces\u202c, zero\u200bwidth, \u2066isolated\u2069, tag \U000e0041\U000e0042, bell \u0007."
MEGABYTE = "A long answer, of *many* words. " * 32_768
COUNTS = {"prompt_tokens": 64, "completion_tokens": 71, "total_tokens": 135, "cost": 0.0000312}
SECRET = "only for those who may see the DAG"
ASKED_AGAIN = '{"sentiment": "so-so"}'


def answer_for(elsewhere: str) -> Callable[[Received], Reply]:
    """For `ChatServer.default`. ``elsewhere`` is the origin to which hostile texts lead."""
    texts = {
        "rich": RICH,
        "markup": MARKUP.format(elsewhere=elsewhere),
        "links": LINKS.format(elsewhere=elsewhere),
        "entities": ENTITIES,
        "bidi": BIDI,
        "megabyte": MEGABYTE,
        "prompt_markup": "Seen.",
        "plain": "A plain answer.",
        "secret": SECRET,
        "without_messages": "Not in the list of messages.",
    }

    def answer(request: Received) -> Reply:
        asked = request.json
        name = asked["model"]
        if name in texts:
            return replies.ok(texts[name], model=name, headers={"x-request-id": f"req-{name}"})
        if asked.get("tools") and asked["messages"][-1]["role"] == "user":
            return replies.tool_calls([("stock_of", {"product": "desk lamp"})])
        if name == "Qwen/Qwen3-8B":
            return replies.ok(SHOWN, model=name, usage=COUNTS, headers={"x-request-id": "req-5f1c29"})
        special = _SPECIAL.get(name)
        return special(asked) if special else obliging(request)

    return answer


def _asked_again(asked: dict[str, Any]) -> Reply:
    return replies.ok(ASKED_AGAIN if len(asked["messages"]) == 1 else '{"sentiment": "good"}', model="asked_again")


def _second_try(asked: dict[str, Any]) -> Reply:
    if "try 1" in asked["messages"][-1]["content"]:
        return replies.error(503, "The model is being loaded")
    return replies.ok("Loaded now.", model="second_try")


def _several(_asked: dict[str, Any]) -> Reply:
    choices = [
        {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for at, text in enumerate(["The first choice.", "The second choice."])
    ]
    return replies.json_reply(200, replies.completion(model="several", choices=choices))


def _branch(asked: dict[str, Any]) -> Reply:
    return replies.ok(json.dumps({"branch": "refund"}), model="branch") if asked else replies.ok()


def _batch(asked: dict[str, Any]) -> Reply:
    text = asked["messages"][-1]["content"]
    if "bad" in text:
        return replies.error(400, "The row has <b>bad</b> words")
    return replies.error(503, "Broken for a while") if "broken" in text else replies.ok("fine", model="batch")


_SPECIAL: dict[str, Callable[[dict[str, Any]], Reply]] = {
    "asked_again": _asked_again,
    "second_try": _second_try,
    "several": _several,
    "branch": _branch,
    "batch": _batch,
    "reasoning": lambda _: replies.ok("42", model="reasoning", reasoning_content="First I *think*.\n\nThen I add."),
    "cut_off": lambda _: replies.ok("It ends in the middle of a", model="cut_off", finish_reason="length"),
    "streamed": lambda _: replies.stream("It came in pieces."),
    "wrong_key": lambda _: replies.error(401, "Incorrect API key provided: sk-***", "invalid_api_key"),
    "limited": lambda _: replies.rate_limited(1.0),
    "not_a_completion": lambda _: replies.text(200, "<html>Sign in</html>", "text/html"),
}
