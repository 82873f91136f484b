"""Uses the chat page as people do. Run by tests/browser/run."""

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
# Whether an element is really visible: `hidden` and the style sheet together.
SHOWN = "return document.querySelector(arguments[0]).checkVisibility()"
LONG = "What can you do?"
# What a screen reader is made to read out: the text of live regions, each time that it changes.
LISTEN = """window.heard = "";
const live =
  '[aria-live="polite"], [aria-live="assertive"], [role=status], [role=log], [role=alert]';
new MutationObserver((changes) => {
  for (const change of changes) {
    const near = change.target.nodeType === 1 ? change.target : change.target.parentElement;
    const region = near?.closest(live);
    if (!region || region.getAttribute("aria-live") === "off") continue;
    if (change.type === "characterData") window.heard += change.target.data + "\\n";
    for (const node of change.addedNodes) window.heard += node.textContent + "\\n";
  }
}).observe(document.body, { subtree: true, childList: true, characterData: true });"""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = """const done = arguments[arguments.length - 1];
axe.run(document, { runOnly: arguments[0] }).then(
  (found) => done(found.violations.map((one) => one.id + ": " +
    one.nodes.map((node) => node.html + " " + node.failureSummary).join("; "))),
  (error) => done(["axe: " + error]));"""
SMALL = """const kinds = "button, a, textarea, input, summary";
return [...document.querySelectorAll(kinds)].filter((one) => one.checkVisibility())
  .map((one) => [one.outerHTML.slice(0, 60), one.getBoundingClientRect()])
  .filter(([, box]) => box.width < 44 || box.height < 44)
  .map(([html, box]) => `${html} ${box.width}x${box.height}`)"""
CHIP = """const chips = document.querySelectorAll("#log .turn .state");
const style = getComputedStyle([...chips].at(arguments[0]));
return [style.backgroundColor, style.color].map((color) => color.match(/[0-9.]+/g).map(Number))"""


def check(true, what):
    if not true:
        raise AssertionError(what)


class Visitor:
    def __init__(self, browser, url):
        self.browser, self.url = browser, url
        self.open()

    def open(self):
        self.browser.open(self.url)
        self.loaded()

    def loaded(self):
        # The page loads the conversation at once; until then neither is shown.
        wait_for("the page", lambda: self.turns() or self.shows("#welcome"))

    def turns(self):
        return self.browser.run(TURNS)

    def last(self):
        turns = self.turns()
        return turns[-1] if turns else {"state": None, "text": "", "asked": None}

    def shows(self, css):
        return self.browser.run(SHOWN, css)

    def say(self, text):
        before = len(self.turns())
        self.browser.type("#text", text)
        self.browser.type("#text", ENTER)
        wait_for("what was said to be shown", lambda: len(self.turns()) > before)

    def until(self, state, seconds=20):
        what = f"the state {state}, not {self.last()}"
        wait_for(what, lambda: self.last()["state"] == state, seconds)
        return self.last()

    def ask(self, text, state="completed"):
        self.say(text)
        return self.until(state)


def growth(visitor):
    """Returns the different texts that the last answer had while it came."""
    seen = []
    while True:
        last = visitor.last()
        if last["text"] and (not seen or seen[-1] != last["text"]):
            seen.append(last["text"])
        if last["state"] not in ("submitted", "working"):
            return seen
        time.sleep(0.03)


def an_answer_grows(one):
    check(one.shows("#welcome"), "nobody has said anything, and there is a welcome")
    one.say("How much money do I have in my wallet?")
    check(one.shows("#stop") and not one.shows("#send"), "it can be stopped while the agent works")
    steps = growth(one)
    check(len(steps) >= 3, f"the answer grew in several steps: {steps}")
    pairs = zip(steps, steps[1:])
    check(all(later.startswith(earlier) for earlier, later in pairs), f"it only grew: {steps}")
    check("$1,000,000.00" in steps[-1], steps[-1])
    check(one.last()["state"] == "completed" and one.last()["label"] == "Finished", one.last())
    wait_for("the send button", lambda: one.shows("#send") and not one.shows("#stop"))
    return f"grew in {len(steps)} steps"


def stop_stops(one):
    one.say(LONG)
    wait_for("the first words", lambda: len(one.last()["text"]) > 10)
    one.browser.click("#stop")
    stopped = one.until("canceled", 5)
    check(stopped["label"] == "Stopped" and "canceled" in stopped["note"], stopped)
    check("Nothing was done" not in stopped["text"], f"stopped in mid-answer: {stopped}")
    time.sleep(0.5)
    check(one.last()["text"] == stopped["text"], "nothing comes after the stop")
    return f"after {len(stopped['text'])} characters"


def a_question_is_answered(one):
    asked = one.ask("Pay Tyllen $50", "input-required")
    check("Shall I create them" in asked["text"], asked)
    check(one.shows("#awaiting"), "the page says that the agent waits")
    one.browser.reload()
    one.loaded()
    check(one.shows("#awaiting"), "it says so after a reload, too")
    paid = one.ask("yes, create them")
    check("Paid $50.00 to Tyllen" in paid["text"], paid)
    check(not one.shows("#awaiting"), "nobody waits any more")


def a_reload_keeps(one):
    before = one.turns()
    check(len(before) == 4, before)
    one.browser.reload()
    one.loaded()
    check(one.turns() == before, f"before: {before}\nafter: {one.turns()}")
    return f"{len(before)} exchanges"


def leaving_loses_nothing(one):
    one.say(LONG)
    wait_for("the first words", lambda: len(one.last()["text"]) > 10)
    one.browser.open("about:blank")
    one.open()
    check(one.last()["state"] == "working", f"the agent is still at it: {one.last()}")
    check("Nothing was done" in one.until("completed")["text"], one.last())


def words_are_never_markup(one):
    title = one.browser.run("return document.title")
    evil = "Pay <img src=x onerror=\"document.title='hacked'\"><b>Bob</b> $5"
    asked = one.ask(evil, "input-required")
    check(one.last()["asked"] == evil and "<b>" in asked["text"], f"shown as it is: {asked}")
    markup = "return document.querySelectorAll('#log img, #log b').length"
    check(one.browser.run(markup) == 0, "text became markup")
    check(one.browser.run("return document.title") == title, "no script was run")
    one.ask("no")


def visitors_do_not_mix(one, two):
    check(two.turns() == [] and two.shows("#welcome"), "the second visitor starts with nothing")
    (cookie,) = two.browser.cookies()
    check(cookie["httpOnly"] and cookie["sameSite"] == "Lax", cookie)
    check(one.browser.cookies()[0]["value"] != cookie["value"], "each has a cookie of their own")
    recalled = two.ask("What did we talk about earlier?")
    check("not talked about anything" in recalled["text"], recalled)
    one.browser.reload()
    one.loaded()
    foreign = [turn for turn in one.turns() if turn["asked"] == recalled["asked"]]
    check(not foreign, "the first does not see what the second said")
    recalled = one.ask("What did we talk about earlier?")
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


def is_grey(color):
    return max(color[:3]) - min(color[:3]) <= 16


def accessible(one, axe, out, name):
    """Checks in light and dark, on a screen and a phone: violations, small targets, width."""
    for small in (False, True):
        phone(one.browser, small)
        for scheme in ("light", "dark"):
            media(one.browser, prefers_color_scheme=scheme)
            one.browser.screenshot(f"{out}/{name}-{'phone' if small else 'desktop'}-{scheme}.png")
            one.browser.run(axe)
            found = one.browser.run_async(AXE, RULES)
            check(not found, f"{name}, {scheme}, phone {small}: {found}")
            targets = one.browser.run(SMALL)
            check(not targets, f"{name}, phone {small}: targets under 44 px: {targets}")
            wide = "return document.documentElement.scrollWidth - innerWidth"
            check(one.browser.run(wide) <= 0, f"{name}: the page scrolls sideways")
    phone(one.browser, False)
    media(one.browser)


def an_answer_is_announced_once(one):
    one.browser.run(LISTEN)
    text = one.ask("How much money do I have in my wallet?")["text"]
    wait_for("the announcement", lambda: text in one.browser.run("return window.heard"))
    heard = one.browser.run("return window.heard")
    check(heard.count(text) == 1, heard)
    check(len(heard) <= len(text) + 100, f"{len(heard)} characters for an answer of {len(text)}")
    return f"{len(heard)} characters for an answer of {len(text)}"


def finished_is_no_success(one):
    check(one.ask(LONG)["label"] == "Finished", one.last())
    colors = one.browser.run(CHIP, -1)
    check(all(is_grey(color) for color in colors), f"the chip has a color of success: {colors}")
    hint = one.browser.run("return document.querySelector('.hint').textContent")
    check("not that money has moved" in hint, hint)


def an_answered_question_is_grey(one):
    asked = one.ask("Pay Grete $5", "input-required")
    check(asked["label"] == "Needs your answer", asked)
    check(not is_grey(one.browser.run(CHIP, -1)[0]), "a question stands out")
    one.ask("no")
    for reloaded in (False, True):
        question = one.turns()[-2]
        check(question["label"] == "Answered", f"reloaded {reloaded}: {question}")
        colors = one.browser.run(CHIP, -2)
        check(all(is_grey(color) for color in colors), f"reloaded {reloaded}: {colors}")
        one.browser.reload()
        one.loaded()


def a_doubt_stays(one, emulator):
    """After "look again" finds nothing, the page still says that it may have been done."""
    one.ask("Create a payee named Tyllen")
    faults = [{"on": "sendSubscribe", "when": "after", "close": True},
              {"on": "get", "times": 1000, "status": 404},
              {"on": "resubscribe", "times": 1000, "status": 404}]
    emulator("POST", faults)
    one.say("Pay Tyllen $50")
    doubt = one.until("unknown", 60)
    check("may have been done" in doubt["note"], doubt)
    check("othing was done" not in doubt["note"], doubt)
    emulator("DELETE")
    emulator("POST", [{"on": "get", "times": 1000, "status": 503}])
    one.browser.click(".again")
    looking = "return document.querySelector('.again')?.ariaDisabled"
    wait_for("the lookup", lambda: one.browser.run(looking) != "true", 60)
    still = one.last()
    check(still["state"] == "unknown" and "may have been done" in still["note"], still)
    check("othing was done" not in still["note"], still)
    return still["note"]


def what_is_known_later_is_shown(one, emulator):
    emulator("DELETE")
    one.browser.click(".again")
    check("Paid $50.00 to Tyllen" in one.until("completed")["text"], one.last())


def an_absent_network_is_shown(one):
    presence = "return document.querySelector('#presence').textContent"
    check(one.browser.run(presence) == "Ready", one.browser.run(presence))
    none = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    one.browser.devtools("Network.enable")
    one.browser.devtools("Network.emulateNetworkConditions", **none)
    wait_for("Offline", lambda: one.browser.run(presence) == "Offline")
    turns = len(one.turns())
    one.browser.type("#text", "Pay Tyllen $1" + ENTER)
    check(len(one.turns()) == turns, "nothing is sent")
    kept = "return document.querySelector('#text').value"
    check(one.browser.run(kept) == "Pay Tyllen $1", "what was written stays")
    again = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    one.browser.devtools("Network.emulateNetworkConditions", **again)
    wait_for("Ready", lambda: one.browser.run(presence) == "Ready")
    one.browser.run("document.querySelector('#text').value = ''")


def a_keyboard_reaches_everything(one):
    one.browser.reload()
    one.loaded()
    one.browser.type("#text", "x")
    one.browser.run("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(12):
        key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        one.browser.devtools("Input.dispatchKeyEvent", type="keyDown", **key)
        one.browser.devtools("Input.dispatchKeyEvent", type="keyUp", **key)
        reached.append(one.browser.run("return document.activeElement.id"))
    check({"new", "scroll", "text", "send"} <= set(reached), reached)
    one.browser.run("document.querySelector('#scroll').focus()")
    top = "return document.querySelector('#scroll').scrollTop"
    before = one.browser.run(top)
    check(before > 0, "the conversation is longer than the screen")
    key = {"key": "PageUp", "code": "PageUp", "windowsVirtualKeyCode": 33}
    one.browser.devtools("Input.dispatchKeyEvent", type="rawKeyDown", **key)
    one.browser.devtools("Input.dispatchKeyEvent", type="keyUp", **key)
    wait_for("the keyboard to scroll", lambda: one.browser.run(top) < before, 5)


def nothing_moves_for_those_who_ask(one):
    media(one.browser, prefers_reduced_motion="reduce")
    one.say(LONG)
    wait_for("the first words", lambda: len(one.last()["text"]) > 10)
    moving = """const pseudos = ["", "::before", "::after"];
    const names = (one) => pseudos.map((pseudo) => getComputedStyle(one, pseudo).animationName);
    return [...document.querySelectorAll("*")].flatMap(names).filter((name) => name !== "none")"""
    check(one.browser.run(moving) == [], "something moves")
    one.until("completed")
    media(one.browser)


def scripts_off_is_said(url):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as page:
        html = page.read().decode()
    check("<noscript>" in html and "JavaScript" in html, "the page says that it needs JavaScript")


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

    def visitor():
        browsers.append(driver.browser())
        return Visitor(browsers[-1], url)

    def step(test, *arguments):
        started = time.monotonic()
        names = [name for name in arguments if isinstance(name, str) and name.isalpha()]
        name = " ".join([test.__name__.replace("_", " "), *names])
        try:
            told = test(*arguments)
        except (AssertionError, RuntimeError, OSError) as error:
            failures.append(name)
            print(f"browser: FAILED: {name}: {str(error)[:2000]}", flush=True)
            for place, browser in enumerate(browsers):
                browser.screenshot(f"{out}/failure-{len(failures)}-{place}.png")
            return
        seconds = time.monotonic() - started
        print(f"browser: ok: {name}{f' ({told})' if told else ''}, {seconds:.1f} s", flush=True)

    try:
        one = visitor()
        step(scripts_off_is_said, url)
        step(accessible, one, axe, out, "welcome")
        step(an_answer_grows, one)
        step(stop_stops, one)
        step(a_question_is_answered, one)
        step(a_reload_keeps, one)
        step(an_answer_is_announced_once, one)
        step(accessible, one, axe, out, "chat")
        two = visitor()
        step(leaving_loses_nothing, two)
        two.browser.click("#new")
        wait_for("a new conversation", lambda: two.shows("#welcome"))
        step(visitors_do_not_mix, one, two)
        step(words_are_never_markup, two)
        step(finished_is_no_success, two)
        step(an_answered_question_is_grey, two)
        three = visitor()
        three.ask("Pay Grete $5", "input-required")
        step(accessible, three, axe, out, "question")
        three.ask("no")
        step(nothing_moves_for_those_who_ask, three)
        step(a_doubt_stays, three, emulator)
        step(accessible, three, axe, out, "doubt")
        step(what_is_known_later_is_shown, three, emulator)
        step(an_absent_network_is_shown, three)
        step(a_keyboard_reaches_everything, three)
    finally:
        for browser in browsers:
            try:
                browser.quit()
            except Exception:  # it is ended with the driver
                pass
        driver.end()
    if failures:
        sys.exit(f"browser: {len(failures)} failed: {'; '.join(failures)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
