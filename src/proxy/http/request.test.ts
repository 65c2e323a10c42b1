// A request as the next proxy reads it, when that is in this very process.
import { expect, test } from "bun:test";
import { newEdits, removeHeader, setHeader } from "../../wire/http1_write.ts";
import { requestOf } from "../request_fixture.ts";

test("fields that were set, added or removed on the way are seen so by whoever looks next", () => {
  const request = requestOf("/", { "x-user": "jason", "x-gone": "1", "x-kept": "2" });
  const edits = newEdits();
  setHeader(edits, "x-user", "jane");
  removeHeader(edits, "x-gone");
  edits.added += "x-kept: 3\r\n";
  expect(request.header("x-user")).toBe("jason");
  expect(request.readAsSent(edits)).toBe(true);
  expect(request.header("x-user")).toBe("jane");
  expect(request.header("x-gone")).toBeUndefined();
  expect(request.header("x-kept")).toBe("2,3");
});

test("a path that a rewrite has left unusual is normalised again, as on another node, so that policies cannot be passed by", () => {
  const request = requestOf("/api/admin?a=//b");
  request.rewritePath("//admin?a=//b");
  expect(request.readAsSent(newEdits())).toBe(true);
  expect(request.path).toBe("/admin?a=//b");
});

test("a rewritten path that no proxy would take is refused", () => {
  const request = requestOf("/api/up");
  request.rewritePath("/../up");
  expect(request.readAsSent(newEdits())).toBe(false);
});

test("the next request is read as it comes", () => {
  const request = requestOf("/", { "x-user": "jason" });
  const edits = newEdits();
  setHeader(edits, "x-user", "jane");
  request.readAsSent(edits);
  request.reset(request.connection!);
  expect(request.header("x-user")).toBe("jason");
});
