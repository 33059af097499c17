// Which encoding a file is in: UTF-8 only when all of it is, cp1252 only when none of it is UTF-8; mixtures are refused.

export class Unreadable extends Error {}

const CONVERT = "save it as CSV in UTF-8";
const STARTS = [
  [[0x50, 0x4b, 3, 4], "it is a spreadsheet or a ZIP archive"],
  [[0x50, 0x41, 0x52, 0x31], "it is a Parquet file, which sortal predict reads"],
  [[0x1f, 0x8b], "it is compressed: unpack it first"],
  [[0xff, 0xfe, 0, 0], "it is in UTF-32"],
];
const BOMS = [
  [[0xef, 0xbb, 0xbf], "utf-8"],
  [[0xff, 0xfe], "utf-16le"],
  [[0xfe, 0xff], "utf-16be"],
];
const NOT_CP1252 = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

const startsWith = (bytes, start) => start.every((byte, i) => bytes[i] === byte);

// { text, note } of a file's bytes.
export function decoded(bytes) {
  const refused = STARTS.find(([start]) => startsWith(bytes, start));
  if (refused) throw new Unreadable(`${refused[1]}; ${CONVERT}`);
  const encoding = BOMS.find(([bom]) => startsWith(bytes, bom))?.[1] ?? withoutMark(bytes);
  const text = strictly(bytes, encoding);
  if (text !== null) {
    if (text.trim() === "") throw new Unreadable("it is empty");
    return { text, note: "" };
  }
  if (encoding !== "utf-8" || bytes.some((byte) => NOT_CP1252.includes(byte)) || isMixed(bytes)) {
    throw new Unreadable(`its letters are in no encoding that fits all of it; ${CONVERT}`);
  }
  const note = "It is not UTF-8 and was read as cp1252 (Western European).";
  return { text: new TextDecoder("windows-1252").decode(bytes), note };
}

function strictly(bytes, encoding) {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

// Zeros in every other byte are UTF-16 without its mark.
function withoutMark(bytes) {
  const head = bytes.subarray(0, 4096);
  const share = (odd) => head.filter((byte, i) => byte === 0 && i % 2 === odd).length / head.length;
  if (head.length >= 8 && share(1) > 0.3 && share(0) < 0.05) return "utf-16le";
  if (head.length >= 8 && share(0) > 0.3 && share(1) < 0.05) return "utf-16be";
  return "utf-8";
}

function isMixed(bytes) {
  const text = new TextDecoder().decode(bytes);
  const invalid = text.match(/\ufffd/g)?.length ?? 0;
  const valid = text.match(/[^\x00-\x7f\ufffd]/gu)?.length ?? 0;
  const visible = text.match(/[\x00-\x1f\x21-\x7f]/g)?.length ?? 0;
  const high = invalid + valid;
  return valid > 0.1 * invalid || (high >= 20 && high > 0.25 * (high + visible));
}
