"use strict";
// Light or dark: what was chosen here, else what the system says. Runs before the page is drawn.
const chosen = localStorage.getItem("seawall-theme");
if (chosen) document.documentElement.dataset.theme = chosen;
function turnTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("seawall-theme", next);
}
document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("theme")?.addEventListener("click", turnTheme);
});
