// The page works without this file: it adds the theme switch, the filter of the pictures, the viewer and the table.
"use strict";
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const one = (selector, inside = document) => inside.querySelector(selector);
  const root = document.documentElement;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // theme: what the system prefers, light, dark
  const themes = ["auto", "light", "dark"];
  const themeButton = one("#theme");
  const setTheme = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    themeButton.textContent = `Theme: ${theme}`;
    try { localStorage.setItem("fsf-theme", theme); } catch { /* a page from disk may have no storage */ }
  };
  let kept = "auto";
  try { kept = localStorage.getItem("fsf-theme") || "auto"; } catch { /* as above */ }
  setTheme(themes.includes(kept) ? kept : "auto");
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    setTheme(themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % themes.length]);
  });

  // pictures
  const grid = one("#grid");
  let shown = [];
  if (grid) {
    const cards = all(".card", grid);
    const meaning = one("#meaning");
    const choose = (button) => {
      for (const other of all("#reasons button")) other.setAttribute("aria-pressed", String(other === button));
      const key = button.dataset.key;
      for (const card of cards) {
        const line = one(`[data-key="${key}"]`, card);
        card.hidden = Boolean(key) && !line;
        card.rank = line ? Number(line.dataset.rank) : Number(card.dataset.at);
      }
      // Sorted in the document too, so that the tab key follows what is seen.
      shown = cards.filter((card) => !card.hidden).sort((a, b) => a.rank - b.rank);
      grid.append(...shown);
      meaning.textContent = `${button.dataset.meaning} ${shown.length} ${shown.length === 1 ? "picture" : "pictures"}.`;
    };
    for (const button of all("#reasons button")) button.addEventListener("click", () => choose(button));
    for (const button of all("#layers button")) {
      button.addEventListener("click", () => {
        for (const other of all("#layers button")) other.setAttribute("aria-pressed", String(other === button));
        grid.className = `grid show-${button.dataset.layer}`;
      });
    }
    for (const slider of all("input[data-mix]")) {
      slider.addEventListener("input", () => {
        root.style.setProperty("--mix", String(slider.value / 100));
        for (const other of all("input[data-mix]")) other.value = slider.value;
      });
    }
    for (const tools of all(".tools[hidden]")) tools.hidden = false;
    choose(one("#reasons button"));
    startViewer();
  }

  // viewer: panels side by side, or two layers of one panel with a slider between them; zoom and position are shared
  function startViewer() {
    const dialog = one("#viewer");
    const panels = one("#panels");
    const wipe = one("#wipe");
    const [first, second] = [one("#first"), one("#second")];
    const view = { zoom: 1, x: 0, y: 0 };
    let at = 0;
    let side = true;
    let opener = null;

    const layersOf = (card) => {
      const photo = one(".p", card), mask = one(".m", card), label = one(".l", card), other = one(".o", card);
      const layers = [];
      if (photo) layers.push({ name: "Picture", images: [[photo, 1]] });
      layers.push({ name: "Mask", images: [[mask, 1]] });
      if (photo) layers.push({ name: "Overlay", images: [[photo, 1], [mask, "mix"]] });
      if (label) layers.push({ name: "Label", images: [[label, 1]] });
      if (other) layers.push({ name: "Other run", images: [[other, 1]] });
      return layers;
    };
    const stageOf = (layer) => {
      const stage = document.createElement("div");
      stage.className = "stage";
      for (const [image, opacity] of layer.images) {
        const copy = new Image();
        copy.src = image.src;
        copy.alt = "";
        if (opacity === "mix") copy.className = "m";
        stage.append(copy);
      }
      return stage;
    };
    const tag = (text, name) => {
      const label = document.createElement("span");
      label.textContent = text;
      if (name) label.className = name;
      return label;
    };
    const place = () => {
      const matrix = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
      for (const stage of all(".stage", panels)) {
        stage.style.transform = matrix;
        stage.classList.toggle("sharp", view.zoom >= 3);
      }
      one("#zoom").textContent = `${Math.round(view.zoom * 100)} %`;
    };
    const cut = () => {
      const share = Number(wipe.value);
      const top = one(".wipe", panels), edge = one(".edge", panels);
      if (top) {
        top.style.clipPath = `inset(0 0 0 ${share}%)`;
        edge.style.left = `${share}%`;
      }
    };
    const draw = () => {
      const card = shown[at];
      const layers = layersOf(card);
      one("#viewer-title").textContent = one(".name", card).textContent;
      one("#position").textContent = `${at + 1} of ${shown.length}`;
      panels.replaceChildren();
      if (side) {
        panels.dataset.count = String(layers.length);
        for (const layer of layers) {
          const panel = document.createElement("div");
          panel.className = "panel";
          panel.append(stageOf(layer), tag(layer.name));
          panels.append(panel);
        }
      } else {
        for (const [select, preferred] of [[first, "Picture"], [second, "Overlay"]]) {
          const before = select.value || preferred;
          select.replaceChildren(...layers.map((layer) => new Option(layer.name)));
          select.value = layers.some((layer) => layer.name === before) ? before : layers[layers.length - 1].name;
        }
        const find = (select) => layers.find((layer) => layer.name === select.value);
        const panel = document.createElement("div"), top = document.createElement("div"), edge = document.createElement("div");
        panel.className = "panel";
        top.className = "wipe panel";
        edge.className = "edge";
        top.append(stageOf(find(second)));
        panel.append(stageOf(find(first)), top, edge, tag(first.value), tag(second.value, "right"));
        panels.dataset.count = "1";
        panels.append(panel);
        cut();
      }
      for (const control of all("[data-for]")) control.hidden = control.dataset.for !== (side ? "side" : "compare");
      one("#viewer-side").setAttribute("aria-pressed", String(side));
      one("#viewer-compare").setAttribute("aria-pressed", String(!side));
      one("#viewer-facts").replaceChildren(...all(".holds, .why, .notes", card).map((part) => part.cloneNode(true)));
      place();
    };
    const go = (step) => { at = (at + step + shown.length) % shown.length; draw(); };
    const zoom = (factor, x, y) => {
      const next = clamp(view.zoom * factor, 1, 32);
      view.x = x - (x - view.x) * (next / view.zoom);
      view.y = y - (y - view.y) * (next / view.zoom);
      view.zoom = next;
      if (next === 1) view.x = view.y = 0;
      place();
    };
    const middle = () => {
      const box = (one(".panel", panels)).getBoundingClientRect();
      return [box.width / 2, box.height / 2];
    };
    const reset = () => { view.zoom = 1; view.x = view.y = 0; place(); };

    grid.addEventListener("click", (event) => {
      const button = event.target.closest(".shot");
      if (!button) return;
      opener = button;
      at = shown.indexOf(button.closest(".card"));
      reset();
      dialog.showModal();
      draw();
    });
    dialog.addEventListener("close", () => {
      const card = shown[at];
      (card ? one(".shot", card) : opener).focus();
    });
    one("#viewer-close").addEventListener("click", () => dialog.close());
    one("#previous").addEventListener("click", () => go(-1));
    one("#next").addEventListener("click", () => go(1));
    one("#viewer-side").addEventListener("click", () => { side = true; draw(); });
    one("#viewer-compare").addEventListener("click", () => { side = false; draw(); });
    one("#closer").addEventListener("click", () => zoom(1.5, ...middle()));
    one("#farther").addEventListener("click", () => zoom(1 / 1.5, ...middle()));
    one("#whole").addEventListener("click", reset);
    wipe.addEventListener("input", cut);
    for (const select of [first, second]) select.addEventListener("change", draw);

    dialog.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
      const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
      if (step && view.zoom > 1) {
        view.x += step[0];
        view.y += step[1];
        place();
      } else if (event.key === "ArrowLeft" || event.key === "p") go(-1);
      else if (event.key === "ArrowRight" || event.key === "n") go(1);
      else if (event.key === "+" || event.key === "=") zoom(1.5, ...middle());
      else if (event.key === "-") zoom(1 / 1.5, ...middle());
      else if (event.key === "0") reset();
      else if (event.key === "c") { side = !side; draw(); }
      else return;
      event.preventDefault();
    });
    panels.addEventListener("wheel", (event) => {
      const panel = event.target.closest(".panel");
      if (!panel) return;
      event.preventDefault();
      const box = panel.getBoundingClientRect();
      zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    let held = null;
    panels.addEventListener("pointerdown", (event) => {
      held = [event.clientX - view.x, event.clientY - view.y];
      panels.setPointerCapture(event.pointerId);
    });
    panels.addEventListener("pointermove", (event) => {
      if (!held || view.zoom === 1) return;
      view.x = event.clientX - held[0];
      view.y = event.clientY - held[1];
      place();
    });
    for (const kind of ["pointerup", "pointercancel"]) panels.addEventListener(kind, () => { held = null; });
  }

  // table of items
  const source = one("#rows");
  if (source) startTable(JSON.parse(source.textContent));

  function startTable({ columns, rows }) {
    const pageRows = 50;
    const head = one("#item-table thead tr"), body = one("#item-table tbody");
    const search = one("#search"), state = one("#state"), count = one("#count");
    const [back, forth] = [one("#back"), one("#forth")];
    let sorted = null, down = false, page = 0, found = rows;

    const percent = (value) => {
      const share = 100 * value;
      if (share > 0 && share < 0.001) return "< 0.001 %";
      const digits = share === 0 || share >= 100 ? 0 : share >= 10 ? 1 : share >= 1 ? 2 : share >= 0.1 ? 3 : 4;
      return `${share.toFixed(digits)} %`;
    };
    const format = { text: String, int: (v) => v.toLocaleString("en"), percent, metric: (v) => v.toFixed(3), number: (v) => (Math.abs(v) >= 1000 ? Math.round(v) : Number(v.toPrecision(3))).toLocaleString("en") };
    const lower = rows.map((row) => `${row[0]}\n${row[1]}`.toLocaleLowerCase());

    const cell = (value, column, at) => {
      const td = document.createElement(at === 0 ? "th" : "td");
      if (at === 0) td.scope = "row";
      if (column.kind !== "text") td.className = "n";
      const text = value === null ? "–" : format[column.kind](value);
      if (column.kind === "text") {
        const isolated = document.createElement("bdi");
        isolated.textContent = text;
        td.append(isolated);
        td.title = text;
        if (at === 1 && value !== "scored") td.className = "state-bad";
      } else td.textContent = text;
      return td;
    };
    const draw = () => {
      const pages = Math.max(1, Math.ceil(found.length / pageRows));
      page = clamp(page, 0, pages - 1);
      const part = found.slice(page * pageRows, (page + 1) * pageRows);
      body.replaceChildren(...part.map((row) => {
        const line = document.createElement("tr");
        line.append(...row.map((value, at) => cell(value, columns[at], at)));
        return line;
      }));
      const from = part.length ? page * pageRows + 1 : 0;
      count.textContent = `${from.toLocaleString("en")}–${(page * pageRows + part.length).toLocaleString("en")} of ${found.length.toLocaleString("en")} rows`;
      back.disabled = page === 0;
      forth.disabled = page === pages - 1;
    };
    const compare = (a, b) => {
      const [x, y] = [a[sorted], b[sorted]];
      if (x === null || y === null) return (x === null) - (y === null);
      const order = columns[sorted].kind === "text" ? String(x).localeCompare(String(y), undefined, { numeric: true }) : x - y;
      return down ? -order : order;
    };
    const update = () => {
      const wanted = search.value.trim().toLocaleLowerCase();
      found = rows.filter((row, at) => {
        if (state.value === "scored" && row[1] !== "scored") return false;
        if (state.value === "failed" && row[1] === "scored") return false;
        return !wanted || lower[at].includes(wanted);
      });
      if (sorted !== null) found = [...found].sort(compare);
      page = 0;
      draw();
    };
    for (const [at, th] of all("th", head).entries()) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = th.textContent;
      th.replaceChildren(button);
      button.addEventListener("click", () => {
        const same = sorted === at;
        // First what people look for: the smallest confidence, the largest share.
        down = same ? !down : columns[at].kind !== "text" && !columns[at].ascending;
        sorted = at;
        for (const other of all("th", head)) other.removeAttribute("aria-sort");
        th.setAttribute("aria-sort", down ? "descending" : "ascending");
        update();
      });
    }
    search.addEventListener("input", update);
    state.addEventListener("change", update);
    back.addEventListener("click", () => { page -= 1; draw(); });
    forth.addEventListener("click", () => { page += 1; draw(); });
    for (const tools of all("#items [hidden]")) tools.hidden = false;
    update();
  }
})();
