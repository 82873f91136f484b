"""Tests the chat page in a browser. Run by tests/browser/run."""

import json
import signal
import sys
import time
import urllib.request

from webdriver import ENTER, Driver, wait_for

TURNS = """return [...document.querySelectorAll("#log .turn")].map((turn) => ({
  state: turn.dataset.state,
  asked: turn.querySelector(".asked").textContent,
  text: turn.querySelector(".text").textContent,
  note: turn.querySelector(".note").textContent,
  label: turn.querySelector(".state").textContent,
}))"""
# Returns whether an element is visible, according to `hidden` and the style sheet.
IS_VISIBLE = "return document.querySelector(arguments[0]).checkVisibility()"
LONG = "What can you do?"
# Records the text that a screen reader announces: changes of live regions.
RECORD_ANNOUNCEMENTS = """window.announced = "";
const live =
  '[aria-live="polite"], [aria-live="assertive"], [role=status], [role=log], [role=alert]';
new MutationObserver((changes) => {
  for (const change of changes) {
    const near = change.target.nodeType === 1 ? change.target : change.target.parentElement;
    const region = near?.closest(live);
    if (!region || region.getAttribute("aria-live") === "off") continue;
    if (change.type === "characterData") window.announced += change.target.data + "\\n";
    for (const node of change.addedNodes) window.announced += node.textContent + "\\n";
  }
}).observe(document.body, { subtree: true, childList: true, characterData: true });"""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = """const done = arguments[arguments.length - 1];
axe.run(document, { runOnly: arguments[0] }).then(
  (found) => done(found.violations.map((one) => one.id + ": " +
    one.nodes.map((node) => node.html + " " + node.failureSummary).join("; "))),
  (error) => done(["axe: " + error]));"""
SMALL_TARGETS = """const kinds = "button, a, textarea, input, summary";
return [...document.querySelectorAll(kinds)].filter((one) => one.checkVisibility())
  .map((one) => [one.outerHTML.slice(0, 60), one.getBoundingClientRect()])
  .filter(([, box]) => box.width < 44 || box.height < 44)
  .map(([html, box]) => `${html} ${box.width}x${box.height}`)"""
CHIP_COLORS = """const chips = document.querySelectorAll("#log .turn .state");
const style = getComputedStyle([...chips].at(arguments[0]));
return [style.backgroundColor, style.color].map((color) => color.match(/[0-9.]+/g).map(Number))"""


def check(true, what):
    if not true:
        raise AssertionError(what)


class ChatPage:
    def __init__(self, browser, url):
        self.browser, self.url = browser, url
        self.open()

    def open(self):
        self.browser.open(self.url)
        self.wait_until_loaded()

    def wait_until_loaded(self):
        # Neither is visible until the page has loaded the conversation.
        wait_for("the page", lambda: self.turns() or self.is_visible("#welcome"))

    def turns(self):
        return self.browser.run(TURNS)

    def last(self):
        turns = self.turns()
        return turns[-1] if turns else {"state": None, "text": "", "asked": None}

    def is_visible(self, css):
        return self.browser.run(IS_VISIBLE, css)

    def send(self, text):
        before = len(self.turns())
        self.browser.type("#text", text)
        self.browser.type("#text", ENTER)
        wait_for("the message to be shown", lambda: len(self.turns()) > before)

    def wait_for_state(self, state, seconds=20):
        what = f"the state {state}, not {self.last()}"
        wait_for(what, lambda: self.last()["state"] == state, seconds)
        return self.last()

    def ask(self, text, state="completed"):
        self.send(text)
        return self.wait_for_state(state)


def streamed_texts(page):
    """Returns the successive texts of the last answer while it is streamed."""
    seen = []
    while True:
        last = page.last()
        if last["text"] and (not seen or seen[-1] != last["text"]):
            seen.append(last["text"])
        if last["state"] not in ("submitted", "working"):
            return seen
        time.sleep(0.03)


def an_answer_is_streamed(page):
    check(page.is_visible("#welcome"), "an empty conversation shows the welcome")
    page.send("How much money do I have in my wallet?")
    buttons = page.is_visible("#stop"), page.is_visible("#send")
    check(buttons == (True, False), "the stop button replaces the send button")
    steps = streamed_texts(page)
    check(len(steps) >= 3, f"the answer grew in several steps: {steps}")
    pairs = zip(steps, steps[1:])
    check(all(later.startswith(earlier) for earlier, later in pairs), f"text was replaced: {steps}")
    check("$1,000,000.00" in steps[-1], steps[-1])
    check(page.last()["state"] == "completed" and page.last()["label"] == "Finished", page.last())
    wait_for("the send button", lambda: page.is_visible("#send") and not page.is_visible("#stop"))
    return f"{len(steps)} steps"


def stop_cancels_the_answer(page):
    page.send(LONG)
    wait_for("the first text", lambda: len(page.last()["text"]) > 10)
    page.browser.click("#stop")
    stopped = page.wait_for_state("canceled", 5)
    check(stopped["label"] == "Stopped" and "canceled" in stopped["note"], stopped)
    check("Nothing was done" not in stopped["text"], f"stopped in mid-answer: {stopped}")
    time.sleep(0.5)
    check(page.last()["text"] == stopped["text"], "the text does not change after the stop")
    return f"after {len(stopped['text'])} characters"


def a_question_is_answered(page):
    asked = page.ask("Pay Tyllen $50", "input-required")
    check("Shall I create them" in asked["text"], asked)
    check(page.is_visible("#awaiting"), "the page shows that the agent waits")
    page.browser.reload()
    page.wait_until_loaded()
    check(page.is_visible("#awaiting"), "the page shows it after a reload, too")
    paid = page.ask("yes, create them")
    check("Paid $50.00 to Tyllen" in paid["text"], paid)
    check(not page.is_visible("#awaiting"), "the page no longer shows that the agent waits")


def a_reload_keeps_the_conversation(page):
    before = page.turns()
    check(len(before) == 4, before)
    page.browser.reload()
    page.wait_until_loaded()
    check(page.turns() == before, f"before: {before}\nafter: {page.turns()}")
    return f"{len(before)} exchanges"


def navigation_does_not_stop_the_task(page):
    page.send(LONG)
    wait_for("the first text", lambda: len(page.last()["text"]) > 10)
    page.browser.open("about:blank")
    page.open()
    check(page.last()["state"] == "working", f"the task is still running: {page.last()}")
    check("Nothing was done" in page.wait_for_state("completed")["text"], page.last())


def text_is_never_rendered_as_markup(page):
    title = page.browser.run("return document.title")
    evil = "Pay <img src=x onerror=\"document.title='hacked'\"><b>Bob</b> $5"
    asked = page.ask(evil, "input-required")
    unchanged = page.last()["asked"] == evil and "<b>" in asked["text"]
    check(unchanged, f"the text is shown unchanged: {asked}")
    markup = "return document.querySelectorAll('#log img, #log b').length"
    check(page.browser.run(markup) == 0, "text was rendered as markup")
    check(page.browser.run("return document.title") == title, "no script was run")
    page.ask("no")


def conversations_are_separate(page, other):
    is_empty = other.turns() == [] and other.is_visible("#welcome")
    check(is_empty, "the second user starts with an empty conversation")
    (cookie,) = other.browser.cookies()
    check(cookie["httpOnly"] and cookie["sameSite"] == "Lax", cookie)
    check(page.browser.cookies()[0]["value"] != cookie["value"], "each user has a separate cookie")
    recalled = other.ask("What did we talk about earlier?")
    check("not talked about anything" in recalled["text"], recalled)
    page.browser.reload()
    page.wait_until_loaded()
    foreign = [turn for turn in page.turns() if turn["asked"] == recalled["asked"]]
    check(not foreign, "the first user does not see the message of the second")
    recalled = page.ask("What did we talk about earlier?")
    check("Tyllen" in recalled["text"], recalled)


def media(browser, **features):
    named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.devtools("Emulation.setEmulatedMedia", features=named)


def phone(browser, on):
    size = {"width": 390, "height": 760, "deviceScaleFactor": 2, "mobile": True}
    if on:
        browser.devtools("Emulation.setDeviceMetricsOverride", **size)
    else:
        browser.devtools("Emulation.clearDeviceMetricsOverride")


def is_gray(color):
    return max(color[:3]) - min(color[:3]) <= 16


def the_page_is_accessible(page, axe, out, name):
    """Checks axe rules, target sizes and width, in both color schemes, on desktop and phone."""
    for small in (False, True):
        phone(page.browser, small)
        for scheme in ("light", "dark"):
            media(page.browser, prefers_color_scheme=scheme)
            page.browser.screenshot(f"{out}/{name}-{'phone' if small else 'desktop'}-{scheme}.png")
            page.browser.run(axe)
            found = page.browser.run_async(AXE, RULES)
            check(not found, f"{name}, {scheme}, phone {small}: {found}")
            targets = page.browser.run(SMALL_TARGETS)
            check(not targets, f"{name}, phone {small}: targets under 44 px: {targets}")
            wide = "return document.documentElement.scrollWidth - innerWidth"
            check(page.browser.run(wide) <= 0, f"{name}: the page scrolls sideways")
    phone(page.browser, False)
    media(page.browser)


def an_answer_is_announced_once(page):
    page.browser.run(RECORD_ANNOUNCEMENTS)
    text = page.ask("How much money do I have in my wallet?")["text"]
    wait_for("the announcement", lambda: text in page.browser.run("return window.announced"))
    announced = page.browser.run("return window.announced")
    check(announced.count(text) == 1, announced)
    lengths = f"{len(announced)} characters for an answer of {len(text)}"
    check(len(announced) <= len(text) + 100, lengths)
    return lengths


def finished_tasks_are_gray(page):
    check(page.ask(LONG)["label"] == "Finished", page.last())
    colors = page.browser.run(CHIP_COLORS, -1)
    check(all(is_gray(color) for color in colors), f"the chip is not gray: {colors}")
    hint = page.browser.run("return document.querySelector('.hint').textContent")
    check("not that money has moved" in hint, hint)


def answered_questions_are_gray(page):
    asked = page.ask("Pay Grete $5", "input-required")
    check(asked["label"] == "Needs your answer", asked)
    check(not is_gray(page.browser.run(CHIP_COLORS, -1)[0]), "an open question has a color")
    page.ask("no")
    for reloaded in (False, True):
        question = page.turns()[-2]
        check(question["label"] == "Answered", f"reloaded {reloaded}: {question}")
        colors = page.browser.run(CHIP_COLORS, -2)
        check(all(is_gray(color) for color in colors), f"reloaded {reloaded}: {colors}")
        page.browser.reload()
        page.wait_until_loaded()


def an_unknown_outcome_survives_a_failed_lookup(page, emulator):
    """A lookup that fails does not change the unknown outcome that the page shows."""
    page.ask("Create a payee named Tyllen")
    faults = [{"on": "sendSubscribe", "when": "after", "close": True},
              {"on": "get", "times": 1000, "status": 404},
              {"on": "resubscribe", "times": 1000, "status": 404}]
    emulator("POST", faults)
    page.send("Pay Tyllen $50")
    unknown = page.wait_for_state("unknown", 60)
    check("may have been done" in unknown["note"], unknown)
    check("othing was done" not in unknown["note"], unknown)
    emulator("DELETE")
    emulator("POST", [{"on": "get", "times": 1000, "status": 503}])
    page.browser.click(".again")
    looking = "return document.querySelector('.again')?.ariaDisabled"
    wait_for("the lookup", lambda: page.browser.run(looking) != "true", 60)
    after = page.last()
    check(after["state"] == "unknown" and "may have been done" in after["note"], after)
    check("othing was done" not in after["note"], after)
    return after["note"]


def a_later_lookup_shows_the_outcome(page, emulator):
    emulator("DELETE")
    page.browser.click(".again")
    check("Paid $50.00 to Tyllen" in page.wait_for_state("completed")["text"], page.last())


def a_lost_connection_is_shown(page):
    presence = "return document.querySelector('#presence').textContent"
    check(page.browser.run(presence) == "Ready", page.browser.run(presence))
    none = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.browser.devtools("Network.enable")
    page.browser.devtools("Network.emulateNetworkConditions", **none)
    wait_for("Offline", lambda: page.browser.run(presence) == "Offline")
    turns = len(page.turns())
    page.browser.type("#text", "Pay Tyllen $1" + ENTER)
    check(len(page.turns()) == turns, "nothing is sent while offline")
    draft = "return document.querySelector('#text').value"
    check(page.browser.run(draft) == "Pay Tyllen $1", "the text field keeps its text")
    again = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.devtools("Network.emulateNetworkConditions", **again)
    wait_for("Ready", lambda: page.browser.run(presence) == "Ready")
    page.browser.run("document.querySelector('#text').value = ''")


def the_keyboard_reaches_all_controls(page):
    page.browser.reload()
    page.wait_until_loaded()
    page.browser.type("#text", "x")
    page.browser.run("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(12):
        key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        page.browser.devtools("Input.dispatchKeyEvent", type="keyDown", **key)
        page.browser.devtools("Input.dispatchKeyEvent", type="keyUp", **key)
        reached.append(page.browser.run("return document.activeElement.id"))
    check({"new", "scroll", "text", "send"} <= set(reached), reached)
    page.browser.run("document.querySelector('#scroll').focus()")
    top = "return document.querySelector('#scroll').scrollTop"
    before = page.browser.run(top)
    check(before > 0, "the conversation is longer than the screen")
    key = {"key": "PageUp", "code": "PageUp", "windowsVirtualKeyCode": 33}
    page.browser.devtools("Input.dispatchKeyEvent", type="rawKeyDown", **key)
    page.browser.devtools("Input.dispatchKeyEvent", type="keyUp", **key)
    wait_for("the keyboard to scroll", lambda: page.browser.run(top) < before, 5)


def reduced_motion_disables_animations(page):
    media(page.browser, prefers_reduced_motion="reduce")
    page.send(LONG)
    wait_for("the first text", lambda: len(page.last()["text"]) > 10)
    moving = """const pseudos = ["", "::before", "::after"];
    const names = (one) => pseudos.map((pseudo) => getComputedStyle(one, pseudo).animationName);
    return [...document.querySelectorAll("*")].flatMap(names).filter((name) => name !== "none")"""
    check(page.browser.run(moving) == [], "animations are running")
    page.wait_for_state("completed")
    media(page.browser)


def disabled_scripts_are_explained(url):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as response:
        html = response.read().decode()
    explained = "<noscript>" in html and "JavaScript" in html
    check(explained, "the page explains that it needs JavaScript")


def control(emulator):
    """Returns a function that adds faults to the emulator, or removes them."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(method, faults=None):
        data = None if faults is None else json.dumps(faults).encode()
        headers = {"content-type": "application/json"}
        url = emulator + "/_emulator/faults"
        with opener.open(urllib.request.Request(url, data, headers, method=method)) as response:
            return json.load(response)

    return call


def main(url, emulator, axe, out):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with open(axe) as file:
        axe = file.read()
    emulator = control(emulator)
    driver = Driver(f"{out}/driver.log")
    browsers, failures = [], []

    def open_page():
        browsers.append(driver.browser())
        return ChatPage(browsers[-1], url)

    def step(test, *arguments):
        started = time.monotonic()
        names = [name for name in arguments if isinstance(name, str) and name.isalpha()]
        name = " ".join([test.__name__.replace("_", " "), *names])
        try:
            detail = test(*arguments)
        except (AssertionError, RuntimeError, OSError) as error:
            failures.append(name)
            print(f"browser: FAILED: {name}: {str(error)[:2000]}", flush=True)
            for place, browser in enumerate(browsers):
                browser.screenshot(f"{out}/failure-{len(failures)}-{place}.png")
            return
        seconds = time.monotonic() - started
        print(f"browser: ok: {name}{f' ({detail})' if detail else ''}, {seconds:.1f} s", flush=True)

    try:
        first = open_page()
        step(disabled_scripts_are_explained, url)
        step(the_page_is_accessible, first, axe, out, "welcome")
        step(an_answer_is_streamed, first)
        step(stop_cancels_the_answer, first)
        step(a_question_is_answered, first)
        step(a_reload_keeps_the_conversation, first)
        step(an_answer_is_announced_once, first)
        step(the_page_is_accessible, first, axe, out, "chat")
        second = open_page()
        step(navigation_does_not_stop_the_task, second)
        second.browser.click("#new")
        wait_for("a new conversation", lambda: second.is_visible("#welcome"))
        step(conversations_are_separate, first, second)
        step(text_is_never_rendered_as_markup, second)
        step(finished_tasks_are_gray, second)
        step(answered_questions_are_gray, second)
        third = open_page()
        third.ask("Pay Grete $5", "input-required")
        step(the_page_is_accessible, third, axe, out, "question")
        third.ask("no")
        step(reduced_motion_disables_animations, third)
        step(an_unknown_outcome_survives_a_failed_lookup, third, emulator)
        step(the_page_is_accessible, third, axe, out, "unknown")
        step(a_later_lookup_shows_the_outcome, third, emulator)
        step(a_lost_connection_is_shown, third)
        step(the_keyboard_reaches_all_controls, third)
    finally:
        for browser in browsers:
            try:
                browser.quit()
            except Exception:  # the driver ends it
                pass
        driver.end()
    if failures:
        sys.exit(f"browser: {len(failures)} failed: {'; '.join(failures)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
