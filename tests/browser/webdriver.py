"""A client of the part of WebDriver (https://www.w3.org/TR/webdriver2/) that the test needs.

It uses only Python's standard library.
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ENTER = "\ue007"


class Driver:
    """A chromedriver process and the browsers that it started. `end` ends all of them."""

    def __init__(self, log):
        self.log = open(log, "w+")
        # Starts a process group, which can be ended as a whole.
        self.process = subprocess.Popen(
            [shutil.which("chromedriver"), "--port=0", "--allowed-ips=127.0.0.1"],
            stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
        )
        self.profiles = []
        self.url = f"http://127.0.0.1:{self.port()}"

    def port(self):
        def started():
            with open(self.log.name) as log:
                return re.search(r"started successfully on port (\d+)", log.read())

        return wait_for("chromedriver to start", started, 20).group(1)

    def browser(self):
        """Starts a browser with a new, empty profile."""
        profile = tempfile.mkdtemp(prefix="chat-profile-")
        self.profiles.append(profile)
        arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--no-proxy-server", "--window-size=1000,1180",
            f"--user-data-dir={profile}",
        ]
        options = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        return Browser(self, session["sessionId"])

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        # Ignores proxy settings of the environment, because the driver is on loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {json.load(error)['value']['message']}") from None

    def end(self):
        for attempt in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, attempt)
                self.process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        for profile in self.profiles:
            shutil.rmtree(profile, ignore_errors=True)


class Browser:
    def __init__(self, driver, session):
        self.driver, self.path = driver, f"/session/{session}"

    def call(self, method, path, body=None):
        return self.driver.call(method, self.path + path, body)

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def reload(self):
        self.call("POST", "/refresh", {})

    def run(self, script, *arguments):
        """Runs a function with this body on the page and returns its result."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script, *arguments):
        """As `run`; the last argument of the function is the callback that takes its result."""
        return self.call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def element(self, css):
        found = self.call("POST", "/element", {"using": "css selector", "value": css})
        return f"/element/{found[ELEMENT]}"

    def click(self, css):
        self.call("POST", self.element(css) + "/click", {})

    def type(self, css, text):
        self.call("POST", self.element(css) + "/value", {"text": text})

    def cookies(self):
        return self.call("GET", "/cookie")

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", "/screenshot")))

    def quit(self):
        self.call("DELETE", "")


def wait_for(what, condition, seconds=15):
    """Waits until the condition is true and returns its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.03)
    raise AssertionError(f"waited {seconds} s for {what}")
