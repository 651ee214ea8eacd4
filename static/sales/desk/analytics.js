// The charts of the analytics page: their numbers are in the page.

import { Chart, followTheme } from "./charts.js";

const page = document.querySelector(".analytics");
const columns = document.getElementById("columns");
const charts = columns ? [...page.querySelectorAll("[data-chart]")].map(drawn) : [];

function drawn(figure) {
  const most = figure.dataset.chart === "stock" ? Number(page.dataset.stock) : null;
  const chart = new Chart(figure, { zone: page.dataset.zone, most });
  chart.update(JSON.parse(columns.textContent));
  return chart;
}

page.classList.add("is-live");
followTheme(charts);
