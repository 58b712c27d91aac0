import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/*
 * The step of `npm run build` that puts the declarations in their place. TypeScript leaves `./errors.ts` in declarations
 * where it writes `./errors.js` in code: a tool that reads declarations by itself finds no such file. And it writes one for
 * every source, while users need those alone that an entry leads to.
 */
const written = fileURLToPath(new URL('../.tmp/declarations/', import.meta.url))
const dist = fileURLToPath(new URL('../dist/', import.meta.url))
const SPECIFIER = /(\bfrom |\bimport\()(['"])(\.{1,2}\/[^'"]+)\.ts\2/g

const reached = new Set<string>()
const left = ['index.d.ts', 'backend.d.ts', 'testing.d.ts']
for (let file = left.pop(); file !== undefined; file = left.pop()) {
  if (reached.has(file)) continue
  reached.add(file)
  const text = readFileSync(join(written, file), 'utf8')
  for (const [, , , path] of text.matchAll(SPECIFIER)) left.push(join(dirname(file), `${path}.d.ts`))
  mkdirSync(dirname(join(dist, file)), { recursive: true })
  writeFileSync(join(dist, file), text.replace(SPECIFIER, '$1$2$3.js$2'))
}
