"""Text from models and servers is text: nothing of it runs, is loaded, or leads anywhere unseen.

After each test, `visit` fails it if a dialog opened, another origin was asked, or the policy was violated.
"""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

import airflow_chat_provider
from tests.system.ui.answers import LINKS, MARKUP
from tests.system.ui.conftest import PROMPT_MARKUP

STATIC = Path(airflow_chat_provider.__file__).parent / "plugin" / "static"
HANDLERS = """[...document.querySelectorAll("*")].filter(
    (element) => [...element.attributes].some((attribute) => /^on/i.test(attribute.name))).length"""
DANGEROUS = "script, style, iframe, object, embed, svg, math, form, input, base, link, meta, video, audio, template"


def reply_of(viewer, task_id):
    page = viewer.conversation("ui_untrusted", task_id)
    reply = page.locator("article.is-reply")
    expect(reply).to_be_visible()
    return page, reply


def test_markup_in_an_answer_is_shown_as_text(viewer, elsewhere):
    page, reply = reply_of(viewer, "markup")
    for line in (
        '<script>document.title = "owned"; alert(1)</script>',
        'onload="alert(3)"',
        "<base href=",
        "alert(10)",
    ):
        expect(reply).to_contain_text(line)
    assert reply.locator(DANGEROUS).count() == 0
    assert reply.locator("img").count() == 0
    assert page.evaluate(HANDLERS) == 0
    assert page.title() != "owned"
    assert elsewhere.requests == []
    assert MARKUP.count("alert(") == 10


def test_markup_in_a_prompt_is_shown_as_text(viewer):
    page = viewer.conversation("ui_untrusted", "prompt_markup")
    expect(page.locator("article.role-user")).to_contain_text("<script>alert(2)</script>")
    expect(page.locator("article.role-user")).to_contain_text("{{ 7 * 7 }}")
    assert page.locator("article.role-user b").count() == 0
    assert "alert(2)" in PROMPT_MARKUP


def test_only_links_to_the_web_and_to_mail_can_be_followed(viewer):
    _, reply = reply_of(viewer, "links")
    addresses = reply.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert addresses
    assert {address.partition(":")[0] for address in addresses} <= {"http", "https", "mailto"}
    for word in ("javascript:", "vbscript:", "file:", "data:text/html"):
        assert word in LINKS.replace("&#x09;", "")
        assert not any(word in address for address in addresses)
    assert reply.locator("a:not([rel='noopener noreferrer'])").count() == 0


def test_a_link_whose_text_hides_its_host_says_it(viewer, elsewhere):
    _, reply = reply_of(viewer, "links")
    expect(reply.locator(".link-host").first).to_contain_text("127.0.0.1")


def test_pictures_elsewhere_are_not_loaded(viewer, elsewhere):
    page, reply = reply_of(viewer, "links")
    assert reply.locator("img").count() == 0
    expect(reply).to_contain_text(re.compile("not loaded", re.IGNORECASE))
    page.wait_for_timeout(300)
    assert elsewhere.requests == []
    assert not any("picture.png" in address for address in viewer.asked)


def test_entities_stay_what_markdown_makes_of_them(viewer):
    _, reply = reply_of(viewer, "entities")
    expect(reply).to_contain_text("<script>alert(1)</script>")
    expect(reply).to_contain_text("<img src=x onerror=alert(2)>")
    expect(reply).to_contain_text("&lt;b&gt;")


def test_characters_that_hide_or_reorder_text_are_shown(viewer):
    _, reply = reply_of(viewer, "bidi")
    marks = reply.locator(".mark").all_inner_texts()
    assert {"RLO", "PDF", "ZWSP", "LRI", "PDI"} <= set(marks)
    assert any("hidden: AB" in mark for mark in marks)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b]", reply.inner_text())


def test_an_answer_of_a_megabyte_is_shown_in_pieces(viewer):
    page, reply = reply_of(viewer, "megabyte")
    expect(reply.get_by_role("button", name="Show more")).to_be_visible()
    assert len(reply.inner_text()) < 400_000
    # The page still answers at once.
    begun = page.evaluate("performance.now()")
    reply.get_by_role("button", name="Show more").click()
    assert page.evaluate("performance.now()") - begun < 2000


def test_ten_thousand_messages_are_shown_from_their_end(viewer, broken):
    messages = [
        {"role": "assistant" if at % 2 else "user", "content": f"Message **{at}** of many <b>x</b>"}
        for at in range(10_000)
    ]
    broken.write(0, "messages", messages)
    page = viewer.conversation("ui_broken", "ask", 0)
    shown = page.locator("article.message")
    expect(shown.last).to_contain_text("Message 9999 of many <b>x</b>")
    assert shown.count() <= 300
    page.get_by_role("button", name=re.compile("Show .* earlier")).click()
    expect(shown.first).to_contain_text("Message 9600")
    page.goto(f"{page.url}#message-1")
    expect(page.locator("#message-1")).to_contain_text("Message 0 of many")


@pytest.mark.parametrize("kind", ["image/svg+xml", "text/html"])
def test_a_data_uri_that_is_no_bitmap_is_not_a_picture(viewer, broken, kind):
    picture = {"type": "image_url", "image_url": {"url": f"data:{kind};base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEpIi8+"}}
    broken.write(1, "messages", [{"role": "user", "content": [picture]}])
    page = viewer.conversation("ui_broken", "ask", 1)
    expect(page.locator("article.message")).to_contain_text("Picture, not loaded")
    assert page.locator("article.message img").count() == 0


def test_a_picture_in_a_message_is_shown(viewer, broken, project):
    data = (project / "dags_examples" / "data" / "invoices" / "invoice-1041.png").read_bytes()
    import base64

    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    broken.write(1, "messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])
    page = viewer.conversation("ui_broken", "ask", 1)
    expect(page.locator("img.picture")).to_be_visible()
    assert page.evaluate("document.querySelector('img.picture').naturalWidth") > 10


def test_strange_names_in_a_message_break_nothing(viewer, broken):
    messages = [
        {"role": "__proto__", "content": "role"},
        {"role": "constructor", "content": [{"type": "toString", "x": 1}], "name": "<i>name</i>"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "__proto__", "function": {"name": "<img src=x>", "arguments": "{"}}, 7],
        },
        "not a message",
        None,
        {"content": {"deep": [[[[[[1]]]]]]}},
    ]
    broken.write(2, "messages", messages)
    page = viewer.conversation("ui_broken", "ask", 2)
    expect(page.locator("article.message")).to_have_count(len(messages))
    expect(page.get_by_text("<img src=x>")).to_be_visible()


def test_the_policy_would_stop_what_slipped_through(visit):
    page = visit("viewer").conversation("ui_answers", "rich")
    stopped = page.evaluate(
        """async () => {
            const said = [];
            addEventListener("securitypolicyviolation", (event) => said.push(event.effectiveDirective));
            try { document.body.innerHTML = "<b>x</b>"; } catch (error) { said.push(error.name); }
            const picture = new Image();
            picture.src = "http://127.0.0.1:9/x.png";
            await fetch("http://127.0.0.1:9/").catch(() => undefined);
            await new Promise((resolve) => setTimeout(resolve, 300));
            return said;
        }"""
    )
    assert {"TypeError", "img-src", "connect-src"} <= set(stopped)


@pytest.fixture
def visit(visit, request):
    """The test that provokes violations is not blamed for them."""
    opened = []

    def remembering(*arguments, **options):
        opened.append(visit(*arguments, **options))
        return opened[-1]

    yield remembering
    if request.node.name == "test_the_policy_would_stop_what_slipped_through":
        for visitor in opened:
            assert any("policy violated" in fault for fault in visitor.faults)
            visitor.faults.clear()


@pytest.mark.parametrize(
    "word", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
)
def test_no_built_file_makes_html_or_code_of_text(word):
    found = {file.name: file.read_text("utf-8").count(word) for file in STATIC.glob("*.js")}
    # Preact itself can set innerHTML, for dangerouslySetInnerHTML, which no source of ours has.
    allowed = {"innerHTML": 6}.get(word, 0)
    assert {name: many for name, many in found.items() if many > allowed} == {}


def test_no_source_sets_html():
    sources = list((STATIC.parent / "web" / "src").rglob("*.ts*"))
    assert sources
    text = json.dumps([file.read_text("utf-8") for file in sources])
    assert not re.search("innerHTML|dangerouslySet|outerHTML|insertAdjacentHTML", text, re.IGNORECASE)
