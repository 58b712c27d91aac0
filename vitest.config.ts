import { defineConfig } from 'vitest/config'

/** Tests by what they cost. What is in none of these needs no server, and is a unit test. */
const STORES = under('contract', 'sqlite', 'redis', 'postgres', 'cli', 'upgrade')
const SYSTEM = [
  ...under('cluster', 'e2e', 'conformance', 'frameworks', 'fuzz', 'security', 'serve', 'soak'),
  // These start processes, or run thousands of worlds to show that the simulator can fail.
  'test/bundlers/esbuild.test.ts',
  'test/docs/{examples,quickstart}.test.ts',
  'test/simulator/zoo.test.ts',
]
/** `npm run test:bundlers`: installs frameworks, and builds with them. */
const BUNDLERS = ['test/bundlers/{next,nitro}.test.ts']
/** `npm run test:interop`: what comes from other registries. */
const INTEROP = under('interop')
/** `npm run bench:trial`, in a step of its own. */
const BENCHMARKS = under('benchmarks')

const BUILD = 'test/support/build.ts'
const SERVICES = 'test/support/services.ts'

export default defineConfig({
  test: {
    // Many tests wait for leases and processes; one worker more than cores keeps the cores busy.
    maxWorkers: 3,
    projects: [
      project('unit', under('*'), [BUILD], [...STORES, ...SYSTEM, ...INTEROP, ...BUNDLERS, ...BENCHMARKS]),
      project('stores', STORES, [BUILD, SERVICES]),
      project('system', SYSTEM, [BUILD, SERVICES]),
      project('interop', INTEROP, [BUILD, SERVICES]),
      project('bundlers', BUNDLERS, [BUILD]),
      project('benchmarks', BENCHMARKS, [BUILD]),
    ],
  },
})

function under(...folders: readonly string[]): string[] {
  return folders.map((folder) => (folder === '*' ? 'test/**/*.test.ts' : `test/${folder}/**/*.test.ts`))
}

function project(name: string, include: string[], globalSetup: string[], exclude: string[] = []) {
  return { test: { name, include, exclude, globalSetup, testTimeout: 30_000, hookTimeout: 120_000 } }
}
