"""The page in a real browser: chats with streaming, two at once, stop, save and restore, the figures beside them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_device import CPUDevice, serving

from tritape.host.chat import Conversation

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
PROMPT = "It is a truth universally acknowledged, that"


class Sensor:
    """100 W."""

    name, unit, scope = "fake", "W", "a fake board"

    def read(self) -> float:
        return 100.0

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def device() -> CPUDevice:
    return CPUDevice()


@pytest.fixture(scope="module")
def url(device: CPUDevice) -> Iterator[str]:
    with serving(device, device.served, sensor=Sensor()) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=QUIET)
        yield made
        made.close()


@pytest.fixture
def context(browser) -> Iterator[playwright.BrowserContext]:
    made = browser.new_context(accept_downloads=True)
    yield made
    made.close()


class Chat:
    """A tab with the page, greedy."""

    def __init__(self, context: playwright.BrowserContext, url: str, tokens: int) -> None:
        self.page = context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.wrong.append(request.url) if url not in request.url else None)
        self.page.goto(url)
        playwright.expect(self.page.locator("#model")).to_have_text("austen")
        self.page.fill("#temperature", "0")
        self.page.fill("#tokens", str(tokens))

    def send(self, text: str) -> None:
        self.page.fill("#text", text)
        self.page.click("#send")

    def wait(self) -> None:
        playwright.expect(self.page.locator("#send")).to_be_enabled(timeout=30_000)

    def replies(self) -> list[str]:
        return [one.text_content() for one in self.page.locator(".reply").all()]

    def save(self, path: Path) -> dict:
        with self.page.expect_download() as download:
            self.page.click("#save")
        download.value.save_as(path)
        return json.loads(path.read_text())


def spoken(device: CPUDevice, turns: list[tuple[str, int]]) -> tuple[list[str], str]:
    """What the model says in each turn of a conversation, and all of its text."""
    device.settings()
    talk = Conversation(device, device.codec)
    return ["".join(talk.say(text, count)) for text, count in turns], talk.text


def test_a_chat_streams(context, url, device):
    """The text grows while the model speaks, with the rate and the energy beside it."""
    device.pause_s = 0.01
    chat = Chat(context, url, 120)
    chat.send(PROMPT)
    lengths = set()
    while chat.page.locator("#send").is_disabled():
        lengths.add(len(chat.page.locator(".reply").text_content()))
        if len(lengths) == 3:
            playwright.expect(chat.page.locator("#slots")).to_have_text("1 of 1")
        chat.page.wait_for_timeout(50)
    device.pause_s = 0.0
    (expected,), _ = spoken(device, [(PROMPT, 120)])
    assert chat.replies() == [expected]
    assert len(lengths) > 8
    assert 20 < float(chat.page.locator("#rate").text_content()) < 110
    joules = float(chat.page.locator("#joules").text_content())
    assert 0.8 < joules < 5, "100 W, some 10 ms a token"
    playwright.expect(chat.page.locator("#slots")).to_have_text("0 of 1")
    assert chat.wrong == []


def test_two_chats_at_once(context, url, device):
    """Each keeps its own conversation, on one device, turn by turn."""
    device.pause_s = 0.002
    first, second = Chat(context, url, 40), Chat(context, url, 40)
    for texts in (("Emma was", "Mr. Darcy"), (" And then", " But he")):
        first.send(texts[0])
        second.send(texts[1])
        first.wait()
        second.wait()
    device.pause_s = 0.0
    assert first.replies() == spoken(device, [("Emma was", 40), (" And then", 40)])[0]
    assert second.replies() == spoken(device, [("Mr. Darcy", 40), (" But he", 40)])[0]
    assert first.wrong == second.wrong == []


def test_a_saved_conversation_goes_on(context, url, device, tmp_path):
    """From a file, in a new tab, exactly as it would have gone on; `tritape chat` reads the same file."""
    path = tmp_path / "talk.json"
    turns = [("Emma was", 40), (" And then", 24)]
    chat = Chat(context, url, 40)
    chat.send(turns[0][0])
    chat.wait()
    saved = chat.save(path)
    replies, text = spoken(device, turns)
    assert saved["text"] == turns[0][0] + replies[0]
    chat.page.close()
    again = Chat(context, url, 24)
    again.page.locator("#file").set_input_files(path)
    playwright.expect(again.page.locator(".reply")).to_have_text(saved["text"])
    again.send(turns[1][0])
    again.wait()
    assert again.replies()[1] == replies[1]
    assert again.save(tmp_path / "more.json")["text"] == text
    talk = Conversation(device, device.codec)
    talk.load(path, device.served.sha256)
    assert "".join(talk.say(turns[1][0], 24)) == replies[1]
    assert again.wrong == []


def test_stop_keeps_what_was_said(context, url, device):
    """And the conversation goes on from there."""
    device.pause_s = 0.01
    chat = Chat(context, url, 2000)
    chat.send(PROMPT)
    playwright.expect(chat.page.locator(".reply")).to_contain_text(re.compile(".{20}", re.DOTALL))
    chat.page.click("#stop")
    chat.wait()
    device.pause_s = 0.0
    (said,) = chat.replies()
    chat.page.fill("#tokens", "16")
    chat.send(" Yet")
    chat.wait()
    count = next(n for n in range(1, 2000) if spoken(device, [(PROMPT, n)])[0] == [said])
    assert chat.replies() == spoken(device, [(PROMPT, count), (" Yet", 16)])[0]


def test_stop_while_another_speaks(context, url, device):
    """A turn that still waits is taken back, and its text can be sent again."""
    device.pause_s = 0.01
    first, second = Chat(context, url, 200), Chat(context, url, 20)
    first.send("Emma was")
    playwright.expect(first.page.locator(".reply")).to_contain_text(re.compile("."))
    second.send("Mr. Darcy")
    playwright.expect(second.page.locator("#queue")).to_have_text("1")
    second.page.click("#stop")
    second.wait()
    playwright.expect(second.page.locator(".error")).to_contain_text("The conversation stands where it stood before.")
    assert second.page.locator("#text").input_value() == "Mr. Darcy"
    first.page.click("#stop")
    first.wait()
    device.pause_s = 0.0


def test_what_goes_wrong_is_said(context, url, device, tmp_path):
    """A file that is none, one of another model, a device that fails: said, and the conversation stays."""
    chat = Chat(context, url, 8)
    chat.send("Emma was")
    chat.wait()
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    chat.page.locator("#file").set_input_files(wrong)
    playwright.expect(chat.page.locator(".error").last).to_contain_text("The file must be a conversation")
    device.fail_at = 3
    chat.send(" and")
    playwright.expect(chat.page.locator(".error").last).to_contain_text("port X must answer, not be gone")
    chat.wait()
    playwright.expect(chat.page.locator("#faults")).to_have_text("1")
    device.fail_at = None
    chat.page.click("#send")
    chat.wait()
    assert chat.replies()[-1] == spoken(device, [("Emma was", 8), (" and", 8)])[0][1]
    saved = chat.save(wrong)
    wrong.write_text(json.dumps({**saved, "model": "cd" * 32}))
    chat.page.locator("#file").set_input_files(wrong)
    chat.send(" x")
    chat.wait()
    playwright.expect(chat.page.locator(".error").last).to_contain_text("conversation must be of model abababababab")
    assert chat.wrong == []
