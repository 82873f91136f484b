"""Uses the chat page as people do. Run by tests/browser/run."""

import signal
import sys
import time

from webdriver import ENTER, Driver, wait_for

TURNS = """return [...document.querySelectorAll("#log .turn")].map((turn) => ({
  state: turn.dataset.state,
  asked: turn.querySelector(".asked").textContent,
  text: turn.querySelector(".text").textContent,
  note: turn.querySelector(".note").textContent,
  label: turn.querySelector(".state").textContent,
}))"""
# `hidden` and what the style sheet makes of it, not only what the page says of itself.
SHOWN = "return document.querySelector(arguments[0]).checkVisibility()"
LONG = "What can you do?"


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
        wait_for(f"the state {state}, not {self.last()}", lambda: self.last()["state"] == state, seconds)
        return self.last()

    def ask(self, text, state="completed"):
        self.say(text)
        return self.until(state)


def growth(visitor):
    """The different texts that the last answer had while it came."""
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
    check(one.shows("#stop") and not one.shows("#send"), "the stop button is there while the agent works")
    steps = growth(one)
    check(len(steps) >= 3, f"the answer grew in several steps: {steps}")
    check(all(later.startswith(earlier) for earlier, later in zip(steps, steps[1:])), f"it only grew: {steps}")
    check("$1,000,000.00" in steps[-1], steps[-1])
    check(one.last()["state"] == "completed" and one.last()["label"] == "Done", one.last())
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
    check(one.last()["asked"] == evil and "<b>" in asked["text"], f"words are shown as they are: {asked}")
    check(one.browser.run("return document.querySelectorAll('#log img, #log b').length") == 0, "no markup was made of words")
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
    check(all(turn["asked"] != recalled["asked"] for turn in one.turns()), "the first does not see what the second said")
    recalled = one.ask("What did we talk about earlier?")
    check("Tyllen" in recalled["text"], recalled)


def pictures(one, out):
    scroll = "document.getElementById('scroll').scrollTop = arguments[0]"
    one.browser.run(scroll, 0)
    one.browser.screenshot(f"{out}/chat.png")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    one.browser.devtools("Emulation.setEmulatedMedia", features=dark)
    one.browser.screenshot(f"{out}/chat-dark.png")
    one.browser.devtools("Emulation.setDeviceMetricsOverride", width=390, height=760, deviceScaleFactor=2, mobile=True)
    width = one.browser.run("return document.documentElement.scrollWidth")
    check(width <= 390, f"a phone's page does not scroll sideways: {width}")
    one.browser.run(scroll, 0)
    one.browser.screenshot(f"{out}/chat-phone.png")


def main(url, out):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    driver = Driver(f"{out}/driver.log")
    browsers = []

    def visitor():
        browsers.append(driver.browser())
        return Visitor(browsers[-1], url)

    def step(test, *arguments):
        started = time.monotonic()
        told = test(*arguments)
        name = test.__name__.replace("_", " ")
        print(f"browser: ok: {name}{f' ({told})' if told else ''}, {time.monotonic() - started:.1f} s", flush=True)

    try:
        one = visitor()
        step(an_answer_grows, one)
        step(stop_stops, one)
        step(a_question_is_answered, one)
        step(a_reload_keeps, one)
        step(pictures, one, out)
        two = visitor()
        two.browser.screenshot(f"{out}/welcome.png")
        step(leaving_loses_nothing, two)
        two.browser.click("#new")
        wait_for("a new conversation", lambda: two.shows("#welcome"))
        step(visitors_do_not_mix, one, two)
        step(words_are_never_markup, two)
    except BaseException as error:
        for place, browser in enumerate(browsers):
            try:
                browser.screenshot(f"{out}/failure{place or ''}.png")
            except Exception:  # the browser is what failed
                pass
        if isinstance(error, (AssertionError, RuntimeError, OSError)):
            sys.exit(f"browser: {error}")
        raise
    finally:
        for browser in browsers:
            try:
                browser.quit()
            except Exception:  # it is ended with the driver
                pass
        driver.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
