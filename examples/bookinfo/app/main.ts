// Stand-in for Istio's Bookinfo: `bun main.ts productpage|details|reviews|ratings` plays one of its four services.
import { catalogue } from "./catalogue.ts";
import { details } from "./details.ts";
import { type Handler, serve } from "./http.ts";
import { productpage } from "./productpage.ts";
import { ratings } from "./ratings.ts";
import { reviews } from "./reviews.ts";

const services: Readonly<Record<string, () => Handler>> = { productpage, details, reviews, ratings, catalogue };

const name = process.argv[2] ?? "";
const service = services[name];
if (service === undefined) {
  console.error(`usage: bun main.ts ${Object.keys(services).join("|")}`);
  process.exit(64);
}
serve(name, service());
