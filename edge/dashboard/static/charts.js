// Draws stacked bars into <figure data-chart>: the data are in its <script type="application/json">,
// the colours in the variables of the style sheet. The same numbers stand in a table of the page.
"use strict";
(() => {
  const drawn = new Map();

  function colours(figure) {
    const style = getComputedStyle(figure);
    return (name) => style.getPropertyValue(`--${name}`).trim();
  }

  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
  const long = new Intl.NumberFormat("en", { maximumFractionDigits: 6 });

  // The top of each series: its own values upon those of the series below it.
  function stacked(series, count) {
    const sums = new Array(count).fill(0);
    return series.map((one) => one.values.map((value, at) => (sums[at] += value)));
  }

  function readout(figure, data, at) {
    const place = figure.querySelector("[data-readout]");
    if (!place) return;
    if (at === null || at === undefined) {
      place.textContent = place.dataset.readout;
      return;
    }
    const parts = data.series
      .filter((one) => one.values[at])
      .map((one) => `${one.name} ${long.format(one.values[at])}`);
    place.textContent = `${data.titles[at]}: ${parts.join(", ") || "nothing"}`;
  }

  function options(figure, data, width) {
    const colour = colours(figure);
    const count = data.labels.length;
    const font = `12px ${colour("font")}`;
    const axis = { stroke: colour("soft"), font, ticks: { stroke: colour("line"), size: 4 } };
    const bars = uPlot.paths.bars({ size: [0.72, 56], radius: 0 });
    // The highest is drawn first: each lower one covers its own part.
    const series = data.series
      .map((one, at) => ({
        label: one.name,
        fill: colour(`chart-${at + 1}`),
        stroke: colour("surface"),
        width: count > 60 ? 0 : 1 / devicePixelRatio,
        paths: bars,
        points: { show: false },
      }))
      .reverse();
    return {
      width,
      height: width < 480 ? 220 : 280,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      padding: [12, 8, 0, 0],
      scales: {
        x: { time: false, range: () => [-0.6, count - 0.4] },
        y: { range: (plot, least, most) => [0, most > 0 ? most * 1.08 : 1] },
      },
      axes: [
        {
          ...axis,
          size: 34,
          grid: { show: false },
          incrs: [1, 2, 3, 4, 6, 7, 14, 30, 61, 122],
          space: 58,
          values: (plot, splits) => splits.map((at) => data.labels[at] ?? ""),
        },
        {
          ...axis,
          size: 52,
          grid: { stroke: colour("line"), width: 1 },
          values: (plot, splits) => splits.map((value) => short.format(value)),
        },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [(plot) => readout(figure, data, plot.cursor.idx)] },
    };
  }

  function draw(figure) {
    const place = figure.querySelector("[data-plot]");
    const source = figure.querySelector('script[type="application/json"]');
    if (!place || !source) return;
    const width = Math.floor(place.clientWidth);
    if (!width) return;
    drawn.get(figure)?.destroy();
    const data = JSON.parse(source.textContent);
    const x = data.labels.map((_, at) => at);
    const values = stacked(data.series, x.length).reverse();
    const plot = new uPlot(options(figure, data, width), [x, ...values], place);
    const canvas = place.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", figure.dataset.chart);
    drawn.set(figure, plot);
    readout(figure, data, null);
  }

  const widths = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const figure = target.closest("[data-chart]");
      const plot = drawn.get(figure);
      if (!plot || plot.width !== Math.floor(target.clientWidth)) draw(figure);
    }
  });

  function begin() {
    for (const figure of drawn.keys()) {
      if (!figure.isConnected) {
        drawn.get(figure).destroy();
        drawn.delete(figure);
      }
    }
    for (const figure of document.querySelectorAll("[data-chart]")) {
      const place = figure.querySelector("[data-plot]");
      if (place && !drawn.has(figure)) widths.observe(place); // calls back at once, and draws
    }
  }

  const redraw = () => [...drawn.keys()].forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new MutationObserver(redraw).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ["data-theme"],
  });
  document.addEventListener("htmx:after:swap", begin);
  begin();
})();
