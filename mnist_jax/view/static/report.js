"use strict";
// Draws the panels that the page holds as JSON; smoothing, logarithm and linked zoom only change the view.
(() => {
  const panels = JSON.parse(document.getElementById("panels").textContent);
  const canvases = panels.map((_, number) => document.getElementById(`plot-${number}`));
  const smoothing = document.getElementById("smoothing");
  const logarithmic = document.getElementById("logarithmic");
  const linked = document.getElementById("linked");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  // Okabe and Ito's colours, which most people with a colour deficiency tell apart; a lighter blue and yellow in the dark.
  const colours = () => dark.matches
    ? ["#56b4e9", "#e69f00", "#00c99b", "#f07f3c", "#d98cc0", "#f0e442", "#8fb8de", "#c0c0c0"]
    : ["#0072b2", "#b36b00", "#00795a", "#b84a00", "#a8437e", "#7a6a00", "#2f6f9f", "#555555"];

  function smoothed(values, weight) {
    if (!weight) return values;
    let sum = 0, total = 0;
    return values.map(value => {
      if (value === null) return null;
      sum = weight * sum + (1 - weight) * value;
      total = weight * total + (1 - weight);
      return sum / total;
    });
  }

  function traces(panel, runs) {
    const weight = Number(smoothing.value), palette = colours(), drawn = [];
    const banded = new Set(panel.bands.flatMap(band => band.runs.map(run => `${band.series}\n${run}`)));
    panel.bands.forEach((band, number) => {
      const colour = palette[number % palette.length];
      const edge = { x: band.x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
      drawn.push({ ...edge, y: band.low }, { ...edge, y: band.high, fill: "tonexty", fillcolor: colour + "40" });
      drawn.push({ x: band.x, y: smoothed(band.mean, weight), mode: "lines", line: { color: colour, width: 2.5 },
                   name: `${band.series}, mean of ${band.runs.length} runs` });
    });
    for (const [number, curve] of panel.curves.entries()) {
      const colour = palette[(runs.length > 1 ? runs.indexOf(curve.run) : number) % palette.length];
      const split = curve.series.split("/")[0];
      drawn.push({
        x: curve.x, y: smoothed(curve.y, weight), name: runs.length > 1 ? `${curve.series}, ${curve.run}` : curve.series,
        mode: curve.x.length === 1 ? "markers" : "lines", visible: banded.has(`${curve.series}\n${curve.run}`) ? "legendonly" : true,
        marker: { color: colour, size: 9, symbol: "diamond" },
        line: { color: colour, width: split === "train" ? 1 : 2, dash: split === "validation" ? "dash" : "solid" },
      });
    }
    return drawn;
  }

  function layout(panel) {
    const style = getComputedStyle(document.documentElement), value = name => style.getPropertyValue(name).trim();
    const axis = { gridcolor: value("--line"), zerolinecolor: value("--line"), automargin: true };
    const narrow = window.innerWidth < 700;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: value("--ink"), family: "system-ui, sans-serif" },
      margin: { l: 55, r: 10, t: 35, b: 45 }, hovermode: "closest", uirevision: "kept", showlegend: true,
      legend: narrow ? { orientation: "h", y: -0.25 } : {},
      xaxis: { ...axis, title: { text: "step" } },
      yaxis: { ...axis, type: logarithmic.checked && panel.title === "loss" ? "log" : "linear", title: { text: panel.title } },
    };
  }

  function draw() {
    panels.forEach((panel, number) => {
      const runs = [...new Set(panels.flatMap(each => each.curves.map(curve => curve.run)))];
      Plotly.react(canvases[number], traces(panel, runs), layout(panel), { responsive: true, displaylogo: false });
    });
  }

  let following = false;
  function follow(source, change) {
    const range = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (following || !linked.checked || (range[0] === undefined && !change["xaxis.autorange"])) return;
    following = true;
    const others = canvases.filter(canvas => canvas !== source);
    Promise.all(others.map(canvas => Plotly.relayout(canvas, range[0] === undefined
      ? { "xaxis.autorange": true, "yaxis.autorange": true } : { "xaxis.range": range }))).then(() => { following = false; });
  }

  draw();
  canvases.forEach(canvas => canvas.on("plotly_relayout", change => follow(canvas, change)));
  smoothing.addEventListener("input", draw);
  logarithmic.addEventListener("change", draw);
  dark.addEventListener("change", draw);
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(each => { each.open = true; }));
})();
