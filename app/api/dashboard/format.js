// Numbers, times and words as people read them.

const WHOLE = new Intl.NumberFormat("en-GB");
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

function scaled(value, units) {
  let rest = value;
  let at = 0;
  while (rest >= 999.5 && at < units.length - 1) {
    rest /= 1000;
    at += 1;
  }
  const digits = at === 0 || rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2;
  return `${rest.toFixed(digits)} ${units[at]}`;
}

export const count = (value) => WHOLE.format(value);
export const bytes = (value) => scaled(value, ["B", "kB", "MB", "GB", "TB"]);
export const bitRate = (bytesPerSecond) => scaled(bytesPerSecond * 8, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]);
export const frameRate = (framesPerSecond) => `${WHOLE.format(Math.round(framesPerSecond))} frames/s`;

export function seconds(value) {
  if (value === null || value === undefined) {
    return "–";
  }
  if (value < 0.0001) {
    return "< 0.1 ms";
  }
  if (value < 1) {
    return `${(value * 1000).toFixed(value < 0.1 ? 1 : 0)} ms`;
  }
  return `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

/** A moment as milliseconds, from RFC 3339 or from unix seconds. */
export const moment = (value) => (typeof value === "number" ? value * 1000 : Date.parse(value));
export const clock = (milliseconds) => CLOCK.format(milliseconds);
export const dayAndClock = (milliseconds) => DAY.format(milliseconds);

export function age(milliseconds) {
  const s = Math.max(0, Math.round(milliseconds / 1000));
  if (s < 60) {
    return `${s} s`;
  }
  if (s < 3600) {
    return `${Math.floor(s / 60)} min`;
  }
  if (s < 86400) {
    return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  }
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);

// Not lost: a second copy, and an answer that only the service had asked for.
const EXPECTED = new Set(["duplicate", "probe"]);

export function lostOf(direction) {
  return sum(Object.entries(direction.dropped).map(([reason, frames]) => (EXPECTED.has(reason) ? 0 : frames)));
}

export const duplicatesOf = (link) => link.rx.dropped.duplicate ?? 0;

export function reasons(direction) {
  const parts = Object.entries(direction.dropped).map(([reason, frames]) => `${words(reason)} ${count(frames)}`);
  return parts.length > 0 ? parts.join(", ") : "none";
}

export const words = (name) => name.replaceAll("_", " ");
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
