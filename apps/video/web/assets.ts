// Style sheet, scripts and icons: read once, addressed by content hash, cached for ever by clients.

import { join } from "node:path";

export interface Asset {
  body: Uint8Array<ArrayBuffer>;
  type: string;
  /** "/assets/app.1a2b3c4d.css" */
  url: string;
}

export type AssetName = "app.css" | "theme.js" | "player.js" | "upload.js" | "favicon.svg";

const types: Readonly<Record<AssetName, string>> = {
  "app.css": "text/css; charset=utf-8",
  "theme.js": "text/javascript; charset=utf-8",
  "player.js": "text/javascript; charset=utf-8",
  "upload.js": "text/javascript; charset=utf-8",
  "favicon.svg": "image/svg+xml",
};

export interface Assets {
  url(name: AssetName): string;
  /** By the path of a request; `exact` is false when the hash is another release's: the caller must not let that be cached. */
  find(path: string): { asset: Asset; exact: boolean } | undefined;
}

export async function loadAssets(): Promise<Assets> {
  const folder = join(import.meta.dir, "public");
  const assets = new Map<string, Asset>();
  for (const [name, type] of Object.entries(types)) {
    const body = await Bun.file(join(folder, name)).bytes();
    const hash = Bun.hash(body).toString(16).padStart(16, "0").slice(0, 10);
    assets.set(name, { body, type, url: `/assets/${name.replace(".", `.${hash}.`)}` });
  }
  const get = (name: string): Asset => {
    const asset = assets.get(name);
    if (asset === undefined) throw new Error(`no asset ${name}`);
    return asset;
  };
  return {
    url: (name) => get(name).url,
    find(path) {
      if (path === "/favicon.ico") return { asset: get("favicon.svg"), exact: false };
      const match = /^\/assets\/([a-z]+)\.[0-9a-f]+\.([a-z]+)$/.exec(path);
      const asset = match === null ? undefined : assets.get(`${match[1]}.${match[2]}`);
      return asset === undefined ? undefined : { asset, exact: asset.url === path };
    },
  };
}
