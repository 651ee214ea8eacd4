// The receipt: the time where the shopper is, an address fit to be kept, and a button that prints.

const language = document.documentElement.lang;
const locale = navigator.languages.find((name) => name.split("-")[0] === language) ?? language;

const time = document.getElementById("bought-at");
const local = document.getElementById("local");
local.textContent = new Date(time.dateTime).toLocaleString(locale, { dateStyle: "long", timeStyle: "long" });
local.hidden = false;

history.replaceState(null, "", location.pathname);

const button = document.getElementById("print");
button.hidden = false;
button.addEventListener("click", () => print());
