// Sends what is asked as JSON, which no other site's form can, and shows the answer as text.
"use strict";

const form = document.getElementById("ask");
const answer = document.getElementById("answer");

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { ok: response.ok, body: await response.json() };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  answer.textContent = "The agent is at work…";
  try {
    const { ok, body } = await post("/ask", { text: form.elements.text.value });
    if (body.code === "connect-again") location.assign("/connect");
    const texts = ok ? body.artifacts.map(({ content }) => content) : [body.detail];
    answer.textContent = texts.filter(Boolean).join("\n") || body.statusMessage || body.status;
  } catch {
    answer.textContent =
      "The answer was lost. It may have been done all the same: do not ask again.";
  }
  button.disabled = false;
});

document.getElementById("disconnect").addEventListener("click", async () => {
  const { ok, body } = await post("/disconnect", {});
  if (ok) location.assign("/");
  else answer.textContent = body.detail;
});
