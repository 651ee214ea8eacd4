// The list of sales: its moments in the shopper's own time zone.

import { fill, moment } from "./formats.js";

for (const time of document.querySelectorAll("time[data-sentence]")) {
  time.textContent = fill(time.dataset.sentence, { moment: moment(Date.parse(time.dateTime)) });
}
