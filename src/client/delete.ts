// Deleting exactly the object one has seen, whoever else may have deleted it first.

import type { ObjectMeta } from "../api/object.ts";
import type { Resource } from "../api/resources.ts";
import { type Client, isNotFound } from "./types.ts";

/** Answers undefined when the object a request was about is gone, which is what the caller wanted or no longer minds. */
export function ignoreNotFound(error: unknown): undefined {
  if (!isNotFound(error)) throw error;
  return undefined;
}

/** Deletes the object with this uid; one that is gone is fine, another one of the same name is a Conflict. */
export async function deleteObject<T extends { metadata: ObjectMeta }>(
  client: Client,
  resource: Resource<T>,
  object: { metadata: ObjectMeta },
  options: Omit<NonNullable<Parameters<Client["delete"]>[3]>, "uid"> = {},
): Promise<void> {
  const { namespace, name, uid } = object.metadata;
  await client.delete(resource, namespace, name, { ...options, uid }).catch(ignoreNotFound);
}
