// What the page says, in the page's language.

export const words = JSON.parse(document.getElementById("words").textContent);

// Writes only what has changed: a screen reader announces every write, and the browser lays out every one.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
