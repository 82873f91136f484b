// The page. All text goes in by textContent: it is never markup.
"use strict";

const at = (id) => document.getElementById(id);
const IDS = ["log", "welcome", "scroll", "form", "text", "send", "stop", "new", "toast", "awaiting",
  "presence", "announcer"];
const [log, welcome, scroll, form, input, send, stop, fresh, toast, awaiting,
  presence, announcer] = IDS.map(at);

// "completed" has no color of success: the agent has finished its answer, which proves nothing.
const LABELS = {
  "submitted": "Sent",
  "working": "Working",
  "input-required": "Needs your answer",
  "auth-required": "Needs your authorization",
  "completed": "Finished",
  "canceled": "Stopped",
  "failed": "Failed",
  "rejected": "Declined",
  "unknown": "Outcome unknown",
};
const RUNNING = ["submitted", "working"];
const ENDED_BADLY = ["canceled", "failed", "rejected", "unknown"];
const UNREACHABLE = "The server cannot be reached. Trying again…";
const MAYBE_DONE =
  "It may have been done all the same. Do not ask again before you have seen what became of it.";

const turns = new Map(); // by id
let running = false;
let offline = !navigator.onLine;
let polling = 0;

// One exchange on the page.
class Turn {
  constructor(asked) {
    Object.assign(this, { id: null, text: "", note: "", state: "submitted" });
    Object.assign(this, { answered: false, problem: null });
    this.artifacts = new Map(); // text by index, in the order of first appearance
    this.element = element("article", "turn");
    // Headings for screen readers, to tell who speaks and to go from one to the next.
    this.element.append(element("h2", "unseen", "You"));
    this.asked = this.element.appendChild(element("p", "asked", asked));
    this.element.append(element("h2", "unseen", "Agent"));
    this.answer = this.element.appendChild(element("div", "answer"));
    this.parts = {
      text: element("p", "text"),
      note: element("p", "note"),
      state: element("span", "state"),
    };
    this.answer.append(...Object.values(this.parts));
    log.append(this.element);
  }

  // The turn as the server sent it.
  update({ id, text, note, state, answered, problem = null }) {
    Object.assign(this, { id, text, note, state, answered, problem });
    this.draw();
  }

  // Applies an event of the answer; true for the last one.
  apply({ name, data }) {
    if (name === "turn") {
      this.id = data.id;
      turns.set(data.id, this);
    } else if (name === "artifact") {
      const before = data.append ? this.artifacts.get(data.index) ?? "" : "";
      this.artifacts.set(data.index, before + data.text);
      this.state = data.state ?? this.state;
    } else if (name === "status") {
      [this.state, this.note] = [data.state, data.text ?? ""];
    } else if (name === "task") { // the whole task as of now
      [this.state, this.note] = [data.state, data.message ?? ""];
      this.artifacts = new Map((data.artifacts ?? []).map(({ index, text }) => [index, text]));
    } else if (name === "error") {
      this.fail(data);
    } else if (name === "done") {
      this.state = data.state;
    }
    this.text = [...this.artifacts.values()].filter(Boolean).join("\n");
    this.draw();
    return name === "done" || name === "error";
  }

  fail(problem) {
    this.problem = problem;
    this.state = problem.outcomeUnknown ? "unknown" : "failed";
  }

  get label() {
    if (this.answered && this.state === "input-required") return "Answered";
    return LABELS[this.state] ?? this.state;
  }

  get shown() {
    return this.text || (RUNNING.includes(this.state) ? "" : this.note);
  }

  get detail() {
    const otherwise = this.state === "unknown" ? MAYBE_DONE : this.note;
    const detail = this.problem?.detail ?? otherwise;
    const wanted = RUNNING.includes(this.state) ? !this.shown : ENDED_BADLY.includes(this.state);
    return wanted && detail !== this.shown ? detail : "";
  }

  draw() {
    const follow = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
    this.element.dataset.state = this.state;
    this.element.toggleAttribute("data-answered", this.answered);
    setText(this.parts.text, this.shown);
    setText(this.parts.note, this.detail);
    setText(this.parts.state, this.label);
    this.offerToLookAgain(this.state === "unknown");
    drawStatus();
    if (follow) scroll.scrollTop = scroll.scrollHeight;
  }

  offerToLookAgain(wanted) {
    if (wanted && !this.again) {
      this.again = this.answer.appendChild(element("button", "again", "Look again"));
      this.again.type = "button";
      this.again.addEventListener("click", () => this.lookAgain());
    } else if (!wanted && this.again) {
      const focused = document.activeElement === this.again;
      this.again.remove();
      this.again = null;
      if (focused) input.focus();
    }
  }

  async lookAgain() {
    if (running) return;
    complain("");
    this.again.setAttribute("aria-disabled", "true");
    await load();
    this.again?.removeAttribute("aria-disabled");
    this.announce();
  }

  // Once, for screen readers: the answer and its outcome.
  announce() {
    announcer.textContent = [`${this.label}:`, this.shown, this.detail].filter(Boolean).join(" ");
  }

  remove() {
    this.element.remove();
    if (this.id !== null) turns.delete(this.id);
  }
}

function element(kind, name, text = "") {
  const made = document.createElement(kind);
  made.className = name;
  made.textContent = text;
  return made;
}

// Appends where the text only grew: a selection stays.
function setText(node, text) {
  const before = node.textContent;
  if (text === before) return;
  if (before && text.startsWith(before)) node.firstChild.appendData(text.slice(before.length));
  else node.textContent = text;
}

function waits() {
  return [...turns.values()].some((turn) => turn.state === "input-required" && !turn.answered);
}

function drawStatus() {
  presence.textContent = offline ? "Offline" : running ? "The agent is at work…" : "Ready";
  awaiting.hidden = running || !waits();
  input.placeholder = waits() ? "Answer the agent…" : "Ask the agent…";
}

function setRunning(now) {
  running = now;
  send.hidden = now;
  stop.hidden = !now;
  stop.disabled = false;
  fresh.disabled = now;
  send.disabled = !input.value.trim();
  drawStatus();
}

function setOffline(now) {
  offline = now;
  drawStatus();
}

function complain(text) {
  toast.textContent = text;
  toast.hidden = !text;
}

// Only once: a browser that keeps no cookies would reload for ever.
function meetAgain() {
  if (location.hash === "#again") {
    return complain("This page needs a cookie, to know which conversation is yours.");
  }
  location.hash = "again";
  location.reload();
}

async function call(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body ?? {}),
  });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  // The server does not know this visitor: it was restarted, or the cookie was deleted.
  if (problem.code === "stranger") meetAgain();
  const detail = problem.detail ?? `The server answered ${response.status}.`;
  throw Object.assign(new Error(detail), { problem });
}

// The events of a response's body. This server ends each with an empty line, and writes its data
// on one line.
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (pending + value).split("\n\n");
    pending = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const field = (name) => lines.find((line) => line.startsWith(name))?.slice(name.length);
      const data = field("data: ");
      if (data) yield { name: field("event: "), data: JSON.parse(data) }; // else a comment
    }
  }
}

function giveBack(text) {
  if (!input.value) [input.value, send.disabled] = [text, false];
}

async function say(text) {
  if (offline) {
    giveBack(text);
    return complain("You are offline. Nothing was sent.");
  }
  clearTimeout(polling);
  complain("");
  welcome.hidden = true;
  for (const turn of turns.values()) {
    if (turn.state !== "input-required" || turn.answered) continue;
    turn.answered = true;
    turn.draw();
  }
  const turn = new Turn(text);
  setRunning(true);
  turn.draw();
  scroll.scrollTop = scroll.scrollHeight;
  announcer.textContent = "The agent is at work.";
  let ended = false;
  try {
    for await (const event of eventsOf(await call("/ask", { text }))) ended = turn.apply(event);
  } catch (error) {
    if (error.problem) {
      complain(error.message);
      turn.fail(error.problem);
    }
  }
  if (!ended && !turn.problem) { // cut on its way to this page
    turn.fail({ outcomeUnknown: true, detail: MAYBE_DONE });
    turn.draw();
  }
  if (turn.problem?.safeToAskAgain) giveBack(text);
  setRunning(false);
  // An answer is complete only after its last event. The server knows, or finds out, what became
  // of any other, and whether a question still waits after an answer that failed.
  if (!ended || turn.problem) await load();
  const last = [...turns.values()].at(-1);
  if (turn.element.isConnected) {
    turn.announce();
  } else if (turn.id === null && last?.asked.textContent !== text) { // the server never got it
    giveBack(text);
    if (!toast.textContent) complain("That was not sent.");
  } else {
    last.announce();
  }
  if (!running) input.focus({ preventScroll: true });
}

async function load() {
  clearTimeout(polling);
  const response = await fetch("/conversation").catch(() => null);
  if (response?.status === 403) return meetAgain();
  if (!response?.ok) {
    setOffline(true);
    complain(UNREACHABLE);
    polling = setTimeout(load, 3000);
    return;
  }
  const now = await response.json();
  setOffline(!navigator.onLine);
  if (location.hash) history.replaceState(null, "", location.pathname);
  if (toast.textContent === UNREACHABLE) complain("");
  show(now.turns);
  setRunning(now.running);
  // The agent is still at it, though not for this page: its end is looked for.
  if (now.running) polling = setTimeout(load, 1000);
}

// Keeps existing elements of the page, so that neither focus nor selection is lost.
function show(known) {
  const first = turns.size === 0;
  const ids = new Set(known.map((turn) => turn.id));
  for (const turn of [...turns.values()]) if (!ids.has(turn.id)) turn.remove();
  const kept = new Set([...turns.values()].map((turn) => turn.element));
  for (const shown of [...log.children]) if (!kept.has(shown)) shown.remove(); // never got there
  for (const turn of known) {
    if (!turns.has(turn.id)) turns.set(turn.id, new Turn(turn.asked));
    turns.get(turn.id).update(turn);
  }
  welcome.hidden = known.length > 0;
  if (first) scroll.scrollTop = scroll.scrollHeight;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text || running) return;
  input.value = "";
  resize();
  say(text);
});

stop.addEventListener("click", async () => {
  stop.disabled = true;
  await call("/stop").catch((error) => complain(error.message));
  stop.disabled = false;
  input.focus();
});

fresh.addEventListener("click", async () => {
  complain("");
  await call("/new").catch((error) => complain(error.message));
  await load();
  input.focus();
});

function resize() {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
}

input.addEventListener("input", () => {
  resize();
  send.disabled = !input.value.trim();
});

input.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

addEventListener("offline", () => setOffline(true));
// A running answer continues without a reload, which would replace it by the server's copy so far.
addEventListener("online", () => (running ? setOffline(false) : load()));

document.querySelectorAll(".idea").forEach((idea) => {
  idea.addEventListener("click", () => running || say(idea.textContent));
});

setRunning(false);
load();
