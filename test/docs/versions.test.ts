import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { MATRIX } from '../versions/matrix.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const manifest = JSON.parse(read('package.json')) as {
  scripts: Record<string, string>
  engines: { node: string }
  peerDependencies: Record<string, string>
}
const workflows = readdirSync(join(root, '.github/workflows')).map((file) =>
  read(`.github/workflows/${file}`),
)

/** `5.4` and `>=5.4.0` as a whole version. */
const whole = (range: string) => [.../[\d.]+/.exec(range)![0].split('.'), '0', '0'].slice(0, 3).join('.')

test('each range that package.json claims is run at its oldest, and by its newest', () => {
  for (const [name, claimed] of Object.entries(manifest.peerDependencies)) {
    const run = MATRIX.flatMap(({ packages }) => packages[name] ?? [])
    const oldest = claimed.split('||')[0]!
    expect(run, name).toContain(whole(oldest))
    for (const range of claimed.split('||')) {
      const line = whole(range).split('.')[0]!
      expect(
        run.some((each) => each.startsWith(`^${line}.`)),
        `${name} ${line}`,
      ).toBe(true)
    }
  }
  expect(MATRIX.map(({ node }) => node)).toContain(Number(/\d+/.exec(manifest.engines.node)![0]))
})

test('what docs/versions.md leaves to the CI matrix stands there, and nothing else', () => {
  const left = [...read('docs/versions.md').matchAll(/`((?:redis|valkey|postgres)[\w/]*:[\d.]+)`/g)].map(
    ([, image]) => image!,
  )
  const images = [...workflows.join('\n').matchAll(/["']((?:redis|valkey|postgres)[\w/]*:[\d.]+)["']/g)].map(
    ([, image]) => image!,
  )
  expect(left.length).toBeGreaterThan(4)
  expect(left.sort()).toEqual(images.sort())
})

test('workflows and CONTRIBUTING.md name scripts and projects that exist', () => {
  const text = [...workflows, read('CONTRIBUTING.md')].join('\n')
  const told = [...text.matchAll(/npm (?:run )?(check|test|build|[a-z]+:[a-z]+)\b/g)].map(([, name]) => name!)
  expect(told.length).toBeGreaterThan(8)
  for (const name of told) expect(Object.keys(manifest.scripts)).toContain(name)
})
