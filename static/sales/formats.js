// Moments, numbers and durations as the page's language writes them, and in the shopper's own time zone.

// The shopper's own variety of the page's language: English has several ways to write a date.
const language = document.documentElement.lang;
const locale = navigator.languages.find((name) => name.split("-")[0] === language) ?? language;

const moments = new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "short" });
const numbers = new Intl.NumberFormat(locale);

export const moment = (ms) => moments.format(ms);
export const number = (value) => numbers.format(value);

export const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => values[name]);

// A duration in its largest fitting unit: "41 seconds", "10 minutes".
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [value, unit] =
    seconds < 60 || (seconds < 120 && seconds > 60) ? [seconds, "second"]
    : seconds < 7200 ? [Math.round(seconds / 60), "minute"]
    : seconds < 172800 ? [Math.round(seconds / 3600), "hour"]
    : [Math.round(seconds / 86400), "day"];
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(value);
}
