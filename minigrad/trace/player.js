(() => {
  "use strict";
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  function enhance(root) {
    root.classList.add("mg-on");
    root.tabIndex = 0;
    root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the keys to us
    const frames = [...root.querySelectorAll(".mg-frame")];
    const last = frames.length - 1;
    let now = 0, timer = null;

    const button = (text, title, action) => {
      const b = make("button", { type: "button", textContent: text, title });
      b.setAttribute("aria-label", title);
      b.addEventListener("click", action);
      return b;
    };
    const first = button("|◀", "first (Home)", () => go(0));
    const back = button("◀", "previous (←)", () => go(now - 1));
    const play = button("▶ play", "play or pause (space)", () => toggle());
    const next = button("▶", "next (→)", () => go(now + 1));
    const end = button("▶|", "last (End)", () => go(last));
    const range = make("input", { type: "range", min: 0, max: last, value: 0 });
    range.setAttribute("aria-label", "step");
    range.addEventListener("input", () => go(Number(range.value)));
    const jump = make("select", { title: "jump to a step" });
    frames.forEach((frame, n) => {
      const arrow = { forward: "→ ", backward: "← " }[frame.dataset.badge] || "";
      jump.append(make("option", { value: n, textContent: arrow + frame.dataset.title }));
    });
    jump.addEventListener("change", () => go(Number(jump.value)));
    const count = make("output");
    const bar = make("div", { className: "mg-bar" }, first, back, next, end, play, jump, range, count,
      make("span", { className: "mg-keys", textContent: "keys: ← → Home End space" }));
    root.querySelector(".mg-head").after(bar);

    const flow = root.querySelector(".mg-flow");
    const map = root.querySelector(".mg-map");
    const places = map ? JSON.parse(map.dataset.places) : {};
    const put = (element, [x, y, w, h]) => Object.assign(element.style,
      { left: `${x}%`, top: `${y}%`, width: `${w}%`, height: `${h}%` });
    const mark = make("div", { className: "mg-mark", hidden: true });
    if (flow) {
      flow.open = true;
      const image = map.querySelector("img");
      image.style.minWidth = `${0.8 * image.getAttribute("width")}px`; // small print scrolls, it does not shrink away
      map.append(mark);
      for (const [number, place] of Object.entries(places)) {
        const spot = make("div", { className: "mg-spot", title: "go to this operation" });
        put(spot, place);
        spot.addEventListener("click", () => {
          const badge = frames[now].dataset.badge || "forward";
          const at = frames.findIndex((f) => f.dataset.mark === number && f.dataset.badge === badge);
          if (at >= 0) go(at);
        });
        map.append(spot);
      }
    }

    function go(n) {
      now = Math.min(Math.max(n, 0), last);
      frames.forEach((frame, k) => { frame.open = k === now; });
      const idle = now === 0 ? [first, back] : now === last ? [next, end] : [];
      if (idle.includes(document.activeElement)) root.focus({ preventScroll: true }); // or the keys would go nowhere
      first.disabled = back.disabled = now === 0;
      next.disabled = end.disabled = now === last;
      range.value = jump.value = now;
      count.textContent = `${now} / ${last}`;
      const place = places[frames[now].dataset.mark];
      mark.hidden = !place;
      if (place) {
        put(mark, place);
        flow.scrollTop = ((place[1] + place[3] / 2) / 100) * map.offsetHeight - flow.clientHeight / 2;
        flow.scrollLeft = ((place[0] + place[2] / 2) / 100) * map.offsetWidth - flow.clientWidth / 2;
      }
      if (now === last) pause();
    }
    function pause() {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶ play";
    }
    function toggle() {
      if (timer !== null) return pause();
      if (now === last) go(0);
      play.textContent = "❚❚ pause";
      timer = setInterval(() => (root.isConnected ? go(now + 1) : pause()), 1800);
    }

    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const action = {
        ArrowLeft: () => go(now - 1), ArrowRight: () => go(now + 1), Home: () => go(0), End: () => go(last),
        " ": event.target.closest("button, select") ? null : toggle,
      }[event.key];
      if (!action) return;
      event.preventDefault();
      event.stopPropagation();
      action();
    });
    root.addEventListener("click", (event) => {
      if (event.target.closest("summary")) event.preventDefault(); // a frame of the player does not fold
      if (!event.target.closest("button, select, input")) root.focus({ preventScroll: true });
    });
    go(0);
  }

  const script = document.currentScript;
  const mine = script && script.closest(".minigrad-trace");
  for (const root of mine ? [mine] : document.querySelectorAll(".minigrad-trace")) {
    if (!root.classList.contains("mg-on")) enhance(root);
  }
})();
