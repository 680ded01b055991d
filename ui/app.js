// The page itself: joins the conversation on screen, the store, the server and the keyboard. One reply runs at a time.

import { chat, models } from "/ui/api.js";
import { LoadView } from "/ui/load.js";
import { markdown } from "/ui/markdown.js";
import { Store } from "/ui/store.js";

const $ = (id) => document.getElementById(id);
const make = (name, kind, ...children) => {
  const node = document.createElement(name);
  node.className = kind;
  node.append(...children);
  return node;
};
const button = (text, action, kind = "quiet", label = text) => {
  const node = make("button", kind, text);
  node.type = "button";
  node.setAttribute("aria-label", label);
  node.addEventListener("click", action);
  return node;
};

const store = new Store(() => notice("This browser keeps no more conversations: its storage is full or forbidden."));
let current = null;
let running = null;  // {abort} of the reply under way
const loadView = new LoadView($("load"), () => store.settings.key);

// --- Appearance ---

const dark = matchMedia("(prefers-color-scheme: dark)");
function applyTheme() {
  const { theme } = store.settings;
  document.documentElement.dataset.theme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
}
dark.addEventListener("change", applyTheme);

function notice(text, retry, more = []) {
  const box = make("div", "error", text);
  box.setAttribute("role", "alert");
  if (retry) box.append(button("Try again", () => { box.remove(); retry(); }));
  box.append(...more);
  $("messages").append(box);
  scrollDown(true);
}

function scrollDown(always) {
  const box = $("messages");
  if (always || box.scrollHeight - box.scrollTop - box.clientHeight < 120) box.scrollTop = box.scrollHeight;
}

// --- Conversations ---

function select(conversation) {
  stop();
  current = conversation;
  showChat();
  drawList();
  drawMessages();
  $("side").classList.remove("shown");
  $("menu").setAttribute("aria-expanded", "false");
}

function drawList() {
  $("title").textContent = current ? current.title : "New conversation";
  $("list").replaceChildren(...store.conversations.map((conversation) => {
    const open = button(conversation.title, () => select(conversation), "quiet open");
    const row = make("div", conversation === current ? "entry current" : "entry", open,
      button("✎", () => rename(conversation, row), "quiet small", `Rename ${conversation.title}`),
      button("✕", () => remove(conversation), "quiet small", `Delete ${conversation.title}`));
    if (conversation === current) open.setAttribute("aria-current", "true");
    return row;
  }));
}

function rename(conversation, row) {
  const field = make("input", "open");
  field.value = conversation.title;
  field.setAttribute("aria-label", "Title");
  let open = true;
  const end = (keep) => {
    if (!open) return;
    open = false;
    if (keep && field.value.trim()) conversation.title = field.value.trim();
    store.save();
    drawList();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") end(false);
  });
  field.addEventListener("blur", () => end(true));
  row.replaceChildren(field);
  field.select();
}

function remove(conversation) {
  if (!confirm(`Delete "${conversation.title}"?`)) return;
  store.remove(conversation);
  if (conversation === current) select(null);
  else drawList();
}

// --- Messages ---

function drawMessages() {
  const messages = current ? current.messages : [];
  const nodes = messages.map((message, i) => drawTurn(message, i));
  $("messages").replaceChildren(...(nodes.length ? nodes : [make("p", "welcome", "What would you like to talk about?")]));
  scrollDown(true);
}

function drawTurn(message, index) {
  const body = make("div", "body");
  const foot = make("div", "foot");
  const turn = make("article", `turn ${message.role}`, make("div", "who", message.role === "user" ? "You" : message.model || "Assistant"), body, foot);
  if (message.role === "user") {
    body.textContent = message.content;
    foot.append(button("Edit", () => edit(turn, message, index)));
  } else {
    fillReply(body, message);
    if (message.note) foot.append(message.note + " ");
    foot.append(button("Copy", (event) => copy(event.target, message.content), "quiet", "Copy the reply"));
    if (index === current.messages.length - 1) foot.append(button("Regenerate", () => regenerate(index)));
  }
  return turn;
}

function fillReply(body, message) {
  const nodes = [];
  if (message.reasoning) {
    const thought = make("details", "thought", make("summary", "", "Reasoning"), make("div", "", message.reasoning));
    thought.open = body.querySelector("details")?.open || false;
    nodes.push(thought);
  }
  body.replaceChildren(...nodes, ...markdown(message.content));
}

async function copy(where, text) {
  const before = where.textContent;
  try {
    await navigator.clipboard.writeText(text);
    where.textContent = "Copied";
  } catch {
    where.textContent = "Not allowed";
  }
  setTimeout(() => { where.textContent = before; }, 1500);
}

function edit(turn, message, index) {
  stop();
  const field = make("textarea", "edit");
  field.value = message.content;
  field.rows = Math.min(12, message.content.split("\n").length + 1);
  field.setAttribute("aria-label", "Edit the message");
  const send = () => {
    if (!field.value.trim()) return;
    current.messages.splice(index);
    say(field.value.trim());
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
    if (event.key === "Escape") { event.stopPropagation(); drawMessages(); }
  });
  turn.replaceChildren(field, make("div", "foot", button("Send again", send, ""), button("Cancel", drawMessages)));
  field.focus();
}

// --- Talking to the server ---

function request() {
  const { system, temperature, top_p, max_tokens, seed } = store.settings;
  const body = { model: $("model").value || undefined, messages: [] };
  if (system.trim()) body.messages.push({ role: "system", content: system });
  for (const { role, content } of current.messages) body.messages.push({ role, content });
  for (const [name, value] of Object.entries({ temperature, top_p, max_tokens, seed })) {
    if (value !== "" && value !== null) body[name] = Number(value);
  }
  return body;
}

function say(text) {
  if (!current) current = store.create();
  if (!current.messages.length) current.title = text.length > 60 ? `${text.slice(0, 57)}…` : text;
  current.messages.push({ role: "user", content: text });
  store.save();
  drawList();
  drawMessages();
  answer();
}

function regenerate(index) {
  current.messages.splice(index);
  store.save();
  drawMessages();
  answer();
}

function take(event, message) {
  const delta = event.choices?.[0]?.delta || {};
  const thought = delta.reasoning ?? delta.reasoning_content ?? "";
  message.content += delta.content || "";
  message.reasoning += thought;
  return Boolean(delta.content || thought);
}

function speed(start, first, last, events, usage) {
  if (!first) return "";
  const tokens = usage?.completion_tokens ?? events;
  // Over a shorter time than this a rate would be noise.
  const rate = last - first > 50 && tokens > 1 ? ` · ${((tokens - 1) / ((last - first) / 1000)).toFixed(1)} tok/s` : "";
  return `${tokens} tokens${rate} · first after ${((first - start) / 1000).toFixed(2)} s`;
}

async function answer() {
  stop();
  const mine = current;
  const run = { abort: new AbortController() };
  running = run;
  const message = { role: "assistant", content: "", reasoning: "", model: $("model").value };
  const body = make("div", "body cursor");
  const foot = make("div", "foot");
  $("messages").append(make("article", "turn assistant", make("div", "who", message.model || "Assistant"), body, foot));
  scrollDown(true);
  setBusy(true);
  const start = performance.now();
  let first = 0, last = 0, events = 0, usage = null, failure = null, frame = 0;
  const draw = () => {
    frame = 0;
    fillReply(body, message);
    foot.textContent = speed(start, first, last, events, usage);
    scrollDown(false);
  };
  try {
    for await (const event of chat(request(), store.settings.key, run.abort.signal)) {
      if (event.usage) usage = event.usage;
      if (!take(event, message)) continue;
      last = performance.now();
      first ||= last;
      events++;
      frame ||= requestAnimationFrame(draw);
    }
  } catch (error) {
    if (error.name !== "AbortError") failure = error;
  }
  cancelAnimationFrame(frame);
  message.note = speed(start, first, last, events, usage) + (run.abort.signal.aborted ? " · stopped" : "");
  if (message.content || message.reasoning) mine.messages.push(message);
  store.save();
  if (running === run) {
    running = null;
    setBusy(false);
  }
  if (mine !== current) return;
  drawMessages();
  if (failure) explain(failure, message);
}

function explain(failure, message) {
  const again = () => {
    if (message.content || message.reasoning) current.messages.pop();
    answer();
  };
  const more = failure.status === 401 ? [button("Enter the key", openSettings)] : [];
  notice(failure.message, again, more);
}

function stop() {
  running?.abort.abort();
  running = null;
  setBusy(false);
}

function setBusy(busy) {
  $("send").textContent = busy ? "Stop" : "Send";
  $("send").classList.toggle("stop", busy);
}

async function listModels() {
  try {
    const cards = await models(store.settings.key);
    $("model").replaceChildren(...cards.map(({ id }) => new Option(id, id, false, id === store.settings.model)));
  } catch (error) {
    notice(error.message, listModels, error.status === 401 ? [button("Enter the key", openSettings)] : []);
  }
}

// --- Views and settings ---

function showChat() {
  $("load").hidden = true;
  $("chat").hidden = false;
  $("show-load").textContent = "Live load";
  loadView.stop();
}

function toggleLoad() {
  if (!$("load").hidden) return showChat(), drawList();
  $("chat").hidden = true;
  $("load").hidden = false;
  $("title").textContent = "Live load";
  $("show-load").textContent = "Back to the conversation";
  $("side").classList.remove("shown");
  loadView.start();
}

const FIELDS = ["system", "temperature", "top_p", "max_tokens", "seed", "key", "theme"];
function openSettings() {
  for (const name of FIELDS) $(name).value = store.settings[name];
  $("settings").showModal();
}
function closeSettings() {
  const keyChanged = $("key").value !== store.settings.key;
  for (const name of FIELDS) store.settings[name] = $(name).value;
  store.save();
  applyTheme();
  if (keyChanged) {
    document.querySelectorAll("#messages > .error").forEach((node) => node.remove());
    listModels();
  }
}

function exportAll() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([store.exported()], { type: "application/json" }));
  link.download = "bittern-conversations.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function grow() {
  $("prompt").style.height = "auto";
  $("prompt").style.height = `${$("prompt").scrollHeight}px`;
}

function submit(event) {
  event.preventDefault();
  if (running) return stop();
  const text = $("prompt").value.trim();
  if (!text) return;
  $("prompt").value = "";
  grow();
  say(text);
}

function connect() {
  $("compose").addEventListener("submit", submit);
  $("prompt").addEventListener("input", grow);
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!running) submit(event);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running && !$("settings").open) stop();
  });
  $("messages").addEventListener("click", (event) => {
    if (event.target.matches(".copy")) copy(event.target, event.target.closest(".block").querySelector("code").textContent);
  });
  $("new").addEventListener("click", () => { select(null); $("prompt").focus(); });
  $("menu").addEventListener("click", () => $("menu").setAttribute("aria-expanded", String($("side").classList.toggle("shown"))));
  $("show-load").addEventListener("click", toggleLoad);
  $("show-settings").addEventListener("click", openSettings);
  $("settings").addEventListener("close", closeSettings);
  $("export").addEventListener("click", exportAll);
  $("model").addEventListener("change", () => { store.settings.model = $("model").value; store.save(); });
}

applyTheme();
connect();
select(store.conversations[0] || null);
listModels();
$("prompt").focus();
