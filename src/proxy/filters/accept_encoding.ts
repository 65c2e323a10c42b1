// Which content coding an answer gets (RFC 9110 §12.5.3), among those that a chain's compressors offer.

export interface OfferedCoding {
  coding: string;
  /** Wins among equals (Envoy: choose_first). */
  first: boolean;
}

/** The best by weight, then by the order of the offers; undefined: as it is. Without the field nothing is compressed. */
export function chooseCoding(acceptEncoding: string | undefined, offers: readonly OfferedCoding[]): string | undefined {
  if (!acceptEncoding) return undefined;
  const weights = new Map<string, number>();
  for (const entry of acceptEncoding.toLowerCase().split(",")) {
    const [name = "", ...parameters] = entry.split(";").map((part) => part.trim());
    const quality = parameters.find((parameter) => parameter.startsWith("q="))?.slice(2);
    const weight = quality === undefined ? 1 : /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(quality) ? Number(quality) : 0;
    if (name !== "" && !weights.has(name)) weights.set(name, weight);
  }
  let best: OfferedCoding | undefined;
  let bestWeight = 0;
  for (const offer of offers) {
    const weight = weights.get(offer.coding) ?? weights.get("*") ?? 0;
    if (weight > bestWeight || (weight > 0 && weight === bestWeight && offer.first)) {
      best = offer;
      bestWeight = weight;
    }
  }
  return (weights.get("identity") ?? 0) > bestWeight ? undefined : best?.coding;
}
