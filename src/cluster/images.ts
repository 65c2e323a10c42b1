// The images meshbed brings: names that manifests use, and the commands that stand for them on this machine.

import { join } from "node:path";
import { type ClusterConfig, type ImageCatalogue, mainCommand } from "./config.ts";
import { engineSettings } from "./tuning.ts";

/** Built-in images, overridden by the user's `images:`. */
export function imageCatalogue(config: ClusterConfig): ImageCatalogue {
  const bun = process.execPath;
  const app = (path: string) => ({ command: [bun, join(config.projectRoot, path)], workingDir: config.projectRoot });
  const builtIn: ImageCatalogue = {
    "meshbed/video-web": app("apps/video/web/main.ts"),
    "meshbed/video-cache": app("apps/video/cache/main.ts"),
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
