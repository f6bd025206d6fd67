// What goes on moves without a reload: the page is fetched again, and of each part that says what it is
// (data-live) what has changed takes the place of what stood there.
"use strict";

const SOON = 2000;
const SELDOM = 8000;
const LATER = 60000;
const AFTER_A_BUTTON = 60000;

// What a button has begun is to be seen: a run is not in the books before a worker takes it up.
const busyUntil = document.querySelector(".notice[data-said]") ? Date.now() + AFTER_A_BUTTON : 0;

let failures = 0;
let waiting = null;

function pause(page) {
  return page.querySelector("main[data-going]") || Date.now() < busyUntil ? SOON : SELDOM;
}

function say(text) {
  const place = document.getElementById("live");
  if (place && place.textContent !== text) {
    place.textContent = text;
  }
}

function holdsFocus(element) {
  return element.contains(document.activeElement) && document.activeElement !== document.body;
}

function takeOver(fresh) {
  const before = new Map([...document.querySelectorAll("[data-live]")].map((part) => [part.dataset.live, part]));
  const after = [...fresh.querySelectorAll("[data-live]")];
  if (after.length !== before.size || after.some((part) => !before.has(part.dataset.live))) {
    // Another list of campaigns: that is another page.
    const main = fresh.querySelector("main");
    const old = document.querySelector("main");
    if (main && old && !holdsFocus(old)) {
      old.replaceWith(main);
    }
    return;
  }
  for (const part of after) {
    const old = before.get(part.dataset.live);
    if (old.outerHTML !== part.outerHTML && !holdsFocus(old)) {
      old.replaceWith(part);
    }
  }
}

async function look() {
  let next = SELDOM;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.status === 401 || answer.redirected) {
      location.reload();
      return;
    }
    if (!answer.ok) {
      throw new Error(String(answer.status));
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    takeOver(fresh);
    failures = 0;
    next = pause(fresh);
    say("");
  } catch (error) {
    failures += 1;
    next = Math.min(SOON * 2 ** failures, LATER);
    say("The server does not answer; what is shown may be old.");
  }
  waiting = setTimeout(look, document.hidden ? LATER : next);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    clearTimeout(waiting);
    look();
  }
});

// A button that was pressed is not pressed twice.
document.addEventListener("submit", (event) => {
  for (const button of event.target.querySelectorAll("button")) {
    setTimeout(() => { button.disabled = true; }, 0);
  }
});

waiting = setTimeout(look, pause(document));
