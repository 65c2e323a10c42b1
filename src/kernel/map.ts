// Maps whose values are made on first use.

export function getOrAdd<K extends WeakKey, V>(map: WeakMap<K, V>, key: K, create: () => V): V;
export function getOrAdd<K, V>(map: Map<K, V>, key: K, create: () => V): V;
export function getOrAdd<K, V>(
  map: { get(key: K): V | undefined; set(key: K, value: V): unknown },
  key: K,
  create: () => V,
): V {
  let value = map.get(key);
  if (value === undefined) {
    value = create();
    map.set(key, value);
  }
  return value;
}
