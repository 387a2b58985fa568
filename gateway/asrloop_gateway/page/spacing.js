// Join texts: with a space where their script puts spaces between words, without where it does not. The servers have the same rule.

const UNSPACED =
  /[\u0e00-\u109f\u1780-\u17ff\u19e0-\u19ff\u2e80-\u2fdf\u3001-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff9f\u{1b000}-\u{1b16f}\u{20000}-\u{3ffff}]/u;
const COUNTS = new RegExp(`[\\p{L}\\p{N}${UNSPACED.source.slice(1)}`, "u");

const nearest = (characters) => characters.find((each) => COUNTS.test(each)) ?? "";

/** Return what stands between two texts: a space or nothing. */
export function gap(left, right) {
  if (!left || !right) return "";
  return UNSPACED.test(nearest([...left].reverse())) && UNSPACED.test(nearest([...right])) ? "" : " ";
}
