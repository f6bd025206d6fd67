// What goes on moves without a reload: the page is fetched again, and of each part that says what it is
// (data-live) what has changed takes the place of what stood there.
"use strict";

const SOON = 2000;
const SELDOM = 8000;
const LATER = 60000;
const PATIENCE = 15000;
const AFTER_A_BUTTON = 60000;

const notice = document.querySelector(".notice[data-said]");
// What a button has begun is to be seen: a run is not in the books before a worker takes it up.
const busyUntil = notice ? Date.now() + AFTER_A_BUTTON : 0;
if (notice) {
  // What is said once is not said again by a reload.
  history.replaceState(null, "", location.pathname);
}

let failures = 0;
let waiting = null;
let isLooking = false;
// A button is pressed: nothing that stands here is replaced any more, and no button comes back.
let isPressed = false;

function pause(page) {
  return page.querySelector("main[data-going]") || Date.now() < busyUntil ? SOON : SELDOM;
}

function lookIn(milliseconds) {
  clearTimeout(waiting);
  waiting = setTimeout(look, document.hidden ? LATER : milliseconds);
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
  if (isLooking || isPressed) {
    return;
  }
  isLooking = true;
  let next = SELDOM;
  try {
    const limit = AbortSignal.timeout(PATIENCE);
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store", signal: limit });
    if (answer.redirected) {
      location.reload();
      return;
    }
    if (answer.status >= 400 && answer.status < 500) {
      say("What was shown here is gone, or may not be seen any more.");
      return;
    }
    if (!answer.ok) {
      throw new Error(String(answer.status));
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (isPressed) {
      return;
    }
    takeOver(fresh);
    failures = 0;
    next = pause(fresh);
    say("");
  } catch (error) {
    failures += 1;
    next = Math.min(SOON * 2 ** failures, LATER);
    say("The server does not answer; what is shown may be old.");
  } finally {
    isLooking = false;
  }
  lookIn(next);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    lookIn(0);
  }
});

document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") {
    return;
  }
  if (isPressed) {
    event.preventDefault();
    return;
  }
  isPressed = true;
  clearTimeout(waiting);
  for (const button of document.querySelectorAll("form[method=post] button")) {
    setTimeout(() => { button.disabled = true; }, 0);
  }
});

// Who comes back by the browser's button finds the page as it was left.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) {
    location.reload();
  }
});

lookIn(pause(document));
