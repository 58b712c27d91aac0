import { fileURLToPath } from 'node:url'
import { mutate } from '../simulator/load-source.ts'
import { bundle, evaluate } from '../support/bundle.ts'
import type { Mutant } from './mutants.ts'
import type { Package } from './package.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** The package with one line changed. */
export async function loadMutant(mutant: Mutant): Promise<Package> {
  const text = await bundle(`${ROOT}src/index.ts`, { packages: 'external', plugins: [mutate(mutant)] })
  return evaluate(text) as Package
}
