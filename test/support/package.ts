/**
 * The package as its users get it: by its own name, from `dist/`. Only processes that tests start use it; tests
 * in this process import the sources.
 */
export async function loadPackage(): Promise<typeof import('../../src/index.ts')> {
  const name = process.env.MCP_PERSIST_ENTRY ?? 'mcp-persist'
  return import(name)
}
