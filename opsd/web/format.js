// Values as an operator reads them. Pure; what is not a finite number is a dash.

export const DASH = "—";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const SIZES = ["B", "KB", "MB", "GB", "TB", "PB"];

/** A value and its unit, apart, so that the unit can be set smaller. What is not known has none. */
const measure = (value, unit = "") => ({ value, unit: value === DASH ? "" : unit });

export const text = ({ value, unit }) => (unit ? `${value} ${unit}` : value);

export function count(number) {
  return measure(Number.isFinite(number) ? whole.format(number) : DASH);
}

/** Three figures that tell: 0.42, 4.2, 42. */
export function decimal(number) {
  if (!Number.isFinite(number)) return DASH;
  if (number === 0 || Math.abs(number) >= 100) return whole.format(number);
  return (Math.abs(number) >= 10 ? tenths : hundredths).format(number);
}

export function rate(perSecond) {
  return measure(decimal(perSecond), "/s");
}

export function milliseconds(number) {
  if (Number.isFinite(number) && number >= 10_000) return measure(decimal(number / 1000), "s");
  return measure(decimal(number), "ms");
}

export function bytes(number) {
  if (!Number.isFinite(number)) return measure(DASH);
  let size = number;
  let step = 0;
  while (size >= 1000 && step < SIZES.length - 1) {
    size /= 1024;
    step += 1;
  }
  return measure(step === 0 ? whole.format(size) : decimal(size), SIZES[step]);
}

/** Of 0 to 1. */
export function percent(fraction) {
  if (!Number.isFinite(fraction)) return measure(DASH);
  const number = fraction * 100;
  if (number > 0 && number < 0.01) return measure("< 0.01", "%");
  return measure(number === 100 ? "100" : decimal(number), "%");
}

/** Seconds in the two largest units: 45 s, 3 min 5 s, 2 h 10 min, 4 d 3 h. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return DASH;
  const s = Math.max(0, Math.floor(seconds));
  const [minutes, hours, days] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86400)];
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  if (minutes) return `${minutes} min ${s % 60} s`;
  return `${s} s`;
}

/** Seconds of an absence: below ten with its fractions, so that a short one is not none. */
export function absence(seconds) {
  return Number.isFinite(seconds) && seconds < 10 ? `${decimal(Math.max(0, seconds))} s` : duration(seconds);
}

/** Milliseconds of CPU: below a minute with tenths. */
export function cpu(ms) {
  if (!Number.isFinite(ms)) return DASH;
  return ms < 60_000 ? `${tenths.format(ms / 1000)} s` : duration(ms / 1000);
}

const pad = (number) => String(number).padStart(2, "0");

/** Local time of day of a Date: 14:03:09, or 14:03. */
export function time(date, { seconds = true } = {}) {
  if (Number.isNaN(date.getTime())) return DASH;
  const short = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  return seconds ? `${short}:${pad(date.getSeconds())}` : short;
}

/** Local date and time: 2026-01-15 14:03:09. */
export function dateTime(date) {
  if (Number.isNaN(date.getTime())) return DASH;
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${time(date)}`;
}

export function plural(number, one, many = `${one}s`) {
  return `${whole.format(number)} ${number === 1 ? one : many}`;
}
