// The images meshbed brings: names that manifests use, and the commands that stand for them on this machine.

import { join } from "node:path";
import { type ClusterConfig, type ImageCatalogue, type ImageEntry, mainCommand } from "./config.ts";
import { engineSettings } from "./tuning.ts";

/** Built-in images, overridden by the user's `images:`. */
export function imageCatalogue(config: ClusterConfig): ImageCatalogue {
  const bun = process.execPath;
  const app = (path: string) => ({ command: [bun, join(config.projectRoot, path)], workingDir: config.projectRoot });
  const builtIn: ImageCatalogue = {
    "meshbed/video-web": app("apps/video/web/main.ts"),
    "meshbed/video-cache": app("apps/video/cache/main.ts"),
    "meshbed/echo": app("examples/istio/echo.ts"),
    ...bookinfoImages(app("examples/bookinfo/app/main.ts")),
    // Istio's name for "the injector fills this in": here, a gateway.
    auto: {
      command: [...mainCommand(config), "gateway"],
      env: {
        ...engineSettings,
        MESHBED_STATE: config.stateDir,
        POD_NAME: "$(POD_NAME)",
        POD_NAMESPACE: "$(POD_NAMESPACE)",
        INSTANCE_IP: "$(POD_IP)",
        NODE_NAME: "$(NODE_NAME)",
      },
      workingDir: config.stateDir,
    },
  };
  // The user's commands find the programs that a shell here finds, and Bun.
  const path = `${process.env["PATH"] ?? "/usr/bin:/bin"}:${join(config.projectRoot, "node_modules/.bin")}`;
  const own = Object.entries(config.images).map(([name, entry]) => [
    name,
    { ...entry, env: { PATH: path, ...entry.env } },
  ]);
  return { ...builtIn, ...Object.fromEntries(own) };
}

/** Istio's sample application under its own image names: its manifests run as they are published. */
function bookinfoImages(app: ImageEntry): ImageCatalogue {
  const environments: Record<string, Record<string, string>> = {
    "productpage-v1": {},
    "details-v1": {},
    "details-v2": { ENABLE_EXTERNAL_BOOK_SERVICE: "true" },
    "ratings-v1": {},
    "catalogue-v1": {},
    "reviews-v1": {},
    "reviews-v2": { ENABLE_RATINGS: "true" },
    "reviews-v3": { ENABLE_RATINGS: "true", STAR_COLOR: "red" },
  };
  const images = Object.entries(environments).map(([version, env]) => {
    const service = version.slice(0, version.indexOf("-"));
    return [`istio/examples-bookinfo-${version}`, { ...app, args: [service], env }];
  });
  return Object.fromEntries(images);
}
