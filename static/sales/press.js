// One press of a form sends it once. What is sent twice all the same, the server answers once.

const FREE_AGAIN_MS = 10_000; // for whoever has stopped the page from loading

const pressed = new Map(); // each form that was sent, and the timer that frees it

function buttonsOf(form) {
  return [...form.elements].filter(({ type }) => ["submit", "image"].includes(type));
}

// aria-disabled: the button keeps the keyboard's focus, and what it stands for is still sent.
function hold(form) {
  for (const button of buttonsOf(form)) button.setAttribute("aria-disabled", "true");
  pressed.set(form, setTimeout(free, FREE_AGAIN_MS, form));
}

function free(form) {
  clearTimeout(pressed.get(form));
  pressed.delete(form);
  for (const button of buttonsOf(form)) button.removeAttribute("aria-disabled");
}

addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (pressed.has(form)) event.preventDefault();
  else hold(form);
});

// A page that is gone back to is as it was when it was left.
addEventListener("pageshow", () => [...pressed.keys()].forEach(free));

// A page that is itself the answer to a form: to load it again, or to come back to it, sends no form again.
history.replaceState(history.state, "");
