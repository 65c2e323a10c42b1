// Every place in a VirtualService that leads traffic somewhere.

import type { VirtualService } from "../../api/types.ts";

interface Destination {
  host?: string;
  subset?: string;
  port?: { number?: number };
}

export interface Led {
  destination: Destination;
  path: string;
  isMirror: boolean;
  isHttp: boolean;
  weight: number | undefined;
  /** How many share the traffic. */
  among: number;
}

/** Every destination of a VirtualService with its place. */
export function destinationsOf({ spec }: VirtualService): Led[] {
  const led: Led[] = [];
  const routes = (
    list: readonly { destination?: Destination; weight?: number }[] | undefined,
    path: string,
    isHttp: boolean,
  ): void => {
    list?.forEach(({ destination, weight }, i) => {
      if (destination === undefined) return;
      led.push({ destination, path: `${path}[${i}].destination`, isMirror: false, isHttp, weight, among: list.length });
    });
  };
  const mirror = (destination: Destination | undefined, path: string): void => {
    if (destination) led.push({ destination, path, isMirror: true, isHttp: true, weight: undefined, among: 1 });
  };
  spec?.http?.forEach((rule, i) => {
    routes(rule.route, `spec.http[${i}].route`, true);
    mirror(rule.mirror, `spec.http[${i}].mirror`);
    rule.mirrors?.forEach((each, j) => {
      mirror(each.destination, `spec.http[${i}].mirrors[${j}].destination`);
    });
  });
  for (const protocol of ["tls", "tcp"] as const)
    spec?.[protocol]?.forEach((rule, i) => {
      routes(rule.route, `spec.${protocol}[${i}].route`, false);
    });
  return led;
}
