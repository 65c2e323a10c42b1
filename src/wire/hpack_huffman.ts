// The Huffman code of HPACK (RFC 7541 appendix B): encodes strings, decodes four bits at a time. Never accepts wrong padding.

/** Code lengths by symbol. The code is canonical, so that lengths are all there is to know; the last one is EOS. */
const lengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26, 30,
];
const eos = 256;

const codes = new Uint32Array(lengths.length);
const codeLengths = Uint8Array.from(lengths);
{
  const order = [...codes.keys()].sort((a, b) => lengths[a]! - lengths[b]! || a - b);
  let code = 0;
  let length = 0;
  for (const symbol of order) {
    code *= 2 ** (lengths[symbol]! - length);
    length = lengths[symbol]!;
    codes[symbol] = code++;
  }
}

/** How many bytes `text` (latin1) takes when encoded. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += codeLengths[text.charCodeAt(i)]!;
  return (bits + 7) >> 3;
}

/** Writes `text` (latin1) encoded at `at`, where there is room; returns the offset past it. */
export function huffmanEncode(text: string, out: Buffer, at: number): number {
  let held = 0;
  let heldBits = 0;
  let i = at;
  for (let k = 0; k < text.length; k++) {
    const symbol = text.charCodeAt(k);
    const code = codes[symbol]!;
    let left = codeLengths[symbol]!;
    // In parts of at most 16 bits, so that the held bits stay below 24.
    while (left > 0) {
      const part = Math.min(left, 16);
      left -= part;
      held = (held << part) | ((code >>> left) & ((1 << part) - 1));
      heldBits += part;
      while (heldBits >= 8) {
        heldBits -= 8;
        out[i++] = held >>> heldBits;
        held &= (1 << heldBits) - 1;
      }
    }
  }
  if (heldBits > 0) out[i++] = (held << (8 - heldBits)) | (0xff >>> heldBits);
  return i;
}

// The decoder walks the code tree a nibble at a time: for each inner node and nibble the next node, and the symbol passed on the way.
const emits = 1 << 16;
const fails = 1 << 17;
const symbolShift = 18;

const tree: { next: [number, number] }[] = [{ next: [0, 0] }];
for (const [symbol, length] of lengths.entries()) {
  let node = 0;
  for (let bit = length - 1; bit >= 0; bit--) {
    const side = ((codes[symbol]! >>> bit) & 1) as 0 | 1;
    const { next } = tree[node]!;
    if (bit === 0) next[side] = -1 - symbol;
    else {
      if (next[side] === 0) next[side] = tree.push({ next: [0, 0] }) - 1;
      node = next[side];
    }
  }
}
const steps = new Uint32Array(tree.length * 16);
for (let start = 0; start < tree.length; start++)
  for (let nibble = 0; nibble < 16; nibble++) {
    let node = start;
    let step = 0;
    for (let bit = 3; bit >= 0; bit--) {
      node = tree[node]!.next[((nibble >> bit) & 1) as 0 | 1];
      if (node >= 0) continue;
      const symbol = -1 - node;
      step |= symbol === eos ? fails : emits | (symbol << symbolShift);
      node = 0;
    }
    steps[start * 16 + nibble] = step | node;
  }
/** Where a string may end: inside at most seven bits of EOS, all ones. */
const mayEnd = new Uint8Array(tree.length);
for (let node = 0, depth = 0; depth <= 7 && node >= 0; depth++) {
  mayEnd[node] = 1;
  node = tree[node]!.next[1];
}

/** Decodes `source[from, to)` into `out` at `at`, where there is room for 8/5 of it; the offset past it, or -1 when it is malformed. */
export function huffmanDecode(source: Buffer, from: number, to: number, out: Buffer, at: number): number {
  let node = 0;
  let o = at;
  for (let i = from; i < to; i++) {
    const byte = source[i]!;
    let step = steps[node * 16 + (byte >> 4)]!;
    if (step & (emits | fails)) {
      if (step & fails) return -1;
      out[o++] = step >>> symbolShift;
    }
    step = steps[(step & 0xffff) * 16 + (byte & 15)]!;
    if (step & (emits | fails)) {
      if (step & fails) return -1;
      out[o++] = step >>> symbolShift;
    }
    node = step & 0xffff;
  }
  return mayEnd[node] === 1 ? o : -1;
}
