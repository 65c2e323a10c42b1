// The translator alone: everything from nothing, and after one change, with the bytes that the change makes anew.

import { realClock } from "../../src/kernel/clock.ts";
import { createTranslator } from "../../src/mesh/translator.ts";
import type { MeshObjects } from "../../src/mesh/types.ts";
import { encodeResource } from "../../src/xds/protocol.ts";
import { type Snapshot, type TypeUrl, typeUrls } from "../../src/xds/types.ts";
import { address, endpointSlice, namespace, objectsOf, sidecars, virtualService } from "./objects.ts";

const repeats = 20;
const fullRepeats = 5;

export interface Translation {
  /** Each from nothing; the first in a process that has just started. */
  fullMs: number[];
  endpointMs: number[];
  routeMs: number[];
}

export function measureTranslation(services: number): Translation {
  const newTranslator = () =>
    createTranslator({
      config: { mode: "namespaces", clusterDomain: "cluster.local", trustDomain: "cluster.local", rootNamespace: "i" },
      rootsPem: "roots",
      certificateOf: () => undefined,
    });
  let translator = newTranslator();
  const ids = Array.from(
    { length: Math.min(sidecars, services * 2) },
    (_, n) => `sidecar~${address(n)}~pod-${n}.${namespace}~${namespace}.svc.cluster.local`,
  );
  /** What the server does per change: every connected node's snapshot, and the bytes of what is new in it. */
  const translate = (objects: MeshObjects): number => {
    const startMs = realClock.monotonicMs();
    translator.update(objects);
    for (const id of ids) encode(translator.snapshot(id)!);
    return realClock.monotonicMs() - startMs;
  };
  let objects = objectsOf(services);
  const fullMs: number[] = [];
  for (let round = 0; round < fullRepeats; round++) {
    translator = newTranslator();
    objects = objectsOf(services);
    fullMs.push(translate(objects));
  }
  const endpointMs: number[] = [];
  const routeMs: number[] = [];
  for (let round = 0; round < repeats; round++) {
    const slices = [...objects.endpointSlices];
    slices[round % services] = endpointSlice(round % services, round >= services) as never;
    objects = { ...objects, endpointSlices: slices };
    endpointMs.push(translate(objects));
    const rules = [...objects.virtualServices];
    rules[round % services] = virtualService(round % services, 6 + round) as never;
    objects = { ...objects, virtualServices: rules };
    routeMs.push(translate(objects));
  }
  return { fullMs, endpointMs, routeMs };
}

const encodedParts = new WeakSet<object>();

/** Parts that nodes share are encoded once. */
function encode(snapshot: Snapshot): void {
  for (const [typeUrl, set] of Object.entries(snapshot.resources).filter(([url]) => url !== typeUrls.nameTable))
    for (const part of set.parts ?? [set]) {
      if (encodedParts.has(part)) continue;
      encodedParts.add(part);
      for (const { message } of part.resources) encodeResource(typeUrl as TypeUrl, message);
    }
}
