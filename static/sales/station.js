// One event stream for all tabs of a browser: over HTTP/1.1 it opens six connections to a shop, and a press needs one.
// The tab that holds the lock listens and tells the others, as far as they show the same sale.

const LOCK = "station";

// `heard` gets each status that comes, `lost` is called when the shop says that it has none, and `changed` whenever this
// page begins or stops to be told them.
export function station(address, { heard, lost, changed }) {
  let waiting = null; // for the lock, or with it
  let giveUp = () => {};
  let events = null;
  let channel = null;
  let isTold = false;

  function note(told) {
    isTold = told;
    changed();
  }

  // `event` is one of this tab's own stream, which is told to the others as well.
  function act({ type, data }, isOwn) {
    if (isOwn) channel.postMessage({ address, type, data });
    if (type === "open" || type === "error") note(type === "open");
    else if (type === "status") heard(JSON.parse(data));
    else lost();
  }

  function listen() {
    events = new EventSource(address);
    // The browser connects again by itself, unless the shop has no room for one who listens.
    for (const type of ["open", "status", "unavailable", "error"]) events.addEventListener(type, (event) => act(event, true));
    return new Promise((resolve) => (giveUp = resolve));
  }

  function hear({ data: message }) {
    if (message.type === "who") {
      if (events?.readyState === EventSource.OPEN) channel.postMessage({ address, type: "open" });
    } else if (message.address === address) act(message, false);
    else if (isTold) note(false); // the tab that listens now shows another sale
  }

  // Without locks, as in pages of 2021 and over plain http to another machine, the page asks.
  function begin() {
    if (!navigator.locks || (waiting && events?.readyState !== EventSource.CLOSED)) return;
    end();
    waiting = new AbortController();
    channel = new BroadcastChannel(LOCK);
    channel.addEventListener("message", hear);
    channel.postMessage({ address, type: "who" });
    navigator.locks.request(LOCK, { signal: waiting.signal }, listen).catch(() => {}); // it is given up
  }

  function end() {
    waiting?.abort();
    channel?.close();
    events?.close();
    giveUp();
    waiting = channel = events = null;
    isTold = false;
  }

  return { begin, end, isTold: () => isTold };
}
