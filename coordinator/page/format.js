// Numbers, durations, sizes and moments as people read them.

const counts = new Intl.NumberFormat("en");
const days = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const clocks = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** A whole number with thousands separators. */
export function count(value) {
  return counts.format(value);
}

/** "1 run", "2 runs". */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A number to so many significant digits, without an exponent where that is legible. */
export function significant(value, digits = 4) {
  if (!Number.isFinite(value)) return "–";
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e7)) return value.toExponential(digits - 1);
  return new Intl.NumberFormat("en", { maximumSignificantDigits: digits, minimumSignificantDigits: digits }).format(value);
}

/** A share of 1 in whole percent, as the command line has it: 100 % means all. */
export function percent(share) {
  return `${Math.floor(100 * Math.min(1, Math.max(0, share)) + 1e-9)} %`;
}

/** Seconds that are left, in the words of the command line. */
export function timeLeft(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Seconds as "2 min 10 s": two units at most. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 0.0995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => whole >= size);
  const [unit, size] = units[first];
  const next = units[first + 1];
  const rest = next ? Math.floor((whole % size) / next[1]) : 0;
  const words = `${count(Math.floor(whole / size))} ${unit}`;
  return rest > 0 ? `${words} ${rest} ${next[0]}` : words;
}

/** Milliseconds with a unit that fits. */
export function milliseconds(value) {
  if (value === 0) return "0 ms";
  return value < 1000 ? `${significant(value, value < 10 ? 2 : 3)} ms` : duration(value / 1000);
}

/** "980 networks/s", or per minute or hour where less than one a second is done. */
export function rate(perSecond, what) {
  if (!perSecond) return "–";
  const [value, unit] = perSecond >= 1 ? [perSecond, "s"] : perSecond * 60 >= 1 ? [perSecond * 60, "min"] : [perSecond * 3600, "h"];
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${new Intl.NumberFormat("en", { maximumFractionDigits: digits }).format(value)} ${what}/${unit}`;
}

/** Bytes in binary units. */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${count(value)} B` : `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds since 1970 of an RFC 3339 moment, or null. */
export function seconds(moment) {
  const at = moment ? Date.parse(moment) : NaN;
  return Number.isNaN(at) ? null : at / 1000;
}

function momentWords(at) {
  const day = days.format(at * 1000);
  return `${day === days.format(Date.now()) ? "today" : day}, ${clocks.format(at * 1000)}`;
}

/** Shows a moment in local time in a `time` element, with the exact one in its title. */
export function showTime(node, moment) {
  const at = seconds(moment);
  const words = at === null ? "–" : momentWords(at);
  if (node.textContent === words) return;
  node.textContent = words;
  if (at === null) return;
  node.setAttribute("datetime", moment);
  node.title = moment;
}

/** What the members of jobs are called; `experiments` are names like `nads` or `nads/lenet`. */
export function membersWord(experiments) {
  const nads = experiments.filter((name) => name.split("/")[0] === "nads").length;
  if (nads === 0) return "runs";
  return nads === experiments.length ? "networks" : "networks and runs";
}

/** A numerics class in few words. */
export function device(numerics) {
  if (!numerics) return "–";
  const kind = { cpu: "CPU", cuda: "GPU" }[numerics.device] ?? numerics.device;
  return `${kind}, ${numerics.arithmetic}, ${numerics.precision}`;
}

/** A numerics class in full, as the command line writes it. */
export function numericsClass(numerics) {
  if (!numerics) return null;
  const { device: on, arithmetic, precision, evaluation, kernels, libtorch } = numerics;
  return `${on}-${arithmetic}/${precision}/${evaluation}/kernels-${kernels}/libtorch-${libtorch}`;
}
