// URI templates as tables: what matches, what a rewrite makes of it, what is refused.
import { describe, expect, test } from "bun:test";
import { compileTemplateRewrite, compileUriTemplate } from "./uri_template.ts";

describe("a template", () => {
  const cases: [string, string, Record<string, string> | undefined][] = [
    ["/", "/", {}],
    ["/a", "/a", {}],
    ["/a", "/a/", undefined],
    ["/a/", "/a/", {}],
    ["/a/*", "/a/b", {}],
    ["/a/*", "/a/", undefined],
    ["/a/*", "/a/b/c", undefined],
    ["/a/**", "/a/", {}],
    ["/a/**", "/a/b/c", {}],
    ["/*/b", "/x/b", {}],
    ["/{user}/b/{item}", "/u1/b/i%202", { user: "u1", item: "i%202" }],
    ["/{path=v1/*}/x", "/v1/a/x", { path: "v1/a" }],
    ["/{rest=**}", "/a/b/c", { rest: "a/b/c" }],
    ["/media/**.mp4", "/media/x/y.mp4", {}],
    ["/media/**.mp4", "/media/x/y.mp3", undefined],
    ["/media/*.mp4", "/media/y_mp4", undefined],
  ];
  for (const [template, path, want] of cases)
    test(`${template} ${want ? "matches" : "does not match"} ${path}`, () => {
      const values = compileUriTemplate(template).match(path);
      expect(values && Object.fromEntries(values)).toEqual(want as Record<string, string>);
    });

  for (const bad of [
    "a",
    "/a//b",
    "/**/*",
    "/**/{x}",
    "/{a}/{a}",
    "/{1a}",
    "/{abcdefghijklmnopq}",
    "/a b",
    "/{a}/{b}/{c}/{d}/{e}/{f}",
    "/x*",
    "/*.a/b",
    "/{a",
  ])
    test(`${bad} is refused`, () => expect(() => compileUriTemplate(bad)).toThrow("URI template"));
});

describe("a rewrite", () => {
  test("puts variables where it names them", () => {
    const template = compileUriTemplate("/{country}/{lang}/x/**");
    expect(compileTemplateRewrite("/{lang}/in/{country}", template)("/de/en/x/1")).toBe("/en/in/de");
  });
  test("may only name variables of the match", () => {
    expect(() => compileTemplateRewrite("/{nobody}", compileUriTemplate("/{a}"))).toThrow("not in the match");
  });
});
