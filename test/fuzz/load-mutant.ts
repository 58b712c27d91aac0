import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { compileFunction } from 'node:vm'
import { build } from 'esbuild'
import { mutate } from '../simulator/load-source.ts'
import type { Mutant } from './mutants.ts'
import type { Package } from './package.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** The package with one line changed. */
export async function loadMutant(mutant: Mutant): Promise<Package> {
  const { outputFiles } = await build({
    entryPoints: [`${ROOT}src/index.ts`],
    bundle: true,
    write: false,
    format: 'cjs',
    platform: 'node',
    logLevel: 'silent',
    target: 'node20',
    packages: 'external',
    plugins: [mutate(mutant)],
  })
  const evaluate = compileFunction(outputFiles[0]!.text, ['module', 'exports', 'require'])
  const module = { exports: {} }
  evaluate(module, module.exports, createRequire(import.meta.url))
  return module.exports as Package
}
