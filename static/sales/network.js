// A request that ends, one way or the other. (AbortSignal.timeout would do, but telephones of 2021 do not have it.)

export function send(url, withinMs, options) {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), withinMs);
  return fetch(url, { ...options, signal: controller.signal }).finally(() => clearTimeout(timer));
}
