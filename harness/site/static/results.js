// Keeps a page of results up to date. Without it, the page's own link does the same.
"use strict";
(() => {
  const EVERY_MS = 3000;
  const MOST_MS = 60000; // after failures, each wait is twice the one before, up to this
  const LASTS_MS = 30 * 60000; // a page that nobody touches asks no longer
  const bars = [...document.querySelectorAll("#bars li")];
  const total = document.getElementById("total");
  const age = document.getElementById("age");
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const link = document.getElementById("update");
  let countedAt = performance.now() - Number(age.dataset.ageS) * 1000;
  let waitMs = EVERY_MS;
  let until = 0;
  let timer = 0;

  const count = number => number.toLocaleString("en-US");
  const votes = number => (number === 1 ? "1 vote" : `${count(number)} votes`);
  const percent = share => {
    const whole = Math.floor(share * 100 + 0.5);
    return `${share > 0 && share < 1 ? Math.min(Math.max(whole, 1), 99) : whole} %`;
  };
  const ago = seconds => {
    for (const [unit, per] of [["hour", 3600], ["minute", 60], ["second", 1]]) {
      const number = Math.floor(seconds / per);
      if (number) return number === 1 ? `1 ${unit} ago` : `${number} ${unit}s ago`;
    }
    return "just now";
  };
  const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  function show(results) {
    if (results.choices.length !== bars.length) return location.reload();
    bars.forEach((bar, n) => {
      const share = results.total ? results.choices[n].votes / results.total : 0;
      write(bar.querySelector(".share"), percent(share));
      write(bar.querySelector(".votes"), votes(results.choices[n].votes));
      bar.querySelector("rect").setAttribute("width", `${(share * 100).toFixed(2)}%`);
    });
    write(total, results.total ? votes(results.total) : "No votes yet");
    countedAt = performance.now() - results.age_s * 1000;
  }

  async function update() {
    try {
      const answer = await fetch(location.pathname, {
        headers: { Accept: "application/json" }, cache: "no-store", credentials: "omit",
        signal: AbortSignal.timeout(10000),
      });
      if (!answer.ok) throw new Error(answer.headers.get("Retry-After") || "0");
      show(await answer.json());
      waitMs = EVERY_MS;
      link.hidden = true;
      write(live, "");
    } catch (error) {
      waitMs = Math.min(MOST_MS, Math.max(2 * waitMs, Number(error.message) * 1000 || 0));
      link.hidden = false;
      write(live, "No new count just now; trying again.");
    }
    plan();
  }

  function plan() { // never in step with everybody else
    clearTimeout(timer);
    if (performance.now() > until) return stop();
    timer = setTimeout(() => (document.hidden ? plan() : update()), waitMs * (0.75 + Math.random() / 2));
  }

  function start() {
    until = performance.now() + LASTS_MS;
    link.hidden = true;
    write(pause, "Pause updates");
    write(live, "");
    plan();
  }

  function stop() {
    clearTimeout(timer);
    until = 0;
    link.hidden = false;
    write(pause, "Resume updates");
    write(live, "Updates are paused.");
  }

  pause.addEventListener("click", () => (until ? stop() : start()));
  setInterval(() => write(age, ago((performance.now() - countedAt) / 1000)), 1000);
  pause.hidden = false;
  start();
})();
