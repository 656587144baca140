#!/usr/bin/env python3
"""The page of `haul play` in a headless Chromium: it becomes playable, seeks to
80 % before that part has come, and plays there.

    page.py CHROMIUM DIRECTORY

Prints a line when the browser is ready, and reads the page's URL then. Keeps the
page in the directory as it looks when narrow and when wide, light and dark; and
fails where it is wider than the window. Speaks the DevTools protocol over the
browser's pipe, so no driver is needed.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time

DEADLINE_S = 60


class Browser:
    def __init__(self, program, profile):
        down_read, self.down = os.pipe()
        self.up, up_write = os.pipe()

        def place():
            # Both numbers may be taken by one of the pipes: first out of the way.
            reads, writes = os.dup(down_read), os.dup(up_write)
            high = [os.dup(fd) for fd in (reads, writes)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--mute-audio",
             "--disable-gpu", "--autoplay-policy=no-user-gesture-required",
             "--no-proxy-server", "--window-size=1100,820",
             f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=place, close_fds=False, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(down_read)
        os.close(up_write)
        self.rest = b""
        self.number = 0
        self.session = None

    def ask(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.down, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                piece = os.read(self.up, 1 << 20)
                if not piece:
                    sys.exit("chromium ended")
                self.rest += piece
            text, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]

    def value(self, expression):
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)
        return result["result"].get("value")

    def until(self, what, expression):
        start = time.monotonic()
        while not self.value(expression):
            if time.monotonic() - start > DEADLINE_S:
                state = "[video.readyState, video.currentTime, video.duration, why.textContent]"
                sys.exit(f"not in {DEADLINE_S} s: {what}; {self.value(state)}")
            time.sleep(0.05)
        return time.monotonic() - start


def keep_screens(browser, directory):
    for scheme in ("light", "dark"):
        browser.ask("Emulation.setEmulatedMedia",
                    features=[{"name": "prefers-color-scheme", "value": scheme}])
        for width in (400, 1400):
            browser.ask("Emulation.setDeviceMetricsOverride", width=width,
                        height=860, deviceScaleFactor=1, mobile=False)
            time.sleep(0.3)
            if browser.value("document.documentElement.scrollWidth") > width:
                sys.exit(f"the page is wider than {width} pixels")
            shot = browser.ask("Page.captureScreenshot", format="png")
            with open(f"{directory}/page-{scheme}-{width}.png", "wb") as file:
                file.write(base64.b64decode(shot["data"]))


def main():
    program, directory = sys.argv[1:]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
            attached = browser.ask("Target.attachToTarget", targetId=target, flatten=True)
            browser.session = attached["sessionId"]
            browser.ask("Page.enable")
            print("ready", flush=True)
            browser.ask("Page.navigate", url=sys.stdin.readline().strip())
            browser.until("the page", "document.readyState === 'complete' && !!window.video")
            waited = browser.until("canplay", "video.readyState >= 3")
            print(f"canplay after {waited:.1f} s")
            here = browser.value("fetch('?status').then(a => a.json()).then(s => s.map)")
            cell = int(len(here) * 0.8)
            if here[cell] % 1000 >= 100:
                sys.exit("80 % had come already: nothing is shown by seeking there")
            browser.value("video.currentTime = video.duration * 0.8")
            waited = browser.until(
                "playing at 80 %",
                "!video.seeking && video.readyState >= 3 && video.currentTime > video.duration * 0.8")
            print(f"plays at 80 % after {waited:.1f} s")
            keep_screens(browser, directory)
        finally:
            browser.process.kill()
            browser.process.wait()


main()
