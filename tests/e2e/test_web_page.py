"""The web page at /: its files over HTTP, and the page itself in Chromium, against the program with its own model."""

import json
import pathlib
import re

import pytest
from serving import serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = pathlib.Path("/usr/bin/chromium")
PATIENCE = 120_000  # ms; a browser's first page takes long on a busy machine
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
UI = pathlib.Path(__file__).resolve().parents[2] / "ui"


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """A fresh browser profile on the page; a script error or a refused load fails the test."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None)
    page.goto(server.url)
    page.wait_for_selector("#model option", state="attached")
    yield page
    context.close()
    assert wrong == []


def say(page, text):
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    page.wait_for_selector("#send:has-text('Send')")
    page.wait_for_selector(".turn.assistant:last-child .foot button")


def answers(page, markdown):
    """Lets the server answer with this text, in small pieces."""
    pieces = [markdown[i : i + 5] for i in range(0, len(markdown), 5)]
    chunks = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body))


@pytest.mark.parametrize("file", [path.name for path in sorted(UI.iterdir())])
def test_files_have_type_tag_and_policy(server, file):
    path = "/" if file == "index.html" else f"/ui/{file}"
    status, headers, body = server.get(path)
    headers = {name.lower(): value for name, value in headers.items()}
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert status == 200 and body == (UI / file).read_bytes()
    assert headers["content-type"].startswith(kinds[pathlib.Path(file).suffix])
    assert "default-src 'self'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
    assert server.get(path, headers={"if-none-match": headers["etag"]})[0] == 304
    assert server.get(path, headers={"if-none-match": '"other"'})[0] == 200


def test_files_name_nothing_outside():
    for path in UI.iterdir():
        outside = re.findall(r"(?:src|href|from|import|url\()\s*[=\"'(]*\s*[\"'(](https?://[^\"')]+)", path.read_text())
        assert outside == [], path


def test_page_can_be_left_out():
    with serving("--no-web-page") as server:
        assert server.get("/")[0] == 404


@needs_chromium
def test_streams_an_answer_of_the_model(page):
    say(page, "Hello")
    assert page.inner_text(".turn.assistant .body").strip()
    assert re.search(r"\d+ tokens.*first after", page.inner_text(".turn.assistant .foot"))
    assert page.inner_text("#title") == "Hello"


@needs_chromium
def test_conversations_stay_and_can_be_renamed_and_deleted(page):
    say(page, "Hello")
    reply = page.inner_text(".turn.assistant .body")
    page.reload()
    assert page.inner_text(".turn.assistant .body") == reply
    page.hover(".entry")
    page.click("[aria-label='Rename Hello']")
    page.keyboard.type("Greetings")
    page.keyboard.press("Enter")
    assert page.inner_text("#list .open") == "Greetings"
    page.once("dialog", lambda dialog: dialog.accept())
    page.hover(".entry")
    page.click("[aria-label='Delete Greetings']")
    assert page.locator(".entry").count() == 0 and page.locator(".turn").count() == 0


@needs_chromium
def test_markdown_is_drawn_and_code_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answers(page, "# Title\n\nSome **bold**, *slanted* and `code` of snake_case.\n\n- one\n  - deeper\n- two\n\n3. three\n\n"
                  "| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nprint('<b>')\n```\n\n[site](https://example.org)\n")
    say(page, "Show me")
    body = page.locator(".turn.assistant .body")
    for selector, text in {"h1": "Title", "strong": "bold", "em": "slanted", "p code": "code", "ul ul li": "deeper",
                           "th >> nth=1": "b", "td >> nth=0": "1", "pre code": "print('<b>')"}.items():
        assert body.locator(selector).inner_text() == text, selector
    assert "snake_case" in body.inner_text() and body.locator("ol").get_attribute("start") == "3"
    assert body.locator("a").get_attribute("rel") == "noopener noreferrer nofollow"
    page.click(".copy")
    assert page.evaluate("navigator.clipboard.readText()") == "print('<b>')"


@needs_chromium
def test_what_a_model_writes_is_never_run(page):
    answers(page, "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>\n\n"
                  "[bad](javascript:document.title='run') ![x](javascript:1) <https://example.org>\n\n| <b>a</b> |\n|--|\n| x |\n")
    say(page, "Attack")
    body = page.locator(".turn.assistant .body")
    assert body.locator("img, script, b").count() == 0
    assert [a.get_attribute("href") for a in body.locator("a").all()] == ["https://example.org"]
    assert "onerror" in body.inner_text() and page.title() == "Bittern"


@needs_chromium
def test_escape_stops_and_the_server_stops_too(page, server):
    page.evaluate("localStorage.setItem('bittern.settings', JSON.stringify({seed: '1'}))")
    page.reload()
    # A model of this size soon ends by itself, so the page's own request is made to go on.
    page.route("**/v1/chat/completions", lambda route: route.continue_(
        post_data=json.dumps(json.loads(route.request.post_data) | {"ignore_eos": True})))
    page.fill("#prompt", "Tell me a story")
    page.press("#prompt", "Enter")
    page.locator(".turn.assistant .body").filter(has_text=re.compile(r".{10}", re.S)).wait_for()
    page.keyboard.press("Escape")
    page.wait_for_selector("#send:has-text('Send')")
    assert "stopped" in page.inner_text(".turn.assistant .foot")
    server.wait_for_metric("bittern:num_requests_running", 0)


@needs_chromium
def test_regenerate_and_edit_send_the_right_messages(page):
    sent = []
    page.on("request", lambda r: sent.append(json.loads(r.post_data)) if r.url.endswith("/chat/completions") else None)
    say(page, "First")
    say(page, "Second")
    assert [m["role"] for m in sent[1]["messages"]] == ["user", "assistant", "user"]
    page.click("text=Regenerate")
    page.wait_for_selector(".turn.assistant:last-child .foot button")
    assert sent[2]["messages"] == sent[1]["messages"]
    page.locator(".turn.user >> nth=0").locator("text=Edit").click()
    page.fill("textarea.edit", "Changed")
    page.press("textarea.edit", "Enter")
    page.wait_for_selector(".turn.assistant:last-child .foot button")
    assert sent[3]["messages"] == [{"role": "user", "content": "Changed"}] and page.locator(".turn").count() == 2


@needs_chromium
def test_settings_reach_the_server(page):
    page.click("#show-settings")
    for name, value in {"system": "Be short.", "temperature": "0.5", "top_p": "0.9", "max_tokens": "7", "seed": "3"}.items():
        page.fill(f"#{name}", value)
    page.select_option("#theme", "dark")
    page.click("text=Done")
    page.wait_for_selector("html[data-theme=dark]")
    with page.expect_request("**/v1/chat/completions") as request:
        say(page, "Hello")
    body = json.loads(request.value.post_data)
    assert body["messages"][0] == {"role": "system", "content": "Be short."}
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.5, 0.9, 7, 3)


@needs_chromium
def test_errors_are_words_with_another_try(page):
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=429, content_type="application/json", body='{"error": {"message": "Come back later."}}'))
    page.fill("#prompt", "Hello")
    page.press("#prompt", "Enter")
    page.wait_for_selector("#messages .error")
    assert "full" in page.inner_text("#messages .error") and "Come back later." in page.inner_text("#messages .error")
    page.unroute("**/v1/chat/completions")
    page.click("text=Try again")
    page.wait_for_selector(".turn.assistant .foot button")
    assert page.locator("#messages .error").count() == 0


@needs_chromium
def test_reasoning_is_folded_away(page):
    body = "".join(f"data: {json.dumps({'choices': [{'delta': d}]})}\n\n" for d in ({"reasoning_content": "Hm."}, {"content": "Yes."}))
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=200, content_type="text/event-stream", body=body + "data: [DONE]\n\n"))
    say(page, "Think")
    assert page.locator("details.thought").get_attribute("open") is None
    page.click("summary")
    assert page.locator("details.thought div").inner_text() == "Hm."


@needs_chromium
def test_a_key_is_asked_for_and_used(browser, tmp_path):
    (tmp_path / "keys").write_text("open-sesame\n")
    with serving("--api-key-file", tmp_path / "keys") as server:
        page = browser.new_context().new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(server.url)
        page.click("text=Enter the key")
        page.fill("#key", "open-sesame")
        page.click("text=Done")
        page.wait_for_selector("#model option", state="attached")
        say(page, "Hello")
        page.click("#show-load")
        page.wait_for_selector("[data-card=running] .value")
        page.context.close()


@needs_chromium
def test_live_load_shows_the_metrics(page):
    say(page, "Hello")
    page.click("#show-load")
    page.wait_for_selector("[data-card=kv] .value")
    assert page.locator(".card").count() == 6
    row = page.locator("#load tr", has_text="Time to first token")
    assert re.search(r"\d+ ms|\d\.\d\d s", row.inner_text())
    page.click("text=Back to the conversation")
    assert page.locator(".turn").count() == 2


@needs_chromium
def test_phone_width_has_no_sideways_scroll_and_a_menu(page):
    page.set_viewport_size({"width": 375, "height": 700})
    say(page, "Hello")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not page.is_visible("#new")
    page.click("#menu")
    page.wait_for_selector("#new", state="visible")
    page.click("#new")
    page.wait_for_selector(".welcome")


@needs_chromium
def test_keyboard_alone_is_enough(page):
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.keyboard.type("Hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn.assistant .foot button")
    assert page.inner_text(".turn.user .body") == "Hello\nthere"
    for element in page.locator("button:visible, input:visible, select:visible, textarea:visible").all():
        name = element.evaluate("e => e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.[0]?.textContent.trim()")
        assert name, element.evaluate("e => e.outerHTML")
