// What a stream is sent: only what changed, what is gone by name, nothing twice after a reconnect; and whole sets to who asks for them.
import { expect, test } from "bun:test";
import { VirtualClock } from "../kernel/clock.ts";
import { assignment, cluster, listener, route, snapshot } from "./fixture.ts";
import { memorySnapshots } from "./memory.ts";
import { type AdsRequest, type AdsResponse, contentVersion } from "./protocol.ts";
import { createPushStream } from "./push.ts";
import { type NamedResource, type TypeUrl, typeUrls } from "./types.ts";

function stream(variant: "sotw" | "delta") {
  const snapshots = memorySnapshots();
  const sent: AdsResponse[] = [];
  const refused: string[] = [];
  const failures: string[] = [];
  let introduced = false;
  const push = createPushStream({
    source: snapshots,
    clock: new VirtualClock(0),
    variant,
    send: (response) => sent.push(response),
    fail: (reason) => failures.push(reason),
    onNack: (_node, _type, version, reason) => refused.push(`${version}: ${reason}`),
  });
  const ask = (typeUrl: TypeUrl, parts: Partial<AdsRequest> = {}) => {
    const node = introduced ? undefined : { id: "n", metadata: {}, takesPatches: true };
    introduced = true;
    push.receive({
      typeUrl,
      node,
      nonce: "",
      names: [],
      unsubscribed: [],
      held: new Map(),
      error: undefined,
      ...parts,
    });
  };
  return {
    snapshots,
    push,
    ask,
    refused,
    failures,
    /** What was sent since, as "+name … -name …", each response answered. */
    told(error?: string): string[] {
      const lines: string[] = [];
      for (let response = sent.shift(); response; response = sent.shift()) {
        const { typeUrl, nonce, resources, removed } = response;
        lines.push([...resources.map(({ name }) => `+${name}`), ...removed.map((name) => `-${name}`)].join(" "));
        const names = variant === "sotw" && typeUrl === typeUrls.endpoint ? ["a", "b"] : [];
        ask(typeUrl, { nonce, names, error });
      }
      return lines;
    },
    unanswered: () => sent.length,
  };
}

const clusters = (version: string, ...resources: NamedResource[]) =>
  snapshot(version, { [typeUrls.cluster]: resources });

test("delta: of a thousand resources the one that changed is sent, and what is gone by name", () => {
  const { snapshots, ask, told } = stream("delta");
  const all = Array.from({ length: 1_000 }, (_, index) => assignment(`e${index}`));
  snapshots.set("n", snapshot("1", { [typeUrls.endpoint]: all }));
  ask(typeUrls.endpoint, { names: all.map(({ name }) => name) });
  expect(told()[0]!.split(" ")).toHaveLength(1_000);
  snapshots.set("n", snapshot("2", { [typeUrls.endpoint]: all.with(500, assignment("e500")) }));
  expect(told()).toEqual(["+e500"]);
  snapshots.set("n", snapshot("3", { [typeUrls.endpoint]: all.slice(0, 999) }));
  expect(told()).toEqual(["+e500 -e999"]);
});

test("delta: a client that comes back names what it has, and gets the rest", () => {
  const { snapshots, ask, told, push } = stream("delta");
  const [a, b, c] = [cluster("a"), cluster("b"), cluster("c")];
  snapshots.set("n", clusters("1", a, b, c));
  const versionOf = ({ message }: NamedResource) => contentVersion(typeUrls.cluster, message);
  ask(typeUrls.cluster, {
    held: new Map([
      ["a", versionOf(a)],
      ["b", "old"],
      ["gone", "1"],
    ]),
  });
  expect(told()).toEqual(["+b +c -gone"]);
  expect(push.status()[0]).toMatchObject({ current: true, resources: 3, state: { kind: "acked" } });
  const again = stream("delta");
  again.snapshots.set("n", clusters("1", a));
  again.ask(typeUrls.cluster, { held: new Map([["a", versionOf(a)]]) });
  expect(again.told()).toEqual([""]);
});

test("delta: subscriptions come and go, with a wildcard beside them", () => {
  const { snapshots, ask, told } = stream("delta");
  const [a, b] = [cluster("a"), cluster("b")];
  snapshots.set("n", clusters("1", a, b));
  ask(typeUrls.cluster, { names: ["a", "none"] });
  expect(told()).toEqual(["+a -none"]);
  ask(typeUrls.cluster, { names: ["*"] });
  expect(told()).toEqual(["+b"]);
  ask(typeUrls.cluster, { unsubscribed: ["*"] });
  snapshots.set("n", clusters("2", cluster("a"), cluster("b")));
  expect(told()).toEqual(["+a"]);
  ask(typeUrls.cluster, { unsubscribed: ["a"] });
  ask(typeUrls.cluster, { names: ["a"] });
  expect(told()).toEqual(["+a"]);
});

test("a client that does not answer is sent one response, then the newest state at once", () => {
  const { snapshots, ask, told, unanswered, push } = stream("delta");
  snapshots.set("n", clusters("0", cluster("a")));
  ask(typeUrls.cluster);
  for (let round = 1; round <= 100; round++)
    snapshots.set("n", clusters(String(round), cluster("a"), cluster(`c${round}`)));
  expect(unanswered()).toBe(1);
  expect(push.status()[0]).toMatchObject({ current: false, unanswered: ["a"], unsent: ["a", "c100"] });
  expect(told()).toEqual(["+a", "+a +c100"]);
});

test("what was refused is shown by name until it changes, and is not taken for a base", () => {
  const { snapshots, ask, told, push, refused } = stream("delta");
  const good = cluster("good");
  snapshots.set("n", clusters("1", cluster("bad"), good));
  ask(typeUrls.cluster);
  told("bad: is bad");
  expect(refused).toEqual(["1: bad: is bad"]);
  expect(push.status()[0]).toMatchObject({ refused: { bad: "bad: is bad" }, state: { kind: "nacked" } });
  snapshots.set("n", clusters("2", cluster("bad"), good));
  told();
  expect(push.status()[0]).toMatchObject({ refused: {}, state: { kind: "acked" } });
});

test("state of the world: clusters are always whole, endpoints only what changed", () => {
  const { snapshots, ask, told } = stream("sotw");
  const state = (version: string, ...names: string[]) =>
    snapshot(version, { [typeUrls.cluster]: names.map(cluster), [typeUrls.endpoint]: names.map(assignment) });
  snapshots.set("n", state("1", "a", "b", "c"));
  ask(typeUrls.cluster);
  ask(typeUrls.endpoint, { names: ["a", "b"] });
  expect(told()).toEqual(["+a +b +c", "+a +b"]);
  snapshots.set("n", state("2", "a"));
  expect(told()).toEqual(["+a", "+a"]);
});

test("delta: neither a cluster nor its endpoints go before the routes to them", () => {
  const { snapshots, ask, told } = stream("delta");
  const state = (version: string, name: string, table: NamedResource) =>
    snapshot(version, {
      [typeUrls.cluster]: [cluster(name)],
      [typeUrls.endpoint]: [assignment(name)],
      [typeUrls.listener]: [listener("l")],
      [typeUrls.route]: [table],
    });
  snapshots.set("n", state("1", "old", route("80")));
  ask(typeUrls.cluster);
  ask(typeUrls.endpoint, { names: ["old"] });
  ask(typeUrls.listener);
  ask(typeUrls.route, { names: ["80"] });
  told();
  snapshots.set("n", state("2", "new", route("80")));
  expect(told()).toEqual(["+new", "+l", "+80", "-old", "-old"]);
});

test("a client that breaks the protocol is told so", () => {
  const { push, failures } = stream("delta");
  const request = { names: [], unsubscribed: [], held: new Map(), nonce: "", error: undefined, node: undefined };
  push.receive({ ...request, typeUrl: typeUrls.cluster });
  push.receive({ ...request, node: { id: "n", metadata: {}, takesPatches: false }, typeUrl: "some.other" });
  expect(failures).toEqual([
    "the first request of a stream must name the node",
    "resources of type some.other are not served here",
  ]);
});
