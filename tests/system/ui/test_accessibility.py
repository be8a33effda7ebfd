"""The pages by keyboard, to a screen reader, in light and dark, on a narrow screen, and without motion."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

import airflow_chat_provider

WEB = Path(airflow_chat_provider.__file__).parent / "plugin" / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
UNFOLD = "document.querySelectorAll('details').forEach((fold) => (fold.open = true))"
NARROW = {"width": 320, "height": 640}
PLACES = {
    "answer": ("ui_answers", "rich", None),
    "tools": ("example_chat_tool_round", "answer", None),
    "failure": ("ui_failures", "wrong_key", None),
    "batch": ("ui_failures", "batch", None),
    "mapped": ("example_chat_mapped", "rate", None),
    "markup": ("ui_untrusted", "markup", None),
    "links": ("ui_untrusted", "links", None),
    "asked again": ("ui_answers", "asked_again", None),
    "branch": ("ui_answers", "branch", None),
    "usage": None,
}


def go(visitor, name):
    place = PLACES[name]
    return visitor.open("/chat/usage") if place is None else visitor.conversation(*place)


def use_theme(visitor, theme):
    # As Airflow's own switch keeps it.
    visitor.context.add_init_script(f"localStorage.setItem('theme', '{theme}')")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PLACES)
def test_axe_finds_nothing_serious(visit, name, theme):
    assert AXE.exists(), "make test-ui installs axe-core"
    visitor = visit("viewer")
    use_theme(visitor, theme)
    page = go(visitor, name)
    page.evaluate(UNFOLD)
    visitor.settled()
    page.evaluate(AXE.read_text("utf-8") + ";0")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = {
        violation["id"]: [node["html"][:160] for node in violation["nodes"][:3]]
        for violation in found
        if violation["impact"] in ("serious", "critical")
    }
    assert serious == {}


@pytest.mark.parametrize("name", PLACES)
def test_a_narrow_screen_needs_no_scrolling_to_the_side(visit, name):
    visitor = visit("viewer", viewport=NARROW)
    page = go(visitor, name)
    page.evaluate(UNFOLD)
    visitor.settled()
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


@pytest.mark.parametrize("name", ["answer", "usage"])
def test_the_pages_follow_the_theme_that_airflow_keeps(visit, name):
    backgrounds = {}
    for theme in ("light", "dark"):
        visitor = visit("viewer")
        use_theme(visitor, theme)
        page = go(visitor, name)
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        backgrounds[theme] = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert backgrounds["light"] != backgrounds["dark"]


def test_a_change_of_airflows_theme_changes_an_open_page(visit):
    visitor = visit("viewer", color_scheme="light")
    page = go(visitor, "answer")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    other = visitor.context.new_page()
    other.goto(f"{visitor.site.url}/chat/usage")
    other.evaluate("localStorage.setItem('theme', 'dark')")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_without_a_choice_the_system_decides(visit):
    page = go(visit("viewer", color_scheme="dark"), "answer")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize("name", ["answer", "usage"])
def test_nothing_moves_for_who_asked_for_that(visit, name):
    page = go(visit("viewer", reduced_motion="reduce"), name)
    moving = page.evaluate(
        """[...document.querySelectorAll("*")].filter((element) => {
            const style = getComputedStyle(element);
            const seconds = (text) => Math.max(...text.split(",").map(parseFloat));
            return (style.animationName !== "none" && seconds(style.animationDuration) > 0.01)
                || (style.transitionDuration && seconds(style.transitionDuration) > 0.01);
        }).length"""
    )
    assert moving == 0


def test_everything_that_can_be_clicked_can_be_reached_by_tab_and_is_named(viewer):
    page = go(viewer, "tools")
    wanted = page.locator(":is(a[href], button:not([disabled]), summary):visible").count()
    reached = set()
    for _ in range(wanted * 2 + 10):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => {
                const element = document.activeElement;
                if (!element || element === document.body) return null;
                const all = [...document.querySelectorAll("*")];
                const style = getComputedStyle(element);
                const seen = style.outlineStyle !== "none" || style.boxShadow !== "none";
                return [all.indexOf(element), element.tagName, element.innerText || element.ariaLabel || "", seen];
            }"""
        )
        if found is None:
            break
        number, tag, text, seen = found
        assert text.strip(), f"{tag} has no name"
        assert seen, f"{tag} {text!r} does not show that it has the focus"
        reached.add((number, tag))
    assert sum(tag in ("A", "BUTTON", "SUMMARY") for _, tag in reached) >= wanted


def test_the_keys_j_and_k_go_from_message_to_message_and_enter_opens_folds(viewer):
    page = viewer.conversation("ui_answers", "reasoning")
    page.keyboard.press("j")
    expect(page.locator("#message-1")).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator("#message-2")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("details.reasoning")).to_have_js_property("open", True)
    page.keyboard.press("k")
    expect(page.locator("#message-1")).to_be_focused()


def test_a_fold_opens_by_keyboard(viewer):
    page = viewer.conversation("ui_answers", "reasoning")
    page.locator("details.reasoning > summary").focus()
    page.keyboard.press("Space")
    expect(page.locator("details.reasoning")).to_contain_text("First I think.")
