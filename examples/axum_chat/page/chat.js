// The page. Whatever was said goes in by textContent: words are never markup.
"use strict";

const at = (id) => document.getElementById(id);
const [log, welcome, scroll, form, input, send, stop, fresh, toast, awaiting, presence] =
  ["log", "welcome", "scroll", "form", "text", "send", "stop", "new", "toast", "awaiting", "presence"].map(at);

const WORDS = {
  "submitted": "Sent",
  "working": "Working",
  "input-required": "Needs your answer",
  "auth-required": "Needs your authorisation",
  "completed": "Done",
  "canceled": "Stopped",
  "failed": "Failed",
  "rejected": "Declined",
  "unknown": "Outcome unknown",
};
const RUNS = ["submitted", "working"];
const ENDED_BADLY = ["canceled", "failed", "rejected", "unknown"];

let running = false;
let polling = 0;

// One exchange on the page.
class Turn {
  constructor({ asked, text = "", note = "", state = "submitted", problem = null }) {
    Object.assign(this, { text, note, state, problem, artifacts: new Map() });
    this.element = element("article", "turn");
    this.element.append(element("p", "asked", asked));
    this.answer = this.element.appendChild(element("div", "answer"));
    this.parts = { text: element("p", "text"), note: element("p", "note"), state: element("span", "state") };
    this.answer.append(...Object.values(this.parts));
    log.append(this.element);
    this.draw();
  }

  // Takes in an event; true for the last one.
  take({ name, data }) {
    if (name === "artifact") {
      const before = data.append ? this.artifacts.get(data.index) ?? "" : "";
      this.artifacts.set(data.index, before + data.text);
      this.text = [...this.artifacts.values()].join("\n");
    } else if (name === "status") {
      [this.state, this.note] = [data.state, data.text ?? ""];
    } else if (name === "task") {
      [this.state, this.text] = [data.state, data.text ?? ""];
    } else if (name === "error") {
      this.fail(data);
    } else if (name === "done") {
      this.state = data.state;
    }
    this.draw();
    return name === "done" || name === "error";
  }

  fail(problem) {
    this.problem = problem;
    this.state = problem.outcomeUnknown ? "unknown" : "failed";
  }

  draw() {
    const ended = !RUNS.includes(this.state);
    const text = this.text || (ended ? this.note : "");
    const note = this.problem?.detail ?? this.note;
    const showsNote = note !== text && (!ended ? !text : ENDED_BADLY.includes(this.state));
    const follow = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
    this.element.dataset.state = this.state;
    this.parts.text.textContent = text;
    this.parts.note.textContent = showsNote ? note : "";
    this.parts.state.textContent = WORDS[this.state] ?? this.state;
    this.offerToLookAgain(this.state === "unknown");
    presence.textContent = RUNS.includes(this.state) ? "The agent is at work…" : "Ready";
    awaiting.hidden = this.state !== "input-required";
    input.placeholder = awaiting.hidden ? "Ask the agent…" : "Answer the agent…";
    if (follow) scroll.scrollTop = scroll.scrollHeight;
  }

  offerToLookAgain(wanted) {
    if (wanted && !this.again) {
      this.again = this.answer.appendChild(element("button", "again", "Look again"));
      this.again.addEventListener("click", load);
    } else if (!wanted) {
      this.again?.remove();
      this.again = null;
    }
  }
}

function element(kind, name, text = "") {
  const made = document.createElement(kind);
  made.className = name;
  made.textContent = text;
  return made;
}

function setRunning(now) {
  running = now;
  send.hidden = now;
  stop.hidden = !now;
  stop.disabled = false;
  fresh.disabled = now;
  send.disabled = !input.value.trim();
}

function complain(text) {
  toast.textContent = text;
  toast.hidden = !text;
}

// Once: a browser that keeps no cookies would do it for ever.
function meetAgain() {
  if (location.hash === "#again") return complain("This page needs a cookie, to know which conversation is yours.");
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
  // This server does not know us (any more): it was started again, or a cookie is gone.
  if (problem.code === "stranger") meetAgain();
  throw Object.assign(new Error(problem.detail ?? `The server answered ${response.status}.`), { problem });
}

// The events of a response's body. This server ends each with an empty line and writes its data on one.
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const frames = (pending + value).split("\n\n");
    pending = frames.pop();
    for (const frame of frames) {
      const field = (name) => frame.split("\n").find((line) => line.startsWith(name))?.slice(name.length);
      const data = field("data: ");
      if (data) yield { name: field("event: "), data: JSON.parse(data) };
    }
  }
}

async function say(text) {
  clearTimeout(polling);
  complain("");
  welcome.hidden = true;
  setRunning(true);
  const turn = new Turn({ asked: text });
  scroll.scrollTop = scroll.scrollHeight;
  let whole = false;
  try {
    for await (const event of eventsOf(await call("/ask", { text }))) whole = turn.take(event);
  } catch (error) {
    if (error.problem) {
      complain(error.message);
      if (error.problem.safeToAskAgain && !input.value) [input.value, send.disabled] = [text, false];
    }
  }
  setRunning(false);
  // An answer is whole only after its last event; what became of any other, the server knows or finds out.
  if (!whole) await load();
  input.focus();
}

async function load() {
  clearTimeout(polling);
  const response = await fetch("/conversation").catch(() => null);
  if (response?.status === 403) return meetAgain();
  if (!response?.ok) {
    complain("The server cannot be reached. Trying again…");
    polling = setTimeout(load, 3000);
    return;
  }
  const now = await response.json();
  if (location.hash) history.replaceState(null, "", location.pathname);
  if (!toast.hidden && toast.textContent.startsWith("The server cannot")) complain("");
  log.replaceChildren();
  now.turns.forEach((turn) => new Turn(turn));
  welcome.hidden = now.turns.length > 0;
  if (!now.turns.length) [presence.textContent, awaiting.hidden] = ["Ready", true];
  scroll.scrollTop = scroll.scrollHeight;
  setRunning(now.running);
  // Still at it, though not to this page: its end is looked for.
  if (now.running) polling = setTimeout(load, 1000);
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

document.querySelectorAll(".idea").forEach((idea) => idea.addEventListener("click", () => running || say(idea.textContent)));

setRunning(false);
load();
