/**
 * One outcome for all projects of a run: each has a set-up of its own, in modules of its own, but they are one process.
 */
export function once<T>(name: string, work: () => Promise<T>): Promise<T> {
  const shared = globalThis as { [key: symbol]: Promise<T> | undefined }
  const key = Symbol.for(`mcp-persist test ${name}`)
  shared[key] ??= work()
  return shared[key]
}
